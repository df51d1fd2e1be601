"""Requests on their way to the database: what waits is written together, so that many share one wait for the disk."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import groupby

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError

from drivetrain.errors import Conflict, DrivetrainError, InvalidInput, NotFound, Unavailable

from .database import Database
from .predictions import Stored, prediction_row
from .review_tasks import Task, ask_within
from .routed import Routed, clean_routed, find_routed, is_same, pack_routed
from .schema import PREDICTION
from .schema_rollout import DEPLOYMENT, REQUEST

__all__ = ["RequestQueue"]

_BATCH_MAX = 200
_log = logging.getLogger("drivetrain.store")


@dataclass(slots=True, kw_only=True)
class _Waiting:
    routed: Routed
    stored: Stored
    task: Task | None
    done: Future[Routed]


class RequestQueue:
    """Its thread begins with the first request, and ends with `close`."""

    def __init__(self, database: Database, *, queue_max: int = 2_000) -> None:
        self._database = database
        self._queue_max = queue_max
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(self, routed: Routed, stored: Stored, *, task: Task | None = None) -> Future[Routed]:
        """Done when it is on disk, with the number it got, or with the error."""
        if routed.prediction_id != stored.id or (task is not None and task.prediction_id != stored.id):
            raise InvalidInput("prediction_id", got=f"{routed.prediction_id}, {stored.id}", want="one and the same")
        if not 0 <= routed.propensity <= 1 or not 0 <= routed.label_probability <= 1:
            raise InvalidInput("probability", got=f"{routed.propensity}, {routed.label_probability}", want="0 to 1")
        waiting = _Waiting(routed=clean_routed(routed), stored=stored, task=task, done=Future())
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
                with self._database.read() as db:
                    kept = find_routed(db, one.routed.prediction_id)
                if kept is not None and is_same(kept, one.routed):
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
    db.execute(insert(REQUEST), [pack_routed(one) for one in made])
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
