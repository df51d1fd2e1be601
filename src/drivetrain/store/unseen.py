"""What becomes of work on a picture that is gone: nobody can look at it any more, so nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, exists, insert, select, update

from .ids import new_id
from .schema import PREDICTION
from .schema_rollout import REQUEST, REVIEW_TASK

__all__ = ["settle_unseen"]


def settle_unseen(db: Connection, shas: Sequence[str], *, now: float) -> int:
    """Close what waits for these pictures; returns how many reviews that were open are now unclear.

    A label that was wanted becomes one that cannot be told: it counts against promotion, never as harm, and the
    requests behind it are counted again. A candidate that had still to see the picture is taken to have deferred.
    """
    of_them = select(PREDICTION.c.id).where(PREDICTION.c.sha256.in_(shas)).scalar_subquery()
    closed = {"state": "unclear", "settled_at": now, "claimed_by": None, "claimed_until": None}
    is_open = (REVIEW_TASK.c.state == "open") & REVIEW_TASK.c.prediction_id.in_(of_them)
    count = int(db.execute(update(REVIEW_TASK).where(is_open).values(closed)).rowcount)
    asked = exists().where(
        REVIEW_TASK.c.prediction_id == REQUEST.c.prediction_id,
        REVIEW_TASK.c.deployment_id == REQUEST.c.deployment_id,
        REVIEW_TASK.c.why != "gold",
    )
    is_unasked = REQUEST.c.prediction_id.in_(of_them) & REQUEST.c.wants_label.is_(True) & ~asked
    unasked = select(REQUEST.c.prediction_id, REQUEST.c.deployment_id).where(is_unasked)
    tasks = [
        {
            "id": new_id(),
            "prediction_id": row.prediction_id,
            "deployment_id": row.deployment_id,
            "why": "audit",
            "asked_at": now,
            "risk": 0.0,
            "people": 1,
            "state": "unclear",
            "settled_at": now,
        }
        for row in db.execute(unasked)
    ]
    if tasks:
        db.execute(insert(REVIEW_TASK), tasks)
    is_pending = (REQUEST.c.state == "pending") & REQUEST.c.prediction_id.in_(of_them)
    db.execute(update(REQUEST).where(is_pending).values(state="done"))
    return count
