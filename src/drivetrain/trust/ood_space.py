"""The directions in which known pictures differ, Mahalanobis distances among them, and what lies outside of them.

`fit_space` and `fit_gaussian` are for training; what they give is for serving. numpy only: serving needs this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from drivetrain.arrays import FloatArray, IntArray

__all__ = ["Gaussian", "Space", "fit_gaussian", "fit_space", "shrink_ledoit_wolf", "shrink_oas"]

_SPARE, _ROUNDS = 32, 4  # of the subspace iteration: its first 64 directions are right to 1e-3 of the variance there
_EXACT = 512  # columns up to which the eigenvectors are computed outright
_NOTHING = 1e-24  # features that add up to less have no direction
_FLOOR = 1e-9  # under a variance of rows at length 1: pictures that are all alike would have none


@dataclass(frozen=True, slots=True)
class Space:
    """`centre` (d,), and `basis` (r, d): the r orthonormal directions in which known rows differ most. float32.

    Rows are `trust.ood.normalise_roots` of features: signed square roots, at length 1.
    """

    centre: FloatArray
    basis: FloatArray
    _both: FloatArray = field(init=False, repr=False, compare=False)  # (r + 1, d): basis, and the centre's part outside
    _origin: FloatArray = field(init=False, repr=False, compare=False)  # (r,) coordinates of the centre, from the zero
    _apart: float = field(init=False, repr=False, compare=False)  # squared distance from the zero to the space

    def __post_init__(self) -> None:
        origin = np.vecdot(self.basis, self.centre)
        outside = self.centre - np.vecdot(self.basis.T, origin)
        object.__setattr__(self, "_both", np.concatenate([self.basis, outside[np.newaxis]]))
        object.__setattr__(self, "_origin", origin)
        square = np.vecdot(self.centre, self.centre, dtype=np.float64) - np.vecdot(origin, origin, dtype=np.float64)
        object.__setattr__(self, "_apart", float(square))

    def place(self, features: FloatArray) -> tuple[FloatArray, float]:
        """(coordinates (r,), squared distance to the space) of features (d,) of any length, below 1e15; all float32."""
        outside, seen, scale = self._look(features)
        return seen[:-1] * np.float32(scale) - self._origin, outside

    def measure_outside(self, features: FloatArray) -> float:
        """The squared distance to the space alone, of what `place` takes."""
        return self._look(features)[0]

    def _look(self, features: FloatArray) -> tuple[float, FloatArray, float]:
        """(squared distance to the space; products with `_both` (r + 1,); what makes them those of a row of length 1).

        With B the basis, m the centre, x a row at length 1: |x - m|^2 - |B(x - m)|^2, multiplied out.
        """
        roots = np.copysign(np.sqrt(np.abs(features)), features)
        square = float(np.vecdot(roots, roots))
        scale = 1 / math.sqrt(square) if square > _NOTHING else 0.0
        seen = np.vecdot(self._both, roots)  # not `@`: trust.ood says why
        last = float(seen[-1])
        within = float(np.vecdot(seen, seen)) - last * last
        return max(0.0, scale * scale * (square - within) - 2 * scale * last + self._apart), seen, scale

    def project(self, rows: FloatArray) -> FloatArray:
        """Coordinates (n, r) float32 of rows (n, d)."""
        return np.asarray(np.vecdot((rows - self.centre)[:, np.newaxis], self.basis))


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Classes of one shared covariance in a space of r directions; or one class, where none are told apart.

    whiten (r, r) makes the shared covariance the identity; means (c, r) are whitened. float32.
    """

    whiten: FloatArray
    means: FloatArray

    def distance(self, coordinates: FloatArray) -> float:
        """Squared Mahalanobis distance of (r,) to the nearest class. Source: Lee et al. 2018, arXiv:1807.03888.

        On normalised features: Mueller and Hein 2025, arXiv:2505.18032.
        """
        apart = self.means - np.vecdot(self.whiten, coordinates)
        return float(np.vecdot(apart, apart).min())


