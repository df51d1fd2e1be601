"""Many pictures through a few threads, answers in order, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["callers_for", "map_in_order"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_AHEAD = 4  # items in work or waiting per thread: enough that no thread idles, few enough that memory stays flat


def callers_for(threads: int) -> int:
    """How many callers keep `threads` cores busy: one more, for while one waits for the GIL, the disk or the cache.

    Measured on two cores, 1,500 photographs: 6.3 s with two callers, 6.1 s with three. Whoever asks for one gets one.
    """
    return threads + 1 if threads > 1 else 1


def map_in_order(
    work: Callable[[_In], _Out], items: Iterable[_In], *, threads: int, ahead: int | None = None
) -> Generator[_Out, None, None]:
    """Like `map`, on `threads` threads; closing the iterator early (Ctrl-C too) drops what has not begun.

    `ahead` items are taken from the source before the first answer is handed on (by default four a thread): so much is
    done while the caller is busy elsewhere, and kept in memory. Decoders and onnxruntime let go of the GIL, so threads
    fill the cores.
    """
    window = threads * _AHEAD if ahead is None else max(1, ahead)
    source = iter(items)
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="pictures")
    waiting: deque[Future[_Out]] = deque()
    try:
        for item in source:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
