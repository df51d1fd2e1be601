"""Who may call, what was answered, what was said of it, and who did what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["upgrade"]

revision = "0001"
down_revision = None

_ID, _NAME, _DIGEST = sa.String(32), sa.String(128), sa.String(64)


def upgrade() -> None:
    """From an empty database."""
    op.create_table(
        "user_account",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("name_key", _NAME, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("created_by", _NAME, nullable=False),
        sa.Column("password_changed_at", sa.Double, nullable=False),
        sa.Column("removed_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_user_account"),
        sa.UniqueConstraint("name_key", name="uq_user_account_name_key"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("secret_sha256", _DIGEST, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("created_by", _NAME, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.Column("used_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
    )
    op.create_table(
        "session",
        sa.Column("token_sha256", _DIGEST, nullable=False),
        sa.Column("user_id", _ID),
        sa.Column("api_key_id", _ID),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("address", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_session"),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name="fk_session_user_id_user_account"),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_key.id"], name="fk_session_api_key_id_api_key"),
        sa.CheckConstraint("(user_id IS NULL) <> (api_key_id IS NULL)", name=op.f("ck_session_one_holder")),
    )
    op.create_index("ix_session_user_id", "session", ["user_id"])
    op.create_index("ix_session_api_key_id", "session", ["api_key_id"])
    op.create_table(
        "audit",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("by", _NAME, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("address", _NAME, nullable=False),
        sa.Column("request_id", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_action", "audit", ["action"])
    _create_predictions()


def _create_predictions() -> None:
    op.create_table(
        "prediction",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("caller_id", _NAME, nullable=False),
        sa.Column("request_id", _NAME, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prediction"),
    )
    op.create_index("ix_prediction_at", "prediction", ["at"])
    op.create_index("ix_prediction_version", "prediction", ["version"])
    op.create_table(
        "feedback",
        sa.Column("id", _ID, nullable=False),
        sa.Column("prediction_id", _ID, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("by", _NAME, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.ForeignKeyConstraint(["prediction_id"], ["prediction.id"], name="fk_feedback_prediction_id_prediction"),
        sa.CheckConstraint("verdict IN ('right', 'wrong', 'unsure')", name=op.f("ck_feedback_verdict")),
    )
    op.create_index("ix_feedback_prediction_id", "feedback", ["prediction_id"])
    op.create_table(
        "idempotency",
        sa.Column("caller_id", _NAME, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("body_sha256", _DIGEST, nullable=False),
        sa.Column("begun_at", sa.Double, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("caller_id", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_begun_at", "idempotency", ["begun_at"])
