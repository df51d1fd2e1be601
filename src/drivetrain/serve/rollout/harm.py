"""Harm is judged after each label and each failure, in a thread: it rolls back by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from drivetrain.errors import DrivetrainError
from drivetrain.flows.rollout import watch_harm
from drivetrain.flows.rollout_evidence import EvidenceReader
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store

__all__ = ["HarmWatch"]

_PAUSE_S = 0.25  # what comes within it is judged together
_EVERY_S = 30.0  # also without a label: what is overdue is told, and what another process settled is seen
_log = logging.getLogger("drivetrain.serve")


class HarmWatch:
    """A thread that begins with the first call of `soon`."""

    def __init__(
        self,
        store: Store,
        *,
        rollouts: Callable[[], Collection[Deployment]],
        on_rollback: Callable[[Deployment], None],
    ) -> None:
        self._store, self._rollouts, self._on_rollback = store, rollouts, on_rollback
        self._readers: dict[str, EvidenceReader] = {}  # what was counted stays counted
        self._due: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def soon(self, deployment_id: str | None = None) -> None:
        """Judge it; None: only see to it that the thread runs. Never waits, never raises."""
        with self._changed:
            if self._closed:
                return
            if deployment_id is not None:
                self._due.add(deployment_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="drivetrain-harm", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, *, wait_s: float) -> None:
        """End after what is judged now."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        next_all = time.monotonic() + _EVERY_S
        while not self._closed:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._due, max(0.0, next_all - time.monotonic()))
                due, self._due = self._due, set()
            if time.monotonic() >= next_all:
                next_all = time.monotonic() + _EVERY_S
                due |= {one.id for one in self._rollouts()}
            open_ones = {one.id: one for one in self._rollouts() if one.ended_at is None}
            self._readers = {id_: reader for id_, reader in self._readers.items() if id_ in open_ones}
            for id_ in sorted(due & open_ones.keys()):
                self._judge(open_ones[id_])
            with self._changed:
                self._changed.wait_for(lambda: self._closed, _PAUSE_S)

    def _judge(self, deployment: Deployment) -> None:
        try:
            reader = self._readers.setdefault(deployment.id, EvidenceReader(self._store, deployment))
            if watch_harm(self._store, deployment.id, reader=reader):
                _log.error("%s: harm is shown; %s decides nothing any more", deployment.name, deployment.candidate)
                self._on_rollback(deployment)
        except Exception as exc:  # the edge of a thread; what was half read is read anew
            self._readers.pop(deployment.id, None)
            if self._closed:
                return
            why = exc.message if isinstance(exc, DrivetrainError) else repr(exc)
            _log.error("%s: harm could not be judged: %s", deployment.name, why)
            with self._changed:
                self._due.add(deployment.id)
                self._changed.wait_for(lambda: self._closed, _PAUSE_S * 4)
