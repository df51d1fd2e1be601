"""What a model may decide alone: the confidence above which a stated share of its decisions is right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import wilson_interval

__all__ = ["Promise", "certify_threshold", "choose_start", "labels_needed", "rank_sure"]

_SURE_START = 0.001  # chance of so few errors if the risk were max_error: a start that others are likely to confirm


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Decisions with confidence strictly above `threshold` are wrong at most `max_error` of the time.

    The sentence holds with `confidence` over the draw of the calibration pictures, or not at all (`is_certified` False:
    too few labels, or too many errors; `threshold` is then one that was given, nothing is promised above it).
    """

    threshold: float
    max_error: float
    confidence: float
    is_certified: bool
    n_calibration: int
    n_accepted: int  # of these, decided by itself, promised or not
    n_wrong: int
    n_needed: int  # accepted pictures without an error that the promise takes at least

    @property
    def coverage(self) -> float:
        """The share of the calibration pictures that the rule decides by itself, promised or not."""
        return self.n_accepted / self.n_calibration if self.n_calibration else 0.0

    @property
    def coverage_interval(self) -> tuple[float, float]:
        """Of the coverage, 95 %."""
        return wilson_interval(self.n_accepted, self.n_calibration)

    @property
    def statement(self) -> str:
        """The promise, or its absence, for a person."""
        share, surety = f"{100 * self.max_error:g} %", f"{100 * self.confidence:g} %"
        if self.is_certified:
            low, high = (f"{100 * end:.0f}" for end in self.coverage_interval)
            return (
                f"Of the pictures it decides by itself, at most {share} are wrong ({surety} confidence, from "
                f"{self.n_accepted} decisions, {self.n_wrong} of them wrong, on {self.n_calibration} kept apart). "
                f"It decides {100 * self.coverage:.0f} % of such pictures by itself (95 % interval {low} to {high})."
            )
        told = (
            f"No promise: {self.n_calibration} pictures kept apart could not show that at most {share} of its own "
            f"decisions are wrong (it takes {self.n_needed} sure and right ones at least)."
        )
        if not self.n_accepted:
            return told
        return (
            f"{told} All the same it decides {100 * self.coverage:.0f} % of such pictures by itself, where it is more "
            f"than {100 * self.threshold:.4g} % sure; of these nothing is promised."
        )


def labels_needed(max_error: float, *, confidence: float = 0.95) -> int:
    """Accepted pictures without an error that it takes to promise `max_error`: 299 for 1 %, 149 for 2 %, 59 for 5 %."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-max_error))


def choose_start(scores: FloatArray, is_wrong: BoolArray, eligible: BoolArray, *, max_error: float = 0.05) -> float:
    """Where `certify_threshold` should begin on other pictures: a share of them in [0, 1], the surest first.

    The strictest place at which these pictures, in the arrays `certify_threshold` takes, leave hardly a doubt; 0 where
    there is none. A walk that begins at the strictest threshold of all ends at the first mislabelled picture there:
    with 1 % of such labels and 400 pictures it comes to a promise in 51 % of draws, begun here in 89 %.
    Source: Laufer-Goldshtein et al. 2023, arXiv:2210.07913 (the order of tests from a part of the data of its own).
    """
    order, wrong = rank_sure(scores, is_wrong, eligible)
    passed = np.flatnonzero(bdtr(wrong, np.arange(1, len(order) + 1), max_error) <= _SURE_START)
    return float(passed[0] + 1) / len(order) if len(passed) else 0.0


def certify_threshold(
    scores: FloatArray,
    is_wrong: BoolArray,
    eligible: BoolArray,
    *,
    max_error: float = 0.05,
    confidence: float = 0.95,
    start: float = 0.0,
    otherwise: float | None = None,
) -> Promise:
    """The lowest confidence threshold whose joint rule still carries the promise.

    scores (n,) higher is surer; is_wrong (n,); eligible (n,) False where another rule defers already (out of domain).
    Thresholds are tried from the one that accepts the share `start` (chosen on other pictures), or the strictest that
    could pass, one picture at a time; at each, k accepted and e wrong, the claim "risk > max_error" is rejected while
    P(Bin(k, max_error) <= e) <= 1 - confidence; the first that is not ends the walk (fixed sequence, so no correction
    for the number of tries). The threshold is the (k+1)-th score and only scores strictly above it count, so ties are
    never split. Where none passes it is `otherwise`, 1 - max_error by default. Pictures must be independent of each
    other: of a group, such as the copies of one, give one. None of it holds for out-of-fold predictions: each comes
    from another model than the one promised for.
    Source: Geifman and El-Yaniv 2017; Angelopoulos et al. 2021 (learn then test).
    """
    if not (0 < max_error < 1 and 0 < confidence < 1):
        raise InvalidInput("promise", got=(max_error, confidence), want="two shares between 0 and 1")
    order, wrong = rank_sure(scores, is_wrong, eligible)
    ranked = np.asarray(scores)[order]
    needed = labels_needed(max_error, confidence=confidence)
    first = max(needed, math.ceil(start * len(order)))
    threshold = None
    if len(order) >= first:
        below = np.append(ranked, np.nextafter(ranked[-1], -np.inf))  # the last threshold accepts every picture
        thresholds = below[first:]
        counts = np.searchsorted(-ranked, -thresholds, side="left")  # strictly above each threshold
        is_test = counts >= first  # ties hold the others below the first count: these were no tests
        risky = bdtr(wrong[np.maximum(counts, 1) - 1], counts, max_error) > 1 - confidence
        failed = np.flatnonzero(is_test & risky)
        passed = np.flatnonzero(is_test[: failed[0] if len(failed) else None])
        if len(passed):
            threshold = float(thresholds[passed[-1]])
    is_certified = threshold is not None
    if threshold is None:
        threshold = 1.0 - max_error if otherwise is None else otherwise
    k = int((ranked > threshold).sum())
    return Promise(
        threshold=threshold,
        max_error=max_error,
        confidence=confidence,
        is_certified=is_certified,
        n_calibration=len(scores),
        n_accepted=k,
        n_wrong=int(wrong[k - 1]) if k else 0,
        n_needed=needed,
    )


def rank_sure(scores: FloatArray, is_wrong: BoolArray, eligible: BoolArray) -> tuple[IntArray, IntArray]:
    """Which pictures, the surest first, and how many are wrong up to each; both (number of eligible,)."""
    picked = np.flatnonzero(eligible)
    order = picked[np.argsort(-scores[picked], kind="stable")]
    return order.astype(np.int64), np.cumsum(is_wrong[order]).astype(np.int64)
