"""Intervals and tests for differences on the same pictures, where some of the pictures may belong together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, ndtr, ndtri

from drivetrain.trust.pieces import CONFIDENCE, Pieces

__all__ = ["bca_interval", "flip_signs", "mcnemar_mid_p", "tango_interval"]

_DRAWS = 4_000  # of the bootstrap
_FLIPS = 9_999  # of the sign-flip test
_MOST_SIGN_TABLES = 13  # pieces up to which all 2^pieces sign tables are tried
_BLOCK_VALUES = 2_000_000  # values drawn at a time, whatever the number of pictures


def flip_signs(pieces: Pieces, *, seed: int = 0) -> float:
    """Two-sided p-value: how often random signs of the pieces give a sum as far from 0 as theirs."""
    moved = pieces.sums[pieces.sums != 0]  # the others add nothing under any sign
    seen = abs(float(moved.sum())) * (1 - 1e-12)  # sums in another order differ in the last digits
    if len(moved) <= _MOST_SIGN_TABLES:
        tables = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))
        return float((np.abs((tables % 2 * 2 - 1) @ moved) >= seen).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    for block in _blocks(_FLIPS, len(moved)):
        signs = rng.integers(0, 2, size=(block, len(moved)), dtype=np.int8) * 2 - 1
        hits += int((np.abs(np.einsum("ij,j->i", signs, moved)) >= seen).sum())
    return (1 + hits) / (1 + _FLIPS)


def tango_interval(better: float, worse: float, n: float, *, quantile: float) -> tuple[float, float]:
    """All differences of paired shares whose score statistic lies within `quantile` standard errors.

    better and worse count the pictures, of n, that only the one and only the other had right; they may be fractions,
    where pictures are counted by a design effect. Never of no width. Source: Tango 1998, Stat. Med. 17:891.
    """
    if not np.isfinite(quantile):
        return -1.0, 1.0

    def excess(difference: float, bound: float) -> float:
        # q: likeliest share of "worse", given the difference; z: Tango 1998, equations 2 and 3
        linear = (2 * n - better + worse) * difference - better - worse
        constant = -worse * difference * (1 - difference)
        q = (np.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * q + difference * (1 - difference))
        return float(better - worse - n * difference - bound * np.sqrt(max(0.0, variance)))

    middle = (better - worse) / n
    ends = []
    for bound, edge in ((quantile, -1.0), (-quantile, 1.0)):
        inner = middle + np.sign(edge) * 1e-9  # at the middle itself the variance, and so the statistic, may be 0 of 0
        if abs(inner) >= 1:
            ends.append(edge)
        else:
            ends.append(float(brentq(excess, min(edge, inner), max(edge, inner), args=(bound,))))
    return ends[0], ends[1]


def mcnemar_mid_p(better: int, worse: int) -> float:
    """Two-sided p-value of `better` against `worse` being a fair coin's heads and tails.

    Half of the chance of just these counts is left out, which the exact test counts in full.
    Source: Fagerland et al. 2013, doi:10.1186/1471-2288-13-91.
    """
    tosses, fewer = better + worse, min(better, worse)
    up_to = float(bdtr(fewer, tosses, 0.5))
    below = float(bdtr(fewer - 1, tosses, 0.5)) if fewer else 0.0
    return min(1.0, up_to + below)


def bca_interval(pieces: Pieces, *, seed: int) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap of the mean over pictures, whole pieces drawn. Source: Efron 1987."""
    sums, sizes = pieces.sums, pieces.sizes
    n, mean = sizes.sum(), sums.sum() / sizes.sum()
    rng = np.random.default_rng(seed)
    means = []
    for block in _blocks(_DRAWS, len(sums)):
        drawn = rng.integers(len(sums), size=(block, len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    draws = np.concatenate(means)
    below = (float((draws < mean).mean()) + float((draws <= mean).mean())) / 2  # ties count half
    shift = ndtri(min(max(below, 0.5 / _DRAWS), 1 - 0.5 / _DRAWS))
    without = (sums.sum() - sums) / np.maximum(n - sizes, 1)  # the mean without each piece
    bend = without.mean() - without
    spread = float(np.square(bend).sum()) ** 1.5
    skew = float((bend**3).sum()) / (6 * spread) if spread > 0 else 0.0
    z = ndtri(np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])) + shift
    low, high = np.quantile(draws, ndtr(shift + z / np.maximum(1 - skew * z, 0.1)))
    return float(low), float(high)


def _blocks(count: int, width: int) -> Iterator[int]:
    """Rows to draw at a time, `count` in all."""
    most = max(1, _BLOCK_VALUES // max(1, width))
    yield from (min(most, count - start) for start in range(0, count, most))
