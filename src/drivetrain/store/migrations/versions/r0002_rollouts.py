"""Versions, roll-outs and their ledger, what they saw, the pictures, what people said of them, and alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["upgrade"]

revision = "0002"
down_revision = "0001"

_ID, _NAME, _DIGEST = sa.String(32), sa.String(128), sa.String(64)


def upgrade() -> None:
    """New tables; those of 0001 stay as they are."""
    _create_deployments()
    _create_requests()
    _create_reviews()


def _create_only_one(name: str, table: str, columns: list[str], *, where: str) -> None:
    op.create_index(name, table, columns, unique=True, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _create_deployments() -> None:
    op.create_table(
        "version",
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("parent", sa.Text),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("registered_at", sa.Double, nullable=False),
        sa.Column("registered_by", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_version"),
        sa.UniqueConstraint("digest", name="uq_version_digest"),
    )
    op.create_index("ix_version_model", "version", ["model"])
    op.create_table(
        "deployment",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("candidate", sa.Text, nullable=False),
        sa.Column("incumbent", sa.Text),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("salt", _NAME, nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("is_held", sa.Boolean, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("n_requests", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("started_by", _NAME, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_deployment"),
        sa.ForeignKeyConstraint(["candidate"], ["version.version"], name="fk_deployment_candidate_version"),
        sa.ForeignKeyConstraint(["incumbent"], ["version.version"], name="fk_deployment_incumbent_version"),
        sa.CheckConstraint("share >= 0 AND share <= 1", name=op.f("ck_deployment_share")),
    )
    op.create_index("ix_deployment_name", "deployment", ["name"])
    _create_only_one("uq_deployment_open_name", "deployment", ["name"], where="ended_at IS NULL")
    _create_only_one("uq_deployment_open_model", "deployment", ["model"], where="ended_at IS NULL")
    op.create_table(
        "stage_event",
        sa.Column("deployment_id", _ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", sa.String(40), nullable=False),
        sa.Column("by", _NAME, nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("previous", _DIGEST, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "number", name="pk_stage_event"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_stage_event_deployment_id_deployment"),
    )
    op.create_table(
        "premortem",
        sa.Column("deployment_id", _ID, nullable=False),
        sa.Column("question", _NAME, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("by", _NAME, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "question", name="pk_premortem"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_premortem_deployment_id_deployment"),
    )
    op.create_table(
        "alert",
        sa.Column("id", _ID, nullable=False),
        sa.Column("deployment_id", _ID, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("closed_at", sa.Double),
        sa.Column("closed_by", _NAME),
        sa.Column("closed_why", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_alert"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_alert_deployment_id_deployment"),
    )
    op.create_index("ix_alert_deployment_id", "alert", ["deployment_id"])
    _create_only_one("uq_alert_open", "alert", ["deployment_id", "kind"], where="closed_at IS NULL")


def _create_requests() -> None:
    op.create_table(
        "request",
        sa.Column("prediction_id", _ID, nullable=False),
        sa.Column("deployment_id", _ID, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("in_scope", sa.Boolean, nullable=False),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("decided_by", sa.String(16), nullable=False),
        sa.Column("incumbent", sa.Text),
        sa.Column("candidate", sa.Text),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("candidate_seconds", sa.Double),
        sa.Column("wants_label", sa.Boolean, nullable=False),
        sa.Column("label_probability", sa.Double, nullable=False),
        sa.Column("due_at", sa.Double),
        sa.Column("image_sha256", _DIGEST),
        sa.PrimaryKeyConstraint("prediction_id", name="pk_request"),
        sa.ForeignKeyConstraint(["prediction_id"], ["prediction.id"], name="fk_request_prediction_id_prediction"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_request_deployment_id_deployment"),
        sa.CheckConstraint("decided_by IN ('candidate', 'incumbent', 'people')", name=op.f("ck_request_decided_by")),
        sa.CheckConstraint("state IN ('pending', 'done', 'failed')", name=op.f("ck_request_state")),
    )
    op.create_index("uq_request_deployment_id_seq", "request", ["deployment_id", "seq"], unique=True)
    op.create_index("ix_request_deployment_id_state_seq", "request", ["deployment_id", "state", "seq"])
    op.create_index("ix_request_image_sha256", "request", ["image_sha256"])
    op.create_table(
        "image",
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("kept_at", sa.Double, nullable=False),
        sa.Column("forgotten_at", sa.Double),
        sa.PrimaryKeyConstraint("sha256", name="pk_image"),
    )
    op.create_index("ix_image_kept_at", "image", ["kept_at"])


def _create_reviews() -> None:
    op.create_table(
        "review_task",
        sa.Column("id", _ID, nullable=False),
        sa.Column("prediction_id", _ID, nullable=False),
        sa.Column("deployment_id", _ID),
        sa.Column("why", sa.String(16), nullable=False),
        sa.Column("asked_at", sa.Double, nullable=False),
        sa.Column("due_at", sa.Double),
        sa.Column("risk", sa.Double, nullable=False),
        sa.Column("people", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("truth", sa.Text),
        sa.Column("gold", sa.Text),
        sa.Column("claimed_by", _NAME),
        sa.Column("claimed_until", sa.Double),
        sa.Column("settled_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_review_task"),
        sa.ForeignKeyConstraint(["prediction_id"], ["prediction.id"], name="fk_review_task_prediction_id_prediction"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_review_task_deployment_id_deployment"),
        sa.CheckConstraint(
            "why IN ('audit', 'disagreement', 'deferred', 'feedback', 'gold', 'all')", name=op.f("ck_review_task_why")
        ),
        sa.CheckConstraint("people IN (1, 2)", name=op.f("ck_review_task_people")),
        sa.CheckConstraint("state IN ('open', 'labelled', 'unclear', 'overdue')", name=op.f("ck_review_task_state")),
        sa.CheckConstraint("(state = 'labelled') = (truth IS NOT NULL)", name=op.f("ck_review_task_truth")),
    )
    op.create_index("ix_review_task_prediction_id", "review_task", ["prediction_id"])
    op.create_index("ix_review_task_deployment_id", "review_task", ["deployment_id"])
    op.create_index("ix_review_task_state_due_at", "review_task", ["state", "due_at"])
    is_open = "state = 'open' AND deployment_id IS"
    both = ["prediction_id", "deployment_id"]
    _create_only_one("uq_review_task_open", "review_task", both, where=f"{is_open} NOT NULL")
    _create_only_one("uq_review_task_open_alone", "review_task", ["prediction_id"], where=f"{is_open} NULL")
    op.create_table(
        "review_answer",
        sa.Column("id", _ID, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("by", _NAME, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("saw_model", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_review_answer"),
        sa.ForeignKeyConstraint(["task_id"], ["review_task.id"], name="fk_review_answer_task_id_review_task"),
    )
    op.create_index("uq_review_answer_task_id_number", "review_answer", ["task_id", "number"], unique=True)
    op.create_index("uq_review_answer_task_id_by", "review_answer", ["task_id", "by"], unique=True)
    op.create_index("ix_review_answer_at", "review_answer", ["at"])
