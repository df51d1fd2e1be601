"""Logistic regression by L-BFGS, its penalty by cross-validation: of one class (softmax), or of each label (sigmoid).

numpy only, as `learn.head`, which says what the features are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, Protocol

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.learn.lbfgs import minimise
from drivetrain.progress import Progress
from drivetrain.trust.calibration import log_softmax

__all__ = ["Fitted", "SigmoidLoss", "SoftmaxLoss", "fit_logistic"]

_WORSE_IN_A_ROW = 2
# Largest gradient entry. Measured on 3,068 photographs: log-loss right to three digits; no probability off by 0.001
_TOLERANCE_CV, _TOLERANCE_FINAL = 1e-3, 1e-5
_BLOCKS = 4  # of rows in the final fit; fixed, so that its sums do not depend on the number of threads

_Targets = Any  # labels int64 (n,), or float32 (n, k)
_Part = tuple[FloatArray, _Targets]  # features (n, d) and their targets
_Gradients = tuple[float, FloatArray, FloatArray]  # summed loss of a part; by slope (d, k); by bias (k,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a search for the penalty ended with."""

    weight: FloatArray  # (d + 1, k) float64, bias last, for the features as they were given
    penalty: float
    loss: float  # held out
    path: tuple[tuple[float, float], ...]  # (penalty, loss) of every strength tried
    logits: FloatArray  # (n, k) held out, in the order given
    n_folds: int


class Loss(Protocol):
    """What is summed over items, and how much each counts."""

    def differentiate(self, part: _Part, slope: FloatArray, bias: FloatArray) -> _Gradients: ...

    def measure(self, logits: FloatArray, targets: _Targets) -> float:
        """The sum over items, for logits (n, k)."""
        ...

    def count(self, targets: _Targets) -> float:
        """What the sum is divided by."""
        ...


@dataclass(frozen=True, slots=True)
class SoftmaxLoss:
    """Log-loss of the one true class; weights (k,) count items by their class, None all alike."""

    weights: FloatArray | None = None

    def differentiate(self, part: _Part, slope: FloatArray, bias: FloatArray) -> _Gradients:
        x, y = part
        rows = np.arange(len(y))
        logits = x @ slope + bias  # (n, k)
        logits -= logits.max(axis=1, keepdims=True)
        true = logits[rows, y]
        probs = np.exp(logits, out=logits)
        total = probs.sum(axis=1, keepdims=True)
        losses = np.log(total[:, 0]) - true
        probs /= total
        probs[rows, y] -= 1.0
        if self.weights is not None:
            by_item = self.weights[y].astype(np.float32)
            losses *= by_item
            probs *= by_item[:, np.newaxis]
        return float(losses.sum(dtype=np.float64)), x.T @ probs, probs.sum(axis=0)

    def measure(self, logits: FloatArray, targets: _Targets) -> float:
        losses = log_softmax(logits)[np.arange(len(targets)), targets]
        return -float((losses if self.weights is None else losses * self.weights[targets]).sum())

    def count(self, targets: _Targets) -> float:
        return len(targets) if self.weights is None else float(self.weights[targets].sum())


@dataclass(frozen=True, slots=True)
class SigmoidLoss:
    """Log-loss of each label by itself; weights (k,) count the items that have a label.

    Fitted is the sum over labels, so that each label is a regression of its own, told is their mean.
    """

    weights: FloatArray | None = None

    def differentiate(self, part: _Part, slope: FloatArray, bias: FloatArray) -> _Gradients:
        x, y = part
        logits = x @ slope + bias  # (n, k)
        weights = self._by_entry(y)
        loss = float((weights * _softplus(np.where(y > 0.5, -logits, logits))).sum(dtype=np.float64))
        errors = (weights * (_sigmoid(logits) - y)).astype(x.dtype)
        return loss, x.T @ errors, errors.sum(axis=0)

    def measure(self, logits: FloatArray, targets: _Targets) -> float:
        wrong_way = np.where(targets > 0.5, -logits, logits)
        return float((self._by_entry(targets) * _softplus(wrong_way)).mean(axis=1, dtype=np.float64).sum())

    def count(self, targets: _Targets) -> float:
        return len(targets)

    def _by_entry(self, targets: FloatArray) -> Any:
        return np.float32(1) if self.weights is None else np.where(targets > 0.5, self.weights, 1).astype(np.float32)


