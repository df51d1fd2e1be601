"""How many more labels a promise takes, and whether a promised rule leaves too much to people."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from drivetrain.arrays import BoolArray, FloatArray
from drivetrain.trust.deferral import Promise, labels_needed, rank_sure

__all__ = ["DeferralLimit", "labels_more", "limit_deferral", "round_up"]

_MOST = 200_000  # accepted pictures: a promise that takes more is out of reach
_TRIED = 200  # places in the ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferralLimit:
    """The share left to people beside the largest that the user accepts."""

    most: float  # the largest share that may be left to a person
    n_calibration: int
    deferred: float  # of the calibration pictures, by the promised rule; all without a promise
    error_at_most: float | None  # wrong among the surest 1 - most of the pictures; None where others are flagged first
    n_more: int | None  # calibration pictures more that likely bring it to `most`; None: none will; 0: it is kept

    @property
    def is_kept(self) -> bool:
        """Whether the promised rule defers no more than that."""
        return self.deferred <= self.most

    def state(self, *, labels_each: int = 1) -> str:
        """For a person; it takes `labels_each` labelled pictures to have one that certifies."""
        share, most = f"{100 * self.deferred:.0f} %", f"{100 * self.most:g} %"
        if self.is_kept:
            return f"It leaves {share} to a person, within the {most} allowed."
        told = f"With this promise it leaves {share} to a person, more than the {most} allowed"
        if self.n_more is not None:
            in_all = labels_each * (self.n_calibration + self.n_more)
            return f"{told}: to keep to that takes about {round_up(in_all):,} labelled pictures like these in all."
        if self.error_at_most is None:
            return f"{told}: that many look unlike what it knows, whatever the labels say."
        return (
            f"{told}, and more labels will not help: of its surest {100 * (1 - self.most):g} % about "
            f"{100 * self.error_at_most:.1f} % are wrong. A better model would, or a promise of more errors."
        )


def labels_more(
    scores: FloatArray,
    is_wrong: BoolArray,
    eligible: BoolArray,
    *,
    max_error: float,
    confidence: float = 0.95,
    accept: float | None = None,
) -> int | None:
    """How many calibration pictures more, like these, a promise likely takes; None where no number will do.

    Arrays are those of `certify_threshold`. `accept` is the share of all pictures to be accepted; None is whatever
    share needs the fewest. An estimate, for which the errors among the k surest stand for what will be: the least m
    with P(Bin(m, max_error) <= m errors / k) <= 1 - confidence, times n / k.
    """
    order, wrong = rank_sure(scores, is_wrong, eligible)
    n = len(scores)
    if accept is not None:
        places = np.array([max(1, math.ceil(accept * n))])
    else:
        places = np.unique(np.linspace(1, max(1, len(order)), _TRIED).astype(np.int64))
    wanted = [
        math.ceil(needed * n / k)
        for k in places[places <= len(order)].tolist()
        if (needed := _accepted_needed(int(wrong[k - 1]) / k, max_error, confidence)) is not None
    ]
    return max(0, min(wanted) - n) if wanted else None


def limit_deferral(
    promise: Promise, scores: FloatArray, is_wrong: BoolArray, eligible: BoolArray, *, most: float
) -> DeferralLimit:
    """The promise beside the share `most` in (0, 1) that may be deferred; arrays are those it was certified on."""
    order, wrong = rank_sure(scores, is_wrong, eligible)
    k = max(1, math.ceil((1 - most) * len(scores)))
    deferred = 1 - promise.coverage
    return DeferralLimit(
        most=most,
        n_calibration=len(scores),
        deferred=deferred,
        error_at_most=float(wrong[k - 1]) / k if k <= len(order) else None,
        n_more=0
        if deferred <= most
        else labels_more(
            scores,
            is_wrong,
            eligible,
            max_error=promise.max_error,
            confidence=promise.confidence,
            accept=1 - most,
        ),
    )


def round_up(n: int) -> int:
    """To two digits: 1,234 -> 1,300. What is an estimate must not look like a count."""
    step = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // step) * step


def _accepted_needed(rate: float, max_error: float, confidence: float) -> int | None:
    """The fewest accepted pictures, `rate` of them wrong, that carry the promise."""

    def is_enough(m: int) -> bool:
        return bool(bdtr(math.ceil(rate * m - 1e-9), m, max_error) <= 1 - confidence)

    if rate >= max_error:
        return None
    low = high = labels_needed(max_error, confidence=confidence)
    while not is_enough(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
