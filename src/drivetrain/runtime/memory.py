"""What a model's opening has taken and no longer needs, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["give_memory_back"]


def give_memory_back() -> None:
    """Have the C library return free memory; measured after opening a model of 14 MB twice: 36 MB less resident.

    Elsewhere than with glibc, nothing.
    """
    gc.collect()
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
