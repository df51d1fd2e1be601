"""A picture that waits for a person, what a person said of it, and how one is queued as a part of a transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from drivetrain.errors import InvalidInput, NotFound

from .schema_rollout import REVIEW_TASK

__all__ = ["ReviewAnswer", "State", "Task", "Why", "ask_within", "unpack_answer", "unpack_task"]

Why = Literal["audit", "disagreement", "deferred", "feedback", "gold", "all"]
State = Literal["open", "labelled", "unclear", "overdue"]

_T = REVIEW_TASK.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One picture that waits for a person, or did."""

    id: str
    prediction_id: str
    deployment_id: str | None = None
    why: Why
    asked_at: float
    due_at: float | None = None  # None: no one waits for it
    risk: float = 0.0  # how likely the model is wrong, 0 to 1
    people: int = 1  # or 2, who look at it apart from each other
    state: State = "open"
    truth: str | None = None  # where it is labelled
    gold: str | None = None  # the label that is known to be right


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAnswer:
    """What one person said."""

    id: str
    task_id: str
    by: str
    answer: str
    at: float
    seconds: float | None
    saw_model: bool


def ask_within(db: Connection, task: Task) -> Task:
    """`Reviews.ask` as a part of a transaction."""
    if task.state != "open" or task.people not in (1, 2) or not 0 <= task.risk <= 1:
        raise InvalidInput(
            "task", got=f"{task.state}, {task.people} people, risk {task.risk:g}", want="open, 1 or 2, 0 to 1"
        )
    kept = _open_one(db, task)
    if kept is None:
        try:
            with db.begin_nested():
                db.execute(insert(REVIEW_TASK).values(asdict(task)))
        except IntegrityError:  # another process was faster, or what it points to is not there
            kept = _open_one(db, task)
            if kept is None:
                raise NotFound(
                    "prediction_id", got=task.prediction_id, want="one that was stored, with its deployment"
                ) from None
        else:
            return task
    if kept.why == "feedback" and task.why not in ("feedback", "gold"):
        due = min((at for at in (kept.due_at, task.due_at) if at is not None), default=None)
        kept = replace(
            kept, why=task.why, due_at=due, risk=max(kept.risk, task.risk), people=max(kept.people, task.people)
        )
        values = {"why": kept.why, "due_at": kept.due_at, "risk": kept.risk, "people": kept.people}
        db.execute(update(REVIEW_TASK).where(_T.id == kept.id).values(values))
    return kept


def _open_one(db: Connection, task: Task) -> Task | None:
    same = _T.deployment_id.is_(None) if task.deployment_id is None else _T.deployment_id == task.deployment_id
    query = select(REVIEW_TASK).where(_T.prediction_id == task.prediction_id, same, _T.state == "open")
    row = db.execute(query.with_for_update()).first()
    return None if row is None else unpack_task(row)


def unpack_task(row: Row[*tuple[object, ...]]) -> Task:
    """Of a row."""
    return Task(
        id=row.id,
        prediction_id=row.prediction_id,
        deployment_id=row.deployment_id,
        why=row.why,
        asked_at=row.asked_at,
        due_at=row.due_at,
        risk=row.risk,
        people=row.people,
        state=row.state,
        truth=row.truth,
        gold=row.gold,
    )


def unpack_answer(row: Row[*tuple[object, ...]]) -> ReviewAnswer:
    """Of a row."""
    return ReviewAnswer(
        id=row.id,
        task_id=row.task_id,
        by=row.by,
        answer=row.answer,
        at=row.at,
        seconds=row.seconds,
        saw_model=row.saw_model,
    )
