"""What Alembic runs around the revisions; it loads this file as `env_py`."""

from __future__ import annotations

from alembic import context

from drivetrain.store.schema_rollout import METADATA  # with every table

__all__ = ["run_migrations"]


def run_migrations() -> None:
    """On the connection that the caller opened, in the caller's transaction."""
    connection = context.config.attributes["connection"]
    # batch mode: SQLite cannot alter a table, so it is copied; server defaults and types are compared by a test
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
    context.run_migrations()


if __name__ == "env_py":
    run_migrations()
