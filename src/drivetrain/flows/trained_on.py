"""Which pictures a model was trained and calibrated on, in 8 bytes each: they must not judge it later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import BoolArray, IntArray

__all__ = ["CALIBRATED_ON", "TRAINED_ON", "mark_calibrated", "mark_trained", "pack_digests"]

# arrays of reference.npz: sorted, so that they say nothing of an order
TRAINED_ON = "trained_on"
CALIBRATED_ON = "calibrated_on"  # and promised by: held out from training, or the last that `certify` was given


def pack_digests(digests: Iterable[bytes]) -> IntArray:
    """(n,) the first 8 bytes of each sha256, sorted: two files share them by chance once in 10**19 pairs."""
    return np.unique(_shorten(digests))


def mark_trained(arrays: Mapping[str, NDArray[Any]], digests: Sequence[bytes]) -> BoolArray:
    """(n,) which files of these sha256 a model with these arrays was trained on; of bundles of before none is known."""
    return _mark(arrays.get(TRAINED_ON), digests)


def mark_calibrated(arrays: Mapping[str, NDArray[Any]], digests: Sequence[bytes]) -> BoolArray:
    """(n,) the same of the files whose labels gave probabilities, thresholds and promises."""
    return _mark(arrays.get(CALIBRATED_ON), digests)


def _mark(known: NDArray[Any] | None, digests: Sequence[bytes]) -> BoolArray:
    if known is None or known.dtype != np.int64 or known.ndim != 1:
        return np.zeros(len(digests), dtype=bool)
    return np.isin(_shorten(digests), known)


def _shorten(digests: Iterable[bytes]) -> IntArray:
    return np.array([int.from_bytes(digest[:8], "little", signed=True) for digest in digests], dtype=np.int64)
