"""The head: multinomial logistic regression on the root of cached features, its penalty chosen by cross-validation.

numpy only: `train --method head` on an exported trunk must not pay for torch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.learn.lbfgs import minimise
from drivetrain.progress import Progress
from drivetrain.trust.calibration import log_softmax

__all__ = ["PENALTIES", "Head", "deal_folds", "embed_features", "find_tied", "fit_head"]

# strongest first: each fit starts where the last one ended, and the walk stops once the loss has turned upward
PENALTIES = (1.0, 0.3, 0.12, 0.06, 0.03, 0.015, 0.007, 0.003, 0.001, 0.0003)
_WORSE_IN_A_ROW = 2
# Largest gradient entry. Measured on 3,068 photographs: log-loss right to three digits; no probability off by 0.001
_TOLERANCE_CV, _TOLERANCE_FINAL = 1e-3, 1e-5
_BLOCKS = 4  # of rows in the final fit; fixed, so that its sums do not depend on the number of threads

_Part = tuple[FloatArray, IntArray]  # features (n, d) and labels (n,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """logits = embed_features(frozen) @ weight.T + bias; what was learned about the features' scale is folded in."""

    weight: FloatArray  # (k, d) float32
    bias: FloatArray  # (k,) float32
    penalty: float
    cv_log_loss: float
    cv_accuracy: float
    cv_folds: int
    cv_path: tuple[tuple[float, float], ...]  # (penalty, log-loss) of every strength tried

    def logits(self, frozen: FloatArray) -> FloatArray:
        """Frozen features (n, d) -> (n, k)."""
        out: FloatArray = embed_features(frozen) @ self.weight.T + self.bias
        return out


def embed_features(frozen: FloatArray) -> FloatArray:
    """sign(x) * sqrt(|x|), float32: rare strong features no longer drown the many weak ones.

    Measured, 10 classes of clothing photographs, 5-fold within the training pictures: log-loss 0.337 -> 0.318, accuracy
    +0.4 points against the features as they are. Source: Tukey's ladder, as in Yang et al. 2021, arXiv:2101.06395.
    """
    values = np.asarray(frozen, dtype=np.float32)
    out: FloatArray = np.sign(values) * np.sqrt(np.abs(values))
    return out


