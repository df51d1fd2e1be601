"""The one of the two that was not asked: at once where nobody waits for an answer, else later from the kept picture.

Never before a caller: it waits until no picture of a caller is in work, and the network runs for it at a lower priority
of the system. What finds no place in memory, or was left by a process that ended, is read from the store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from drivetrain.errors import DrivetrainError, NotFound, Unavailable
from drivetrain.rollout.reviewing import wants_second
from drivetrain.runtime.prediction import Answer
from drivetrain.serve.metrics import Metrics
from drivetrain.serve.registry import ModelRegistry, Served
from drivetrain.store.ids import new_id
from drivetrain.store.requests import Routed
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store

from .background import Background
from .live import LiveRollout
from .turn import is_drawn, wish_for_label

__all__ = ["Shadow", "make_task"]

_MEMORY_MAX_BYTES = 64_000_000
_MEMORY_MAX_PICTURES = 256
_PAGE = 50  # requests read from the store at once
_QUIET_S = 0.005  # nobody has asked for so long
_PATIENCE_S = 2.0  # then one is done beside what callers ask
_LEFT_S = 5.0  # a request that is older was left by whoever took it
_IDLE_S = 1.0
_NICENESS = 10  # a tenth of a core that others want; at 19, one that holds Python's lock could keep all waiting
_GONE = {"decision": "defer", "reasons": ["unknown"], "version": ""}  # nobody can look at it any more

_log = logging.getLogger("drivetrain.serve")


@dataclass(frozen=True, slots=True)
class _Job:
    live: LiveRollout
    routed: Routed
    content: bytes | None  # None: in the store


class Shadow:
    """A thread that begins with the first picture."""

    def __init__(
        self,
        store: Store,
        registry: ModelRegistry,
        metrics: Metrics,
        *,
        rollouts: Callable[[], Collection[LiveRollout]],
        on_failed: Callable[[str], None],
        left_s: float = _LEFT_S,
    ) -> None:
        self._store, self._registry, self._metrics = store, registry, metrics
        self._rollouts, self._on_failed, self._left_s = rollouts, on_failed, left_s
        self._jobs: deque[_Job] = deque()
        self._bytes = 0
        self._thread = Background("drivetrain-shadow", self._run)
        self._skipped: dict[str, float] = {}  # prediction -> not before
        self._runs = ThreadPoolExecutor(1, "drivetrain-shadow-run", initializer=_be_nice)

    def offer(self, live: LiveRollout, routed: Routed, content: bytes) -> None:
        """Soon, if there is room; else it stays in the store and comes later. Never waits."""
        with self._thread.changed:
            if len(self._jobs) < _MEMORY_MAX_PICTURES and self._bytes + len(content) <= _MEMORY_MAX_BYTES:
                self._jobs.append(_Job(live, routed, content))
                self._bytes += len(content)
        self.wake()

    def wake(self) -> None:
        """Look whether there is something to do."""
        self._thread.wake()

    def close(self, *, wait_s: float) -> None:
        """End after the picture in hand; the rest stays in the store."""
        self._thread.close(wait_s=wait_s)
        self._runs.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._thread.is_closed:
            try:
                if not self._do_next():
                    self._thread.pause(_IDLE_S, until=lambda: self._jobs)
            except Exception as exc:  # the edge of a thread: what failed is in the store, and comes again
                if not self._thread.is_closed:
                    _log.error("shadow work failed: %s", getattr(exc, "message", None) or repr(exc))
                    self._thread.pause(_IDLE_S)

    def _do_next(self) -> bool:
        with self._thread.changed:
            job = self._jobs.popleft() if self._jobs else None
            if job is not None and job.content is not None:
                self._bytes -= len(job.content)
        if job is not None:
            self._do(job)
            return True
        for live in self._rollouts():
            if not live.is_over and (left := self._left_of(live)):
                for routed in left:
                    if self._jobs or self._thread.is_closed:
                        break  # what is in memory comes first
                    self._do(_Job(live, routed, None))
                return True
        return False

    def _left_of(self, live: LiveRollout) -> list[Routed]:
        """From the store; in no order, so that two servers rarely do the same."""
        now = self._store.deployments.clock()
        mono = time.monotonic()
        self._skipped = {one: until for one, until in self._skipped.items() if until > mono}
        found = [
            one
            for one in self._store.requests.pending(live.deployment.id, _PAGE + len(self._skipped))
            if one.at <= now - self._left_s and one.prediction_id not in self._skipped
        ]
        random.shuffle(found)
        return found

    def _do(self, job: _Job) -> None:
        """Ask the one that is missing, and keep what it said."""
        live, routed = job.live, job.routed
        is_candidate = routed.candidate is None
        version = live.deployment.candidate if is_candidate else live.deployment.incumbent
        content = job.content
        if version is None or not self._registry.has(version):  # it stays pending
            self._skipped[routed.prediction_id] = time.monotonic() + self._left_s
            return
        if content is None:
            kept = self._store.requests.get(routed.prediction_id)
            if kept is None or kept.state != "pending":
                return
            content = None if routed.image_sha256 is None else self._store.images.get(routed.image_sha256)
            if content is None:
                _log.error("the picture of %s is gone before it was seen in shadow", routed.prediction_id)
                gone = _GONE | {"label": ""}
                self._finish(live, routed, gone if is_candidate else None, None if is_candidate else gone, None)
                return
        try:
            with self._registry.hold(live.deployment.model, version) as served:
                self._wait_for_quiet()
                if self._thread.is_closed:
                    return
                answer, seconds = self._ask(served, content)
        except (NotFound, Unavailable):  # let go in this moment
            self._skipped[routed.prediction_id] = time.monotonic() + self._left_s
            return
        said = None if answer is None else answer.as_json()
        self._metrics.rollouts.shadows.labels(live.deployment.name, "failed" if said is None else "success").inc()
        self._finish(live, routed, said if is_candidate else None, None if is_candidate else said, seconds)

    def _finish(
        self,
        live: LiveRollout,
        routed: Routed,
        candidate: Mapping[str, Any] | None,
        incumbent: Mapping[str, Any] | None,
        seconds: float | None,
    ) -> None:
        is_failed = candidate is None and incumbent is None
        config, salt = live.config, live.deployment.salt
        wish = wish_for_label(
            decided_by=routed.decided_by,
            candidate=candidate or routed.candidate,
            incumbent=incumbent or routed.incumbent,
            has_shadow=config.has_shadow,
            is_pending=False,
            is_audit=is_drawn(routed.prediction_id, salt=salt, share=config.audit_share),
            audit_share=config.audit_share,
        )
        task = None
        if wish.why in ("audit", "disagreement"):  # what people decide, and what was deferred, is asked for already
            doubt = routed.candidate or candidate or {}
            task = make_task(live, routed.prediction_id, why=wish.why, at=self._store.deployments.clock(), of=doubt)
        done = self._store.requests.finish(
            routed.prediction_id,
            candidate=candidate,
            incumbent=incumbent,
            seconds=seconds if routed.candidate is None else None,
            wants_label=wish.is_wanted,
            label_probability=wish.probability,
            is_failed=is_failed,
            due_at=None if task is None else task.due_at,
            task=task,
        )
        if done and is_failed and routed.candidate is None:
            self._on_failed(live.deployment.id)

    def _ask(self, served: Served, content: bytes) -> tuple[Answer | None, float]:
        """(its answer, seconds at work); None: it gave none at all, which is its own fault: the other one did."""
        model, tuning = served.model.predictor, served.model.tuning
        threads = min(tuning.threads_of_sessions) if tuning is not None else 1
        answer, begun, waited = None, time.perf_counter(), 0.0
        try:
            pixels, style = model.prepare(content, name="shadow")
            before = time.perf_counter()
            self._wait_for_quiet()  # somebody may have come meanwhile
            waited = time.perf_counter() - before
            logits, frozen = self._runs.submit(model.run, pixels[np.newaxis], threads=threads).result()
            answer = model.decide(logits[0], frozen[0], style)
        except Exception as exc:
            why = exc.message if isinstance(exc, DrivetrainError) else repr(exc)
            _log.warning("%s gave no answer in shadow: %s", served.version, why)
        return answer, time.perf_counter() - begun - waited

    def _wait_for_quiet(self) -> None:
        """Until nobody waits for an answer, and nobody has for a moment; or for as long as patience lasts."""
        until = time.monotonic() + _PATIENCE_S
        while not self._thread.is_closed and time.monotonic() < until:
            if self._is_quiet():
                time.sleep(_QUIET_S)
                if self._is_quiet():
                    return
            time.sleep(_QUIET_S)

    def _is_quiet(self) -> bool:
        return not any(served.batcher.pending for served in self._registry.all())


def make_task(
    live: LiveRollout, prediction_id: str, *, why: str, at: float, of: Mapping[str, Any] | None = None
) -> Task:
    """What a person is asked; `of` is an answer that tells how sure its model was."""
    config, deployment = live.config, live.deployment
    probability = (of or {}).get("probability")
    is_two = wants_second(prediction_id, salt=deployment.salt, share=config.second_share)
    return Task(
        id=new_id(),
        prediction_id=prediction_id,
        deployment_id=None if live.is_over else deployment.id,
        why=why,  # type: ignore[arg-type]  # of `turn.LabelWish`
        asked_at=at,
        due_at=at + config.due_hours * 3600,
        risk=1 - float(probability) if isinstance(probability, int | float) else 0.5,
        people=2 if is_two else 1,
    )


def _be_nice() -> None:
    """Of this thread alone, where the system knows that of threads."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
