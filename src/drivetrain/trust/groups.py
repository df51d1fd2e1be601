"""Who is served worse: groups of pictures against all the others, with intervals that hold for all groups together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv, stdtrit

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.pieces import Pieces, count_independent

__all__ = ["LEAST_IN_GROUP", "Group", "GroupComparison", "GroupMeasure", "compare_groups"]

LEAST_IN_GROUP = 10  # pictures: of fewer no difference but the crudest can be told
_CONFIDENCE = 0.95
# measure -> whether more of it is better for those who are served
_MORE_IS_BETTER = {"accuracy": True, "deferred": False, "flagged": False, "error": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeasure:
    """One measure of a group beside that of all other pictures. The intervals of a comparison hold together."""

    name: str  # "accuracy", "deferred", "flagged"; "error" where a value is measured
    value: float
    low: float
    high: float
    rest: float | None  # None: there are too few other pictures, and nothing is compared
    difference: float | None  # value - rest
    difference_low: float | None
    difference_high: float | None
    verdict: str  # "worse", "better", "open": the difference may be none; "" where nothing is compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group; `measures` is empty where it is too small."""

    name: str
    n: int
    measures: tuple[GroupMeasure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupComparison:
    """All groups, the largest first."""

    by: str
    n: int  # pictures
    confidence: float  # with which all intervals of differences hold together
    n_comparisons: int
    least: int  # pictures that a group must have, and all others together
    groups: tuple[Group, ...]

    @property
    def worse(self) -> list[tuple[Group, GroupMeasure]]:
        """What is told to be worse than elsewhere."""
        return [(group, row) for group in self.groups for row in group.measures if row.verdict == "worse"]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        plain = asdict(self)
        plain["groups"] = [{**of, "measures": list(of["measures"])} for of in plain["groups"]]
        return plain


def compare_groups(
    groups: Mapping[str, BoolArray],
    marks: Mapping[str, BoolArray | FloatArray],
    *,
    by: str,
    alike: IntArray | None = None,
) -> GroupComparison:
    """Compare each group with all pictures outside it.

    groups: name -> (n,) whether a picture is in it; they may overlap. marks: measure -> (n,), true or false for
    "accuracy", "deferred" and "flagged", numbers for "error". A comparison and its mirror (of two groups that are all)
    count once; the error allowed is shared out evenly (Bonferroni) over all measures and groups. Shares: Clopper and
    Pearson's exact intervals, joined for a difference as Newcombe 1998 (Stat. Med. 17:873, method 10) joins Wilson's,
    which in simulation missed too often at such levels; numbers: Student's and Welch's t. Where pictures of one number
    in `alike` (n,) are alike, as those of a burst are, shares count them by their likeness (`count_independent`), and
    numbers are added up first; but for a group whose pictures are all of one number: it is asked about by itself.
    Raises InvalidInput where there are no pictures, or shapes do not fit.
    """
    n = len(next(iter(marks.values()), ()))
    arrays = (*marks.values(), *groups.values(), *(() if alike is None else (alike,)))
    if not n or any(of.shape != (n,) for of in arrays):
        raise InvalidInput("groups", got="arrays of different lengths, or none", want="one mark a picture")
    large = {name: is_in for name, is_in in groups.items() if is_in.sum() >= LEAST_IN_GROUP}
    faced = [is_in for is_in in large.values() if (~is_in).sum() >= LEAST_IN_GROUP]
    pairs = {min(is_in.tobytes(), (~is_in).tobytes()) for is_in in faced}
    n_comparisons = len(pairs) * len(marks)
    miss = (1 - _CONFIDENCE) / max(1, len(large) * len(marks))  # of each interval of a value
    miss_of_gap = (1 - _CONFIDENCE) / max(1, n_comparisons)
    told = [
        Group(
            name=name,
            n=int(is_in.sum()),
            measures=tuple(
                _measure(what, values, is_in, alike, miss=miss, miss_of_gap=miss_of_gap)
                for what, values in marks.items()
            )
            if name in large
            else (),
        )
        for name, is_in in groups.items()
    ]
    return GroupComparison(
        by=by,
        n=n,
        confidence=_CONFIDENCE,
        n_comparisons=n_comparisons,
        least=LEAST_IN_GROUP,
        groups=tuple(sorted(told, key=lambda group: (-group.n, group.name))),
    )


class _Side(NamedTuple):
    """The pictures of a group, or all others, by one measure."""

    values: BoolArray | FloatArray  # (m,)
    alike: IntArray | None  # (m,)

    @classmethod
    def of(cls, values: BoolArray | FloatArray, alike: IntArray | None, is_in: BoolArray) -> _Side:
        mine = None if alike is None else alike[is_in]
        return cls(values[is_in], None if mine is None or mine.min() == mine.max() else mine)

    @property
    def is_share(self) -> bool:
        return self.values.dtype == np.bool_

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def interval(self, miss: float) -> tuple[float, float]:
        """Of the mean, outside of which lies `miss`."""
        if self.is_share:
            return _share_interval(self, miss)
        variance, freedom = self.variance()
        half = float(stdtrit(freedom, 1 - miss / 2)) * variance**0.5
        return self.mean - half, self.mean + half

    def variance(self) -> tuple[float, int]:
        """Of the mean, and its degrees of freedom."""
        pieces = Pieces.of(self.values.astype(np.float64), self.alike)
        return pieces.standard_error() ** 2, len(pieces.sums) - 1


def _measure(
    name: str,
    values: BoolArray | FloatArray,
    is_in: BoolArray,
    alike: IntArray | None,
    *,
    miss: float,
    miss_of_gap: float,
) -> GroupMeasure:
    inside = _Side.of(values, alike, is_in)
    low, high = inside.interval(miss)
    rest = difference = difference_low = difference_high = None
    verdict = ""
    if (~is_in).sum() >= LEAST_IN_GROUP:
        outside = _Side.of(values, alike, ~is_in)
        rest, difference = outside.mean, inside.mean - outside.mean
        gap = _share_gap if inside.is_share else _mean_gap
        difference_low, difference_high = gap(inside, outside, miss_of_gap)
        gain = difference if _MORE_IS_BETTER[name] else -difference
        is_open = difference_low <= 0 <= difference_high
        verdict = "open" if is_open else "better" if gain > 0 else "worse"
    return GroupMeasure(
        name=name,
        value=inside.mean,
        low=low,
        high=high,
        rest=rest,
        difference=difference,
        difference_low=difference_low,
        difference_high=difference_high,
        verdict=verdict,
    )


def _share_interval(side: _Side, miss: float) -> tuple[float, float]:
    """Exact interval of a share. Source: Clopper and Pearson 1934, Biometrika 26:404."""
    n = count_independent(side.values, side.alike, confidence=1 - miss)
    hits = n * side.mean
    low = float(betaincinv(hits, n - hits + 1, miss / 2)) if side.values.any() else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - miss / 2)) if not side.values.all() else 1.0
    return low, high


def _share_gap(inside: _Side, outside: _Side, miss: float) -> tuple[float, float]:
    here, there = inside.mean, outside.mean
    (low, high), (rest_low, rest_high) = _share_interval(inside, miss), _share_interval(outside, miss)
    gap = here - there
    below = float(np.hypot(here - low, rest_high - there))
    above = float(np.hypot(high - here, there - rest_low))
    return max(-1.0, gap - below), min(1.0, gap + above)


def _mean_gap(inside: _Side, outside: _Side, miss: float) -> tuple[float, float]:
    """Welch's interval; where nothing varies it has no width. Source: Welch 1947, Biometrika 34:28."""
    gap = inside.mean - outside.mean
    of = [inside.variance(), outside.variance()]
    variance = sum(part for part, _ in of)
    if variance == 0:
        return gap, gap
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in of)
    half = float(stdtrit(freedom, 1 - miss / 2)) * variance**0.5
    return gap - half, gap + half
