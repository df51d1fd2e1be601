"""Threads that answer pictures, behind a queue that says no when it is full."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from drivetrain.errors import Unavailable

from .errors import Overloaded

__all__ = ["WorkerPool"]

Call = Callable[[], bytes]


class _Job:
    """A call that lets go of its picture once it is over or given up.

    The executor keeps a cancelled item until a thread reaches it; were the picture still in it, clients that
    come and go could fill the memory while no request is counted as waiting.
    """

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call


class WorkerPool:
    """At most `threads` pictures in work and `queue_max` waiting, over all requests."""

    def __init__(
        self, *, threads: int, queue_max: int, stuck_after_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threads = threads
        self._queue_max = queue_max
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._held = 0  # pictures in work or waiting
        self._started: dict[_Job, float] = {}  # in work, since when
        self._executor: ThreadPoolExecutor | None = None
        self.open()

    def open(self) -> None:
        """Take work; threads start with the first picture."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="drivetrain-predict")

    def close(self) -> None:
        """Take no more work and drop what waits. What a thread has begun, it ends."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)

    @property
    def held(self) -> int:
        """Pictures in work or waiting."""
        return self._held

    def why_not_ready(self) -> str | None:
        """None when it takes work; else the reason, for a person."""
        if self._executor is None:
            return "the server is shutting down"
        with self._lock:
            begun = list(self._started.values())
        if len(begun) == self._threads and self._clock() - max(begun) > self._stuck_after_s:
            return f"every thread has been on one picture for more than {self._stuck_after_s:.0f} s"
        return None

    def check_room(self, pictures: int = 1) -> None:
        """Raise Overloaded where `pictures` more find no place; cheap, so ask before reading a body."""
        if self._held + pictures > self._threads + self._queue_max:
            raise Overloaded(
                "queue",
                got=f"{self._held} pictures in work or waiting",
                want=f"room for {pictures} within {self._threads} threads and {self._queue_max} waiting",
                hint="Send it again in a moment, or raise queue_max_pictures.",
            )

    def submit(self, calls: Sequence[Call]) -> list[asyncio.Future[bytes]]:
        """Queue all of the calls or none. Cancelling a future that has not begun costs no compute."""
        if self._executor is None:
            raise Unavailable("server", got="a request", want="one before shutdown", hint="Send it again.")
        with self._lock:
            self.check_room(len(calls))
            self._held += len(calls)
        return [asyncio.wrap_future(self._start(self._executor, _Job(call))) for call in calls]

    def _start(self, executor: ThreadPoolExecutor, job: _Job) -> Future[bytes]:
        future = executor.submit(self._run, job)
        future.add_done_callback(lambda _: self._release(job))
        return future

    def _run(self, job: _Job) -> bytes:
        with self._lock:
            self._started[job] = self._clock()
        assert job.call is not None  # only a job that never starts is cancelled
        return job.call()

    def _release(self, job: _Job) -> None:
        with self._lock:
            self._held -= 1
            self._started.pop(job, None)
            job.call = None
