"""How steep the loss of a linear model is, and in which directions: known from its features before anything is fitted.

The mean of one feature says what many others say too, so a few directions are hundreds of times as steep as the rest,
and a search that has to find them out takes hundreds of steps.
Measured, 3,068 photographs, 2,688 features, 10 classes: a path of seven penalties takes 53 looks at the features
instead of 106, the last fit 52 instead of 160 to 200, and ends as near to the optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray

__all__ = ["Curvature", "sketch_curvature"]

_RANK = 32  # directions; with 128 the path takes as many looks, and the sketch three times as long
_SPARE = 16  # columns of the sketch that are not kept
_TYPICAL = 0.05  # p (1 - p) of a usual item; between 0.02 and 0.1 the looks are as many
_ROWS = 512  # at a time; fixed, so that sums do not depend on the number of threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Curvature:
    """The principal directions of features (n, d), those of the largest mean squares."""

    directions: FloatArray  # (d, r) float32
    mean_squares: FloatArray  # (r,) float64, falling

    def invert(self, penalty: float, class_count: int) -> Callable[[FloatArray], FloatArray]:
        """Gradient of weights (d + 1, k), bias last, all as one row -> about the step to where it is zero."""
        steep = _TYPICAL * np.maximum(self.mean_squares, np.finfo(np.float32).tiny)
        rest = 1 / (steep[-1] + penalty)  # what is not known is as steep as the last that is
        more = (1 / (steep + penalty) - rest)[:, np.newaxis]

        def apply(gradient: FloatArray) -> FloatArray:
            rows = gradient.reshape(-1, class_count)
            slope = rows[:-1].astype(np.float32)
            step = np.empty_like(rows)
            step[:-1] = rest * rows[:-1] + self.directions @ (more * (self.directions.T @ slope)).astype(np.float32)
            step[-1] = rows[-1] / _TYPICAL
            return step.ravel()

        return apply


def sketch_curvature(features: FloatArray) -> Curvature:
    """Of features (n, d) float32, centred; about right is enough, as it says how fast a fit goes and not where it ends.

    Source: Halko, Martinsson and Tropp 2011, SIAM Review 53, algorithm 4.4, with one power iteration.
    """
    n, d = features.shape
    columns = min(_RANK + _SPARE, d)
    moved = np.random.default_rng(0).standard_normal((d, columns), dtype=np.float32)
    basis = moved
    for _ in range(2):
        basis, _ = np.linalg.qr(moved)
        moved = np.zeros_like(basis)
        for start in range(0, n, _ROWS):
            rows = features[start : start + _ROWS]
            moved += rows.T @ (rows @ basis)
        moved /= n
    small = basis.T @ moved  # X'X / n by the basis
    mean_squares, turn = np.linalg.eigh((small + small.T) / 2)
    kept = slice(None, -min(_RANK, columns) - 1, -1)  # the largest come last
    return Curvature(
        directions=np.ascontiguousarray((basis @ turn)[:, kept]), mean_squares=mean_squares[kept].astype(np.float64)
    )
