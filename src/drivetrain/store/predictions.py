"""What was answered. A thread writes in batches: no answer waits for the disk, and few of them share a core with it."""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Row, func, insert, select
from sqlalchemy.exc import DataError, IntegrityError

from drivetrain.errors import DrivetrainError, Unavailable

from .database import Database
from .ids import new_id, time_of
from .packing import clean_text
from .schema import PREDICTION

__all__ = ["Predictions", "Stored", "prediction_row"]

_BATCH_MAX = 500
_GATHER_S = 0.1  # answers wait so long for others: a transaction of one costs 0.4 ms of a core, of nine 0.6
_ELSEWHERE_S = 3 * _GATHER_S  # by then another process has written what it answered under a young id
_RETRY_S = (0.05, 0.2, 1.0, 5.0)  # between tries while the database does not take a batch; the last one repeats
_log = logging.getLogger("drivetrain.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One answer, as it was given."""

    id: str
    at: float
    model: str
    version: str
    caller_id: str
    request_id: str
    name: str  # of the picture, as it was sent
    sha256: str  # of the picture's bytes
    answer: Mapping[str, object]


class Predictions:
    """The answers in the database, and those on their way to it.

    What `flush` has acknowledged outlives a killed process and a power cut; what waits in the queue then is lost: of a
    database that keeps up, the answers of the last 0.1 s.
    """

    def __init__(self, database: Database, *, queue_max: int = 2_000) -> None:
        self._database = database
        self._queue_max = queue_max
        self._batch_max = min(_BATCH_MAX, queue_max)
        self._queue: deque[Stored] = deque()
        lock = threading.Lock()
        self._work = threading.Condition(lock)  # for the thread: the first of a batch, or a reason not to gather more
        self._changed = threading.Condition(lock)  # for those who wait: there is room, or it is on disk
        self._is_hurried = False
        self._added = self._written = 0
        self._closing = False
        self._problem: str | None = None
        self._thread: threading.Thread | None = None

    @staticmethod
    def new_id() -> str:
        """26 letters and digits; ids sort by time."""
        return new_id()

    @property
    def problem(self) -> str | None:
        """Why answers are not being written just now; None when all is well."""
        return self._problem

    @property
    def waiting(self) -> int:
        """Answers that are not on disk yet."""
        return self._added - self._written

    def add(self, stored: Stored, *, wait_s: float = 5.0) -> None:
        """Queue one; waits where the queue is full, and raises Unavailable after `wait_s`. Not for an event loop
        without a thread, unless `has_room`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closing or len(self._queue) < self._queue_max, wait_s):
                raise Unavailable(
                    "db", got=f"{self.waiting} answers that it did not take yet", want="a database that keeps up"
                )
            if self._closing:
                raise Unavailable("db", got="an answer after the store was closed", want="one before")
            self._queue.append(stored)
            self._added += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="drivetrain-store", daemon=True)
                self._thread.start()
            if len(self._queue) in (1, self._batch_max):
                self._work.notify()

    @property
    def has_room(self) -> bool:
        """Whether `add` would return at once."""
        return len(self._queue) < self._queue_max

    def flush(self, *, wait_s: float = 30.0) -> None:
        """Return once all that was added before is on disk; Unavailable where that takes longer than `wait_s`."""
        with self._changed:
            goal = self._added
            if self._queue:
                self._is_hurried = True
                self._work.notify()
            if not self._changed.wait_for(lambda: self._written >= goal, wait_s):
                raise Unavailable(
                    "db",
                    got=f"{goal - self._written} answers unwritten after {wait_s:.0f} s ({self._problem or 'slow'})",
                    want="a database that takes them",
                )

    def get(self, prediction_id: str) -> Stored | None:
        """One, also where it was added a moment ago; by another process, once it is `settled_in_s`."""
        self.flush()
        with self._database.read() as db:
            row = db.execute(select(PREDICTION).where(PREDICTION.c.id == prediction_id)).first()
        return None if row is None else _stored(row)

    @staticmethod
    def settled_in_s(prediction_id: str) -> float:
        """How long until what another process answered under this id is on disk, if its database keeps up; else 0."""
        age_s = time.time() - time_of(prediction_id)
        return _ELSEWHERE_S - age_s if 0 <= age_s < _ELSEWHERE_S else 0.0

    def recent(self, *, limit: int = 50) -> list[Stored]:
        """The newest first, of those on disk."""
        with self._database.read() as db:
            query = select(PREDICTION).order_by(PREDICTION.c.id.desc()).limit(limit)
            return [_stored(row) for row in db.execute(query)]

    def count(self) -> int:
        """Of those on disk."""
        with self._database.read() as db:
            return db.execute(select(func.count()).select_from(PREDICTION)).scalar_one()

    def close(self, *, wait_s: float = 10.0) -> None:
        """Write what waits, then take no more."""
        with self._changed:
            self._closing = True
            self._work.notify()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(wait_s)
            if self.waiting:
                _log.error("%d answers could not be written before the end", self.waiting)

    def _write_all(self) -> None:
        while batch := self._take():
            is_written = self._write(batch)
            with self._changed:
                self._written += len(batch) if is_written else 0
                self._changed.notify_all()

    def _take(self) -> list[Stored]:
        """The next batch; empty at the end."""
        with self._changed:
            self._work.wait_for(lambda: self._queue or self._closing)
            self._work.wait_for(
                lambda: self._is_hurried or self._closing or len(self._queue) >= self._batch_max, _GATHER_S
            )
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
            self._is_hurried = self._is_hurried and bool(self._queue)
            self._changed.notify_all()
            return batch

    def _write(self, batch: list[Stored]) -> bool:
        """Until the database has it: an answer was given, so it must not be forgotten for a lock or a full disk.

        False where the store was closed meanwhile.
        """
        for tries in itertools.count():
            try:
                self._insert(batch)
            except DrivetrainError as exc:
                if isinstance(exc.__cause__, IntegrityError | DataError):
                    return self._write_apart(batch, exc)
                if self._problem is None:
                    _log.error("answers cannot be written, and wait: %s", exc.message)
                self._problem = exc.message
                with self._changed:
                    if self._changed.wait_for(lambda: self._closing, _RETRY_S[min(tries, len(_RETRY_S) - 1)]):
                        return False
            else:
                self._problem = None
                return True
        raise AssertionError  # it counts for ever

    def _write_apart(self, batch: list[Stored], error: DrivetrainError) -> bool:
        """One that can never be written must not hold up the rest."""
        if len(batch) == 1:
            _log.error("the answer %s was not written: %s", batch[0].id, error.message)
            return True
        written = [self._write([one]) for one in batch]  # each is tried, whatever became of the one before
        return all(written)

    def _insert(self, batch: list[Stored]) -> None:
        rows = [prediction_row(one) for one in batch]
        with self._database.write() as db:
            db.execute(insert(PREDICTION), rows)


def prediction_row(stored: Stored) -> dict[str, object]:
    """As it stands in the table."""
    return {
        "id": stored.id,
        "at": stored.at,
        "model": stored.model,
        "version": stored.version,
        "caller_id": stored.caller_id[:128],
        "request_id": stored.request_id[:128],
        "name": clean_text(stored.name),
        "sha256": stored.sha256,
        "answer": json.dumps(dict(stored.answer), ensure_ascii=False, separators=(",", ":")),
    }


def _stored(row: Row[*tuple[object, ...]]) -> Stored:
    return Stored(
        id=row.id,
        at=row.at,
        model=row.model,
        version=row.version,
        caller_id=row.caller_id,
        request_id=row.request_id,
        name=row.name,
        sha256=row.sha256,
        answer=json.loads(row.answer),
    )