def fit_logistic(
    features: FloatArray,
    targets: _Targets,
    views: Iterable[FloatArray],
    *,
    loss: Loss,
    class_count: int,
    folds: IntArray,
    penalties: Sequence[float],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> Fitted:
    """Minimise the mean of `loss` + penalty / 2 * |W|^2 over features (n, d) and views (n, d) each.

    The folds are fitted side by side in `pool`; a fold is judged on its features alone, and fitted to no view of them.
    """
    order = np.argsort(folds, kind="stable")
    search = _Search(
        features=features,
        targets=targets,
        views=[view[order] for view in views],
        view_targets=targets[order],
        folds=folds,
        loss=loss,
    )
    tried = search.walk(class_count, penalties, pool, progress)
    best = min(tried, key=lambda trial: trial.loss)
    blocks = list(zip(np.array_split(features, _BLOCKS), np.array_split(targets, _BLOCKS), strict=True))
    for view in search.views:
        blocks += zip(np.array_split(view, _BLOCKS), np.array_split(search.view_targets, _BLOCKS), strict=True)
    weight = _fit(blocks, best.weight, loss, penalty=best.penalty, tolerance=_TOLERANCE_FINAL, spread=pool.map)
    return Fitted(
        weight=weight,
        penalty=best.penalty,
        loss=best.loss,
        path=tuple((trial.penalty, trial.loss) for trial in tried),
        logits=best.logits,
        n_folds=len(np.unique(folds)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    penalty: float
    loss: float  # held out
    weight: FloatArray  # mean of the folds' weights: where the fit to all items begins
    logits: FloatArray  # (n, k) held out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    features: FloatArray  # (n, d)
    targets: _Targets
    views: Sequence[FloatArray]  # (n, d) each, fold by fold: what a fold is fitted to is two slices and no copy
    view_targets: _Targets
    folds: IntArray
    loss: Loss

    def walk(
        self, class_count: int, penalties: Sequence[float], pool: ThreadPoolExecutor, progress: Progress
    ) -> list[_Trial]:
        """A trial for each penalty, from the strongest, until the held-out loss has clearly turned."""
        held_out = [np.flatnonzero(self.folds == fold) for fold in np.unique(self.folds)]
        parts = [self._list_parts(fold) for fold in np.unique(self.folds)]
        weights = [np.zeros((self.features.shape[1] + 1, class_count)) for _ in parts]
        trials: list[_Trial] = []
        worse = 0
        with progress.task("Choosing the head", total=len(penalties)) as advance:
            for penalty in penalties:
                refit = partial(self._refit, penalty=penalty)
                weights = list(pool.map(refit, parts, weights))
                trial = self._judge(held_out, weights, penalty)
                worse = worse + 1 if trials and trial.loss > min(earlier.loss for earlier in trials) else 0
                trials.append(trial)
                advance(1)
                if worse == _WORSE_IN_A_ROW:
                    break
            advance(len(penalties) - len(trials))
        return trials

    def _list_parts(self, fold: int) -> list[_Part]:
        """All that the fold is fitted to."""
        side = np.flatnonzero(self.folds != fold)
        parts = [(self.features[side], self.targets[side])]
        low, high = int((self.folds < fold).sum()), int((self.folds <= fold).sum())
        for view in self.views:
            parts += [(view[rows], self.view_targets[rows]) for rows in (slice(0, low), slice(high, None))]
        return parts

    def _refit(self, parts: list[_Part], start: FloatArray, *, penalty: float) -> FloatArray:
        return _fit(parts, start, self.loss, penalty=penalty, tolerance=_TOLERANCE_CV, spread=map)

    def _judge(self, held_out: Sequence[IntArray], weights: Sequence[FloatArray], penalty: float) -> _Trial:
        logits = np.empty((len(self.folds), weights[0].shape[1]))
        total = 0.0
        for held, weight in zip(held_out, weights, strict=True):
            logits[held] = self.features[held] @ weight[:-1].astype(np.float32) + weight[-1]
            total += self.loss.measure(logits[held], self.targets[held])
        mean = total / self.loss.count(self.targets)
        return _Trial(penalty=penalty, loss=mean, weight=np.mean(weights, axis=0), logits=logits)


def _fit(
    parts: Sequence[_Part],
    start: FloatArray,
    loss: Loss,
    *,
    penalty: float,
    tolerance: float,
    spread: Callable[..., Iterable[Any]],
) -> FloatArray:
    """The weights (d + 1, k), bias last and not penalised, at the minimum of the convex objective; L-BFGS.

    parts are the rows in blocks, `spread` is `map` or a pool's; sums are taken in the order of the blocks.
    """
    n = sum(loss.count(targets) for _, targets in parts)
    d, k = start.shape[0] - 1, start.shape[1]

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        weight = flat.reshape(d + 1, k)
        slope, bias = weight[:-1].astype(np.float32), weight[-1].astype(np.float32)
        total, gradient = 0.0, np.zeros_like(weight)
        for part_loss, slope_gradient, bias_gradient in spread(loss.differentiate, parts, repeat(slope), repeat(bias)):
            total += part_loss
            gradient[:-1] += slope_gradient
            gradient[-1] += bias_gradient
        gradient /= n
        gradient[:-1] += penalty * weight[:-1]
        return total / n + 0.5 * penalty * float(np.square(weight[:-1]).sum()), gradient.ravel()

    return minimise(objective, start.ravel(), tolerance=tolerance).reshape(d + 1, k)


def _softplus(values: FloatArray) -> FloatArray:
    """log(1 + exp(x)) without overflow."""
    out: FloatArray = np.maximum(values, 0) + np.log1p(np.exp(-np.abs(values)))
    return out


def _sigmoid(values: FloatArray) -> FloatArray:
    small = np.exp(-np.abs(values))
    out: FloatArray = np.where(values >= 0, 1, small) / (1 + small)
    return out
