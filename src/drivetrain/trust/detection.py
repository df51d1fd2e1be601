"""How well a score tells foreign pictures from known ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import LEAST_DRAWN, draw_counts, limit_repeats, wilson_interval
from drivetrain.trust.pieces import count_independent, count_pieces

__all__ = ["Detection", "measure_detection"]

_REPEATS = 1_000
_CONFIDENCE = 0.95
_BLOCK_VALUES = 2_000_000  # drawn values at a time: 16 MB each of a handful of tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Foreign pictures against known ones by a score that is higher for stranger ones; 95 % intervals.

    Those of AUPR, which are drawn alone, are None where either side has fewer than LEAST_DRAWN pictures, or groups.
    """

    n_known: int
    n_foreign: int
    auroc: float  # chance that a foreign picture looks stranger than a known one; equal scores count half
    auroc_low: float
    auroc_high: float
    fpr95: float  # share of the foreign accepted where 95 % of the known are accepted; lower is better
    fpr95_low: float
    fpr95_high: float
    aupr_foreign: float  # average precision of finding the foreign, strangest first; its floor is their share
    aupr_foreign_low: float | None
    aupr_foreign_high: float | None
    aupr_known: float  # the same of finding the known, least strange first
    aupr_known_low: float | None
    aupr_known_high: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        return asdict(self)


def measure_detection(
    known: FloatArray,
    foreign: FloatArray,
    *,
    known_groups: IntArray | None = None,
    repeats: int = _REPEATS,
    seed: int = 0,
) -> Detection:
    """Measure scores (n,) of known pictures and (m,) of foreign ones; higher is stranger.

    known_groups (n,) say which of the known are alike: these are drawn together.

    The numbers are scikit-learn's. Intervals: percentile bootstrap that draws known and foreign pictures apart; those
    of AUROC and FPR95 span a score interval too, so that a perfect score on few pictures is not told as certain.
    Sources: Newcombe 2006, Stat. Med. 25:559, method 5; Wilson 1927. Raises InvalidInput where one side is empty or a
    score is not finite.
    """
    for name, scores in (("known", known), ("foreign", foreign)):
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise InvalidInput(name, got=f"shape {scores.shape}", want="one finite score or more, shape (n,)")
    n, m = len(known), len(foreign)
    ranking = _Ranking.of(known, foreign)
    repeats = limit_repeats(max(n, m), repeats)  # of both sides as many
    told = ranking.measure(np.ones((1, n)), np.ones((1, m)))
    rows = [
        ranking.measure(*drawn)
        for drawn in zip(
            _draw(n, n + m, repeats, [seed, 0], known_groups), _draw(m, n + m, repeats, [seed, 1]), strict=True
        )
    ]
    ends = np.quantile(np.concatenate(rows), [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2], axis=0)  # (2, 4)
    values = {name: float(value) for name, value in zip(_NAMES, told[0], strict=True)}
    spans = {name: (float(low), float(high)) for name, low, high in zip(_NAMES, *ends, strict=True)}
    counted = max(1.0, count_independent(_share_stranger(known, foreign), known_groups))
    auroc = _span(spans["auroc"], _auroc_interval(values["auroc"], counted, m))
    fpr95 = _span(spans["fpr95"], wilson_interval(round(values["fpr95"] * m), m))
    is_drawn = min(count_pieces(n, known_groups), m) >= LEAST_DRAWN
    to_foreign, to_known = (spans[name] if is_drawn else (None, None) for name in ("aupr_foreign", "aupr_known"))
    return Detection(
        n_known=n,
        n_foreign=m,
        **values,
        auroc_low=auroc[0],
        auroc_high=auroc[1],
        fpr95_low=fpr95[0],
        fpr95_high=fpr95[1],
        aupr_foreign_low=to_foreign[0],
        aupr_foreign_high=to_foreign[1],
        aupr_known_low=to_known[0],
        aupr_known_high=to_known[1],
    )


