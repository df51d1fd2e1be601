"""What a roll-out saw: one row a request, numbered in the order in which they came to be on disk.

Who added is told once theirs is there: the prediction, its routing and, where a label is wanted, the task for a person,
all or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from sqlalchemy import exists, func, select, update

from drivetrain.errors import NotFound, Unavailable

from .database import Database
from .packing import pack
from .predictions import Stored
from .request_outcomes import ReviewState, read_outcomes
from .request_queue import RequestQueue
from .review_tasks import Task, ask_within
from .routed import DecidedBy, Routed, find_routed, unpack_routed
from .schema_rollout import REQUEST, REVIEW_TASK

__all__ = ["DecidedBy", "Requests", "ReviewState", "Routed"]

_R = REQUEST.c


class Requests:
    """The requests in the database, and those on their way to it."""

    def __init__(self, database: Database, *, queue_max: int = 2_000) -> None:
        self._database = database
        self._queue = RequestQueue(database, queue_max=queue_max)

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
        return self._queue.submit(routed, stored, task=task)

    def get(self, prediction_id: str) -> Routed | None:
        """One."""
        with self._database.read() as db:
            return find_routed(db, prediction_id)

    def pending(self, deployment_id: str, limit: int) -> list[Routed]:
        """Those that one of the two has still to see, the oldest first."""
        query = select(REQUEST).where(_R.deployment_id == deployment_id, _R.state == "pending")
        with self._database.read() as db:
            return [unpack_routed(row) for row in db.execute(query.order_by(_R.seq).limit(limit))]

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
            return [unpack_routed(row) for row in db.execute(query.order_by(_R.seq).limit(limit))]

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
                if find_routed(db, prediction_id) is None:
                    raise NotFound("prediction_id", got=prediction_id, want="a request of a roll-out")
                return False
            if task is not None:
                ask_within(db, task)
            return True

    def outcomes(self, deployment_id: str, after_seq: int = 0) -> Iterator[tuple[Routed, ReviewState, str | None]]:
        """(request, state of its review, the reviewers' label) in the order they came, from the one after `after_seq`.

        "pending" too where one of the two has still to see it. The first label of a request stands.
        """
        return read_outcomes(self._database, deployment_id, after_seq)

    def close(self, *, wait_s: float = 10.0) -> None:
        """Write what waits, then take no more."""
        self._queue.close(wait_s=wait_s)
