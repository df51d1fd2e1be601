"""Intervals: how far a number measured on some pictures may be from the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.pieces import count_independent, count_pieces

__all__ = [
    "LEAST_DRAWN",
    "Rate",
    "bootstrap_interval",
    "draw_counts",
    "limit_repeats",
    "mean_of_rows",
    "mean_with_interval",
    "weigh",
    "wilson_interval",
]

LEAST_DRAWN = 30  # pictures, or groups of them: a bootstrap interval of fewer is too narrow; of one it has no width
_BLOCK_VALUES = 2_000_000  # values drawn at a time: 16 MB, whatever the number of pictures
_MOST_COUNTS, _LEAST_REPEATS = 40_000_000, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share of n things, with Wilson's 95 % interval; a share of nothing is None, with the interval (0, 1).

    Where they are pictures that come in groups, the interval is that of as many as `count_independent` says.
    """

    hits: int
    n: int
    share: float | None
    low: float
    high: float

    @classmethod
    def of(cls, marks: BoolArray, groups: IntArray | None = None) -> Rate:
        """The share of true ones among marks (n,); groups (n,) where pictures of one group are alike."""
        hits, n = int(marks.sum()), len(marks)
        worth = count_independent(marks, groups) / n if n else 1.0  # of a picture
        low, high = wilson_interval(hits * worth, n * worth)
        return cls(hits=hits, n=n, share=hits / n if n else None, low=low, high=high)


def wilson_interval(hits: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a share, from `hits` of `n`; within [0, 1] and never of zero width.

    n = 0 says nothing, so it gives (0, 1). Unlike the textbook interval it holds up for small n and
    for shares near 0 and 1. Fractions are of pictures counted by their likeness. Source: Wilson 1927; Brown, Cai and
    DasGupta 2001, section 3.1.1. Raises InvalidInput unless 0 <= hits <= n and 0 < confidence < 1.
    """
    _check_confidence(confidence)
    if not 0 <= hits <= n:
        raise InvalidInput("hits", got=f"{hits} of {n}", want="0 <= hits <= n")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * (share * (1 - share) / n + spread / (4 * n)) ** 0.5
    # at the ends the formula gives 0 and 1 but for rounding, which must not show as -1e-17
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == n else middle + half)


def mean_with_interval(name: str, values: FloatArray, groups: IntArray | None = None) -> dict[str, Any]:
    """{name, name_low, name_high}: the mean of values (n,) and the ends of its bootstrap interval, as fields.

    Whole groups (n,) are drawn. The ends are None for fewer than LEAST_DRAWN values, or groups.
    """
    low, high = None, None
    if count_pieces(len(values), groups) >= LEAST_DRAWN:
        low, high = bootstrap_interval(values) if groups is None else _group_interval(values, groups)
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def _group_interval(values: FloatArray, groups: IntArray, *, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean, whole groups drawn."""
    counts = draw_counts(len(values), repeats=2000, groups=groups)
    drawn = weigh(counts, values) / weigh(counts, np.ones(len(values)))
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_of_rows(samples: FloatArray) -> FloatArray:
    """Mean of each row of (repeats, n): the statistic a bootstrap takes unless told otherwise."""
    means: FloatArray = samples.mean(axis=1)
    return means


def bootstrap_interval(
    values: FloatArray,
    *,
    statistic: Callable[[FloatArray], FloatArray] = mean_of_rows,
    confidence: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of `values`, one value a picture; same seed, same interval.

    values is (n,); `statistic` takes (r, n) resampled values and gives (r,). One value gives an interval
    of zero width, and below LEAST_DRAWN values the interval is too narrow to be shown.
    Raises InvalidInput if values are empty or not finite. Source: Efron and Tibshirani 1993, chapter 13.
    """
    _check_confidence(confidence)
    if repeats < 1:
        raise InvalidInput("repeats", got=repeats, want="an integer of at least 1")
    known = np.asarray(values, dtype=np.float64)
    if known.ndim != 1 or not known.size or not np.isfinite(known).all():
        raise InvalidInput(
            "values", got=f"an array of shape {known.shape}", want="one finite value or more, shape (n,)"
        )
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_VALUES // known.size)
    drawn = [
        statistic(known[rng.integers(known.size, size=(min(block, repeats - start), known.size))])
        for start in range(0, repeats, block)
    ]
    low, high = np.quantile(np.concatenate(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def draw_counts(n: int, *, repeats: int, seed: int = 0, groups: IntArray | None = None) -> FloatArray:
    """How often each of n pictures is drawn in each of `repeats` bootstrap resamples, (repeats, n); rows sum to n.

    With groups (n,) whole groups are drawn, as many as there are, and rows sum to whatever these hold. For statistics
    of whole pictures. Above 20,000 pictures the resamples become fewer, 200 at least: 160 MB and a few seconds are
    enough for the third digit of an interval.
    """
    rng = np.random.default_rng(seed)
    repeats = limit_repeats(n, repeats)
    counts: FloatArray = np.empty((repeats, n), dtype=np.float32)  # exact: no count comes near 2**24
    places = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    pieces = int(places.max()) + 1
    for row in counts:
        row[:] = np.bincount(rng.integers(pieces, size=pieces), minlength=pieces)[places]
    return counts


def limit_repeats(n: int, repeats: int) -> int:
    """How many resamples of n pictures `draw_counts` makes where `repeats` are asked for."""
    return max(_LEAST_REPEATS, min(repeats, _MOST_COUNTS // n))


def weigh(counts: FloatArray, values: FloatArray | BoolArray) -> FloatArray:
    """Sum of the values (n,) in each resample of `draw_counts`, (repeats,) float64."""
    blocks = np.array_split(counts, max(1, counts.size // _BLOCK_VALUES))
    column = np.asarray(values, dtype=np.float64)
    # not `@`: on a busy machine BLAS waits for its own threads, a minute where this takes a second
    return np.concatenate([np.vecdot(block.astype(np.float64), column) for block in blocks])


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InvalidInput("confidence", got=confidence, want="a number between 0 and 1, such as 0.95")