def fit_head(
    features: FloatArray,
    labels: IntArray,
    *,
    class_count: int,
    threads: int,
    progress: Progress,
    groups: IntArray | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> Head:
    """Fit on frozen features (n, d) float32 and labels (n,) in [0, k), the folds side by side on `threads` threads.

    Items must come in an order that says nothing about them (shuffled by seed): folds are dealt from it, class by
    class, items of one of the `groups` (n,) together, or the penalty would be chosen on pictures that were seen.
    Minimised is mean log-loss + penalty / 2 * |W|^2, on embedded features centred and of mean square 1.
    """
    if len(labels) != len(features) or len(np.unique(labels)) < 2:
        got = f"{len(features)} features, {len(labels)} labels of {len(np.unique(labels))} classes"
        raise InvalidInput("training set", got=got, want="a label each, of two classes or more")
    scaled = embed_features(features)
    centre = scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
    scaled -= centre
    spread = float(np.sqrt(np.mean(np.square(scaled), dtype=np.float64))) or 1.0
    scaled /= np.float32(spread)
    folds = deal_folds(labels, count=5 if len(labels) < 2000 else 3, groups=groups)
    # One BLAS thread a fit: the folds fill the cores, and sums come out the same however many there are.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        tried = _cross_validate(scaled, labels, class_count, folds, penalties, pool, progress)
        best = min(tried, key=lambda trial: trial.log_loss)
        blocks = list(zip(np.array_split(scaled, _BLOCKS), np.array_split(labels, _BLOCKS), strict=True))
        weight = _fit(blocks, best.weight, penalty=best.penalty, tolerance=_TOLERANCE_FINAL, spread=pool.map)
    slope = (weight[:-1] / spread).T  # (k, d)
    return Head(
        weight=slope.astype(np.float32),
        bias=(weight[-1] - slope @ centre).astype(np.float32),
        penalty=best.penalty,
        cv_log_loss=best.log_loss,
        cv_accuracy=best.accuracy,
        cv_folds=int(folds.max()) + 1,
        cv_path=tuple((trial.penalty, trial.log_loss) for trial in tried),
    )


def deal_folds(labels: IntArray, *, count: int, groups: IntArray | None = None) -> IntArray:
    """A fold in [0, count) for each item, dealt like cards within each class, so that folds are alike.

    Items of one of the `groups` (n,) are dealt as one; None is a group each. The largest come first, each to the fold
    that has the fewest of its class, of those to the one that has the fewest items. A group of a class that
    `find_tied` names is parted, for else no fold could be fitted to the class and another judge it. Raises
    InvalidInput where the lengths differ.
    """
    _check_groups(labels, groups)
    dealt = [[0] * count for _ in range(int(labels.max(initial=-1)) + 1)]  # items by class and fold
    sizes = [0] * count
    folds = np.empty(len(labels), dtype=np.int64)
    for rows in _list_pieces(labels, groups):
        weights = Counter(labels[rows].tolist())
        cost = [sum(n * dealt[label][fold] for label, n in weights.items()) for fold in range(count)]
        fold = min(range(count), key=lambda one: (cost[one], sizes[one]))
        folds[rows] = fold
        sizes[fold] += len(rows)
        for label, n in weights.items():
            dealt[label][fold] += n
    return folds


def find_tied(labels: IntArray, groups: IntArray | None) -> tuple[int, ...]:
    """Classes of several items that are all of one group: whoever keeps it together cannot part the class."""
    if groups is None:
        return ()
    _check_groups(labels, groups)
    _, numbers = np.unique(groups, return_inverse=True)
    n_groups = int(numbers.max(initial=0)) + 1
    groups_of = np.bincount(
        np.unique(labels * n_groups + numbers) // n_groups
    )  # each class once for each of its groups
    return tuple(np.flatnonzero((np.bincount(labels) > 1) & (groups_of == 1)).tolist())


def _check_groups(labels: IntArray, groups: IntArray | None) -> None:
    if groups is not None and len(groups) != len(labels):
        raise InvalidInput("groups", got=f"{len(groups)} of {len(labels)} items", want="a group for each item")


def _list_pieces(labels: IntArray, groups: IntArray | None) -> list[list[int]]:
    """Rows to be dealt together: the largest first, then by class, then as given."""
    if groups is None:
        groups = np.arange(len(labels))
    tied = find_tied(labels, groups)
    is_parted = np.isin(groups, groups[np.isin(labels, tied)])
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, (group, alone) in enumerate(zip(groups.tolist(), is_parted.tolist(), strict=True)):
        members[group, row if alone else -1].append(row)
    return sorted(members.values(), key=lambda rows: (-len(rows), labels[rows[0]], rows[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    penalty: float
    log_loss: float  # held out
    accuracy: float  # held out
    weight: FloatArray  # mean of the folds' weights: where the fit to all items begins


def _cross_validate(
    features: FloatArray,
    labels: IntArray,
    class_count: int,
    folds: IntArray,
    penalties: Sequence[float],
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> list[_Trial]:
    """A trial for each penalty, from the strongest, until the held-out loss has clearly turned."""
    held_out = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    sides = [np.flatnonzero(folds != fold) for fold in np.unique(folds)]
    parts = [(features[side], labels[side]) for side in sides]
    weights = [np.zeros((features.shape[1] + 1, class_count)) for _ in parts]
    trials: list[_Trial] = []
    worse = 0
    with progress.task("Choosing the head", total=len(penalties)) as advance:
        for penalty in penalties:
            weights = list(pool.map(_refit, parts, weights, repeat(penalty)))
            loss, right = 0.0, 0
            for held, weight in zip(held_out, weights, strict=True):
                log_probs = log_softmax(features[held] @ weight[:-1].astype(np.float32) + weight[-1])
                loss -= float(log_probs[np.arange(len(held)), labels[held]].sum())
                right += int((log_probs.argmax(axis=1) == labels[held]).sum())
            n = len(labels)
            worse = worse + 1 if trials and loss / n > min(trial.log_loss for trial in trials) else 0
            trials.append(
                _Trial(penalty=penalty, log_loss=loss / n, accuracy=right / n, weight=np.mean(weights, axis=0))
            )
            advance(1)
            if worse == _WORSE_IN_A_ROW:
                break
        advance(len(penalties) - len(trials))
    return trials


def _refit(part: _Part, start: FloatArray, penalty: float) -> FloatArray:
    return _fit([part], start, penalty=penalty, tolerance=_TOLERANCE_CV, spread=map)


def _fit(
    parts: Sequence[_Part], start: FloatArray, *, penalty: float, tolerance: float, spread: Callable[..., Iterable[Any]]
) -> FloatArray:
    """The weights (d + 1, k), bias last and not penalised, at the minimum of the convex objective; L-BFGS.

    parts are the rows in blocks, `spread` is `map` or a pool's; sums are taken in the order of the blocks.
    """
    n = sum(len(labels) for _, labels in parts)
    d, k = start.shape[0] - 1, start.shape[1]

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        weight = flat.reshape(d + 1, k)
        slope, bias = weight[:-1].astype(np.float32), weight[-1].astype(np.float32)
        loss, gradient = 0.0, np.zeros_like(weight)
        for part_loss, slope_gradient, bias_gradient in spread(_differentiate, parts, repeat(slope), repeat(bias)):
            loss += part_loss
            gradient[:-1] += slope_gradient
            gradient[-1] += bias_gradient
        gradient /= n
        gradient[:-1] += penalty * weight[:-1]
        return loss / n + 0.5 * penalty * float(np.square(weight[:-1]).sum()), gradient.ravel()

    return minimise(objective, start.ravel(), tolerance=tolerance).reshape(d + 1, k)


def _differentiate(part: _Part, slope: FloatArray, bias: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Summed log-loss of one block of rows, and its gradient by slope (d, k) and by bias (k,)."""
    x, y = part
    rows = np.arange(len(y))
    logits = x @ slope + bias  # (n, k)
    logits -= logits.max(axis=1, keepdims=True)
    true = logits[rows, y]
    probs = np.exp(logits, out=logits)
    total = probs.sum(axis=1, keepdims=True)
    loss = float((np.log(total[:, 0]) - true).sum(dtype=np.float64))
    probs /= total
    probs[rows, y] -= 1.0
    return loss, x.T @ probs, probs.sum(axis=0)
