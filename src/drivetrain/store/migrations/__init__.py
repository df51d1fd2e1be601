"""How an older database becomes a newer one, by Alembic."""
