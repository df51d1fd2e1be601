"""What others are told of a roll-out: the log, the gauges, and the webhook, by one of all the processes that saw it."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from drivetrain.errors import DrivetrainError
from drivetrain.flows.rollout_marker import Marker
from drivetrain.serve.metrics import Metrics
from drivetrain.store.deployments import Deployment
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store

from .posts import Posts

__all__ = ["Teller"]

_KEPT_S = 86_400.0  # nobody says it again so long
_log = logging.getLogger("drivetrain.serve")


class Teller:
    """Never waits: what asks the database does so in a thread."""

    def __init__(
        self, store: Store, metrics: Metrics, posts: Posts, *, markers: Callable[[], Sequence[Marker]]
    ) -> None:
        self._store, self._families, self._posts, self._markers = store, metrics.rollouts, posts, markers

    def decided(self, task: Task, *, at: float) -> None:
        """People settled what a caller waits for; of an audit nobody waits for the label."""
        if task.why in ("all", "deferred") and task.state in ("labelled", "unclear"):
            state = "decided" if task.state == "labelled" else task.state
            body = {"prediction_id": task.prediction_id, "state": state, "label": task.truth}
            self._posts.send("decided", body | {"decided_by": "people", "at": _iso(at)})

    def changed(self, before: Sequence[Deployment], now: Sequence[Deployment]) -> None:
        """What stood so stands so now. One that was over when it was first seen is no news."""
        was = {one.id: one for one in before}
        for one in now:
            old = was.get(one.id)
            if old == one or (old is None and one.ended_at is not None):
                continue
            if old is not None:
                self._families.stage.labels(one.name, old.stage).set(0)
            self._families.stage.labels(one.name, one.stage).set(1)
            self._families.share.labels(one.name).set(one.share)
            _log.info("%s stands at %s (%.0f %%): %s", one.name, one.stage, 100 * one.share, one.candidate)
            if old is not None and old.ended_at is None and one.ended_at is not None:
                self._families.backlog.labels(one.name).set(0)
                if one.stage == "rolled_back" and self._posts.is_on:
                    threading.Thread(target=self._tell_rollback, args=(one,), daemon=True).start()

    def _tell_rollback(self, deployment: Deployment) -> None:
        by = reason = ""
        try:
            key = f"rolled_back:{deployment.id}"
            digest = hashlib.sha256(key.encode()).hexdigest()
            if self._store.idempotency.begin("drivetrain-webhook", key, digest, lease_s=_KEPT_S) != "new":
                return
            last = self._store.deployments.ledger(deployment.id)[-1]
            by, reason = str(last["by"]), str(last["reason"])
        except DrivetrainError:  # without the database: told twice rather than not at all
            for marker in self._markers():
                if marker.name == deployment.name:
                    by, reason = marker.by, marker.reason
        self._posts.send(
            "rolled_back",
            {
                "rollout": deployment.name,
                "model": deployment.model,
                "candidate": deployment.candidate,
                "by": by,
                "reason": reason,
                "at": _iso(deployment.ended_at or 0.0),
            },
        )


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
