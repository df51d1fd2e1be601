"""Do probabilities mean what they say: proper scores, calibration error, reliability bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import Rate

__all__ = [
    "ReliabilityBin",
    "brier_losses",
    "check_probabilities",
    "expected_calibration_error",
    "log_losses",
    "reliability_bins",
]

_SUM_TOLERANCE = 1e-3  # float32 softmax over a thousand classes stays well inside
_SMALLEST = float(np.finfo(np.float64).eps)  # a probability of 0 costs 36, not infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Pictures of like confidence: what the model said, and how often it was right."""

    n: int
    confidence: float  # mean probability of the predicted class
    confidence_min: float
    confidence_max: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


def expected_calibration_error(probs: FloatArray, labels: IntArray, *, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy, in [0, 1]; 0 is perfectly calibrated.

    probs is (n, k) with rows summing to 1; labels is (n,), each in [0, k). Bins hold equally many pictures,
    so that no bin rests on a handful; with few pictures a bin chance alone keeps it above 0.
    Raises InvalidInput if n is 0 or the lengths differ.
    Source: Guo et al. 2017, arXiv:1706.04599, section 2; equal mass as in Roelofs et al. 2022, arXiv:2012.08668.
    """
    rows = reliability_bins(probs, labels, bins=bins)
    return sum(row.n * abs(row.confidence - row.accuracy) for row in rows) / sum(row.n for row in rows)


def reliability_bins(
    probs: FloatArray, labels: IntArray, *, bins: int = 15, groups: IntArray | None = None
) -> tuple[ReliabilityBin, ...]:
    """Up to `bins` groups of equally many pictures, from least to most confident.

    Equal confidences stay in one bin, so the result does not depend on the order of the pictures; a bin that
    this leaves empty is not given. Pictures of one number in groups (n,) are alike, and intervals heed it. Shapes and
    errors as for `expected_calibration_error`.
    """
    if bins < 1:
        raise InvalidInput("bins", got=bins, want="an integer of at least 1")
    checked = check_probabilities(probs, labels)
    confidence = checked.max(axis=1)
    hit = checked.argmax(axis=1) == labels
    _, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2  # mid-rank of each group of equal confidences
    place = (middle * bins / len(hit)).astype(np.int64)[group]
    return tuple(
        _bin(confidence[place == b], Rate.of(hit[place == b], None if groups is None else groups[place == b]))
        for b in np.unique(place)
    )


def log_losses(probs: FloatArray, labels: IntArray) -> FloatArray:
    """-ln of the probability of the true class for each picture, (n,) float64, each in [0, 36.05]."""
    checked = check_probabilities(probs, labels)
    true = checked[np.arange(len(checked)), labels]
    losses: FloatArray = -np.log(np.clip(true, _SMALLEST, 1.0))
    return losses


def brier_losses(probs: FloatArray, labels: IntArray) -> FloatArray:
    """Squared distance from the truth for each picture, summed over classes, (n,) float64, each in [0, 2].

    Source: Brier 1950, the original form; the common two-class form is half of it.
    """
    checked = check_probabilities(probs, labels)
    losses: FloatArray = ((checked - np.eye(checked.shape[1])[labels]) ** 2).sum(axis=1)
    return losses


def check_probabilities(probs: FloatArray, labels: IntArray) -> FloatArray:
    """`probs` as float64 once it fits `labels`; else InvalidInput that says what is off."""
    checked = np.asarray(probs, dtype=np.float64)
    if checked.ndim != 2 or not checked.size:
        raise InvalidInput("probs", got=f"shape {checked.shape}", want="shape (n, k) with n and k of at least 1")
    n, k = checked.shape
    if labels.shape != (n,):
        raise InvalidInput("labels", got=f"shape {labels.shape}", want=f"one label for each of {n} pictures")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= k:
        raise InvalidInput(
            "labels", got=f"{labels.dtype} in [{labels.min()}, {labels.max()}]", want=f"integers in [0, {k})"
        )
    # written so that NaN fails too
    if not (checked.min() >= 0 and np.abs(checked.sum(axis=1) - 1).max() <= _SUM_TOLERANCE):
        raise InvalidInput("probs", got="rows that are no probabilities", want="numbers >= 0 that sum to 1 in each row")
    return checked


def _bin(confidence: FloatArray, right: Rate) -> ReliabilityBin:
    return ReliabilityBin(
        n=right.n,
        confidence=float(confidence.mean()),
        confidence_min=float(confidence.min()),
        confidence_max=float(confidence.max()),
        accuracy=right.hits / right.n,
        accuracy_low=right.low,
        accuracy_high=right.high,
    )
