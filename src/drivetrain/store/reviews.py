"""What people are asked to look at, who looks at what now, and what they said.

A person claims a task for a while, and answers it while the claim holds. An answer and what it settles are one
transaction. Claims need not outlive a power cut; answers do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, exists, insert, or_, select, update

from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, NotFound

from .ids import new_id
from .packing import clean_text
from .review_figures import ReviewFigures, clean_person, of_deployment
from .review_tasks import ReviewAnswer, State, Task, Why, ask_within, unpack_answer, unpack_task
from .schema import PREDICTION
from .schema_rollout import REVIEW_ANSWER, REVIEW_TASK

__all__ = ["Order", "ReviewAnswer", "Reviews", "State", "Task", "Why", "ask_within"]

Order = Literal["deadline", "risk", "audit"]

_T = REVIEW_TASK.c
_LABEL_MAX = 500  # characters
_HOLD_SLACK_S = 60.0  # a held answer keeps its task from others so much longer, for who settles it
_ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "deadline": (_T.due_at.is_(None), _T.due_at, _T.asked_at, _T.id),
    "risk": (_T.risk.desc(), _T.asked_at, _T.id),
    "audit": (_T.why != "audit", _T.asked_at, _T.id),
}


@dataclass(frozen=True, slots=True)
class Reviews(ReviewFigures):
    """The tasks and answers in the database."""

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
        return None if row is None else unpack_task(row)

    def of(self, prediction_id: str) -> list[Task]:
        """All of one prediction, the oldest first."""
        with self.database.read() as db:
            query = select(REVIEW_TASK).where(_T.prediction_id == prediction_id).order_by(_T.id)
            return [unpack_task(row) for row in db.execute(query)]

    def answers(self, task_id: str) -> list[ReviewAnswer]:
        """In the order they came."""
        query = select(REVIEW_ANSWER).where(REVIEW_ANSWER.c.task_id == task_id).order_by(REVIEW_ANSWER.c.number)
        with self.database.read() as db:
            return [unpack_answer(row) for row in db.execute(query)]

    def claim(
        self,
        by: str,
        *,
        order: Order,
        lease_s: float,
        skip: Collection[str] = (),
        is_gold: bool | None = None,
        model: str | None = None,
        deployment_id: str | None = None,
    ) -> Task | None:
        """The next task for this person, theirs alone for `lease_s`; None where there is none.

        What they hold already comes first, and is held anew. Never one that they answered, nor one in `skip`. Only
        those whose label is known (`is_gold`) or only the others, of one model, of one deployment: where that is given.
        """
        if order not in _ORDERS:
            raise InvalidConfig("order", got=order, want=", ".join(_ORDERS))
        now, by = self.clock(), clean_person(by)
        answered = exists().where(REVIEW_ANSWER.c.task_id == _T.id, REVIEW_ANSWER.c.by == by)
        is_mine = (_T.claimed_by == by) & (_T.claimed_until > now)
        query = (
            select(REVIEW_TASK)
            .where(_T.state == "open", or_(_is_free(now), is_mine), ~answered, _T.id.not_in(list(skip)))
            .where(*of_deployment(deployment_id), *_kind(is_gold, model))
            .order_by(is_mine.is_not(True), *_ORDERS[order])
            .limit(1)
            .with_for_update(skip_locked=True)  # two people at once get two tasks
        )
        with self.database.write(is_lasting=False) as db:
            row = db.execute(query).first()
            if row is None:
                return None
            db.execute(update(REVIEW_TASK).where(_T.id == row.id).values(claimed_by=by, claimed_until=now + lease_s))
            return unpack_task(row)

    def release(self, task_id: str, by: str) -> None:
        """Give back a claim; nothing where it is not theirs, or where they answered."""
        by = clean_person(by)
        answered = exists().where(REVIEW_ANSWER.c.task_id == _T.id, REVIEW_ANSWER.c.by == by)
        is_theirs = (_T.id == task_id) & (_T.claimed_by == by) & ~answered
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
        hold_s: float = 0.0,
    ) -> Task:
        """Keep what a person said, and what all answers together come to: `settle` of them in order.

        With `hold_s` the answer is kept, settles nothing, and the task stays theirs: `take_back` may undo it for so
        long, then `settle_held` settles it. Raises Conflict where the task is settled or this person holds no claim.
        """
        now, by = self.clock(), clean_person(by)
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
            if hold_s > 0:
                until = now + hold_s + _HOLD_SLACK_S
                db.execute(update(REVIEW_TASK).where(_T.id == task_id).values(claimed_until=until))
                return unpack_task(row)
            return _settle(db, row, *settle(said), now=now)

    def take_back(self, task_id: str, by: str, *, since: float, lease_s: float) -> Task:
        """Undo this person's answer, given after `since` and still held; the task is theirs anew for `lease_s`.

        Raises Conflict where it is older, settled, or was never given.
        """
        now, by = self.clock(), clean_person(by)
        with self.database.write() as db:
            row = _lock(db, task_id)
            last = db.execute(_last_answer(task_id)).first()
            is_held = row.state == "open" and row.claimed_by == by and last is not None and last.by == by
            if last is None or not is_held or last.at <= since:
                raise Conflict("task", got=f"{task_id}, whose answer stands", want="your last one, a moment ago")
            db.execute(delete(REVIEW_ANSWER).where(REVIEW_ANSWER.c.id == last.id))
            db.execute(update(REVIEW_TASK).where(_T.id == task_id).values(claimed_until=now + lease_s))
            return unpack_task(row)

    def settle_held(
        self, *, before: float, settle: Callable[[Task, list[str]], tuple[State, str | None]]
    ) -> list[Task]:
        """Let the answers stand that are held and were given by then; returns the tasks that this settled.

        Each is one transaction: of two servers that do it at once, one does.
        """
        is_last = REVIEW_ANSWER.c.by == _T.claimed_by
        query = (
            select(_T.id)
            .join(REVIEW_ANSWER, REVIEW_ANSWER.c.task_id == _T.id)
            .where(_T.state == "open", _T.claimed_by.is_not(None), is_last, REVIEW_ANSWER.c.at <= before)
        )
        with self.database.read() as db:
            held = list(db.execute(query.order_by(REVIEW_ANSWER.c.id)).scalars())
        settled = []
        for task_id in held:
            with self.database.write() as db:
                row = _lock(db, task_id)
                last = db.execute(_last_answer(task_id)).first()
                if row.state != "open" or last is None or last.by != row.claimed_by or last.at > before:
                    continue  # another server was faster, or it was taken back
                said = [answer for _, answer in _said(db, task_id)]
                task = _settle(db, row, *settle(unpack_task(row), said), now=self.clock())
            if task.state != "open":
                settled.append(task)
        return settled

    def expire(self, now: float) -> int:
        """Tasks whose time is over become overdue, also those that somebody holds; returns how many.

        Not one whose answer is held: it came in time, and `settle_held` settles it.
        """
        has_held = exists().where(REVIEW_ANSWER.c.task_id == _T.id, REVIEW_ANSWER.c.by == _T.claimed_by)
        is_over = (_T.state == "open") & (_T.due_at < now) & ~has_held
        values = {"state": "overdue", "settled_at": now, "claimed_by": None, "claimed_until": None}
        with self.database.write() as db:
            return int(db.execute(update(REVIEW_TASK).where(is_over).values(values)).rowcount)


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
    return replace(unpack_task(row), state=state, truth=truth)


def _last_answer(task_id: str) -> Select[Any]:
    query = select(REVIEW_ANSWER).where(REVIEW_ANSWER.c.task_id == task_id)
    return query.order_by(REVIEW_ANSWER.c.number.desc()).limit(1)


def _kind(is_gold: bool | None, model: str | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if is_gold is not None:
        wanted.append(_T.gold.is_not(None) if is_gold else _T.gold.is_(None))
    if model is not None:
        wanted.append(exists().where(PREDICTION.c.id == _T.prediction_id, PREDICTION.c.model == model))
    return wanted


def _is_free(now: float) -> ColumnElement[bool]:
    return or_(_T.claimed_until.is_(None), _T.claimed_until <= now)
