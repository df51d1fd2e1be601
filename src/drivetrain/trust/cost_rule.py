"""What a model may decide alone when an error and a person's look have a price: Chow's rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from drivetrain.arrays import BoolArray, FloatArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import bootstrap_interval

__all__ = ["CostRule", "cost_threshold", "measure_cost_rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRule:
    """Decide alone where confidence is strictly above `threshold`; what that costs a picture, in the unit given."""

    cost_error: float  # of one wrong decision
    cost_review: float  # of one picture that a person looks at
    threshold: float
    confidence: float
    n_calibration: int
    n_accepted: int
    n_wrong: int  # among the accepted
    cost: float  # a picture, expected; `_low` and `_high` are the ends of a 95 % interval
    cost_low: float
    cost_high: float
    cost_alone: float  # a picture, were none left to a person
    error_high: float  # no more of its own decisions are wrong, with `confidence`: exact, for this threshold saw none

    @property
    def coverage(self) -> float:
        """The share of the calibration pictures that it decides by itself."""
        return self.n_accepted / self.n_calibration if self.n_calibration else 0.0

    @property
    def statement(self) -> str:
        """For a person."""
        if not self.n_calibration:
            return "No estimate of what the cost rule costs: there are no pictures kept apart."
        told = "It decided none of these by itself: there is nothing to count errors among."
        if self.n_accepted:
            told = (
                f"Of its own decisions at most {100 * self.error_high:.1f} % are wrong "
                f"({100 * self.confidence:g} % confidence, {self.n_wrong} of {self.n_accepted})."
            )
        return (
            f"It decides by itself where an error is expected to cost less than a person's look "
            f"({self.cost_error:g} an error, {self.cost_review:g} a look): {100 * self.coverage:.0f} % of pictures. "
            f"That costs {self.cost:.4g} a picture (95 % interval {self.cost_low:.4g} to {self.cost_high:.4g}, from "
            f"{self.n_calibration} kept apart); a person for each {self.cost_review:.4g}, nobody at all "
            f"{self.cost_alone:.4g}. {told}"
        )


def cost_threshold(*, cost_error: float, cost_review: float) -> float:
    """The confidence above which to decide alone: defer iff 1 - p > cost_review / cost_error; never below 0.

    "Above" is strict where it is served, so this is the next number below 1 - cost_review / cost_error.
    Source: Chow 1970, IEEE Transactions on Information Theory 16(1).
    """
    if not (0 < cost_error < float("inf") and 0 < cost_review < float("inf")):
        raise InvalidInput("costs", got=(cost_error, cost_review), want="two numbers above 0")
    return max(0.0, float(np.nextafter(1 - cost_review / cost_error, -1.0)))


def measure_cost_rule(
    scores: FloatArray,
    is_wrong: BoolArray,
    eligible: BoolArray,
    *,
    cost_error: float,
    cost_review: float,
    confidence: float = 0.95,
) -> CostRule:
    """The rule, and its cost on pictures that shaped neither the scores nor it; arrays as for `certify_threshold`.

    The threshold comes of the costs alone, so the errors above it are binomial and their bound is exact (Clopper and
    Pearson 1934); the cost's interval is a percentile bootstrap.
    """
    threshold = cost_threshold(cost_error=cost_error, cost_review=cost_review)
    accepted = eligible & (scores > threshold)
    n, k, wrong = len(scores), int(accepted.sum()), int((accepted & is_wrong).sum())
    costs = np.where(accepted, np.where(is_wrong, cost_error, 0.0), cost_review)
    low, high = bootstrap_interval(costs) if n else (0.0, 0.0)
    return CostRule(
        cost_error=cost_error,
        cost_review=cost_review,
        threshold=threshold,
        confidence=confidence,
        n_calibration=n,
        n_accepted=k,
        n_wrong=wrong,
        cost=float(costs.mean()) if n else 0.0,
        cost_low=low,
        cost_high=high,
        cost_alone=cost_error * float(is_wrong.mean()) if n else 0.0,
        error_high=float(betaincinv(wrong + 1, k - wrong, confidence)) if wrong < k else 1.0,
    )
