"""Metrics for one label a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from drivetrain.errors import InvalidConfig
from drivetrain.trust.reliability import brier_losses, expected_calibration_error, log_losses

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
    "ECE",
    "APScoreBinary",
    "BalancedAccuracy",
    "BrierScore",
    "CohenKappa",
    "ExpectedCalibrationError",
    "F1Score",
    "FBeta",
    "Jaccard",
    "MatthewsCorrCoef",
    "Perplexity",
    "Precision",
    "Recall",
    "RocAuc",
    "RocAucBinary",
    "accuracy",
    "error_rate",
    "top_k_accuracy",
]


@measured("classification")
def accuracy(preds: Array, targs: Array) -> float:
    """Share of pictures whose most probable label is the true one."""
    return float((preds.argmax(axis=1) == targs).mean())


@measured("classification")
def error_rate(preds: Array, targs: Array) -> float:
    """Share of pictures whose most probable label is not the true one."""
    return float((preds.argmax(axis=1) != targs).mean())


@measured("classification")
def top_k_accuracy(preds: Array, targs: Array, k: int = 5) -> float:
    """Share of pictures whose true label is among the `k` most probable; of equal ones the first comes first."""
    count = preds.shape[1]
    if not 1 <= k <= count:
        hint = "Give it as partial(top_k_accuracy, k=2)."
        raise InvalidConfig("top_k_accuracy(k)", got=k, want=f"1 to {count}, for {count} classes", hint=hint)
    true = preds[np.arange(len(preds)), targs][:, None]
    is_ahead = (preds > true) | ((preds == true) & (np.arange(count) < targs[:, None]))
    return float((is_ahead.sum(axis=1) < k).mean())


class _Averaged(Metric):
    """Of the most probable labels: the score of one class, or those of all made one number.

    average "binary" is the score of `pos_label`, of two classes; "macro" weighs classes alike, "weighted" by their
    pictures, "micro" weighs pictures alike; `labels` looks at these classes only. A share of nothing is 0.
    """

    function: str  # of sklearn.metrics

    def __init__(
        self,
        *,
        average: Literal["binary", "macro", "micro", "weighted"] = "binary",
        pos_label: int = 1,
        labels: Sequence[int] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.average, self.pos_label, self.labels = average, pos_label, labels
        self.options: dict[str, Any] = {}
        check_average(type(self).__name__, average, {"binary", "macro", "micro", "weighted"})
        _check_positive(type(self).__name__, pos_label)

    def check(self, count: int) -> None:
        own = type(self).__name__
        if self.average == "binary" and count != 2:
            raise InvalidConfig(
                f"{own}(average='binary')",
                got=f"{count} classes",
                want="2 classes, or another average",
                hint="average='macro' weighs classes alike, 'weighted' by their pictures, 'micro' weighs pictures "
                "alike; labels=[3], average='macro' is class 3 alone.",
            )
        _check_labels(own, self.labels, count)

    def measure(self, preds: Array, targs: Array) -> float:
        is_one = self.average == "binary"
        score = getattr(load_sklearn(), self.function)(
            targs,
            preds.argmax(axis=1),
            labels=[self.pos_label] if is_one else self.labels,
            average="macro" if is_one else self.average,
            zero_division=0,
            **self.options,
        )
        return float(score)


class Precision(_Averaged):
    """Of the pictures called so, the share that is so."""

    name = function = "precision_score"


class Recall(_Averaged):
    """Of the pictures that are so, the share called so."""

    name = function = "recall_score"


class F1Score(_Averaged):
    """Harmonic mean of precision and recall."""

    name = function = "f1_score"


class FBeta(_Averaged):
    """Harmonic mean of precision and recall in which recall counts `beta` times as much."""

    name = function = "fbeta_score"

    def __init__(self, beta: float, **options: Any) -> None:
        super().__init__(**options)
        self.options = {"beta": beta}


class Jaccard(_Averaged):
    """Pictures that are so and called so, as a share of those that are one of the two."""

    name = function = "jaccard_score"


class BalancedAccuracy(Metric):
    """Mean recall of the classes that have pictures; `adjusted` puts chance at 0."""

    name = "balanced_accuracy_score"

    def __init__(self, *, adjusted: bool = False, name: str | None = None) -> None:
        super().__init__(name=name)
        self.adjusted = adjusted

    def measure(self, preds: Array, targs: Array) -> float:
        present, is_hit = np.unique(targs), preds.argmax(axis=1) == targs
        score = float(np.mean([is_hit[targs == label].mean() for label in present]))
        if not self.adjusted:
            return score
        chance = 1 / len(present)
        return (score - chance) / (1 - chance) if len(present) > 1 else math.nan


class CohenKappa(Metric):
    """Agreement beyond chance, which is 0; "linear" or "quadratic" `weights` where classes are steps of one scale."""

    name = "cohen_kappa_score"

    def __init__(self, *, weights: Literal["linear", "quadratic"] | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        self.weights = weights

    def measure(self, preds: Array, targs: Array) -> float:
        called, count = preds.argmax(axis=1), preds.shape[1]
        if len(np.union1d(called, targs)) < 2:
            return math.nan  # all of one class: chance agrees as well
        # all classes, or steps without a picture would not count as steps
        score = load_sklearn().cohen_kappa_score(targs, called, labels=range(count), weights=self.weights)
        return float(score)


class MatthewsCorrCoef(Metric):
    """Correlation of what is called so with what is so: 0 is chance, 1 is perfect."""

    name = "matthews_corrcoef"

    def measure(self, preds: Array, targs: Array) -> float:
        return marks_correlation(preds.argmax(axis=1), targs)


class RocAuc(Metric):
    """How often a picture of a class is ranked above one that is not of it; 0.5 is chance.

    multi_class "ovr" sets each class against all others, leaving out those without pictures; "ovo" sets each against
    each, and is NaN unless all have pictures. Of two classes, the second is ranked.
    """

    name = "roc_auc_score"

    def __init__(
        self,
        *,
        average: Literal["macro", "micro", "weighted"] = "macro",
        multi_class: Literal["ovr", "ovo"] = "ovr",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.average, self.multi_class = average, multi_class
        check_average("RocAuc", average, {"macro", "weighted", *(["micro"] if multi_class == "ovr" else [])})
        if multi_class not in {"ovr", "ovo"}:
            raise InvalidConfig("RocAuc(multi_class)", got=multi_class, want="ovr or ovo")

    def measure(self, preds: Array, targs: Array) -> float:
        count = preds.shape[1]
        if count == 2:
            return rank_score(targs, preds[:, 1])
        if self.multi_class == "ovr":
            return mean_of_labels(rank_score, np.eye(count, dtype=np.int64)[targs], preds, self.average)
        if len(np.unique(targs)) < count:
            return math.nan
        return float(load_sklearn().roc_auc_score(targs, preds, average=self.average, multi_class="ovo"))


class _TwoClasses(Metric):
    """Of the probabilities of `pos_label`, one of two classes."""

    def __init__(self, *, pos_label: int = 1, name: str | None = None) -> None:
        super().__init__(name=name)
        self.pos_label = pos_label
        _check_positive(type(self).__name__, pos_label)

    def check(self, count: int) -> None:
        if count != 2:
            raise InvalidConfig(
                type(self).__name__, got=f"{count} classes", want="2 classes", hint="For more there is RocAuc()."
            )


class RocAucBinary(_TwoClasses):
    """RocAuc of two classes; with `max_fpr`, of the part of the curve with at most this share of false alarms."""

    name = "roc_auc_score"

    def __init__(self, *, pos_label: int = 1, max_fpr: float | None = None, name: str | None = None) -> None:
        super().__init__(pos_label=pos_label, name=name)
        self.max_fpr = max_fpr

    def measure(self, preds: Array, targs: Array) -> float:
        return rank_score(targs == self.pos_label, preds[:, self.pos_label], max_fpr=self.max_fpr)


class APScoreBinary(_TwoClasses):
    """Mean precision on the way down the ranking by probability; chance is the share of pictures that are so."""

    name = "average_precision_score"

    def measure(self, preds: Array, targs: Array) -> float:
        return average_precision(targs == self.pos_label, preds[:, self.pos_label])


class BrierScore(Metric):
    """Squared distance of the probabilities from the truth, summed over classes, in [0, 2]; 0 is perfect.

    That of the report. fastai's, of two classes, is computed from labels instead of probabilities.
    """

    name = "brier_score"

    def measure(self, preds: Array, targs: Array) -> float:
        return float(brier_losses(preds, targs).mean())


class ExpectedCalibrationError(Metric):
    """Mean gap between how sure the model is and how often it is right, in [0, 1]; that of the report."""

    name = "ece"

    def __init__(self, *, bins: int = 15, name: str | None = None) -> None:
        super().__init__(name=name)
        self.bins = bins
        if bins < 1:
            raise InvalidConfig("ExpectedCalibrationError(bins)", got=bins, want="a whole number of at least 1")

    def measure(self, preds: Array, targs: Array) -> float:
        return expected_calibration_error(preds, targs, bins=self.bins)


ECE = ExpectedCalibrationError


class Perplexity(Metric):
    """Among how many labels the model hesitates: e to the power of the mean log loss; 1 is perfect."""

    name = "perplexity"

    def measure(self, preds: Array, targs: Array) -> float:
        return math.exp(float(log_losses(preds, targs).mean()))


def _check_positive(owner: str, pos_label: int) -> None:
    if pos_label not in {0, 1}:
        raise InvalidConfig(f"{owner}(pos_label)", got=pos_label, want="0 or 1: the number of one of two classes")


def _check_labels(owner: str, labels: Sequence[int] | None, count: int) -> None:
    if labels is not None and not (len(labels) and all(0 <= label < count for label in labels)):
        raise InvalidConfig(f"{owner}(labels)", got=list(labels), want=f"numbers of classes, 0 to {count - 1}")
