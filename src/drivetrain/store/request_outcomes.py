"""What became of a roll-out's requests: each with the state of its review and its label, in the order they came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from sqlalchemy import Connection, select

from .database import Database
from .routed import Routed, unpack_routed
from .schema_rollout import REQUEST, REVIEW_TASK

__all__ = ["ReviewState", "read_outcomes"]

ReviewState = Literal["none", "pending", "labelled", "unclear", "overdue"]

_R = REQUEST.c
_PAGE = 1_000  # rows read at once


def read_outcomes(
    database: Database, deployment_id: str, after_seq: int = 0
) -> Iterator[tuple[Routed, ReviewState, str | None]]:
    """(request, state of its review, the reviewers' label), from the one after `after_seq`."""
    while True:
        with database.read() as db:
            page = select(REQUEST).where(_R.deployment_id == deployment_id, _R.seq > after_seq)
            routed = [unpack_routed(row) for row in db.execute(page.order_by(_R.seq).limit(_PAGE))]
            if not routed:
                return
            reviews = _reviews(db, deployment_id, routed[0].seq, routed[-1].seq)
        after_seq = routed[-1].seq
        for one in routed:
            yield one, *_review_of(one, reviews)


def _reviews(db: Connection, deployment_id: str, first: int, last: int) -> dict[str, tuple[str, str | None]]:
    """Prediction -> state and label of the first task that was asked of it there, pictures of known label left out."""
    query = (
        select(REVIEW_TASK.c.prediction_id, REVIEW_TASK.c.state, REVIEW_TASK.c.truth)
        .join(REQUEST, REVIEW_TASK.c.prediction_id == _R.prediction_id)
        .where(
            _R.deployment_id == deployment_id,
            _R.seq.between(first, last),
            REVIEW_TASK.c.deployment_id == deployment_id,
            REVIEW_TASK.c.why != "gold",
        )
        .order_by(REVIEW_TASK.c.id.desc())  # the first one comes last and stays
    )
    return {row.prediction_id: (row.state, row.truth) for row in db.execute(query)}


def _review_of(routed: Routed, reviews: Mapping[str, tuple[str, str | None]]) -> tuple[ReviewState, str | None]:
    if routed.state == "pending":
        return "pending", None
    if not routed.wants_label:
        return "none", None
    state, truth = reviews.get(routed.prediction_id, ("open", None))
    told: dict[str, ReviewState] = {
        "open": "pending", "labelled": "labelled", "unclear": "unclear", "overdue": "overdue",
    }  # fmt: skip
    return told[state], truth
