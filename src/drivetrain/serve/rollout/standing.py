"""What became of a prediction: decided, or how far the people are who decide it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from drivetrain.store.predictions import Stored
from drivetrain.store.requests import DecidedBy, Routed
from drivetrain.store.reviews import ReviewAnswer, Task
from drivetrain.store.store import Store

__all__ = ["PEOPLE", "Standing", "read_standing", "standing_of"]

PEOPLE = "people"  # in place of a version, where no model answered the caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """As `GET /predictions/{prediction_id}` tells it."""

    prediction_id: str
    state: Literal["decided", "pending", "unclear", "overdue"]
    label: str | None
    decided_by: DecidedBy
    answered_at: float | None  # seconds since 1970

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_standing(store: Store, stored: Stored) -> Standing:
    """From the database, now."""
    routed = store.requests.get(stored.id)
    tasks = [task for task in store.reviews.of(stored.id) if task.why != "gold"]
    answers = store.reviews.answers(tasks[0].id) if tasks else []
    return standing_of(stored, routed, tasks, answers)


def standing_of(stored: Stored, routed: Routed | None, tasks: list[Task], answers: list[ReviewAnswer]) -> Standing:
    """`tasks` are those of this prediction, the oldest first; `answers` those to the first."""
    is_peoples = stored.version == PEOPLE
    if not is_peoples and stored.answer.get("decision") != "defer":
        label = stored.answer.get("label")
        return Standing(
            prediction_id=stored.id,
            state="decided",
            label=None if label is None else str(label),
            decided_by="incumbent" if routed is None else routed.decided_by,
            answered_at=stored.at,
        )
    task = tasks[0] if tasks else None
    settled_at = answers[-1].at if answers else None
    if task is not None and task.state == "labelled":
        return Standing(
            prediction_id=stored.id, state="decided", label=task.truth, decided_by="people", answered_at=settled_at
        )
    state: Literal["pending", "unclear", "overdue"] = "unclear"  # left to a person, and no one was asked
    if task is not None and task.state != "labelled":
        state = "pending" if task.state == "open" else task.state
    return Standing(
        prediction_id=stored.id,
        state=state,
        label=None,
        decided_by="people",
        answered_at=settled_at if state == "unclear" else None,
    )
