"""The tables, but for those of `schema_rollout`. A change here goes with a migration: a test compares the two.

Times are seconds since 1970 UTC. Ids are `ids.new_id`: they sort by time.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = [
    "API_KEY",
    "AUDIT",
    "FEEDBACK",
    "IDEMPOTENCY",
    "METADATA",
    "NEWEST",
    "PREDICTION",
    "SESSION",
    "USER",
]

NEWEST = "0002"  # the last file in migrations/versions

_ID, _NAME, _DIGEST = String(32), String(128), String(64)

# A constraint without a name cannot be dropped by a later migration.
METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

USER = Table(
    "user_account",  # `user` is a reserved word of PostgreSQL
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("name_key", _NAME, nullable=False, unique=True),  # as it is compared: case folded
    Column("password_hash", Text, nullable=False),
    Column("roles", Text, nullable=False),  # sorted, with commas
    Column("created_at", Double, nullable=False),
    Column("created_by", _NAME, nullable=False),
    Column("password_changed_at", Double, nullable=False),
    Column("removed_at", Double),
)

API_KEY = Table(
    "api_key",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("secret_sha256", _DIGEST, nullable=False),
    Column("roles", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", _NAME, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("used_at", Double),  # to the minute
)

SESSION = Table(
    "session",
    METADATA,
    Column("token_sha256", _DIGEST, primary_key=True),
    Column("user_id", _ID, ForeignKey(USER.c.id)),
    Column("api_key_id", _ID, ForeignKey(API_KEY.c.id)),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),  # to the minute
    Column("address", _NAME, nullable=False),
    CheckConstraint("(user_id IS NULL) <> (api_key_id IS NULL)", name="one_holder"),
    Index(None, "user_id"),
    Index(None, "api_key_id"),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("at", Double, nullable=False),
    Column("action", String(64), nullable=False),
    Column("by", _NAME, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON, an object
    Column("address", _NAME, nullable=False),
    Column("request_id", _NAME, nullable=False),
    Index(None, "action"),
)

PREDICTION = Table(
    "prediction",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False, index=True),
    Column("caller_id", _NAME, nullable=False),
    Column("request_id", _NAME, nullable=False),
    Column("name", Text, nullable=False),  # of the picture, as it was sent
    Column("sha256", _DIGEST, nullable=False),  # of the picture
    Column("answer", Text, nullable=False),  # JSON, an object
)

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("prediction_id", _ID, ForeignKey(PREDICTION.c.id), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("verdict", String(8), nullable=False),
    Column("label", Text),
    Column("by", _NAME, nullable=False),
    Column("note", Text, nullable=False),
    CheckConstraint("verdict IN ('right', 'wrong', 'unsure')", name="verdict"),
)

IDEMPOTENCY = Table(
    "idempotency",
    METADATA,
    Column("caller_id", _NAME, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_sha256", _DIGEST, nullable=False),
    Column("begun_at", Double, nullable=False, index=True),
    Column("status", Integer),  # NULL while the first request with it runs
    Column("headers", Text),  # JSON, a list of pairs
    Column("body", LargeBinary),
)
