"""The queue of reviews, looked at and not changed: who holds what, what can be taken back, how much waits."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import exists, func, select

from .packing import clean_text
from .reviews import ReviewAnswer, Reviews, Task
from .schema import AUDIT, PREDICTION
from .schema_rollout import REVIEW_ANSWER, REVIEW_TASK

__all__ = [
    "Waiting",
    "count_answers",
    "count_waiting",
    "find_held",
    "find_holder",
    "find_last",
    "list_gold",
    "was_noted",
]

_T, _A = REVIEW_TASK.c, REVIEW_ANSWER.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How much waits; pictures whose label is known are not counted."""

    open: int
    for_others: int  # of these, what this person answered: another has to look
    due_soon: int
    late: int  # past their time, and not closed yet
    oldest_at: float | None


def count_waiting(reviews: Reviews, *, by: str, soon_s: float, deployment_id: str | None = None) -> Waiting:
    """As it stands now, of one deployment or of all."""
    now, by = reviews.clock(), clean_text(by)
    wanted = [_T.state == "open", _T.gold.is_(None)]
    wanted += [] if deployment_id is None else [_T.deployment_id == deployment_id]
    answered = exists().where(_A.task_id == _T.id, _A.by == by)
    query = select(
        func.count(),
        func.count().filter(answered),
        func.count().filter(_T.due_at.between(now, now + soon_s)),
        func.count().filter(_T.due_at < now),
        func.min(_T.asked_at),
    )
    with reviews.database.read() as db:
        row = db.execute(query.where(*wanted)).one()
    return Waiting(open=row[0], for_others=row[1], due_soon=row[2], late=row[3], oldest_at=row[4])


def find_holder(reviews: Reviews, task_id: str) -> tuple[str, float] | None:
    """(who, until when) holds it now; None where it is free, settled or unknown."""
    query = select(_T.claimed_by, _T.claimed_until).where(_T.id == task_id, _T.state == "open")
    with reviews.database.read() as db:
        row = db.execute(query).first()
    if row is None or row.claimed_by is None or row.claimed_until is None or row.claimed_until <= reviews.clock():
        return None
    return row.claimed_by, row.claimed_until


def find_held(reviews: Reviews, by: str) -> list[str]:
    """The tasks that this person holds and has not answered, the oldest first."""
    by = clean_text(by)
    answered = exists().where(_A.task_id == _T.id, _A.by == by)
    is_theirs = (_T.claimed_by == by) & (_T.claimed_until > reviews.clock())
    with reviews.database.read() as db:
        found = db.execute(select(_T.id).where(_T.state == "open", is_theirs, ~answered).order_by(_T.id))
        return list(found.scalars())


def find_last(reviews: Reviews, by: str, *, since: float) -> tuple[Task, ReviewAnswer] | None:
    """This person's last answer, if it was given after `since` and is held: it can be taken back."""
    query = select(_A.id, _A.task_id).where(_A.by == clean_text(by), _A.at > since).order_by(_A.id.desc()).limit(1)
    with reviews.database.read() as db:
        row = db.execute(query).first()
    task = None if row is None else reviews.get(row.task_id)
    holder = None if task is None else find_holder(reviews, task.id)
    if row is None or task is None or holder is None or holder[0] != clean_text(by):
        return None
    return next(((task, one) for one in reviews.answers(task.id) if one.id == row.id), None)


def count_answers(reviews: Reviews, by: str, *, since: float = 0.0) -> int:
    """How often this person answered."""
    query = select(func.count()).select_from(REVIEW_ANSWER).where(_A.by == clean_text(by), _A.at >= since)
    with reviews.database.read() as db:
        return db.execute(query).scalar_one()


def was_noted(reviews: Reviews, *, action: str, by: str, subject: str) -> bool:
    """Whether the audit says that they did it."""
    query = select(AUDIT.c.id).where(AUDIT.c.action == action, AUDIT.c.by == clean_text(by), AUDIT.c.subject == subject)
    with reviews.database.read() as db:
        return db.execute(query.limit(1)).first() is not None


def list_gold(reviews: Reviews, model: str) -> dict[str, str]:
    """sha256 -> label, of the pictures of known label that reviewers of this model are shown."""
    query = select(PREDICTION.c.sha256, _T.gold).join(REVIEW_TASK, _T.prediction_id == PREDICTION.c.id)
    is_shown = (_T.state == "open") & _T.gold.is_not(None) & (PREDICTION.c.model == model)
    with reviews.database.read() as db:
        return {row.sha256: row.gold for row in db.execute(query.where(is_shown))}
