"""Harm is judged after each label and each failure, in a thread: it rolls back by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from drivetrain.errors import DrivetrainError
from drivetrain.flows.rollout import watch_harm
from drivetrain.flows.rollout_evidence import EvidenceReader
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store

from .background import Background

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
        self._thread = Background("drivetrain-harm", self._run)

    def soon(self, deployment_id: str | None = None) -> None:
        """Judge it; None: only see to it that the thread runs. Never waits, never raises."""
        if deployment_id is not None:
            with self._thread.changed:
                self._due.add(deployment_id)
        self._thread.wake()

    def close(self, *, wait_s: float) -> None:
        """End after what is judged now."""
        self._thread.close(wait_s=wait_s)

    def _run(self) -> None:
        next_all = time.monotonic() + _EVERY_S
        while not self._thread.is_closed:
            self._thread.pause(max(0.0, next_all - time.monotonic()), until=lambda: self._due)
            with self._thread.changed:
                due, self._due = self._due, set()
            if time.monotonic() >= next_all:
                next_all = time.monotonic() + _EVERY_S
                due |= {one.id for one in self._rollouts()}
            open_ones = {one.id: one for one in self._rollouts() if one.ended_at is None}
            self._readers = {id_: reader for id_, reader in self._readers.items() if id_ in open_ones}
            for id_ in sorted(due & open_ones.keys()):
                self._judge(open_ones[id_])
            self._thread.pause(_PAUSE_S)

    def _judge(self, deployment: Deployment) -> None:
        try:
            reader = self._readers.setdefault(deployment.id, EvidenceReader(self._store, deployment))
            if watch_harm(self._store, deployment.id, reader=reader):
                _log.error("%s: harm is shown; %s decides nothing any more", deployment.name, deployment.candidate)
                self._on_rollback(deployment)
        except Exception as exc:  # the edge of a thread; what was half read is read anew
            self._readers.pop(deployment.id, None)
            if self._thread.is_closed:
                return
            why = exc.message if isinstance(exc, DrivetrainError) else repr(exc)
            _log.error("%s: harm could not be judged: %s", deployment.name, why)
            with self._thread.changed:
                self._due.add(deployment.id)
            self._thread.pause(_PAUSE_S * 4)
