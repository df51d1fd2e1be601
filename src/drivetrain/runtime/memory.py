"""What a model's opening has taken and no longer needs, given back; what it keeps, out of the collector's way."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["rarer_searches", "settle_memory"]

_SEARCH_AFTER = 5_000  # objects more than were freed; Python's 700 are what eight requests hold while they wait


@contextmanager
def rarer_searches() -> Iterator[None]:
    """Look for garbage less often until the block ends: an answer leaves none in circles, so all of it frees itself.

    Measured with 16 clients at once: 0.003 searches a request in place of 0.13, and 0.07 ms less of it.
    """
    before = gc.get_threshold()
    ours = (max(before[0], _SEARCH_AFTER), *before[1:]) if before[0] else before  # 0: somebody wants none at all
    gc.set_threshold(*ours)
    try:
        yield
    finally:
        if gc.get_threshold() == ours:
            gc.set_threshold(*before)


def settle_memory() -> None:
    """Look for garbage once more, take all that lives out of later searches, and give free memory to the system.

    A full search walks everything that was ever imported: 43 ms, in which no thread runs Python, every 600 requests.
    What a model of before left in circles is found here, when the next one is opened. With glibc the C library returns
    what is free; measured after opening a model of 14 MB twice: 36 MB less resident.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