_NAMES = ("auroc", "fpr95", "aupr_foreign", "aupr_known")


class _Ranking(NamedTuple):
    """Known pictures then foreign ones, strangest first; `ends` are the last places of equal scores."""

    order: np.ndarray
    is_known: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, known: FloatArray, foreign: FloatArray) -> _Ranking:
        scores = np.concatenate([known, foreign])
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.append(np.flatnonzero(ranked[:-1] != ranked[1:]), len(ranked) - 1)
        return cls(order, order < len(known), ends)

    def measure(self, known: FloatArray, foreign: FloatArray) -> FloatArray:
        """(r, 4) numbers in the order of _NAMES; known (r, n) and foreign (r, m) say how often each was drawn."""
        weights = np.concatenate([known, foreign], axis=1)[:, self.order]
        n, m = known.sum(axis=1), foreign.sum(axis=1)  # (r,): of whole groups not always as many
        # (r, g) pictures as strange as each of the g different scores, or stranger
        known_above = np.cumsum(weights * self.is_known, axis=1)[:, self.ends]
        foreign_above = np.cumsum(weights * ~self.is_known, axis=1)[:, self.ends]
        known_here, foreign_here = (np.diff(of, axis=1, prepend=0) for of in (known_above, foreign_above))
        known_left = n[:, None] - known_above + known_here  # no stranger
        foreign_left = m[:, None] - foreign_above + foreign_here
        auroc = (known_here * (foreign_above - foreign_here / 2)).sum(axis=1) / (n * m)
        is_enough = 20 * known_left >= 19 * n[:, None]  # 95 %, in whole numbers
        last = is_enough.shape[1] - 1 - is_enough[:, ::-1].argmax(axis=1)  # the smallest score that accepts so many
        fpr95 = foreign_left[np.arange(len(last)), last] / m
        with np.errstate(invalid="ignore", divide="ignore"):
            to_foreign = np.nan_to_num(foreign_above / (foreign_above + known_above))
            to_known = np.nan_to_num(known_left / (known_left + foreign_left))
        aupr_foreign = (foreign_here * to_foreign).sum(axis=1) / m
        aupr_known = (known_here * to_known).sum(axis=1) / n
        return np.stack([auroc, fpr95, aupr_foreign, aupr_known], axis=1)


def _draw(n: int, width: int, repeats: int, seed: list[int], groups: IntArray | None = None) -> list[FloatArray]:
    """Blocks of (r, n) counts, so many rows that r tables of `width` fit the memory meant for them."""
    counts = draw_counts(n, repeats=repeats, seed=int(np.random.default_rng(seed).integers(2**31)), groups=groups)
    rows = max(1, _BLOCK_VALUES // width)
    return [counts[at : at + rows].astype(np.float64) for at in range(0, len(counts), rows)]


def _span(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return min(first[0], second[0]), max(first[1], second[1])


def _share_stranger(known: FloatArray, foreign: FloatArray) -> FloatArray:
    """(n,): for each known picture the share of the foreign that look stranger; equal scores count half."""
    ranked = np.sort(foreign)
    above = len(foreign) - (np.searchsorted(ranked, known, "left") + np.searchsorted(ranked, known, "right")) / 2
    return np.asarray(above / len(foreign), dtype=np.float64)


def _auroc_interval(auroc: float, n: float, m: int) -> tuple[float, float]:
    """Score interval of an area, never of no width but at n = m = 1."""
    z, middle = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2), (n + m) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + middle * ((1 - area) / (2 - area) + area / (1 + area))
        return float((auroc - area) ** 2 - z * z * area * (1 - area) * spread / (n * m))

    inner = min(max(auroc, 1e-9), 1 - 1e-9)  # at 0 and 1 themselves the spread is none, and so a root
    low = 0.0 if auroc == 0 else float(brentq(excess, 0.0, inner))
    high = 1.0 if auroc == 1 else float(brentq(excess, inner, 1.0))
    return low, high
