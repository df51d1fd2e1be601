"""One score from several: what a bundle keeps of the pictures it knows, and how strange another is to it.

numpy only: serving needs this. A picture at a time, in as few calls as will do: between two runs of a network each call
finds its code and data gone from the caches, and takes several times what it takes in a loop of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from drivetrain.arrays import FloatArray

from .ood import find_surest, measure_doubt, measure_energy
from .ood_space import Gaussian, Space

__all__ = ["Hinge", "Near", "OodRule", "Part", "Scale", "Surroundings", "fit_rule", "fit_scale"]

Part = Literal["energy", "doubt", "neighbour", "mahalanobis"]

# Chosen by leaving out classes of clothing in turn, reported on others: docs/unknown.md
_BY_CLASS: Mapping[Part, float] = {"energy": 1.0, "doubt": 0.5, "neighbour": 1.0}
_BY_PLACE: Mapping[Part, float] = {"neighbour": 0.5, "mahalanobis": 0.25}
_BEGINS, _FAR_WEIGHT = 2.1, 2.0


@dataclass(frozen=True, slots=True)
class Scale:
    """What makes numbers standard: (x - centre) / spread; `spread` is above 0."""

    centre: float
    spread: float

    def apply(self, value: float) -> float:
        return (value - self.centre) / self.spread


def fit_scale(values: FloatArray) -> Scale:
    """Mean and standard deviation of (n,); where all are alike, up to rounding, the spread is 1."""
    centre, spread = float(values.mean()), float(values.std())
    return Scale(centre, spread if spread > 1e-6 * max(1.0, abs(centre)) else 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where the known pictures lie: all in the space, and some of them kept, to look for neighbours among.

    A model that tells classes apart has its neighbours among the logits that it gives known pictures, as they come out
    of the network; any other has them among coordinates in the space, and there a Gaussian beside them.
    """

    space: Space
    known: FloatArray  # (m, k) logits or (m, r) coordinates, float32
    k: int
    gaussian: Gaussian | None = None
    _twice: FloatArray = field(init=False, repr=False, compare=False)  # 2 * known
    _squares: FloatArray = field(init=False, repr=False, compare=False)  # (m,) of the lengths of `known`

    def __post_init__(self) -> None:
        object.__setattr__(self, "_twice", 2 * self.known)
        object.__setattr__(self, "_squares", np.vecdot(self.known, self.known))

    @property
    def by_class(self) -> bool:
        """Whether it asks for logits."""
        return self.gaussian is None

    def measure(
        self, features: FloatArray, logits: FloatArray | None = None, surest: tuple[float, float] | None = None
    ) -> tuple[dict[Part, float], float]:
        """(scores that tell the near, squared distance to the space), of what `OodRule.score` takes."""
        if self.gaussian is not None:
            coordinates, outside = self.space.place(features)
            far = self.gaussian.distance(coordinates)
            return {"neighbour": self._find_neighbour(coordinates), "mahalanobis": far}, outside
        told: dict[Part, float] = {}
        if logits is not None:
            told["neighbour"] = self._find_neighbour(logits)
        if surest is not None:
            told["energy"], told["doubt"] = measure_energy(*surest), measure_doubt(surest[1])
        return told, self.space.measure_outside(features)

    def _find_neighbour(self, place: FloatArray) -> float:
        """The distance to the k-th nearest. Not by `@`: trust.ood says why."""
        apart = self._squares - np.vecdot(self._twice, place)
        apart.partition(self.k - 1)
        return math.sqrt(max(0.0, float(apart[self.k - 1]) + float(np.vecdot(place, place))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """How a part is made standard, and how much it counts."""

    scale: Scale
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hinge:
    """How the distance to the space is made standard, from where on it counts, and how much."""

    scale: Scale
    begins: float
    weight: float

    def apply(self, outside: float) -> float:
        """0 where it does not count."""
        return self.weight * max(0.0, self.scale.apply(outside) - self.begins)


@dataclass(frozen=True, slots=True, kw_only=True)
class OodRule:
    """How strange a picture is, from its frozen features and, where the model tells classes apart, its logits.

    Near is told by a weighted sum of standard scores. By class: energy of the calibrated logits, log of the doubt they
    leave, and the distance of the network's own logits to the k-th nearest that it gave a known picture. Else: distance
    to the k-th nearest known coordinates in the space, and Mahalanobis distance there. Far, a picture of another kind,
    is told by the distance to the space, which counts only where it is large: below, it would add noise to the rest.
    """

    surroundings: Surroundings
    parts: Mapping[Part, Near]
    near: Scale  # of the weighted sum
    far: Hinge
    total: Scale  # of both together
    # All of it multiplied out: each part's slope and where it is 0, the same of the hinge, the score where all are 0
    _slopes: Mapping[Part, tuple[float, float]] = field(init=False, repr=False, compare=False)
    _hinge: tuple[float, float] = field(init=False, repr=False, compare=False)
    _base: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        far, spread = self.far, self.total.spread
        slopes = {
            name: (part.weight / (part.scale.spread * self.near.spread * spread), part.scale.centre)
            for name, part in self.parts.items()
        }
        hinge = far.weight / (far.scale.spread * spread), far.scale.centre + far.begins * far.scale.spread
        object.__setattr__(self, "_slopes", slopes)
        object.__setattr__(self, "_hinge", hinge)
        object.__setattr__(self, "_base", self.total.apply(self.near.apply(0.0)))

    def score(
        self, features: FloatArray, logits: FloatArray | None = None, surest: tuple[float, float] | None = None
    ) -> float:
        """Any number, higher is stranger: of features (d,) and, by class, the network's logits (k,), both float32, and
        `find_surest` of these calibrated. All below 1e15. Parts that are not told count for nothing.
        """
        told, outside = self.surroundings.measure(features, logits, surest)
        slope, begins = self._hinge
        score = self._base + slope * max(0.0, outside - begins)
        for name, (slope, centre) in self._slopes.items():
            if name in told:
                score += slope * (told[name] - centre)
        return score

    def scores(
        self, features: FloatArray, logits: FloatArray | None = None, calibrated: FloatArray | None = None
    ) -> FloatArray:
        """(n,) float64: `score` of each of features (n, d), logits (n, k) and calibrated logits (n, k)."""
        rows = _list_rows(features, logits, calibrated)
        return np.array([self.score(*row) for row in rows], dtype=np.float64)


def fit_rule(
    surroundings: Surroundings, features: FloatArray, logits: FloatArray | None, calibrated: FloatArray | None
) -> OodRule:
    """The rule whose scores have mean 0 and standard deviation 1 on these pictures, none of them trained on."""
    told = [surroundings.measure(*row) for row in _list_rows(features, logits, calibrated)]
    weights = _BY_CLASS if surroundings.by_class else _BY_PLACE
    parts = {
        name: Near(scale=fit_scale(np.array([one[name] for one, _ in told])), weight=weight)
        for name, weight in weights.items()
    }
    near = [sum(part.weight * part.scale.apply(one[name]) for name, part in parts.items()) for one, _ in told]
    outside = [one for _, one in told]
    scale = fit_scale(np.array(near))
    far = Hinge(scale=fit_scale(np.array(outside)), begins=_BEGINS, weight=_FAR_WEIGHT)
    both = [scale.apply(a) + far.apply(b) for a, b in zip(near, outside, strict=True)]
    return OodRule(surroundings=surroundings, parts=parts, near=scale, far=far, total=fit_scale(np.array(both)))


_Row = tuple[FloatArray, FloatArray | None, tuple[float, float] | None]


def _list_rows(features: FloatArray, logits: FloatArray | None, calibrated: FloatArray | None) -> list[_Row]:
    nothing = [None] * len(features)
    surest = nothing if calibrated is None else [find_surest(row) for row in calibrated]
    # float32, as a network gives them in service
    given = nothing if logits is None else np.asarray(logits, dtype=np.float32)
    return list(zip(np.asarray(features, dtype=np.float32), given, surest, strict=True))
