"""What a roll-out saw: one row a request, numbered in the order in which they came to be on disk.

A thread writes what waits in one transaction, so that many callers share one wait for the disk. Who added is told once
theirs is there: the prediction, its routing and, where a label is wanted, the task for a person, all or none.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

from sqlalchemy import Connection, Row, exists, func, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError

from drivetrain.errors import Conflict, DrivetrainError, InvalidInput, NotFound, Unavailable

from .database import Database
from .packing import clean_text, pack, unpack
from .predictions import Stored, prediction_row
from .reviews import Task, ask_within
from .schema import PREDICTION
from .schema_rollout import DEPLOYMENT, REQUEST, REVIEW_TASK

__all__ = ["DecidedBy", "Requests", "ReviewState", "Routed"]

DecidedBy = Literal["candidate", "incumbent", "people"]
ReviewState = Literal["none", "pending", "labelled", "unclear", "overdue"]

_R = REQUEST.c
_BATCH_MAX = 200
_PAGE = 1_000  # rows read at once
_log = logging.getLogger("drivetrain.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """One request and who decided it."""

    prediction_id: str
    deployment_id: str
    seq: int = 0  # given by the store
    at: float
    key: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    in_scope: bool
    propensity: float  # with which the candidate was to decide
    decided_by: DecidedBy
    incumbent: Mapping[str, Any] | None = None  # its answer
    candidate: Mapping[str, Any] | None = None
    state: Literal["pending", "done", "failed"]  # of the one that was not asked at once
    candidate_seconds: float | None = None
    wants_label: bool
    label_probability: float
    due_at: float | None = None
    image_sha256: str | None = None


@dataclass(slots=True, kw_only=True)
class _Waiting:
    routed: Routed
    stored: Stored
    task: Task | None
    done: Future[Routed]


class Requests:
    """The requests in the database, and those on their way to it."""

    def __init__(self, database: Database, *, queue_max: int = 2_000) -> None:
        self._database = database
        self._queue_max = queue_max
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, routed: Routed, stored: Stored, *, task: Task | None = None, wait_s: float = 30.0) -> Routed:
        """Keep the answer, how it came about, and the task; on disk when this returns, with the number it got.

        The same once more changes nothing. Raises Conflict for another with this id, NotFound for an unknown
        deployment, Unavailable where the database does not take it within `wait_s`.
        """
        waiting = self.submit(routed, stored, task=task)
        try:
            return waiting.result(wait_s)
        except TimeoutError:
            waiting.cancel()
            raise Unavailable("db", got=f"no answer in {wait_s:.0f} s", want="a database that keeps up") from None

    def submit(self, routed: Routed, stored: Stored, *, task: Task | None = None) -> Future[Routed]:
        """`add` for who has no thread to wait with: done when it is on disk, or with the error."""
        if routed.prediction_id != stored.id or (task is not None and task.prediction_id != stored.id):
            raise InvalidInput("prediction_id", got=f"{routed.prediction_id}, {stored.id}", want="one and the same")
        if not 0 <= routed.propensity <= 1 or not 0 <= routed.label_probability <= 1:
            raise InvalidInput("probability", got=f"{routed.propensity}, {routed.label_probability}", want="0 to 1")
        waiting = _Waiting(routed=_clean(routed), stored=stored, task=task, done=Future())
        with self._changed:
            if self._closing:
                raise Unavailable("db", got="a request after the store was closed", want="one before")
            if len(self._queue) >= self._queue_max:
                raise Unavailable("db", got=f"{len(self._queue)} requests that wait", want="a database that keeps up")
            self._queue.append(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="drivetrain-requests", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return waiting.done

    def get(self, prediction_id: str) -> Routed | None:
        """One."""
        with self._database.read() as db:
            return _get(db, prediction_id)

    def pending(self, deployment_id: str, limit: int) -> list[Routed]:
        """Those that one of the two has still to see, the oldest first."""
        query = select(REQUEST).where(_R.deployment_id == deployment_id, _R.state == "pending")
        with self._database.read() as db:
            return [_routed(row) for row in db.execute(query.order_by(_R.seq).limit(limit))]

    def backlog(self, deployment_id: str) -> int:
        """How many those are."""
        is_it = (_R.deployment_id == deployment_id) & (_R.state == "pending")
        with self._database.read() as db:
            return db.execute(select(func.count()).select_from(REQUEST).where(is_it)).scalar_one()

    def unasked(self, deployment_id: str, limit: int) -> list[Routed]:
        """Those whose label is wanted but was never asked for: a process ended between the two. The oldest first."""
        asked = exists().where(
            REVIEW_TASK.c.prediction_id == _R.prediction_id, REVIEW_TASK.c.deployment_id == _R.deployment_id
        )
        query = select(REQUEST).where(
            _R.deployment_id == deployment_id, _R.state != "pending", _R.wants_label.is_(True), ~asked
        )
        with self._database.read() as db:
            return [_routed(row) for row in db.execute(query.order_by(_R.seq).limit(limit))]

    def finish(
        self,
        prediction_id: str,
        *,
        candidate: Mapping[str, Any] | None,
        incumbent: Mapping[str, Any] | None = None,
        seconds: float | None,
        wants_label: bool,
        label_probability: float,
        is_failed: bool = False,
        due_at: float | None = None,
        task: Task | None = None,
    ) -> bool:
        """What the one said that had still to see it. Once: False, and nothing changed, where it was finished before.

        An answer that is None leaves what is there; `task` is asked in the same transaction.
        """
        values: dict[str, Any] = {
            "state": "failed" if is_failed else "done",
            "candidate_seconds": seconds,
            "wants_label": wants_label,
            "label_probability": label_probability,
        }
        values |= {} if candidate is None else {"candidate": pack(candidate)}
        values |= {} if incumbent is None else {"incumbent": pack(incumbent)}
        values |= {} if due_at is None else {"due_at": due_at}
        is_waiting = (_R.prediction_id == prediction_id) & (_R.state == "pending")
        with self._database.write() as db:
            if not db.execute(update(REQUEST).where(is_waiting).values(values)).rowcount:
                if _get(db, prediction_id) is None:
                    raise NotFound("prediction_id", got=prediction_id, want="a request of a roll-out")
                return False
            if task is not None:
                ask_within(db, task)
            return True

    def outcomes(self, deployment_id: str, after_seq: int = 0) -> Iterator[tuple[Routed, ReviewState, str | None]]:
        """(request, state of its review, the reviewers' label) in the order they came, from the one after `after_seq`.

        "pending" too where one of the two has still to see it. The first label of a request stands.
        """
        while True:
            with self._database.read() as db:
                page = select(REQUEST).where(_R.deployment_id == deployment_id, _R.seq > after_seq)
                routed = [_routed(row) for row in db.execute(page.order_by(_R.seq).limit(_PAGE))]
                if not routed:
                    return
                reviews = _reviews(db, deployment_id, routed[0].seq, routed[-1].seq)
            after_seq = routed[-1].seq
            for one in routed:
                yield one, *_review_of(one, reviews)

    def close(self, *, wait_s: float = 10.0) -> None:
        """Write what waits, then take no more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(wait_s)

    def _write_all(self) -> None:
        while batch := self._take():
            batch = [one for one in batch if one.done.set_running_or_notify_cancel()]
            try:
                self._write(batch)
            except Exception as exc:
                _log.exception("requests were not written")
                for one in batch:
                    if not one.done.done():
                        one.done.set_exception(exc)

    def _take(self) -> list[_Waiting]:
        """The next batch; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            return [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH_MAX))]

    def _write(self, batch: list[_Waiting]) -> None:
        """All in one transaction; where one of them cannot be written, each by itself, so that it alone fails."""
        if not batch:
            return
        try:
            with self._database.write() as db:
                made = _insert(db, batch)
        except DrivetrainError as exc:
            is_theirs = isinstance(exc, NotFound | InvalidInput) or isinstance(
                exc.__cause__, IntegrityError | DataError
            )
            if is_theirs and len(batch) > 1:
                for one in batch:
                    self._write([one])
                return
            for one in batch:
                self._fail(one, exc)
            return
        for one, routed in zip(batch, made, strict=True):
            one.done.set_result(routed)

    def _fail(self, one: _Waiting, exc: DrivetrainError) -> None:
        error: DrivetrainError = exc
        if isinstance(exc.__cause__, IntegrityError):
            error = Conflict(
                "prediction_id", got=f"{one.routed.prediction_id} again", want="a new id for a new request"
            )
            with contextlib.suppress(DrivetrainError):
                kept = self.get(one.routed.prediction_id)
                if kept is not None and _is_same(kept, one.routed):
                    one.done.set_result(kept)
                    return
        one.done.set_exception(error)


def _insert(db: Connection, batch: list[_Waiting]) -> list[Routed]:
    """Number and write them. Deployments are locked in one order, so that two servers never wait for each other."""
    numbered: dict[str, Routed] = {}
    by_deployment = sorted(batch, key=lambda one: one.routed.deployment_id)  # stable: the order of arrival stays
    for deployment_id, group in groupby(by_deployment, key=lambda one: one.routed.deployment_id):
        waiting = list(group)
        last = _take_numbers(db, deployment_id, len(waiting))
        for place, one in enumerate(waiting, start=last - len(waiting) + 1):
            numbered[one.routed.prediction_id] = replace(one.routed, seq=place)
    db.execute(insert(PREDICTION), [prediction_row(one.stored) for one in batch])
    made = [numbered[one.routed.prediction_id] for one in batch]
    db.execute(insert(REQUEST), [_row(one) for one in made])
    for one in batch:
        if one.task is not None:
            ask_within(db, one.task)
    return made


def _take_numbers(db: Connection, deployment_id: str, n: int) -> int:
    """The last of `n` numbers. The row stays locked, so a later number is never on disk before an earlier one."""
    is_it = DEPLOYMENT.c.id == deployment_id
    taken = update(DEPLOYMENT).where(is_it).values(n_requests=DEPLOYMENT.c.n_requests + n)
    if not db.execute(taken).rowcount:
        raise NotFound("deployment", got=deployment_id, want="one that was started")
    last: int = db.execute(select(DEPLOYMENT.c.n_requests).where(is_it)).scalar_one()
    return last


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


def _get(db: Connection, prediction_id: str) -> Routed | None:
    row = db.execute(select(REQUEST).where(_R.prediction_id == prediction_id)).first()
    return None if row is None else _routed(row)


def _clean(routed: Routed) -> Routed:
    attributes = {clean_text(name): clean_text(value) for name, value in routed.attributes.items()}
    return replace(routed, key=clean_text(routed.key), attributes=attributes)


def _is_same(kept: Routed, given: Routed) -> bool:
    """Whether it is the same request, added twice."""
    names: Iterable[str] = ("deployment_id", "at", "key", "decided_by", "propensity", "label_probability")
    return all(getattr(kept, name) == getattr(given, name) for name in names)


def _row(routed: Routed) -> dict[str, Any]:
    return asdict(routed) | {
        "attributes": pack(routed.attributes),
        "incumbent": None if routed.incumbent is None else pack(routed.incumbent),
        "candidate": None if routed.candidate is None else pack(routed.candidate),
    }


def _routed(row: Row[*tuple[object, ...]]) -> Routed:
    return Routed(
        prediction_id=row.prediction_id,
        deployment_id=row.deployment_id,
        seq=row.seq,
        at=row.at,
        key=row.key,
        attributes=unpack(row.attributes),
        in_scope=row.in_scope,
        propensity=row.propensity,
        decided_by=row.decided_by,
        incumbent=None if row.incumbent is None else unpack(row.incumbent),
        candidate=None if row.candidate is None else unpack(row.candidate),
        state=row.state,
        candidate_seconds=row.candidate_seconds,
        wants_label=row.wants_label,
        label_probability=row.label_probability,
        due_at=row.due_at,
        image_sha256=row.image_sha256,
    )
