"""What people are asked to look at, who looks at what now, and what they said.

A person claims a task for a while, and answers it while the claim holds. An answer and what it settles are one
transaction. Claims need not outlive a power cut; answers do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, NotFound

from .database import Database
from .ids import new_id
from .packing import clean_text
from .schema_rollout import REVIEW_ANSWER, REVIEW_TASK

__all__ = ["Order", "ReviewAnswer", "Reviews", "State", "Task", "Why", "ask_within"]

Why = Literal["audit", "disagreement", "deferred", "feedback", "gold", "all"]
State = Literal["open", "labelled", "unclear", "overdue"]
Order = Literal["deadline", "risk", "audit"]

_T = REVIEW_TASK.c
_LABEL_MAX = 500  # characters
_ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "deadline": (_T.due_at.is_(None), _T.due_at, _T.asked_at, _T.id),
    "risk": (_T.risk.desc(), _T.asked_at, _T.id),
    "audit": (_T.why != "audit", _T.asked_at, _T.id),
}


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


@dataclass(frozen=True, slots=True)
class Reviews:
    """The tasks and answers in the database."""

    database: Database
    clock: Callable[[], float]

    def ask(self, task: Task) -> Task:
        """Queue it; where one of this prediction and deployment is open already, that one.

        What was asked for a caller's feedback alone becomes what it is asked for now: it counts from then on.
        """
        with self.database.write() as db:
            return ask_within(db, task)

    def get(self, task_id: str) -> Task | None:
        """One."""
        with self.database.read() as db:
            row = db.execute(select(REVIEW_TASK).where(_T.id == task_id)).first()
        return None if row is None else _task(row)

    def of(self, prediction_id: str) -> list[Task]:
        """All of one prediction, the oldest first."""
        with self.database.read() as db:
            query = select(REVIEW_TASK).where(_T.prediction_id == prediction_id).order_by(_T.id)
            return [_task(row) for row in db.execute(query)]

    def answers(self, task_id: str) -> list[ReviewAnswer]:
        """In the order they came."""
        query = select(REVIEW_ANSWER).where(REVIEW_ANSWER.c.task_id == task_id).order_by(REVIEW_ANSWER.c.number)
        with self.database.read() as db:
            return [_answer(row) for row in db.execute(query)]

    def claim(self, by: str, *, order: Order, lease_s: float, skip: Collection[str] = ()) -> Task | None:
        """The next task for this person, theirs alone for `lease_s`; None where there is none.

        What they hold already comes first, and is held anew. Never one that they answered, nor one in `skip`.
        """
        if order not in _ORDERS:
            raise InvalidConfig("order", got=order, want=", ".join(_ORDERS))
        now, by = self.clock(), _person(by)
        answered = exists().where(REVIEW_ANSWER.c.task_id == _T.id, REVIEW_ANSWER.c.by == by)
        is_mine = (_T.claimed_by == by) & (_T.claimed_until > now)
        query = (
            select(REVIEW_TASK)
            .where(_T.state == "open", or_(_is_free(now), is_mine), ~answered, _T.id.not_in(list(skip)))
            .order_by(is_mine.is_not(True), *_ORDERS[order])
            .limit(1)
            .with_for_update(skip_locked=True)  # two people at once get two tasks
        )
        with self.database.write(is_lasting=False) as db:
            row = db.execute(query).first()
            if row is None:
                return None
            db.execute(update(REVIEW_TASK).where(_T.id == row.id).values(claimed_by=by, claimed_until=now + lease_s))
            return _task(row)

    def release(self, task_id: str, by: str) -> None:
        """Give back a claim; nothing where it is not theirs."""
        is_theirs = (_T.id == task_id) & (_T.claimed_by == _person(by))
        with self.database.write(is_lasting=False) as db:
            db.execute(update(REVIEW_TASK).where(is_theirs).values(claimed_by=None, claimed_until=None))

    def answer(
        self,
        task_id: str,
        by: str,
        answer: str,
        *,
        settle: Callable[[list[str]], tuple[State, str | None]],
        seconds: float | None,
        saw_model: bool,
    ) -> Task:
        """Keep what a person said, and what all answers together come to: `settle` of them in order.

        Raises Conflict where the task is settled or this person holds no claim on it now.
        """
        now, by = self.clock(), _person(by)
        if not 1 <= len(answer) <= _LABEL_MAX or clean_text(answer) != answer:
            raise InvalidInput("answer", got=f"{len(answer)} characters", want=f"a label, at most {_LABEL_MAX}")
        with self.database.write() as db:
            row = _lock(db, task_id)
            if row.state != "open":
                raise Conflict("task", got=f"{task_id}, {row.state}", want="one that is open")
            if row.claimed_by != by or row.claimed_until is None or row.claimed_until <= now:
                whose = "held by another" if row.claimed_by not in (None, by) else "not claimed, or no longer"
                raise Conflict("task", got=f"{task_id}, {whose}", want="your own claim", hint="Claim one again.")
            before = _said(db, task_id)
            if any(who == by for who, _ in before):
                raise Conflict("task", got=f"{task_id}, which {by} answered", want="one answer a person")
            said = [*(one for _, one in before), answer]
            kept = ReviewAnswer(
                id=new_id(), task_id=task_id, by=by, answer=answer, at=now, seconds=seconds, saw_model=saw_model
            )
            db.execute(insert(REVIEW_ANSWER).values(asdict(kept) | {"number": len(said)}))
            return _settle(db, row, *settle(said), now=now)

    def open_count(self, deployment_id: str | None = None) -> int:
        """Tasks that wait; of one deployment, or of all."""
        query = select(func.count()).select_from(REVIEW_TASK).where(_T.state == "open", *_of(deployment_id))
        with self.database.read() as db:
            return db.execute(query).scalar_one()

    def oldest_open(self, deployment_id: str | None = None) -> float | None:
        """When the task was asked that waits longest."""
        query = select(func.min(_T.asked_at)).where(_T.state == "open", *_of(deployment_id))
        with self.database.read() as db:
            found: float | None = db.execute(query).scalar_one()
        return found

    def load(self, since: float) -> list[tuple[str, int, float | None]]:
        """(person, answers, median seconds an answer), by name, of what was answered from `since` on."""
        query = select(REVIEW_ANSWER.c.by, REVIEW_ANSWER.c.seconds).where(REVIEW_ANSWER.c.at >= since)
        taken: dict[str, list[float | None]] = {}
        with self.database.read() as db:
            for by, seconds in db.execute(query):
                taken.setdefault(by, []).append(seconds)
        known = {by: [one for one in all_ if one is not None] for by, all_ in taken.items()}
        return [(by, len(taken[by]), median(known[by]) if known[by] else None) for by in sorted(taken)]

    def pairs(self, deployment_id: str) -> list[tuple[str, str]]:
        """The first two answers to each task that two people see, the oldest task first."""
        query = (
            select(REVIEW_ANSWER.c.task_id, REVIEW_ANSWER.c.answer)
            .join(REVIEW_TASK, REVIEW_ANSWER.c.task_id == _T.id)
            .where(_T.deployment_id == deployment_id, _T.people == 2, REVIEW_ANSWER.c.number <= 2)
            .order_by(_T.id, REVIEW_ANSWER.c.number)
        )
        found: dict[str, list[str]] = {}
        with self.database.read() as db:
            for task_id, answer in db.execute(query):
                found.setdefault(task_id, []).append(answer)
        return [(said[0], said[1]) for said in found.values() if len(said) == 2]

    def gold_pairs(self, by: str | None = None) -> list[tuple[str, str]]:
        """(answer, what is right) of the pictures whose label is known; of one person, or of all."""
        query = (
            select(REVIEW_ANSWER.c.answer, _T.gold)
            .join(REVIEW_TASK, REVIEW_ANSWER.c.task_id == _T.id)
            .where(_T.gold.is_not(None))
            .order_by(REVIEW_ANSWER.c.id)
        )
        if by is not None:
            query = query.where(REVIEW_ANSWER.c.by == _person(by))
        with self.database.read() as db:
            return [(row.answer, row.gold) for row in db.execute(query)]

    def expire(self, now: float) -> int:
        """Tasks whose time is over become overdue, also those that somebody holds; returns how many."""
        is_over = (_T.state == "open") & (_T.due_at < now)
        values = {"state": "overdue", "settled_at": now, "claimed_by": None, "claimed_until": None}
        with self.database.write() as db:
            return int(db.execute(update(REVIEW_TASK).where(is_over).values(values)).rowcount)


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
    return None if row is None else _task(row)


def _lock(db: Connection, task_id: str) -> Row[*tuple[object, ...]]:
    row = db.execute(select(REVIEW_TASK).where(_T.id == task_id).with_for_update()).first()
    if row is None:
        raise NotFound("task", got=task_id, want="one that was asked")
    return row


def _said(db: Connection, task_id: str) -> list[tuple[str, str]]:
    """(person, answer) in the order they came."""
    query = select(REVIEW_ANSWER.c.by, REVIEW_ANSWER.c.answer).where(REVIEW_ANSWER.c.task_id == task_id)
    return [(row.by, row.answer) for row in db.execute(query.order_by(REVIEW_ANSWER.c.number))]


def _settle(db: Connection, row: Row[*tuple[object, ...]], state: State, truth: str | None, *, now: float) -> Task:
    """The claim ends with the answer."""
    if state not in ("open", "labelled", "unclear") or (state == "labelled") != (truth is not None):
        raise InvalidInput("settle", got=f"{state}, {truth!r}", want="open, unclear, or labelled with a label")
    values = {"state": state, "truth": truth, "settled_at": None if state == "open" else now}
    db.execute(update(REVIEW_TASK).where(_T.id == row.id).values(values | {"claimed_by": None, "claimed_until": None}))
    return replace(_task(row), state=state, truth=truth)


def _is_free(now: float) -> ColumnElement[bool]:
    return or_(_T.claimed_until.is_(None), _T.claimed_until <= now)


def _of(deployment_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if deployment_id is None else (_T.deployment_id == deployment_id,)


def _person(by: str) -> str:
    return clean_text(by)[:128]


def _task(row: Row[*tuple[object, ...]]) -> Task:
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


def _answer(row: Row[*tuple[object, ...]]) -> ReviewAnswer:
    return ReviewAnswer(
        id=row.id,
        task_id=row.task_id,
        by=row.by,
        answer=row.answer,
        at=row.at,
        seconds=row.seconds,
        saw_model=row.saw_model,
    )
