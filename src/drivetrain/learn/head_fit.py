"""Logistic regression by L-BFGS, its penalty by cross-validation: of one class (softmax), or of each label (sigmoid).

numpy only, as `learn.head`, which says what the features are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, repeat
from typing import Any, Protocol

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.learn.curvature import Curvature, sketch_curvature
from drivetrain.learn.lbfgs import minimise
from drivetrain.progress import Progress
from drivetrain.trust.calibration import log_softmax

__all__ = ["Fitted", "SigmoidLoss", "SoftmaxLoss", "fit_logistic"]

_WORSE_IN_A_ROW = 2
# Largest gradient entry. Measured on 3,068 photographs in three orders: the held-out log-loss of the best penalty is
# right to 0.0003, and the best is that of exact fits (at 1e-3 a tie fell otherwise); no probability off by 0.002
_TOLERANCE_CV, _TOLERANCE_FINAL = 3e-4, 1e-5
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
    begin: int,
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> Fitted:
    """Minimise the mean of `loss` + penalty / 2 * |W|^2 over features (n, d), centred, and views (n, d) each.

    penalties, strongest first, are walked from `begin`: towards the weaker ones, and where none of them is better,
    towards the stronger. The folds are fitted side by side in `pool`; a fold is judged on its features alone, and
    fitted to no view of them.
    """
    order = np.argsort(folds, kind="stable")
    ends = np.cumsum(np.unique(folds, return_counts=True)[1]).tolist()
    search = _Search(
        layers=[features[order], *(view[order] for view in views)],
        targets=targets[order],
        held_out=[slice(low, high) for low, high in pairwise([0, *ends])],
        loss=loss,
        curvature=sketch_curvature(features),
    )
    tried = search.walk(class_count, penalties, begin, pool, progress)
    best = min(tried, key=lambda trial: trial.loss)
    blocks: list[_Part] = []
    for layer in search.layers:
        blocks += zip(np.array_split(layer, _BLOCKS), np.array_split(search.targets, _BLOCKS), strict=True)
    weight = _fit(
        blocks, best.weight, loss, search.curvature, penalty=best.penalty, tolerance=_TOLERANCE_FINAL, spread=pool.map
    )
    logits = np.empty_like(best.logits)
    logits[order] = best.logits
    return Fitted(
        weight=weight,
        penalty=best.penalty,
        loss=best.loss,
        path=tuple((trial.penalty, trial.loss) for trial in tried),
        logits=logits,
        n_folds=len(ends),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    penalty: float
    loss: float  # held out
    weights: Sequence[FloatArray]  # of each fold
    logits: FloatArray  # (n, k) held out, fold by fold

    @property
    def weight(self) -> FloatArray:
        """Mean of the folds': where the fit to all items begins."""
        mean: FloatArray = np.mean(self.weights, axis=0)
        return mean


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """Items fold by fold, so that what a fold is fitted to is two slices and no copy."""

    layers: Sequence[FloatArray]  # features (n, d), which folds are judged on, then views
    targets: _Targets
    held_out: Sequence[slice]  # of each fold
    loss: Loss
    curvature: Curvature

    def walk(
        self, class_count: int, penalties: Sequence[float], begin: int, pool: ThreadPoolExecutor, progress: Progress
    ) -> list[_Trial]:
        """A trial for each penalty tried, strongest first: from `begin` on until the held-out loss has clearly turned.

        Each fit starts where the one beside it ended.
        """
        parts = [self._list_parts(held) for held in self.held_out]
        with progress.task("Choosing the head", total=len(penalties)) as advance:

            def walk_on(some: Sequence[float], trials: list[_Trial]) -> None:
                worse = 0
                for penalty in some:
                    refit = partial(self._refit, penalty=penalty)
                    weights = list(pool.map(refit, parts, trials[-1].weights if trials else start))
                    trial = self._judge(weights, penalty)
                    worse = worse + 1 if trials and trial.loss > min(earlier.loss for earlier in trials) else 0
                    trials.append(trial)
                    advance(1)
                    if worse == _WORSE_IN_A_ROW:
                        break

            start = [np.zeros((self.layers[0].shape[1] + 1, class_count)) for _ in parts]
            weaker: list[_Trial] = []
            walk_on(penalties[begin:], weaker)
            stronger = weaker[:1]
            if min(weaker, key=lambda trial: trial.loss) is weaker[0]:
                walk_on(penalties[:begin][::-1], stronger)
            trials = [*stronger[:0:-1], *weaker]
            advance(len(penalties) - len(trials))
        return trials

    def _list_parts(self, held: slice) -> list[_Part]:
        """All that the fold is fitted to."""
        sides = [side for side in (slice(0, held.start), slice(held.stop, None)) if len(self.targets[side])]
        return [(layer[side], self.targets[side]) for layer in self.layers for side in sides]

    def _refit(self, parts: list[_Part], start: FloatArray, *, penalty: float) -> FloatArray:
        return _fit(parts, start, self.loss, self.curvature, penalty=penalty, tolerance=_TOLERANCE_CV, spread=map)

    def _judge(self, weights: Sequence[FloatArray], penalty: float) -> _Trial:
        logits = np.empty((len(self.targets), weights[0].shape[1]))
        total = 0.0
        for held, weight in zip(self.held_out, weights, strict=True):
            logits[held] = self.layers[0][held] @ weight[:-1].astype(np.float32) + weight[-1]
            total += self.loss.measure(logits[held], self.targets[held])
        mean = total / self.loss.count(self.targets)
        return _Trial(penalty=penalty, loss=mean, weights=weights, logits=logits)


def _fit(
    parts: Sequence[_Part],
    start: FloatArray,
    loss: Loss,
    curvature: Curvature,
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

    inverse = curvature.invert(penalty, k)
    return minimise(objective, start.ravel(), tolerance=tolerance, inverse=inverse).reshape(d + 1, k)


def _softplus(values: FloatArray) -> FloatArray:
    """log(1 + exp(x)) without overflow."""
    out: FloatArray = np.maximum(values, 0) + np.log1p(np.exp(-np.abs(values)))
    return out


def _sigmoid(values: FloatArray) -> FloatArray:
    small = np.exp(-np.abs(values))
    out: FloatArray = np.where(values >= 0, 1, small) / (1 + small)
    return out
