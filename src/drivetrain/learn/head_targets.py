"""What a head is fitted to, for each task: checks, weights of classes, and how good its answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.task import Task

__all__ = ["ClassWeights", "ScoreName", "average_precision", "check_targets", "measure_score", "weigh_classes"]

ClassWeights = Literal["balanced"] | Sequence[float] | FloatArray | None
ScoreName = Literal["accuracy", "average_precision", "r2"]


def check_targets(features: FloatArray, targets: IntArray | FloatArray, *, task: Task, class_count: int) -> None:
    """Raise InvalidInput where nothing can be learned: too few, of another shape, or all alike."""
    n = len(features)
    if task == "classification":
        if len(targets) != n or len(np.unique(targets)) < 2:
            got = f"{n} features, {len(targets)} labels of {len(np.unique(targets))} classes"
            raise InvalidInput("training set", got=got, want="a label each, of two classes or more")
        return
    got = f"{n} features, targets of shape {targets.shape}"
    if targets.shape != (n, class_count):
        raise InvalidInput("training set", got=got, want=f"targets of shape ({n}, {class_count})")
    if not np.isfinite(targets).all():
        raise InvalidInput("training set", got="a number that is missing or infinite", want="finite numbers")
    if task == "multilabel":
        if not ((targets == 0) | (targets == 1)).all():
            raise InvalidInput("training set", got="targets other than 0 and 1", want="0 or 1 for each label")
        if not _is_told(targets > 0).any():
            want = "at least one label that some pictures have and others have not"
            raise InvalidInput("training set", got=got, want=want)
    elif n < 2 or not np.ptp(targets, axis=0).any():
        raise InvalidInput("training set", got=f"{n} features, numbers all alike", want="two different ones or more")


def weigh_classes(
    class_weights: ClassWeights, targets: IntArray | FloatArray, *, task: Task, class_count: int
) -> FloatArray | None:
    """(k,) float64, or None where all count alike. Raises InvalidConfig.

    "balanced" is for classification n / (classes present * n of the class); for labels those without / those with.
    """
    if class_weights is None:
        return None
    if task == "regression":
        raise InvalidConfig(
            "class_weights", got=class_weights, want="nothing: the labels are numbers, and have no classes"
        )
    if isinstance(class_weights, str):
        if class_weights != "balanced":
            raise InvalidConfig("class_weights", got=class_weights, want="'balanced', or a number for each class")
        return _balance(targets, class_count) if task == "classification" else _balance_labels(targets)
    weights = np.asarray(class_weights, dtype=np.float64)
    if weights.shape != (class_count,) or not np.isfinite(weights).all() or not (weights > 0).all():
        want = f"{class_count} finite numbers above 0, one for each class"
        raise InvalidConfig("class_weights", got=weights.tolist(), want=want)
    return weights


def measure_score(logits: FloatArray, targets: IntArray | FloatArray, *, task: Task) -> tuple[ScoreName, float]:
    """What people ask for first, for logits (n, k): higher is better, 1 is the best.

    accuracy: share right. average_precision: mean over the labels that some have and others have not. r2: 1 - squared
    error over variance, mean over the numbers that vary.
    """
    if task == "classification":
        return "accuracy", float((logits.argmax(axis=1) == targets).mean())
    if task == "multilabel":
        has = targets > 0
        told = np.flatnonzero(_is_told(has))
        return "average_precision", float(np.mean([average_precision(logits[:, at], has[:, at]) for at in told]))
    variances = np.var(targets, axis=0, dtype=np.float64)
    errors = np.square(targets - logits).mean(axis=0)
    return "r2", float((1 - errors[variances > 0] / variances[variances > 0]).mean())


def average_precision(scores: FloatArray, has: BoolArray) -> float:
    """Area under precision over recall, in steps; scores (n,), has (n,), of which one or more are true.

    Equal scores are one step, so their order does not matter. Source: as sklearn.metrics.average_precision_score.
    """
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(has[order])
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    steps = np.diff(found[ends], prepend=0) / found[-1]
    return float((steps * found[ends] / (ends + 1)).sum())


def _is_told(has: BoolArray) -> BoolArray:
    """(k,): whether some have the label and others have not."""
    n_with = has.sum(axis=0)
    told: BoolArray = (n_with > 0) & (n_with < len(has))
    return told


def _balance(labels: IntArray | FloatArray, class_count: int) -> FloatArray:
    n_of = np.bincount(labels, minlength=class_count)
    return len(labels) / (np.count_nonzero(n_of) * np.maximum(n_of, 1))


def _balance_labels(targets: IntArray | FloatArray) -> FloatArray:
    has = targets > 0
    n_with = has.sum(axis=0)
    return np.where(_is_told(has), (len(targets) - n_with) / np.maximum(n_with, 1), 1.0)
