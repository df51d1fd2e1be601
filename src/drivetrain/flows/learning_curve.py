""" "Do I need more data?": the head fitted to parts of the training pictures, and judged on those left out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from threadpoolctl import threadpool_limits

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.targets import find_strata
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.learn.folds import deal_folds
from drivetrain.learn.head import fit_head, scale_features
from drivetrain.learn.head_fit import SigmoidLoss, SoftmaxLoss
from drivetrain.learn.head_targets import ClassWeights, check_targets, weigh_classes
from drivetrain.learn.lbfgs import minimise
from drivetrain.progress import Progress
from drivetrain.task import Task
from drivetrain.trust.compare import SCORE_NAMES, score_pictures
from drivetrain.trust.learning_curve import LearningCurve, fit_learning_curve

__all__ = ["FRACTIONS", "learning_curve"]

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
_FOLDS = 5
_LEAST = 20  # pictures: a quarter of them, less a fold, are four
_TOLERANCE = 1e-3  # of the fit, as in the head's own search; 4e-3 made the accuracy 0.3 points worse


def learning_curve(
    features: FloatArray,
    targets: IntArray | FloatArray,
    *,
    task: Task,
    groups: IntArray | None,
    class_count: int,
    threads: int,
    progress: Progress,
    seed: int,
    classes: Sequence[str] | None = None,
    penalty: float | None = None,
    class_weights: ClassWeights = None,
    blocks: Sequence[int] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 3,
) -> LearningCurve:
    """The head's score by number of training pictures, and what twice as many would bring.

    features (n, d) are frozen ones, targets and blocks as in `fit_head`. Every picture is judged at every size, by a
    head that saw neither it nor its group: `repeats` times 5 folds are dealt, and of the other four folds nested parts
    are taken, alike in classes and of whole groups. `penalty` is the head's own (None: chosen here once); a part of m
    of n pictures gets penalty * n / m, one prior whatever the size. (Kept as it is, it made small parts of textile
    pictures look 1.6 points worse, and told of gains that were none; on clothing photographs all was one.)
    Same seed, same curve, whatever `threads`. Raises InvalidInput, InvalidConfig.
    """
    _check(features, groups, fractions, repeats)
    check_targets(features, targets, task=task, class_count=class_count)
    names = [str(number) for number in range(class_count)] if classes is None else list(classes)
    if penalty is None:
        penalty = fit_head(
            features, targets, task=task, class_count=class_count, threads=threads, progress=progress, groups=groups,
            class_weights=class_weights, blocks=blocks,
        ).penalty  # fmt: skip
    strata = find_strata(targets, task=task)
    weights = weigh_classes(class_weights, targets, task=task, class_count=class_count)
    trial = _Trial(
        features=scale_features(features, blocks)[0],  # the penalty speaks of such features
        targets=targets,
        task=task,
        penalty=penalty,
        n_outputs=class_count,
        weights=weights,
    )
    losses, class_losses, sizes = [], np.zeros((len(fractions), len(features), class_count), dtype=np.float32), []
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads) as pool,
        progress.task("Learning from parts", total=repeats * _FOLDS) as advance,
    ):
        for repeat in range(repeats):
            jobs = _deal(strata, groups, fractions, np.random.default_rng([seed, repeat]), task=task)
            logits = np.empty((len(fractions), len(features), class_count), dtype=np.float32)
            for job, answers in zip(jobs, pool.map(trial.judge, jobs), strict=True):
                logits[:, job.held] = answers
                advance(1)
            sizes.append(np.mean([job.sizes for job in jobs], axis=0))
            losses.append(_lose(logits, targets, task))
            class_losses += _lose_by_class(logits, targets, task) / np.float32(repeats)
    return fit_learning_curve(
        np.stack(losses),
        [round(size) for size in np.mean(sizes, axis=0)],
        score=SCORE_NAMES[task],
        is_share=task != "regression",
        groups=groups,
        class_losses=None if task == "regression" else class_losses,
        classes=names,
        seed=seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One fold: who is judged, and who is learned from, in an order whose beginnings are the parts."""

    held: IntArray
    side: IntArray
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    features: FloatArray  # (n, d), scaled
    targets: IntArray | FloatArray
    task: Task
    penalty: float
    n_outputs: int
    weights: FloatArray | None

    def judge(self, job: _Job) -> FloatArray:
        """Logits (s, held, k) of the pictures held out, learned from each of the parts."""
        x, y = self.features[job.side], self.targets[job.side]
        weight = np.zeros((x.shape[1] + 1, self.n_outputs))
        answers = []
        for m in job.sizes:
            penalty = self.penalty * len(y) / m
            weight = self._fit(x[:m], y[:m], penalty, start=weight)  # the smaller part's weights are a good start
            answers.append(self.features[job.held] @ weight[:-1].astype(np.float32) + weight[-1])
        return np.stack(answers)

    def _fit(self, x: FloatArray, y: IntArray | FloatArray, penalty: float, *, start: FloatArray) -> FloatArray:
        """The weights (d + 1, k), bias last, at the minimum of what `fit_head` minimises."""
        if self.task == "regression":
            return _fit_ridge(x, np.asarray(y, dtype=np.float64), penalty)
        loss = SoftmaxLoss(self.weights) if self.task == "classification" else SigmoidLoss(self.weights)
        count = loss.count(y)

        def objective(flat: FloatArray) -> tuple[float, FloatArray]:
            weight = flat.reshape(start.shape)
            slope, bias = weight[:-1].astype(np.float32), weight[-1].astype(np.float32)
            total, by_slope, by_bias = loss.differentiate((x, y), slope, bias)
            gradient = np.vstack([by_slope / count + penalty * weight[:-1], by_bias / count])
            return total / count + 0.5 * penalty * float(np.square(weight[:-1]).sum()), gradient.ravel()

        return minimise(objective, start.ravel(), tolerance=_TOLERANCE).reshape(start.shape)


