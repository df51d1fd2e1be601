"""One score from several: what a bundle keeps of the pictures it knows, and how strange another is to it.

numpy only: serving needs this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from drivetrain.arrays import FloatArray

from .ood import kth_distance, log_doubt, measure_energy, normalise_roots
from .ood_space import Gaussian, Space

__all__ = ["Hinge", "Near", "OodRule", "Part", "Scale", "Surroundings", "fit_rule", "fit_scale"]

Part = Literal["energy", "doubt", "neighbour", "mahalanobis"]

# Chosen by leaving out five classes of clothing in turn, reported on the other five: docs/unknown.md
_WEIGHTS: Mapping[Part, float] = {"energy": 1.0, "doubt": 0.5, "neighbour": 0.5, "mahalanobis": 0.25}
_BEGINS, _FAR_WEIGHT = 2.5, 2.0

_AT_ONCE = 512  # rows: a block of distances stays within some MB


@dataclass(frozen=True, slots=True)
class Scale:
    """What makes numbers standard: (x - centre) / spread; `spread` is above 0."""

    centre: float
    spread: float

    def apply(self, values: FloatArray) -> FloatArray:
        """(n,) -> (n,)."""
        out: FloatArray = (values - self.centre) / self.spread
        return out


def fit_scale(values: FloatArray) -> Scale:
    """Mean and standard deviation of (n,); where all are alike, up to rounding, the spread is 1."""
    centre, spread = float(values.mean()), float(values.std())
    return Scale(centre, spread if spread > 1e-6 * max(1.0, abs(centre)) else 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where the known pictures lie."""

    space: Space
    gaussian: Gaussian
    known: FloatArray  # (m, r) float32: their coordinates, or those of some of them
    k: int
    squares: FloatArray = field(init=False, repr=False, compare=False)  # (m,) of the lengths of `known`

    def __post_init__(self) -> None:
        object.__setattr__(self, "squares", np.vecdot(self.known, self.known))

    def measure(self, features: FloatArray, logits: FloatArray | None) -> tuple[dict[Part, FloatArray], FloatArray]:
        """(scores that tell the near, squared distance to the space), each (n,), of features (n, d).

        Calibrated logits (n, k), or None where no classes are told apart: then there is neither energy nor doubt, and
        the Mahalanobis distance is the absolute one.
        """
        nearest, mahalanobis, outside = (np.empty(len(features)) for _ in range(3))
        for start in range(0, len(features), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            coordinates, outside[rows] = self.space.project(normalise_roots(features[rows]))
            nearest[rows] = kth_distance(coordinates, self.known, k=self.k, squares=self.squares)
            to_class, to_all = self.gaussian.distances(coordinates)
            mahalanobis[rows] = to_class if logits is None else to_class - to_all
        parts: dict[Part, FloatArray] = {"neighbour": nearest, "mahalanobis": mahalanobis}
        if logits is not None:
            parts |= {"energy": measure_energy(logits), "doubt": log_doubt(logits)}
        return parts, outside


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

    def apply(self, outside: FloatArray) -> FloatArray:
        """(n,) -> (n,), 0 where it does not count."""
        out: FloatArray = self.weight * np.maximum(0.0, self.scale.apply(outside) - self.begins)
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class OodRule:
    """How strange a picture is, from its frozen features and, where it tells classes apart, its calibrated logits.

    Roots of the features at length 1 have coordinates in the space of the known pictures, and a distance to it. Near is
    told by a weighted sum of standard scores: energy of the logits, log of the doubt they leave, distance to the k-th
    nearest known coordinates, Mahalanobis distance (relative where there are classes). Far, a picture of another kind,
    is told by the distance to the space, which counts only where it is large: below, it would add noise to the rest.
    """

    surroundings: Surroundings
    parts: Mapping[Part, Near]
    near: Scale  # of the weighted sum
    far: Hinge
    total: Scale  # of both together

    @property
    def has_classes(self) -> bool:
        """Whether it asks for logits."""
        return not self.parts.keys().isdisjoint(("energy", "doubt"))

    def scores(self, features: FloatArray, logits: FloatArray | None = None) -> FloatArray:
        """(n,) float64, any number, higher is stranger: of features (n, d), calibrated logits (n, k)."""
        told, outside = self.surroundings.measure(features, logits if self.has_classes else None)
        near = self.near.apply(_add(told, self.parts))
        return self.total.apply(near + self.far.apply(outside))


def fit_rule(surroundings: Surroundings, features: FloatArray, logits: FloatArray | None) -> OodRule:
    """The rule whose scores have mean 0 and standard deviation 1 on these pictures, none of them trained on."""
    told, outside = surroundings.measure(features, logits)
    parts = {name: Near(scale=fit_scale(told[name]), weight=_WEIGHTS[name]) for name in _WEIGHTS if name in told}
    near = _add(told, parts)
    scale = fit_scale(near)
    far = Hinge(scale=fit_scale(outside), begins=_BEGINS, weight=_FAR_WEIGHT)
    total = fit_scale(scale.apply(near) + far.apply(outside))
    return OodRule(surroundings=surroundings, parts=parts, near=scale, far=far, total=total)


def _add(told: Mapping[Part, FloatArray], parts: Mapping[Part, Near]) -> FloatArray:
    # what is not told, energy without logits, is left out: a stranger's manifest may ask for it
    counted = [part.weight * part.scale.apply(told[name]) for name, part in parts.items() if name in told]
    out: FloatArray = np.sum(counted, axis=0)
    return out
