"""What a model is worth on labelled pictures, every share with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.calibration_interval import calibration_error_interval
from drivetrain.trust.estimate import LEAST_DRAWN, Rate, mean_with_interval
from drivetrain.trust.pieces import count_independent, count_pieces
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
    "check_groups",
    "count_confusion",
    "evaluate_predictions",
    "measure_deferral",
    "measure_ood",
    "take_groups",
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
    n_counted: float  # for how many independent ones the accepted count: fewer where pictures of a group are alike


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

    Those of log-loss, Brier score and ECE are drawn, and None for fewer than LEAST_DRAWN pictures, or groups of them.
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
    groups: IntArray | None = None,
) -> Evaluation:
    """Measure predictions against labels.

    probs is (n, k), rows summing to 1; labels is (n,), each in [0, k); classes are the k names; accepted says
    which pictures the model decides alone, flagged which it takes for out of domain, shifted for a style it has
    not seen (None: it does not look), all (n,). Shares have Wilson intervals, mean losses percentile bootstrap
    intervals (2,000 resamples, fixed seed), the calibration error that of `calibration_error_interval`. Of fewer
    than LEAST_DRAWN pictures these two are None. Where groups (n,) say which pictures are alike, intervals count them
    so (`Rate.of`) or draw them together. Raises InvalidInput if n is 0 or shapes do not fit.
    """
    checked = check_probabilities(probs, labels)
    n, k = checked.shape
    odd = np.zeros(n, dtype=np.bool_) if shifted is None else shifted
    _check(n, k, classes, accepted=accepted, flagged=flagged, shifted=odd)
    check_groups(groups, n)
    predicted = checked.argmax(axis=1)
    confusion = count_confusion(predicted, labels, classes=k)
    per_class = tuple(_class_evaluation(label, predicted == i, labels == i, groups) for i, label in enumerate(classes))
    is_right = predicted == labels
    right = Rate.of(is_right, groups)
    reliability = reliability_bins(checked, labels, groups=groups)
    ece_low, ece_high = None, None
    if count_pieces(n, groups) >= LEAST_DRAWN:
        ece_low, ece_high = calibration_error_interval(checked.max(axis=1), is_right, reliability, groups=groups)
    return Evaluation(
        n=n,
        n_correct=right.hits,
        accuracy=right.hits / n,
        accuracy_low=right.low,
        accuracy_high=right.high,
        balanced_accuracy=_mean([row.recall for row in per_class]),
        macro_f1=_mean([row.f1 for row in per_class]),
        **mean_with_interval("log_loss", log_losses(checked, labels), groups),
        **mean_with_interval("brier", brier_losses(checked, labels), groups),
        ece=expected_calibration_error(checked, labels),
        ece_low=ece_low,
        ece_high=ece_high,
        classes=tuple(classes),
        per_class=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        reliability=reliability,
        deferral=measure_deferral(accepted, ~is_right, groups),
        ood=measure_ood(flagged, groups),
        shifted=measure_ood(odd, groups),
    )


def _check(n: int, k: int, classes: Sequence[str], **marks_of: BoolArray) -> None:
    if len(classes) != k or len(set(classes)) != k:
        raise InvalidInput("classes", got=list(classes), want=f"{k} different names, one for each column of probs")
    for name, marks in marks_of.items():
        if marks.shape != (n,) or marks.dtype != np.bool_:
            raise InvalidInput(name, got=f"{marks.dtype} of shape {marks.shape}", want=f"bool of shape ({n},)")


def check_groups(groups: IntArray | None, n: int) -> None:
    """Raise InvalidInput unless there is a group for each of n pictures, or none at all."""
    if groups is not None and groups.shape != (n,):
        raise InvalidInput("groups", got=f"shape {groups.shape}", want=f"a group for each of {n} pictures")


def take_groups(groups: IntArray | None, marks: BoolArray) -> IntArray | None:
    """The groups of the marked pictures, both (n,)."""
    return None if groups is None else groups[marks]


def count_confusion(predicted: IntArray, labels: IntArray, *, classes: int) -> IntArray:
    """Counts (classes, classes): row the true class, column the predicted one."""
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def _class_evaluation(label: str, is_said: BoolArray, is_so: BoolArray, groups: IntArray | None) -> ClassEvaluation:
    recall = Rate.of(is_said[is_so], take_groups(groups, is_so))
    precision = Rate.of(is_so[is_said], take_groups(groups, is_said))
    return ClassEvaluation(
        label=label,
        n=recall.n,
        n_predicted=precision.n,
        recall=recall.share,
        recall_low=recall.low,
        recall_high=recall.high,
        precision=precision.share,
        precision_low=precision.low,
        precision_high=precision.high,
        f1=2 * recall.hits / (recall.n + precision.n) if recall.n + precision.n else None,
    )


def measure_deferral(accepted: BoolArray, wrong: BoolArray, groups: IntArray | None = None) -> DeferralEvaluation:
    """All (n,): what is decided alone, what is wrong, and which pictures are alike; with intervals as `Rate.of`."""
    coverage = Rate.of(accepted, groups)
    error = Rate.of(wrong[accepted], take_groups(groups, accepted))
    return DeferralEvaluation(
        n_accepted=error.n,
        n_wrong=error.hits,
        coverage=coverage.hits / coverage.n,
        coverage_low=coverage.low,
        coverage_high=coverage.high,
        error=error.share,
        error_low=error.low,
        error_high=error.high,
        n_counted=count_independent(wrong[accepted], take_groups(groups, accepted)),
    )


def measure_ood(flagged: BoolArray, groups: IntArray | None = None) -> OodEvaluation:
    """flagged (n,): what is taken for out of domain, or for shifted; with an interval as `Rate.of`."""
    rate = Rate.of(flagged, groups)
    return OodEvaluation(n_flagged=rate.hits, rate=rate.hits / rate.n, rate_low=rate.low, rate_high=rate.high)


def _mean(shares: list[float | None]) -> float:
    known = [share for share in shares if share is not None]
    return sum(known) / len(known)
