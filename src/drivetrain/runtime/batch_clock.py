"""Deadlines, kept by a thread that waits for no picture."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any
from weakref import ref

from drivetrain.errors import DeadlinePassed

__all__ = ["Deadlines"]

_SWEEP_AT = 256  # entries: those of answered items lie in the heap until they are swept, or their time comes


class Deadlines:
    """Settles a future with DeadlinePassed when its time is up, whatever is being done for it then."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition(threading.Lock())
        # when, a number against ties, how long, whose: weakly, for what is answered must not stay until its time comes
        self._heap: list[tuple[float, int, float, ref[Future[Any]]]] = []
        self._numbers = itertools.count()
        self._sweep_at = _SWEEP_AT
        self._is_closed = False
        self._thread = threading.Thread(target=self._watch, name="drivetrain-deadlines", daemon=True)
        self._thread.start()

    def add(self, future: Future[Any], seconds: float) -> None:
        """From now on it has so long; whoever will answer it holds it until then."""
        when = self._clock() + seconds
        with self._changed:
            is_next = not self._heap or when < self._heap[0][0]
            heapq.heappush(self._heap, (when, next(self._numbers), seconds, ref(future)))
            if len(self._heap) >= self._sweep_at:
                self._heap = [entry for entry in self._heap if not _is_over(entry[3])]
                heapq.heapify(self._heap)
                self._sweep_at = max(_SWEEP_AT, 2 * len(self._heap))
            if is_next:
                self._changed.notify()

    def close(self) -> None:
        """Watch no more."""
        with self._changed:
            self._is_closed = True
            self._heap.clear()
            self._changed.notify()

    def __len__(self) -> int:
        return len(self._heap)

    def _watch(self) -> None:
        while (due := self._wait()) is not None:
            for seconds, future in due:
                _end(future, seconds)
            del due, future  # not until the next one is due

    def _wait(self) -> list[tuple[float, Future[Any]]] | None:
        """Those whose time is up, at least one; None once closed."""
        with self._changed:
            while not self._is_closed:
                now = self._clock()
                due = []
                while self._heap and self._heap[0][0] <= now:
                    _, _, seconds, whose = heapq.heappop(self._heap)
                    future = whose()
                    if future is not None:
                        due.append((seconds, future))
                    del future
                if due:
                    return due
                self._changed.wait(self._heap[0][0] - now if self._heap else None)
        return None


def _is_over(whose: ref[Future[Any]]) -> bool:
    future = whose()
    return future is None or future.done()


def _end(future: Future[Any], seconds: float) -> None:
    if future.done():
        return
    try:
        future.set_exception(
            DeadlinePassed(
                "request",
                got=f"no answer in {seconds:g} s",
                want="one in that time",
                hint="Send it again with fewer pictures, or raise request_timeout_s.",
            )
        )
    except InvalidStateError:  # answered, or given up, a moment ago
        return
