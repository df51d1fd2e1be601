"""The tables of roll-outs. A change here goes with a migration, as in `schema`.

What may be there only once is kept so by an index: two servers that both look first and write then cannot both win.
"""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Double, ForeignKey, Index, Integer, String, Table, Text, text

from .schema import METADATA, PREDICTION

__all__ = [
    "ALERT",
    "DEPLOYMENT",
    "IMAGE",
    "METADATA",
    "PREMORTEM",
    "REQUEST",
    "REVIEW_ANSWER",
    "REVIEW_TASK",
    "STAGE_EVENT",
    "VERSION",
]

_ID, _NAME, _DIGEST = String(32), String(128), String(64)


def _only_one(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, unique=True, sqlite_where=text(where), postgresql_where=text(where))


VERSION = Table(
    "version",
    METADATA,
    Column("version", Text, primary_key=True),  # name@ and 12 digits of the digest
    Column("model", Text, nullable=False, index=True),
    Column("digest", _DIGEST, nullable=False, unique=True),
    Column("path", Text, nullable=False),
    Column("parent", Text),
    Column("facts", Text, nullable=False),  # JSON, an object
    Column("registered_at", Double, nullable=False),
    Column("registered_by", _NAME, nullable=False),
)

DEPLOYMENT = Table(
    "deployment",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("candidate", Text, ForeignKey(VERSION.c.version), nullable=False),
    Column("incumbent", Text, ForeignKey(VERSION.c.version)),  # NULL: people
    Column("config", Text, nullable=False),  # JSON, an object; never changed
    Column("salt", _NAME, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("share", Double, nullable=False),
    Column("is_held", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),  # one more with each transition
    Column("n_requests", Integer, nullable=False),  # the last number that a request got
    Column("started_at", Double, nullable=False),
    Column("started_by", _NAME, nullable=False),
    Column("ended_at", Double),
    CheckConstraint("share >= 0 AND share <= 1", name="share"),
    _only_one("uq_deployment_open_name", "name", where="ended_at IS NULL"),
    _only_one("uq_deployment_open_model", "model", where="ended_at IS NULL"),
)

STAGE_EVENT = Table(
    "stage_event",
    METADATA,
    Column("deployment_id", _ID, ForeignKey(DEPLOYMENT.c.id), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(40), nullable=False),  # ISO 8601: the digest is of the text
    Column("by", _NAME, nullable=False),
    Column("action", String(64), nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON, an object
    Column("previous", _DIGEST, nullable=False),
    Column("digest", _DIGEST, nullable=False),
)

PREMORTEM = Table(
    "premortem",
    METADATA,
    Column("deployment_id", _ID, ForeignKey(DEPLOYMENT.c.id), primary_key=True),
    Column("question", _NAME, primary_key=True),
    Column("answer", Text, nullable=False),
    Column("by", _NAME, nullable=False),
    Column("at", Double, nullable=False),
)

REQUEST = Table(
    "request",
    METADATA,
    Column("prediction_id", _ID, ForeignKey(PREDICTION.c.id), primary_key=True),
    Column("deployment_id", _ID, ForeignKey(DEPLOYMENT.c.id), nullable=False),
    Column("seq", Integer, nullable=False),  # 1, 2, 3 within a deployment, in the order of the commits
    Column("at", Double, nullable=False),
    Column("key", Text, nullable=False),
    Column("attributes", Text, nullable=False),  # JSON, an object
    Column("in_scope", Boolean, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("decided_by", String(16), nullable=False),
    Column("incumbent", Text),  # JSON, an object
    Column("candidate", Text),  # JSON, an object
    Column("state", String(8), nullable=False),
    Column("candidate_seconds", Double),
    Column("wants_label", Boolean, nullable=False),
    Column("label_probability", Double, nullable=False),
    Column("due_at", Double),
    Column("image_sha256", _DIGEST, index=True),
    CheckConstraint("decided_by IN ('candidate', 'incumbent', 'people')", name="decided_by"),
    CheckConstraint("state IN ('pending', 'done', 'failed')", name="state"),
    Index("uq_request_deployment_id_seq", "deployment_id", "seq", unique=True),
    Index(None, "deployment_id", "state", "seq"),
)

IMAGE = Table(
    "image",
    METADATA,
    Column("sha256", _DIGEST, primary_key=True),
    Column("bytes", Integer, nullable=False),
    Column("kept_at", Double, nullable=False, index=True),  # when it came last after it was not there
    Column("forgotten_at", Double),
)

REVIEW_TASK = Table(
    "review_task",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("prediction_id", _ID, ForeignKey(PREDICTION.c.id), nullable=False, index=True),
    Column("deployment_id", _ID, ForeignKey(DEPLOYMENT.c.id), index=True),
    Column("why", String(16), nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("due_at", Double),
    Column("risk", Double, nullable=False),
    Column("people", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("truth", Text),
    Column("gold", Text),
    Column("claimed_by", _NAME),
    Column("claimed_until", Double),
    Column("settled_at", Double),
    CheckConstraint("why IN ('audit', 'disagreement', 'deferred', 'feedback', 'gold', 'all')", name="why"),
    CheckConstraint("people IN (1, 2)", name="people"),
    CheckConstraint("state IN ('open', 'labelled', 'unclear', 'overdue')", name="state"),
    CheckConstraint("(state = 'labelled') = (truth IS NOT NULL)", name="truth"),
    Index(None, "state", "due_at"),
    _only_one(
        "uq_review_task_open", "prediction_id", "deployment_id", where="state = 'open' AND deployment_id IS NOT NULL"
    ),
    _only_one("uq_review_task_open_alone", "prediction_id", where="state = 'open' AND deployment_id IS NULL"),
)

REVIEW_ANSWER = Table(
    "review_answer",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("task_id", _ID, ForeignKey(REVIEW_TASK.c.id), nullable=False),
    Column("number", Integer, nullable=False),  # 1, 2, 3 within a task
    Column("by", _NAME, nullable=False),
    Column("answer", Text, nullable=False),
    Column("at", Double, nullable=False, index=True),
    Column("seconds", Double),
    Column("saw_model", Boolean, nullable=False),
    Index("uq_review_answer_task_id_number", "task_id", "number", unique=True),
    Index("uq_review_answer_task_id_by", "task_id", "by", unique=True),
)

ALERT = Table(
    "alert",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("deployment_id", _ID, ForeignKey(DEPLOYMENT.c.id), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("closed_at", Double),
    Column("closed_by", _NAME),
    Column("closed_why", Text),
    _only_one("uq_alert_open", "deployment_id", "kind", where="closed_at IS NULL"),
)
