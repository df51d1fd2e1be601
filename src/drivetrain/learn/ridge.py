"""Ridge regression in closed form: one eigendecomposition answers for every penalty, and for every picture left out.

numpy only, as `learn.head`, which says what the features are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.progress import Progress

from .head_fit import Fitted

__all__ = ["RIDGE_PENALTIES", "fit_ridge"]

# of features of mean square 1; all are answered at once, so the list is long
RIDGE_PENALTIES = tuple(float(f"{10 ** (power / 2):.2g}") for power in range(6, -10, -1))  # 1,000 ... 0.000032
_LEAST_SHARE = 1e-10  # of the largest eigenvalue: a direction below it is rounding
_TINY = float(np.finfo(np.float64).tiny)
_ROWS = 4096  # of features in float64 at a time


def fit_ridge(
    features: FloatArray,
    targets: IntArray | FloatArray,
    views: Sequence[FloatArray],
    *,
    folds: IntArray,
    are_alone: bool,
    penalties: Sequence[float],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> Fitted:
    """Minimise the mean of |target - output|^2 / 2 + penalty / 2 * |W|^2, the bias free.

    targets (n, m) are standardised for it; weights and outputs are in their own units again. features and views (n, d)
    float32. The penalty is that of the least squared error on items left out: each by itself, exactly, where
    `are_alone` (no groups) and without views; else fold by fold, and of no fold a view.
    """
    level, scale = targets.mean(axis=0, dtype=np.float64), targets.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 0, scale, 1.0)
    scaled = (targets - level) / scale
    by_item = are_alone and not views
    with progress.task("Choosing the head", total=len(penalties)) as advance:
        everything = _decompose([features, *views], [scaled] * (1 + len(views)))
        if by_item:
            outputs = everything.leave_one_out(features, scaled, penalties)
        else:
            outputs = _cross_validate(features, scaled, views, folds=folds, penalties=penalties, pool=pool)
        advance(len(penalties))
    losses = [float(np.square(scaled - output).mean()) for output in outputs]
    best = int(np.argmin(losses))
    weight = everything.solve(penalties[best]) * scale
    weight[-1] += level
    return Fitted(
        weight=weight,
        penalty=penalties[best],
        loss=losses[best],
        path=tuple(zip(penalties, losses, strict=True)),
        logits=outputs[best] * scale + level,
        n_folds=len(targets) if by_item else len(np.unique(folds)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spectrum:
    """Centred features X (n, d), and targets, by the principal directions of X."""

    n: int
    centre: FloatArray  # (d,) mean of the features
    level: FloatArray  # (m,) mean of the targets
    variances: FloatArray  # (r,) eigenvalues of X'X / n
    directions: FloatArray  # (d, r)
    cross: FloatArray  # (r, m): directions' X'Y / n

    def solve(self, penalty: float) -> FloatArray:
        """(d + 1, m), bias last."""
        slope = self.directions @ (self.cross / (self.variances + penalty)[:, np.newaxis])
        return np.vstack([slope, self.level - self.centre @ slope])

    def leave_one_out(self, features: FloatArray, targets: FloatArray, penalties: Sequence[float]) -> list[FloatArray]:
        """Outputs (n, m) for each penalty, every item's from a fit to all others: y - e / (1 - h).

        n * penalty stays as it is. Source: Golub, Heath and Wahba 1979, Technometrics 21, equation 1.3, with a column
        of ones for the free bias.
        """
        outputs: list[FloatArray] = [np.empty(targets.shape) for _ in penalties]
        for rows in _slices(len(features)):
            scores = (features[rows] - self.centre) @ self.directions  # (rows, r)
            for output, penalty in zip(outputs, penalties, strict=True):
                shrunk = 1 / (self.variances + penalty)
                errors = targets[rows] - self.level - scores @ (self.cross * shrunk[:, np.newaxis])
                leverage = 1 / self.n + np.square(scores) @ shrunk / self.n
                output[rows] = targets[rows] - errors / (1 - leverage)[:, np.newaxis]
        return outputs


def _cross_validate(
    features: FloatArray,
    targets: FloatArray,
    views: Sequence[FloatArray],
    *,
    folds: IntArray,
    penalties: Sequence[float],
    pool: ThreadPoolExecutor,
) -> list[FloatArray]:
    """Outputs (n, m) for each penalty, every item's from a fit to the other folds."""

    def judge(fold: int) -> list[FloatArray]:
        side, held = folds != fold, features[folds == fold]
        spectrum = _decompose([layer[side] for layer in (features, *views)], [targets[side]] * (1 + len(views)))
        weights = [spectrum.solve(penalty) for penalty in penalties]
        return [held @ weight[:-1] + weight[-1] for weight in weights]

    outputs: list[FloatArray] = [np.empty(targets.shape) for _ in penalties]
    names = np.unique(folds)
    for fold, answers in zip(names, pool.map(judge, names), strict=True):
        for output, answer in zip(outputs, answers, strict=True):
            output[folds == fold] = answer
    return outputs


def _decompose(layers: Sequence[FloatArray], targets: Sequence[FloatArray]) -> _Spectrum:
    """Of all rows of all layers, through the smaller of X'X (d, d) and XX' (n, n)."""
    n, d = sum(map(len, layers)), layers[0].shape[1]
    centre, level = _mean_row(layers, n), _mean_row(targets, n)
    pieces = [(layer[rows], y[rows]) for layer, y in zip(layers, targets, strict=True) for rows in _slices(len(layer))]
    if n < d:
        x: FloatArray = np.vstack([piece - centre for piece, _ in pieces])
        variances, left = np.linalg.eigh(x @ x.T / n)
        directions = x.T @ (left / np.sqrt(n * np.maximum(variances, _TINY)))
    else:
        moments = np.zeros((d, d))
        for piece, _ in pieces:
            x = piece - centre
            moments += x.T @ x
        variances, directions = np.linalg.eigh(moments / n)
    kept = variances > max(_LEAST_SHARE * float(variances[-1]), _TINY)
    variances, directions = variances[kept], directions[:, kept]
    cross = np.zeros((d, targets[0].shape[1]))
    for piece, y in pieces:
        cross += (piece - centre).T @ (y - level)
    return _Spectrum(
        n=n, centre=centre, level=level, variances=variances, directions=directions, cross=directions.T @ cross / n
    )


def _mean_row(layers: Sequence[FloatArray], n: int) -> FloatArray:
    """In float64: the features' sums are long."""
    total: FloatArray = np.sum([layer.sum(axis=0, dtype=np.float64) for layer in layers], axis=0)
    return total / n


def _slices(n: int) -> list[slice]:
    return [slice(at, at + _ROWS) for at in range(0, n, _ROWS)]
