"""Conformal p-values and label sets: statements that hold whatever the model is. numpy only: serving needs this."""

from __future__ import annotations

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput

__all__ = [
    "LEAST_PER_CLASS",
    "half_width",
    "label_set",
    "label_set_threshold",
    "label_set_thresholds",
    "p_value",
    "p_values",
]

LEAST_PER_CLASS = 50  # pictures of a class; with fewer, its label set holds the truth far from as often as said


def p_value(reference: FloatArray, score: float) -> float:
    """Chance that a picture like those of `reference` scores at least `score`, in [1/(n+1), 1].

    reference is (n,) scores of known pictures, sorted ascending, higher is stranger. Ties count whole, so that the same
    picture always gets the same answer. Source: Bates et al. 2023, Annals of Statistics 51(1), equation 1.
    """
    at_least = len(reference) - int(reference.searchsorted(score))
    return (at_least + 1) / (len(reference) + 1)


def p_values(reference: FloatArray, scores: FloatArray) -> FloatArray:
    """As `p_value`, of scores of any shape."""
    at_least = len(reference) - np.searchsorted(reference, scores, side="left")
    return np.asarray((at_least + 1) / (len(reference) + 1))


def label_set_threshold(probs: FloatArray, labels: IntArray, *, coverage: float = 0.95) -> float:
    """The least probability a label needs to enter the set, so that sets hold the truth `coverage` of the time.

    probs is (n, k), labels (n,), neither trained nor selected on. Where n is too small to promise `coverage`
    (n < coverage / (1 - coverage)), the threshold is 0 and every label is in the set.
    Source: Sadinle, Lei, Wasserman 2019 (least ambiguous sets).
    """
    if not 0 < coverage < 1:
        raise InvalidInput("coverage", got=coverage, want="a share between 0 and 1")
    n = len(labels)
    rank = int(np.ceil((n + 1) * coverage))  # of the probabilities of the truth, descending
    if rank > n:
        return 0.0
    descending = -np.sort(-probs[np.arange(n), labels])  # as they are: 1 - (1 - p) would round a tie out of its own set
    return float(descending[rank - 1])


def label_set_thresholds(probs: FloatArray, labels: IntArray, *, coverage: float = 0.95) -> FloatArray | None:
    """(k,) as `label_set_threshold`, a class at a time: sets hold the truth so often for pictures of each class.

    None where a class has fewer than LEAST_PER_CLASS pictures. A set that is right for 95 % of all pictures may be
    right for 60 % of a rare class; these are not. Source: Vovk 2012, "Conditional validity" (label-conditional).
    """
    k = probs.shape[1]
    if np.bincount(labels, minlength=k).min() < LEAST_PER_CLASS:
        return None
    return np.array([label_set_threshold(probs[labels == c], labels[labels == c], coverage=coverage) for c in range(k)])


def label_set(probs: FloatArray, threshold: float | FloatArray) -> list[int]:
    """Indices of the labels with at least `threshold`, most likely first; never empty. probs is (k,), so may it be."""
    order = np.argsort(-probs, kind="stable")
    enough = probs >= threshold
    return [int(i) for i in order if enough[i]] or [int(order[0])]


def half_width(residuals: FloatArray, *, coverage: float = 0.95) -> float | None:
    """How far to either side of an estimate an interval must reach to hold the true value `coverage` of the time.

    residuals is (n,), truth minus estimate, of pictures neither trained nor selected on. None where n is too small to
    promise `coverage` (n < coverage / (1 - coverage): 19 for 0.95): only an endless interval would hold it.
    Source: Lei et al. 2018, JASA 113(523), algorithm 2 (split conformal): the ceil((n + 1) coverage)-th smallest.
    """
    if not 0 < coverage < 1:
        raise InvalidInput("coverage", got=coverage, want="a share between 0 and 1")
    n = len(residuals)
    rank = int(np.ceil((n + 1) * coverage))
    return None if rank > n else float(np.sort(np.abs(residuals))[rank - 1])
