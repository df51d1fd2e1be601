"""The roll-outs of one server process: read from the store, obeyed, and watched."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from drivetrain.errors import DrivetrainError
from drivetrain.flows.rollout import enter_markers
from drivetrain.flows.rollout_marker import Marker, find_marker_folder, read_markers
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.serve.metrics import Metrics
from drivetrain.serve.registry import ModelRegistry
from drivetrain.settings import Settings
from drivetrain.store.deployments import Deployment
from drivetrain.store.predictions import Stored
from drivetrain.store.requests import Routed
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store

from .fallback import LastKnown
from .harm import HarmWatch
from .live import LiveRollout, arrange, lives_of, obey_markers
from .models import Models
from .posts import Posts
from .shadow import Shadow, make_task
from .telling import Teller
from .waiting import Waiting

__all__ = ["Rollouts"]

_POLL_S = 0.5
_MARKERS_S = 0.25  # a file must be obeyed within a second, also while the database hangs
_BREAK_S = 1.0  # after a write failed: so long callers are answered without trying
_CLOSE_MAX_S = 5.0
_log = logging.getLogger("drivetrain.serve")


class Rollouts:
    """Safe to call from every thread. `start` lets it look for itself; without it, it knows what `refresh` read."""

    def __init__(
        self, store: Store, *, registry: ModelRegistry, metrics: Metrics, settings: Settings, left_s: float = 5.0
    ) -> None:
        self.store, self.metrics = store, metrics
        self._settings, self._left_s = settings, left_s
        self.decode_limits = DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels)
        self.waiting = Waiting()
        self._registry = registry
        self._open_workers()
        self._models = Models(registry, on_missing=self._is_missing)
        url = store.database.engine.url
        self._folder = find_marker_folder(url.render_as_string(hide_password=False), cache_dir=settings.cache_dir)
        self._last_known = LastKnown(settings.cache_dir, url=store.url)
        self._reading = threading.Lock()  # while the database is asked
        self._applying = threading.Lock()  # for moments
        self._deployments: list[Deployment] = []  # as read
        self._paths: dict[str, str] = {}  # version -> file
        self._markers: list[Marker] = []
        self._gone: list[Marker] = []  # files that went: the store may be older as read, so they hold until it is again
        self._obeyed: list[Deployment] = []  # with the markers
        self._by_model: Mapping[str, LiveRollout] = {}
        self._has_read = False
        self._problem = ""
        self._unstorable_until = 0.0
        self._settling = threading.Lock()
        self._changed = threading.Event()  # which versions are wanted
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    # for the routes

    def find(self, name: str | None, version: str | None) -> LiveRollout | None:
        """Which one a request falls under; None: there is none, or a version was named."""
        if not self._by_model or version is not None:
            return None
        name = self._registry.default if name is None else name
        if name is None and len(self._by_model) == 1:  # nothing is loaded yet
            [name] = self._by_model
        live = self._by_model.get(name or "")
        if live is None:
            return None
        try:
            newest = self._registry.get(name).version
        except DrivetrainError:  # it is another server's, unless this one serves nothing else
            return None if self._registry.names() else live
        return None if live.is_over and newest != live.deployment.candidate else live

    def refresh(self) -> None:
        """Read the roll-outs from the store now: after this process moved one. Never raises."""
        with self._reading:
            gone = list(self._gone)  # whoever took these away had entered them before this reading
            try:
                self._read()
                self._problem = ""
                with self._applying:
                    self._gone = [one for one in self._gone if one not in gone]
            except DrivetrainError as exc:
                if not self._problem:
                    _log.error("roll-outs cannot be read; the last that were known hold: %s", exc.message)
                self._problem = exc.message
                if not self._has_read:
                    self._deployments, self._paths = self._last_known.read()
            self._has_read = True
        self._apply()

    def settled(self, task: Task) -> None:
        """A review task was settled: who waits is told, harm is judged soon. Never waits, never raises."""
        try:
            self.waiting.tell(task.prediction_id)
            self._teller.decided(task, at=self.store.deployments.clock())
            if task.deployment_id is not None:
                self.judge_soon(task.deployment_id)
        except Exception:  # whoever labelled must not hear of it
            _log.exception("what follows from the review %s failed", task.id)

    def backlog(self, deployment_id: str) -> int:
        """Requests that one of the two has still to see."""
        return self.store.requests.backlog(deployment_id)

    def open_of(self, deployment_id: str) -> Deployment | None:
        """One that goes on; None where it is over, or unknown."""
        return next((one for one in self._open() if one.id == deployment_id), None)

    def ask_for_feedback(self, prediction_id: str) -> None:
        """A caller doubts an answer of a roll-out that goes on: a person looks at it. It is no evidence of a gate.

        Never raises: the caller's word is kept already.
        """
        try:
            routed = self.store.requests.get(prediction_id)
            live = None if routed is None else self._live_of(routed.deployment_id)
            if routed is None or live is None or routed.image_sha256 is None:
                return
            of = (routed.candidate if routed.decided_by == "candidate" else routed.incumbent) or {}
            task = make_task(live, prediction_id, why="feedback", at=self.store.deployments.clock(), of=of)
            self.store.reviews.ask(replace(task, due_at=None, people=1))
        except DrivetrainError as exc:
            _log.error("nobody was asked about the feedback on %s: %s", prediction_id, exc.message)

    def judge_soon(self, deployment_id: str) -> None:
        """Whether it does harm, within the second. Never waits."""
        self._harm.soon(deployment_id)

    # for requests

    @property
    def is_storable(self) -> bool:
        """Whether it is worth a try: not for a moment after the database refused, nor while it cannot be read."""
        return not self._problem and time.monotonic() >= self._unstorable_until

    def was_not_stored(self, live: LiveRollout, exc: DrivetrainError) -> None:
        """What cannot be kept is answered without the roll-out."""
        if self.is_storable:
            _log.error("%s: requests cannot be kept: %s", live.deployment.name, exc.message)
        self._unstorable_until = time.monotonic() + _BREAK_S

    def was_stored(self, live: LiveRollout, routed: Routed, content: bytes) -> None:
        """It is on disk: what is left to do is done later."""
        self.metrics.rollouts.requests.labels(live.deployment.name, routed.decided_by).inc()
        if live.is_over:
            return
        if routed.state == "pending":
            self.shadow.offer(live, routed, content)
        elif routed.state == "failed":
            self.judge_soon(live.deployment.id)

    def keep_alone(self, stored: Stored, task: Task) -> None:
        """A request after the end, which people decide. Raises Unavailable."""
        self.store.predictions.add(stored)
        self.store.predictions.flush()
        self.store.reviews.ask(task)

    # by itself

    def start(self) -> None:
        """Read now, then look twice a second."""
        if self._closed.is_set():
            self._closed.clear()
            self._open_workers()
        self.read_markers()  # first: one that is entered in between is in the store then
        self.refresh()
        works = {"rollouts": self._poll, "rolled-back": self._watch_markers, "candidates": self._keep_models}
        for name, work in works.items():
            thread = threading.Thread(target=self._repeat, args=(work,), name=f"drivetrain-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._harm.soon()

    def close(self) -> None:
        """End its threads; what is not done is in the store."""
        self._closed.set()
        self._changed.set()
        until = time.monotonic() + _CLOSE_MAX_S
        for close in (self.shadow.close, self._harm.close, self.posts.close):
            close(wait_s=max(0.0, until - time.monotonic()))
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._threads = []

    def look(self) -> None:
        """One turn of its threads: read, obey, and load what is to be loaded."""
        self.read_markers()
        self.refresh()
        self.settle_models()

    def settle_models(self) -> None:
        """Load the versions that are asked for, and let go of the others. Takes as long as that takes."""
        with self._settling:
            self._models.settle(arrange(self._obeyed), self._paths)
        if any(not live.is_over for live in self._lives()):
            self.shadow.wake()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._closed.is_set():
            try:
                work()
            except Exception as exc:  # the edge of a thread: it looks again
                if not self._closed.is_set():
                    _log.error("roll-outs: %s", exc.message if isinstance(exc, DrivetrainError) else repr(exc))
                    self._closed.wait(_POLL_S)

    def _poll(self) -> None:
        self.refresh()
        for one in self._open():
            self.metrics.rollouts.backlog.labels(one.name).set(self.backlog(one.id))
        if self._markers:
            self._enter_markers()
        self._closed.wait(_POLL_S)

    def _keep_models(self) -> None:
        """By itself: a model takes seconds, in which a rollback must be heard."""
        self._changed.clear()
        self.settle_models()
        self._changed.wait(_POLL_S)

    def _watch_markers(self) -> None:
        self.read_markers()
        self._closed.wait(_MARKERS_S)

    def read_markers(self) -> None:
        """Obey the files that stand in for the database.

        One that is there no more was entered, by this server or another: it is obeyed until the store was read anew, or
        the candidate would decide again in between.
        """
        found = read_markers(self._folder)
        with self._applying:
            if found == self._markers:
                return
            self._gone += [one for one in self._markers if one not in found]
            self._markers = found
        self._apply()

    def _enter_markers(self) -> None:
        try:
            entered = enter_markers(self.store, self._folder)
        except DrivetrainError:  # it cannot be written yet
            return
        for name in entered:
            _log.info("%s: its rollback from while the database was away is entered", name)
        self.refresh()
        self.read_markers()

    # inside

    def _open_workers(self) -> None:
        """What works beside the requests; each has its thread, once there is something to do."""
        self.posts = Posts(self._settings, self.metrics)
        self._teller = Teller(self.store, self.metrics, self.posts, markers=self._all_markers)
        self.shadow = Shadow(
            self.store,
            self._registry,
            self.metrics,
            rollouts=self._lives,
            on_failed=self.judge_soon,
            left_s=self._left_s,
        )
        self._harm = HarmWatch(self.store, rollouts=self._open, on_rollback=self._was_rolled_back)

    def _read(self) -> None:
        found = self.store.deployments.list()
        wanted = {version for one in found for version in (one.candidate, one.incumbent) if version is not None}
        paths = dict(self._paths)
        if wanted - paths.keys() or found != self._deployments:
            paths = {one.version: one.path for one in self.store.versions.list() if one.version in wanted}
            self._last_known.write(found, paths)
        self._deployments, self._paths = found, paths

    def _apply(self) -> None:
        with self._applying:
            before, self._obeyed = self._obeyed, obey_markers(self._deployments, self._all_markers())
            if self._obeyed == before:
                return
            self._by_model = lives_of(self._obeyed)
            now = self._obeyed
        self._changed.set()
        self._teller.changed(before, now)

    def _all_markers(self) -> list[Marker]:
        return [*self._gone, *self._markers]

    def _was_rolled_back(self, deployment: Deployment) -> None:
        self.metrics.rollouts.rollbacks.labels(deployment.name).inc()
        self.refresh()

    def _is_missing(self, model: str, version: str, why: str) -> None:
        _log.error("%s, wanted by the roll-out of %s, cannot be loaded: %s", version, model, why)
        for one in self._open():
            if one.model == model and version in (one.candidate, one.incumbent):
                kind = "candidate" if version == one.candidate else "incumbent"
                with contextlib.suppress(DrivetrainError):  # without the database there is nobody to tell
                    self.store.alerts.open(one.id, kind, f"{version} cannot be loaded by a server: {why}")

    def _open(self) -> list[Deployment]:
        return [one for one in self._obeyed if one.ended_at is None]

    def _live_of(self, deployment_id: str) -> LiveRollout | None:
        found = (live for live in self._lives() if live.deployment.id == deployment_id and not live.is_over)
        return next(found, None)

    def _lives(self) -> list[LiveRollout]:
        return list(self._by_model.values())
