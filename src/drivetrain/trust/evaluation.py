"""What a model is worth on labelled pictures, every share with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.calibration_interval import calibration_error_interval
from drivetrain.trust.estimate import LEAST_DRAWN, mean_with_interval, wilson_interval
from drivetrain.trust.reliability import (
    ReliabilityBin,
    brier_losses,
    check_probabilities,
    expected_calibration_error,
    log_losses,
    reliability_bins,
)

__all__ = [
    "ClassEvaluation",
    "DeferralEvaluation",
    "Evaluation",
    "OodEvaluation",
    "count_confusion",
    "evaluate_predictions",
    "measure_deferral",
    "measure_ood",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassEvaluation:
    """One class. A share of nothing is None, with the interval (0, 1)."""

    label: str
    n: int  # pictures of this class
    n_predicted: int  # pictures called this class
    recall: float | None  # of the pictures of this class, the share called so
    recall_low: float
    recall_high: float
    precision: float | None  # of the pictures called this class, the share that is
    precision_low: float
    precision_high: float
    f1: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferralEvaluation:
    """What the model decides alone, and how often it is wrong there."""

    n_accepted: int
    n_wrong: int  # among the accepted
    coverage: float  # share accepted
    coverage_low: float
    coverage_high: float
    error: float | None  # among the accepted; None when there are none
    error_low: float
    error_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OodEvaluation:
    """How many pictures were taken for something the model does not know, or for a style it has not seen."""

    n_flagged: int
    rate: float
    rate_low: float
    rate_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All numbers of one evaluation; `_low` and `_high` are ends of 95 % intervals.

    Those of log-loss, Brier score and ECE are drawn, and None for fewer than LEAST_DRAWN pictures.
    """

    n: int
    n_correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    balanced_accuracy: float  # mean recall of the classes that have pictures
    macro_f1: float  # mean F1 of the classes that have or were given pictures
    log_loss: float
    log_loss_low: float | None
    log_loss_high: float | None
    brier: float  # summed over classes, in [0, 2]
    brier_low: float | None
    brier_high: float | None
    ece: float  # expected calibration error, equal-mass bins
    ece_low: float | None
    ece_high: float | None
    classes: tuple[str, ...]
    per_class: tuple[ClassEvaluation, ...]  # in the order of classes
    confusion: tuple[tuple[int, ...], ...]  # (k, k) counts, a row a true class, a column a predicted one
    reliability: tuple[ReliabilityBin, ...]
    deferral: DeferralEvaluation
    ood: OodEvaluation
    shifted: OodEvaluation  # of the right kind, in a style it has not seen

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        plain = asdict(self)
        for name in ("classes", "per_class", "reliability"):
            plain[name] = list(plain[name])
        plain["confusion"] = [list(row) for row in self.confusion]
        return plain


def evaluate_predictions(
    probs: FloatArray,
    labels: IntArray,
    *,
    classes: Sequence[str],
    accepted: BoolArray,
    flagged: BoolArray,
    shifted: BoolArray | None = None,
) -> Evaluation:
    """Measure predictions against labels.

    probs is (n, k), rows summing to 1; labels is (n,), each in [0, k); classes are the k names; accepted says
    which pictures the model decides alone, flagged which it takes for out of domain, shifted for a style it has
    not seen (None: it does not look), all (n,). Shares have Wilson intervals, mean losses percentile bootstrap
    intervals (2,000 resamples, fixed seed), the calibration error that of `calibration_error_interval`. Of fewer
    than LEAST_DRAWN pictures these two are None. Raises InvalidInput if n is 0 or shapes do not fit.
    """
    checked = check_probabilities(probs, labels)
    n, k = checked.shape
    odd = np.zeros(n, dtype=np.bool_) if shifted is None else shifted
    _check(n, k, classes, accepted=accepted, flagged=flagged, shifted=odd)
    predicted = checked.argmax(axis=1)
    confusion = count_confusion(predicted, labels, classes=k)
    per_class = tuple(_class_evaluation(label, confusion, i) for i, label in enumerate(classes))
    n_correct = int(np.trace(confusion))
    accuracy_low, accuracy_high = wilson_interval(n_correct, n)
    reliability = reliability_bins(checked, labels)
    ece_low, ece_high = None, None
    if n >= LEAST_DRAWN:
        ece_low, ece_high = calibration_error_interval(checked.max(axis=1), predicted == labels, reliability)
    return Evaluation(
        n=n,
        n_correct=n_correct,
        accuracy=n_correct / n,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        balanced_accuracy=_mean([row.recall for row in per_class]),
        macro_f1=_mean([row.f1 for row in per_class]),
        **mean_with_interval("log_loss", log_losses(checked, labels)),
        **mean_with_interval("brier", brier_losses(checked, labels)),
        ece=expected_calibration_error(checked, labels),
        ece_low=ece_low,
        ece_high=ece_high,
        classes=tuple(classes),
        per_class=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        reliability=reliability,
        deferral=measure_deferral(accepted, predicted != labels),
        ood=measure_ood(flagged),
        shifted=measure_ood(odd),
    )


def _check(n: int, k: int, classes: Sequence[str], **marks_of: BoolArray) -> None:
    if len(classes) != k or len(set(classes)) != k:
        raise InvalidInput("classes", got=list(classes), want=f"{k} different names, one for each column of probs")
    for name, marks in marks_of.items():
        if marks.shape != (n,) or marks.dtype != np.bool_:
            raise InvalidInput(name, got=f"{marks.dtype} of shape {marks.shape}", want=f"bool of shape ({n},)")


def count_confusion(predicted: IntArray, labels: IntArray, *, classes: int) -> IntArray:
    """Counts (classes, classes): row the true class, column the predicted one."""
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def _class_evaluation(label: str, confusion: IntArray, i: int) -> ClassEvaluation:
    hits, n, n_predicted = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    recall_low, recall_high = wilson_interval(hits, n)
    precision_low, precision_high = wilson_interval(hits, n_predicted)
    return ClassEvaluation(
        label=label,
        n=n,
        n_predicted=n_predicted,
        recall=hits / n if n else None,
        recall_low=recall_low,
        recall_high=recall_high,
        precision=hits / n_predicted if n_predicted else None,
        precision_low=precision_low,
        precision_high=precision_high,
        f1=2 * hits / (n + n_predicted) if n + n_predicted else None,
    )


def measure_deferral(accepted: BoolArray, wrong: BoolArray) -> DeferralEvaluation:
    """Both (n,): what is decided alone, and what is wrong; with Wilson intervals."""
    n_accepted, n_wrong = int(accepted.sum()), int((accepted & wrong).sum())
    coverage_low, coverage_high = wilson_interval(n_accepted, len(accepted))
    error_low, error_high = wilson_interval(n_wrong, n_accepted)
    return DeferralEvaluation(
        n_accepted=n_accepted,
        n_wrong=n_wrong,
        coverage=n_accepted / len(accepted),
        coverage_low=coverage_low,
        coverage_high=coverage_high,
        error=n_wrong / n_accepted if n_accepted else None,
        error_low=error_low,
        error_high=error_high,
    )


def measure_ood(flagged: BoolArray) -> OodEvaluation:
    """flagged (n,): what is taken for out of domain, or for shifted; with a Wilson interval."""
    n_flagged = int(flagged.sum())
    low, high = wilson_interval(n_flagged, len(flagged))
    return OodEvaluation(n_flagged=n_flagged, rate=n_flagged / len(flagged), rate_low=low, rate_high=high)


def _mean(shares: list[float | None]) -> float:
    known = [share for share in shares if share is not None]
    return sum(known) / len(known)
