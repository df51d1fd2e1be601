"""Metrics for any number of labels a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from drivetrain.errors import InvalidConfig
from drivetrain.task import Task

from .metric import (
    Array,
    Metric,
    average_precision,
    check_average,
    load_sklearn,
    marks_correlation,
    mean_of_labels,
    measured,
    rank_score,
)

__all__ = [
    "APScoreMulti",
    "BrierScoreMulti",
    "F1ScoreMulti",
    "FBetaMulti",
    "HammingLossMulti",
    "JaccardMulti",
    "MatthewsCorrCoefMulti",
    "PrecisionMulti",
    "RecallMulti",
    "RocAucMulti",
    "accuracy_multi",
]

_Thresh = float | Sequence[float]  # for all labels, or for each


@measured("multilabel")
def accuracy_multi(preds: Array, targs: Array, thresh: _Thresh = 0.5, sigmoid: bool = False) -> float:
    """Share of the n * k marks that are right; a label is given where its probability is above `thresh`.

    `sigmoid` is for logits; a Learner gives probabilities, so it is off, unlike in fastai.
    """
    return float((_mark(preds, thresh, sigmoid) == targs).mean())


class _ForLabels(Metric):
    """Of probabilities (n, k), or of logits with `sigmoid`; a Learner gives probabilities, so it is off."""

    task: Task = "multilabel"

    def __init__(self, *, sigmoid: bool = False, name: str | None = None) -> None:
        super().__init__(name=name)
        self.sigmoid = sigmoid

    def probabilities(self, preds: Array) -> Array:
        """In [0, 1], (n, k)."""
        return _logistic(preds) if self.sigmoid else preds


class _ForMarks(_ForLabels):
    """Of the labels whose probability is above `thresh`: one number, or one for each label."""

    def __init__(self, thresh: _Thresh = 0.5, sigmoid: bool = False, *, name: str | None = None) -> None:
        super().__init__(sigmoid=sigmoid, name=name)
        self.thresh = thresh

    def check(self, count: int) -> None:
        _check_thresh(type(self).__name__, self.thresh, count)

    def mark(self, preds: Array) -> Array:
        """0 and 1, (n, k) int64."""
        return _mark(preds, self.thresh, self.sigmoid)


class _Averaged(_ForMarks):
    """The scores of all labels, or of `labels`, made one number. A share of nothing is 0.

    average "macro" weighs labels alike, "weighted" by their pictures, "micro" weighs marks alike, and "samples" takes
    the mean over pictures.
    """

    function: str  # of sklearn.metrics

    def __init__(
        self,
        thresh: _Thresh = 0.5,
        sigmoid: bool = False,
        *,
        average: Literal["macro", "micro", "weighted", "samples"] = "macro",
        labels: Sequence[int] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(thresh, sigmoid, name=name)
        self.average, self.labels = average, labels
        self.options: dict[str, Any] = {}
        check_average(type(self).__name__, average, {"macro", "micro", "weighted", "samples"})

    def check(self, count: int) -> None:
        super().check(count)
        if self.labels is not None and not (len(self.labels) and all(0 <= label < count for label in self.labels)):
            want = f"numbers of labels, 0 to {count - 1}"
            raise InvalidConfig(f"{type(self).__name__}(labels)", got=list(self.labels), want=want)

    def measure(self, preds: Array, targs: Array) -> float:
        marks, truth = self.mark(preds), targs
        if self.labels is not None:
            marks, truth = marks[:, self.labels], truth[:, self.labels]
        score = getattr(load_sklearn(), self.function)
        if marks.shape[1] == 1:  # which scikit-learn would take for two classes
            marks, truth = np.pad(marks, ((0, 0), (0, 1))), np.pad(truth, ((0, 0), (0, 1)))
            return float(score(truth, marks, average="macro", labels=[0], zero_division=0, **self.options))
        return float(score(truth, marks, average=self.average, zero_division=0, **self.options))


class PrecisionMulti(_Averaged):
    """Of the labels given, the share that is right."""

    name = function = "precision_score"


class RecallMulti(_Averaged):
    """Of the labels that are right, the share given."""

    name = function = "recall_score"


class F1ScoreMulti(_Averaged):
    """Harmonic mean of precision and recall."""

    name = function = "f1_score"


class FBetaMulti(_Averaged):
    """Harmonic mean of precision and recall in which recall counts `beta` times as much."""

    name = function = "fbeta_score"

    def __init__(self, beta: float, thresh: _Thresh = 0.5, sigmoid: bool = False, **options: Any) -> None:
        super().__init__(thresh, sigmoid, **options)
        self.options = {"beta": beta}


class JaccardMulti(_Averaged):
    """Labels that are given and right, as a share of those that are one of the two."""

    name = function = "jaccard_score"


class HammingLossMulti(_ForMarks):
    """Share of the n * k marks that are wrong."""

    name = "hamming_loss"

    def measure(self, preds: Array, targs: Array) -> float:
        return float((self.mark(preds) != targs).mean())


class MatthewsCorrCoefMulti(_ForMarks):
    """Correlation of the n * k marks given with those that are right: 0 is chance, 1 is perfect."""

    name = "matthews_corrcoef"

    def measure(self, preds: Array, targs: Array) -> float:
        return marks_correlation(self.mark(preds).ravel(), targs.ravel())


class BrierScoreMulti(_ForLabels):
    """Mean squared distance of the n * k probabilities from the truth, in [0, 1]; 0 is perfect."""

    name = "brier_score"

    def measure(self, preds: Array, targs: Array) -> float:
        return float(((self.probabilities(preds) - targs) ** 2).mean())


class _Ranked(_ForLabels):
    """The scores of the labels' rankings made one number; labels that cannot be ranked are left out."""

    def __init__(
        self,
        sigmoid: bool = False,
        *,
        average: Literal["macro", "micro", "weighted"] = "macro",
        name: str | None = None,
    ) -> None:
        super().__init__(sigmoid=sigmoid, name=name)
        self.average = average
        check_average(type(self).__name__, average, {"macro", "micro", "weighted"})


class RocAucMulti(_Ranked):
    """How often a picture with a label is ranked above one without; 0.5 is chance."""

    name = "roc_auc_score"

    def measure(self, preds: Array, targs: Array) -> float:
        return mean_of_labels(rank_score, targs, self.probabilities(preds), self.average)


class APScoreMulti(_Ranked):
    """Mean precision on the way down each label's ranking; with "macro", the field's mAP.

    Labels that no picture has are left out.
    """

    name = "average_precision_score"

    def measure(self, preds: Array, targs: Array) -> float:
        return mean_of_labels(average_precision, targs, self.probabilities(preds), self.average)


def _mark(preds: Array, thresh: _Thresh, sigmoid: bool) -> Array:
    _check_thresh("thresh", thresh, preds.shape[1])
    probabilities = _logistic(preds) if sigmoid else preds
    marks: Array = (probabilities > np.asarray(thresh)).astype(np.int64)
    return marks


def _logistic(logits: Array) -> Array:
    probabilities: Array = 0.5 + 0.5 * np.tanh(0.5 * logits)  # 1 / (1 + exp(-x)), which would overflow
    return probabilities


def _check_thresh(owner: str, thresh: _Thresh, count: int) -> None:
    if np.shape(thresh) not in {(), (count,)}:
        want = f"one number, or one for each of {count} labels"
        raise InvalidConfig(f"{owner}(thresh)", got=f"{np.size(thresh)} numbers", want=want)
