"""What waits, and which of it is done next. No picture is touched here: it is all moments under one lock."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput, QueueFull, Unavailable

from .batch_types import PictureJob, Tuning
from .prediction import Answer

__all__ = ["BatchQueue", "Item", "Step"]

_RETRY_MOST_S = 30
_PACE_SHARE = 0.05  # of the newest picture in the running mean of their seconds
_SETTLED: Future[Answer] = Future()
_SETTLED.cancel()


@dataclass(slots=True, eq=False)
class Item:
    """One picture, from submit to its answer.

    What it holds of its picture goes when its future is settled, however that comes about: clients that come and go
    must not fill the memory while none of them is counted as waiting.
    """

    future: Future[Answer]  # once it is settled, one that always was: its callbacks hold this item, in a circle
    begun: float  # when it was submitted
    job: PictureJob | None = None  # until it is prepared
    pixels: FloatArray | None = None  # (3, h, w), once it is ready for the network
    style: FloatArray | None = None
    ready: float = 0.0  # since when
    waited_s: float = 0.0  # in the queue, before and after it was prepared
    worked_s: float = 0.0  # what it cost a worker
    where: deque[Item] | None = None  # the line it stands in, if any

    def release(self) -> None:
        """Let go of the picture, and of the future."""
        self.job = self.pixels = self.style = None
        self.future = _SETTLED


@dataclass(frozen=True, slots=True)
class Step:
    """What a worker does next: prepare one item, or run the network on some."""

    kind: Literal["prepare", "run"]
    items: tuple[Item, ...]
    threads: int = 1  # cores for a run


class BatchQueue:
    """All or none come in; first come, first served; a run takes whoever is ready, at most `max_size`.

    Nobody waits for company unless `max_wait_s` says so: batches grow while all sessions are busy.
    """

    def __init__(self, tuning: Tuning, *, queue_max: int, clock: Callable[[], float]) -> None:
        self._tuning = tuning
        self._clock = clock
        self._most = tuning.workers + queue_max
        self._ready_most = tuning.sessions * tuning.max_size + tuning.workers  # decoded ahead: 0.6 MB each
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._emptied = threading.Condition(lock)
        self._raw: deque[Item] = deque()
        self._ready: deque[Item] = deque()
        self._running = 0  # sessions in use
        self._held = 0
        self._state: Literal["open", "closing", "closed"] = "open"
        self._pace_s = 0.0  # of a worker, for one picture

    @property
    def held(self) -> int:
        """Items waiting or in work."""
        return self._held

    @property
    def is_open(self) -> bool:
        return self._state == "open"

    def check_room(self, count: int) -> None:
        """Raise QueueFull where `count` more find no place, Unavailable once it is closing."""
        if self._state != "open":
            raise Unavailable("server", got="a request", want="one before shutdown", hint="Send it again.")
        if count > self._most:
            raise InvalidInput("request", got=f"{count} pictures", want=f"at most {self._most} at once")
        if self._held + count > self._most:
            raise QueueFull(
                "queue",
                got=f"{self._held} pictures in work or waiting",
                want=f"room for {count} within {self._most}",
                hint="Send it again in a moment, or raise queue_max_pictures.",
                retry_after_s=min(_RETRY_MOST_S, max(1, math.ceil(self._held * self._pace_s / self._tuning.workers))),
            )

    def put(self, items: Sequence[Item]) -> None:
        """Queue all of them or none; raises as `check_room`."""
        with self._changed:
            self.check_room(len(items))
            self._held += len(items)
            for item in items:
                item.where = self._raw if item.pixels is None else self._ready
                item.where.append(item)
            self._changed.notify(len(items))

    def settled(self, item: Item) -> None:
        """Its future has an answer, an error or a cancellation: it leaves, wherever it stands."""
        with self._changed:
            self._held -= 1
            if item.where is not None:
                item.where.remove(item)
                item.where = None
            if not self._held:
                self._emptied.notify_all()
        item.release()

    def take(self) -> Step | None:
        """Wait for something to do; None once closed. End a step with `prepared` or `ran`."""
        with self._changed:
            while self._state != "closed":
                step, wait_s = self._choose()
                if step is not None:
                    if self._raw or self._ready:  # more to do, perhaps: the next one looks
                        self._changed.notify()
                    return step
                self._changed.wait(wait_s)
        return None

    def prepared(self, item: Item, pixels: FloatArray, style: FloatArray | None) -> None:
        """The item is ready for the network; one that was settled meanwhile is forgotten."""
        with self._changed:
            item.job = None
            if item.future.done():
                return
            item.pixels, item.style, item.ready = pixels, style, self._clock()
            item.where = self._ready
            self._ready.append(item)

    def ran(self) -> None:
        """A step of kind "run" is over, well or not."""
        with self._changed:
            self._running -= 1
            if self._raw or self._ready:  # else nobody has a reason to wake
                self._changed.notify()

    def pace(self, seconds: float) -> None:
        """A picture cost a worker so long; when those who find no room may come again is told by it."""
        self._pace_s += (seconds - self._pace_s) * (_PACE_SHARE if self._pace_s else 1.0)

    def wait_for_close(self, seconds: float) -> bool:
        """Sleep unless it closes meanwhile; whether it is closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state == "closed", seconds)

    def drain(self, seconds: float) -> None:
        """Let nobody in any more, and wait so long at most for those inside."""
        with self._changed:
            if self._state == "open":
                self._state = "closing"
            self._emptied.wait_for(lambda: not self._held, seconds)

    def close(self) -> None:
        """End every `take`."""
        with self._changed:
            self._state = "closed"
            self._changed.notify_all()

    def _choose(self) -> tuple[Step | None, float | None]:
        """Under the lock: the next step, or how long at most until there may be one."""
        now, way, wait_s = self._clock(), self._tuning, None
        free = way.sessions - self._running
        if self._ready and free:
            wait_s = self._ready[0].ready + way.max_wait_s - now
            if len(self._ready) >= way.max_size or wait_s <= 0:
                items = tuple(self._pop_ready(now) for _ in range(self._share(len(self._ready), free)))
                self._running += 1
                is_alone = self._held == len(items) <= way.run_size  # nothing waits behind: all cores are theirs
                return Step("run", items, way.alone_threads if is_alone else way.session_threads), None
        if self._raw and len(self._ready) < self._ready_most:
            return Step(
                "prepare", tuple(self._pop_raw(now) for _ in range(self._share(len(self._raw), way.workers)))
            ), None
        return None, wait_s

    def _share(self, waiting: int, threads: int) -> int:
        """How many one thread takes: its part, so that no other idles, but enough for a call of the network."""
        return min(waiting, self._tuning.max_size, max(self._tuning.run_size, -(-waiting // threads)))

    def _pop_raw(self, now: float) -> Item:
        item = self._raw.popleft()
        item.where = None
        item.waited_s = now - item.begun
        return item

    def _pop_ready(self, now: float) -> Item:
        item = self._ready.popleft()
        item.where = None
        item.waited_s += now - item.ready
        return item