def _fit_ridge(x: FloatArray, y: FloatArray, penalty: float) -> FloatArray:
    """Of mean |y - output|^2 / 2 + penalty / 2 * |W|^2 on standardised y, through the smaller of X'X and XX'."""
    m = len(x)
    centre, level = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    away, errors = x - centre, y - level
    if m < x.shape[1]:
        slope = away.T @ np.linalg.solve(away @ away.T + m * penalty * np.eye(m), errors)
    else:
        slope = np.linalg.solve(away.T @ away + m * penalty * np.eye(x.shape[1]), away.T @ errors)
    return np.vstack([slope, level - centre @ slope])


def _deal(
    strata: IntArray, groups: IntArray | None, fractions: Sequence[float], rng: np.random.Generator, *, task: Task
) -> list[_Job]:
    """The folds of one repeat, and for each the parts of the others."""
    n = len(strata)
    shuffled = rng.permutation(n)
    folds = np.empty(n, dtype=np.int64)
    folds[shuffled] = deal_folds(
        strata[shuffled],
        count=_FOLDS,
        groups=None if groups is None else groups[shuffled],
        part_tied=task != "regression",
    )
    if np.ptp(folds) == 0:
        want = "two groups or more: a group is learned from or judged, never both"
        raise InvalidInput("groups", got=f"{n} pictures of one group", want=want)
    pieces = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    jobs = []
    for fold in np.unique(folds):
        side = np.flatnonzero(folds != fold)
        place = _place_pieces(strata[side], pieces[side], rng)
        order = np.lexsort((pieces[side], place))
        jobs.append(
            _Job(
                held=np.flatnonzero(folds == fold),
                side=side[order],
                sizes=tuple(int((place < fraction - 1e-9).sum()) for fraction in fractions),
            )
        )
    return jobs


def _place_pieces(strata: IntArray, pieces: IntArray, rng: np.random.Generator) -> FloatArray:
    """For each row a place in [0, 1), one for all of a piece: the share of its stratum that is drawn before it."""
    _, first, piece_of, sizes = np.unique(pieces, return_index=True, return_inverse=True, return_counts=True)
    shuffled = rng.permutation(len(first))
    by_stratum = shuffled[np.argsort(strata[first][shuffled], kind="stable")]
    own = strata[first][by_stratum]
    until = np.cumsum(sizes[by_stratum])
    start = until - sizes[by_stratum]
    _, begins, which = np.unique(own, return_index=True, return_inverse=True)
    totals = np.add.reduceat(sizes[by_stratum], begins)
    place = np.empty(len(first))
    place[by_stratum] = (start - start[begins][which]) / totals[which]
    out: FloatArray = place[piece_of]
    return out


def _lose(logits: FloatArray, targets: IntArray | FloatArray, task: Task) -> FloatArray:
    """(s, n): 1 - score of a share, the error of numbers."""
    scores = np.stack([score_pictures(one, targets, task=task) for one in logits])
    out: FloatArray = -scores if task == "regression" else 1 - scores
    return out


def _lose_by_class(logits: FloatArray, targets: IntArray | FloatArray, task: Task) -> FloatArray:
    """(s, n, k): 1 where a class that the picture is of was not found, NaN where it is not of it."""
    if task == "regression":
        return np.zeros(logits.shape, dtype=np.float32)
    k = logits.shape[2]
    if task == "classification":
        has, found = targets[:, None] == np.arange(k), logits.argmax(axis=2)[:, :, None] == np.arange(k)
    else:
        has, found = np.asarray(targets) > 0.5, logits > 0
    return np.where(has[None], 1 - found.astype(np.float32), np.float32(np.nan))


def _check(features: FloatArray, groups: IntArray | None, fractions: Sequence[float], repeats: int) -> None:
    n = len(features)
    if n < _LEAST:
        raise InvalidInput("training set", got=f"{n} pictures", want=f"{_LEAST} or more for a learning curve")
    if groups is not None and len(groups) != n:
        raise InvalidInput("groups", got=f"{len(groups)} of {n} items", want="a group for each item")
    is_rising = all(a < b for a, b in pairwise(fractions))
    if len(fractions) < 2 or not is_rising or not 0 < fractions[0] <= fractions[-1] <= 1:
        raise InvalidConfig("fractions", got=list(fractions), want="two shares or more, rising, above 0 and at most 1")
    if repeats < 1:
        raise InvalidConfig("repeats", got=repeats, want="an integer of at least 1")