def fit_space(rows: FloatArray, *, rank: int) -> Space:
    """The mean of rows (n, d), and the `rank` directions of most variance about it, the most first.

    From more than 512 columns, by subspace iteration from a fixed start: seconds for tens of thousands of rows, and
    the same bytes each time. Source: Halko, Martinsson, Tropp 2011, SIAM Review 53(2), algorithm 4.4.
    """
    centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    apart = np.asarray(rows, dtype=np.float32) - centre
    n, d = apart.shape
    if d <= _EXACT:
        directions = np.eye(d, dtype=np.float32)
    else:
        start = np.random.default_rng(0).standard_normal((d, min(rank + _SPARE, n, d)), dtype=np.float32)
        directions = np.linalg.qr(start)[0]
        for _ in range(_ROUNDS):
            directions = np.linalg.qr(apart.T @ (apart @ directions))[0]
    seen = (apart @ directions).astype(np.float64)
    _, turn = np.linalg.eigh(seen.T @ seen)
    basis = (directions @ turn[:, ::-1][:, :rank]).T
    return Space(centre=centre, basis=np.ascontiguousarray(basis, dtype=np.float32))


def fit_gaussian(coordinates: FloatArray, labels: IntArray) -> Gaussian:
    """From coordinates (n, r) of known pictures about their mean, and their classes (n,) in any numbering."""
    places = np.asarray(coordinates, dtype=np.float64)
    classes, index = np.unique(labels, return_inverse=True)
    means = np.stack([places[index == at].mean(axis=0) for at in range(len(classes))])
    is_told = len(classes) < len(places)  # a picture a class: nothing tells how far they spread
    within = _shrink_safely(places - means[index] if is_told else places)
    whiten = np.linalg.inv(np.linalg.cholesky(within))  # (r, r), lower: |whiten x|^2 = x' within^-1 x
    return Gaussian(*(np.ascontiguousarray(one, dtype=np.float32) for one in (whiten, means @ whiten.T)))


def shrink_ledoit_wolf(apart: FloatArray) -> tuple[FloatArray, float]:
    """(covariance (d, d), shrinkage in [0, 1]) of rows (n, d) about their mean, shrunk to a multiple of the identity.

    Source: Ledoit and Wolf 2004, Journal of Multivariate Analysis 88(2), lemma 3.3.
    """
    n, d = apart.shape
    covariance = apart.T @ apart / n
    mean = float(np.trace(covariance)) / d
    square = float(np.square(covariance).sum())
    distance = square - d * mean**2
    error = (float(np.square(np.square(apart).sum(axis=1)).sum()) / n - square) / n
    share = 1.0 if distance <= 0 else min(1.0, max(0.0, error / distance))
    return _mix(covariance, mean, share), share


def shrink_oas(apart: FloatArray) -> tuple[FloatArray, float]:
    """As `shrink_ledoit_wolf`, for rows that are normal. Source: Chen et al. 2010, IEEE TSP 58(10), equation 23.

    As scikit-learn has it: without the terms in 2/d, which vanish for many columns.
    """
    n, d = apart.shape
    covariance = apart.T @ apart / n
    mean = float(np.trace(covariance)) / d
    square = float(np.square(covariance).mean())
    below = (n + 1) * (square - mean**2 / d)
    share = 1.0 if below <= 0 else min(1.0, (square + mean**2) / below)
    return _mix(covariance, mean, share), share


def _mix(covariance: FloatArray, mean: float, share: float) -> FloatArray:
    out: FloatArray = (1 - share) * covariance + share * mean * np.eye(len(covariance))
    return out


def _shrink_safely(apart: FloatArray) -> FloatArray:
    """Ledoit and Wolf's, with a floor under every variance, so that it can be inverted."""
    covariance, _ = shrink_ledoit_wolf(apart)
    out: FloatArray = covariance + _FLOOR * np.eye(len(covariance))
    return out
