"""The threads of a batcher: each prepares, runs the network and decides, whichever is next; and they are watched."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import InvalidStateError
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import Unavailable

from .batch_queue import BatchQueue, Item, Step
from .batch_types import BatchModel, Meter, Tuning
from .prediction import Answer

__all__ = ["Workers", "settle"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0  # between two tries of a thread that must first prove that it works

_log = logging.getLogger("drivetrain.runtime")


@dataclass(slots=True, eq=False)
class _Worker:
    """One thread, and what it has in hand."""

    name: str
    step: Step | None = None
    since: float = 0.0
    thread: threading.Thread = field(init=False)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the network says of one item, or why it says nothing."""

    item: Item
    logits: FloatArray | None = None
    frozen: FloatArray | None = None
    style: FloatArray | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _End:
    """An answer, or an error."""

    item: Item
    answer: Answer | None = None
    error: BaseException | None = None


class Workers:
    """One thread takes a picture from bytes to answer where it can: each hand-over would cost it a wait for the GIL."""

    def __init__(
        self, model: BatchModel, queue: BatchQueue, *, tuning: Tuning, meter: Meter, clock: Callable[[], float]
    ) -> None:
        self._model = model
        self._queue = queue
        self._tuning = tuning
        self._meter = meter
        self._clock = clock
        self._lock = threading.Lock()
        self._names = (f"drivetrain-predict-{number}" for number in count(1))
        self._workers: set[_Worker] = set()
        self._unproved: set[_Worker] = set()  # in place of one that died, and not yet seen to work
        for _ in range(tuning.workers):
            self._start(is_proved=True)

    def why_not_ready(self, *, stuck_after_s: float) -> str | None:
        """None when the threads work; else the reason, for a person."""
        with self._lock:
            if self._unproved:
                return "a thread that answers pictures died, and the one in its place has not proved itself yet"
            busy = [worker.since for worker in self._workers if worker.step is not None]
            if len(busy) == len(self._workers) and self._clock() - max(busy) > stuck_after_s:
                return f"every thread has been on one picture for more than {stuck_after_s:.0f} s"
        return None

    def join(self, seconds: float) -> None:
        """Wait so long at most for the threads; the queue is closed."""
        until = self._clock() + seconds
        with self._lock:
            threads = [worker.thread for worker in self._workers]
        for thread in threads:
            thread.join(max(0.0, until - self._clock()))

    def _start(self, *, is_proved: bool) -> None:
        worker = _Worker(next(self._names))
        worker.thread = threading.Thread(target=self._live, args=(worker,), name=worker.name, daemon=True)
        with self._lock:
            self._workers.add(worker)
            if not is_proved:
                self._unproved.add(worker)
        worker.thread.start()  # where it cannot, the worker stays among the unproved: not ready, for good

    def _live(self, worker: _Worker) -> None:
        """A thread's whole life; one that ends by anything but the close of the queue is followed by another."""
        try:
            if worker in self._unproved and not self._prove(worker):
                return
            while (step := self._queue.take()) is not None:
                worker.step, worker.since = step, self._clock()
                self._do(step)
                worker.step = None
        except BaseException as exc:
            _log.critical("thread %s died; another one starts", worker.name, exc_info=exc)
            self._bury(worker)
        finally:
            with self._lock:
                self._workers.discard(worker)
                self._unproved.discard(worker)

    def _prove(self, worker: _Worker) -> bool:
        """Run the network until it works; False if the queue closes first."""
        side, pause_s = self._model.input_size, _FIRST_PAUSE_S
        while True:
            try:
                self._model.run(np.zeros((1, 3, side, side), dtype=np.float32))
            except Exception as exc:
                _log.error("thread %s cannot run the network yet", worker.name, exc_info=exc)
                if self._queue.wait_for_close(pause_s):
                    return False
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            with self._lock:
                self._unproved.discard(worker)
            return True

    def _bury(self, worker: _Worker) -> None:
        """Not ready from here on, until another thread has proved itself; what was in hand gets an error."""
        try:
            self._start(is_proved=False)
        finally:  # even where no thread can be started
            step = worker.step
            for item in step.items if step is not None else ():
                if step is not None and step.kind == "prepare" and item.pixels is not None:
                    continue  # it is out of our hands
                settle(item, error=Unavailable("server", got="a fault in its thread", want="an answer"))

    def _do(self, step: Step) -> None:
        if step.kind == "prepare":
            for item in step.items:
                self._prepare(item)
            return
        size, found = self._tuning.run_size, list[_Found]()
        try:
            for start in range(0, len(step.items), size):
                found += self._run(step.items[start : start + size], step.threads)
        finally:
            self._queue.ran()
        self._meter.batch(len(step.items))
        ends = [self._decide(one) for one in found]
        for end in ends:  # all together: whoever hears of one hears of all, and finds its own code still in the caches
            settle(end.item, end.answer, error=end.error)

    def _prepare(self, item: Item) -> None:
        """Bytes to pixels; a picture that cannot be read fails alone, here."""
        job, begun = item.job, self._clock()
        if job is None:  # given up a moment ago
            return
        try:
            pixels, style = self._model.prepare(job.picture, name=job.name)
        except Exception as exc:
            settle(item, error=exc)
            return
        item.worked_s = self._clock() - begun
        self._meter.stage("preprocess", item.worked_s)
        self._queue.prepared(item, pixels, style)

    def _run(self, items: Sequence[Item], threads: int) -> list[_Found]:
        """One call of the network for all who still wait; one that fails is split until only the culprit fails."""
        held = [(item, item.pixels) for item in items]
        live = [(item, pixels) for item, pixels in held if pixels is not None]  # else it left while it waited
        if not live:
            return []
        begun = self._clock()
        try:
            rows = [pixels for _, pixels in live]
            logits, frozen = self._model.run(rows[0][np.newaxis] if len(rows) == 1 else np.stack(rows), threads=threads)
        except Exception as exc:
            if len(live) == 1:
                return [_Found(live[0][0], error=exc)]
            middle = len(live) // 2
            halves = live[:middle], live[middle:]
            return [one for half in halves for one in self._run([item for item, _ in half], threads)]
        seconds = self._clock() - begun
        self._meter.stage("compute", seconds)
        for item, _ in live:
            self._meter.stage("queue", item.waited_s)
            self._queue.pace(item.worked_s + seconds / len(live))
        return [_Found(item, logits[row], frozen[row], item.style) for row, (item, _) in enumerate(live)]

    def _decide(self, found: _Found) -> _End:
        """From the network's numbers to an answer, or to the error of this one picture."""
        if found.logits is None or found.frozen is None:
            return _End(found.item, error=found.error)
        begun = self._clock()
        try:
            answer = self._model.decide(found.logits, found.frozen, found.style)
        except Exception as exc:
            return _End(found.item, error=exc)
        self._meter.stage("postprocess", self._clock() - begun)
        return _End(found.item, answer)


def settle(item: Item, answer: Answer | None = None, *, error: BaseException | None = None) -> None:
    """Give the item its end, unless its caller left or its time ran out."""
    if item.future.done():
        return
    try:
        if answer is not None:
            item.future.set_result(answer)
        else:
            item.future.set_exception(error)
    except InvalidStateError:  # settled by another thread a moment ago
        return
