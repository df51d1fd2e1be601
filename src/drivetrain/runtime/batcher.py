"""Pictures of many callers through one model: each gets its own answer or its own error, in its own time.

No asyncio here: what is handed out are `concurrent.futures`, which also threads and notebooks can wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import DeadlinePassed, DrivetrainError, InvalidInput, Unavailable

from .batch_clock import Deadlines
from .batch_queue import BatchQueue, Item
from .batch_types import NO_METER, BatchModel, Meter, Outcome, PictureJob, Tuning
from .batch_workers import Workers, settle
from .prediction import Answer

__all__ = ["NO_METER", "BatchModel", "Batcher", "Meter", "Outcome", "PictureJob", "Tuning"]

_STUCK_AFTER_S = 60.0
_JOIN_S = 1.0  # for threads that are idle; one that hangs in a picture is left behind
_WARM_EACH_UP_TO = 8  # pictures a run: above, sizes double


class Batcher:
    """One loaded model behind one bounded queue. Every method may be called from any thread.

    A future that is cancelled, or whose deadline passes, before the network ran for it costs no run; a deadline is
    kept by a timer, whatever the threads are busy with.
    """

    def __init__(
        self,
        model: BatchModel,
        *,
        tuning: Tuning,
        queue_max: int,
        meter: Meter = NO_METER,
        stuck_after_s: float = _STUCK_AFTER_S,
        is_warm: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Warm after it: the network has run once at each size of batch. Raises Unavailable where it cannot.

        `queue_max` pictures may wait beside those that the workers have in hand; `is_warm`: the caller saw to it.
        """
        self.tuning = tuning
        self._model = model
        self._meter = meter
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._live: set[Item] = set()
        if not is_warm:
            _warm(model, tuning)
        self._queue = BatchQueue(tuning, queue_max=queue_max, clock=clock)
        self._deadlines = Deadlines(clock=clock)
        self._workers = Workers(model, self._queue, tuning=tuning, meter=meter, clock=clock)

    @property
    def pending(self) -> int:
        """Pictures in work or waiting."""
        return self._queue.held

    def why_not_ready(self) -> str | None:
        """None when it takes pictures and answers them; else the reason, for a person."""
        if not self._queue.is_open:
            return "it is shutting down"
        return self._workers.why_not_ready(stuck_after_s=self._stuck_after_s)

    def check_room(self, pictures: int = 1) -> None:
        """Raise QueueFull where so many more find no place; cheap, so ask before reading a body."""
        self._queue.check_room(pictures)

    def submit(self, pictures: Sequence[PictureJob], *, deadline_s: float | None = None) -> list[Future[Answer]]:
        """Queue all of them, or none and raise QueueFull, InvalidInput (more than ever fit) or Unavailable (closing).

        Each future gets the answer that `Predictor.predict` gives, or the error of that one picture: UnreadablePicture,
        DeadlinePassed, Unavailable.
        """
        begun = self._clock()
        return self._enter([Item(Future(), begun, job=one) for one in pictures], deadline_s)

    def submit_pixels(self, pixels: FloatArray, *, deadline_s: float | None = None) -> list[Future[Answer]]:
        """As `submit`, for what the preprocessing would give: float (n, 3, h, w), a future for each row.

        Without the picture its style is not judged. Raises also InvalidInput for another shape or what is not finite.
        """
        rows, begun = self._check_pixels(pixels), self._clock()
        return self._enter([Item(Future(), begun, pixels=row, ready=begun) for row in rows], deadline_s)

    def close(self, *, drain_s: float) -> None:
        """Take no more, answer what is there within so long; the rest gets Unavailable. A second call does nothing."""
        self._queue.drain(drain_s)
        self._queue.close()
        for item in list(self._live):
            error = Unavailable("server", got="a picture that was still waiting", want="one before shutdown")
            settle(item, error=error)
        self._deadlines.close()
        self._workers.join(_JOIN_S)

    def _enter(self, items: list[Item], deadline_s: float | None) -> list[Future[Answer]]:
        futures = [item.future for item in items]  # an item that is settled holds its own no more
        self._live.update(items)  # before they can be reached: `close` ends all that are in here
        try:
            self._queue.put(items)
        except DrivetrainError:
            self._live.difference_update(items)
            for _ in items:
                self._meter.finished("rejected", None)
            raise
        self._meter.pending(len(items))
        for item, future in zip(items, futures, strict=True):
            future.add_done_callback(partial(self._leave, item))
            if deadline_s is not None:
                self._deadlines.add(future, deadline_s)
        return futures

    def _leave(self, item: Item, future: Future[Answer]) -> None:
        """Called once for every item, in the thread that settled it."""
        try:
            if future.cancelled():
                future.set_running_or_notify_cancel()  # or `concurrent.futures.wait` would never hear of it
            outcome = _outcome(future)
            self._meter.pending(-1)
            self._meter.finished(outcome, future.result() if outcome == "success" else None)
        finally:  # last, so that who waits for an empty queue finds everything counted
            self._live.discard(item)
            self._queue.settled(item)

    def _check_pixels(self, pixels: FloatArray) -> FloatArray:
        side = self._model.input_size
        if pixels.ndim != 4 or pixels.shape[0] < 1 or pixels.shape[1:] != (3, side, side):
            raise InvalidInput("pixels", got=f"shape {pixels.shape}", want=f"(n, 3, {side}, {side}), n at least 1")
        with np.errstate(over="ignore"):  # told below
            rows = np.ascontiguousarray(pixels, dtype=np.float32)
        if not np.isfinite(rows).all():
            raise InvalidInput("pixels", got="what is not a finite number in 32 bits", want="finite numbers")
        return rows


def _outcome(future: Future[Answer]) -> Outcome:
    if future.cancelled():
        return "canceled"
    match future.exception():
        case None:
            return "success"
        case DeadlinePassed():
            return "timeout"
        case InvalidInput():
            return "invalid"
        case _:
            return "error"


def _warm(model: BatchModel, tuning: Tuning) -> None:
    """The first run at a size plans its memory, and is several times as slow as those after it."""
    side, most = model.input_size, tuning.run_size
    sizes = {size for size in range(1, most + 1) if size <= _WARM_EACH_UP_TO or size & (size - 1) == 0} | {most}
    for threads in sorted(tuning.threads_of_sessions):
        for size in sorted(sizes):
            model.run(np.zeros((size, 3, side, side), dtype=np.float32), threads=threads)
