"""Two versions that share the traffic: is the candidate wrong more often? Evidence that may be looked at at any time.

For deployments in which the two cannot answer the same requests. One outcome a key, with the probability that the key's
first request went to the candidate; shares may change as they like, and the rates may drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from drivetrain.errors import InvalidInput

__all__ = ["CanarySequence", "Shows", "log_e_shares", "nearest_rates"]

Shows = Literal["worse", "not worse"]

_PRIOR = 0.5, 4.5  # wrong and right outcomes made up for each arm: a rate of one in ten
_WEIGHT = sum(_PRIOR)  # of the guess that the candidate's few outcomes are drawn towards, where harm is looked for
_WEIGHT_GOOD = 50.0  # the same for a promotion, which takes long: early luck must not lead the bets
_EDGE = 1e-6  # no rate is guessed nearer to 0 or 1
_STEPS_MOST = 100
_CLOSE = 1e-14


@dataclass(slots=True)
class CanarySequence:
    """Log evidence that the candidate's rate of wrong outcomes is worse than the baseline's by more than `margin`.

    Or, with `shows` "not worse", that it is not: null: it is worse by at least `margin`. Each outcome multiplies by its
    probability under the rates seen so far, over that under the nearest rates that obey the null. The mean of that
    factor is 1 on the null's edge, and at most 1 inside, for any rates, drifting or not, whatever the shares.
    Source: after Turner, Ly and Gruenwald 2024, for shares that change; the projection: Gruenwald et al. 2024.
    """

    log_e: float = 0.0
    candidate_wrong: float = 0.0
    candidate_n: int = 0
    baseline_wrong: float = 0.0
    baseline_n: int = 0
    margin: float = 0.0
    shows: Shows = "worse"

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise InvalidInput("margin", got=self.margin, want="0 to below 1")

    def add(self, *, share: float, is_candidate: bool, is_wrong: bool) -> None:
        """One key's outcome; `share`: the probability with which it was given to the candidate, in (0, 1).

        A key that could go one way only tells nothing of the difference: raises InvalidInput.
        """
        if not 0 < share < 1:
            raise InvalidInput(
                "share", got=share, want="above 0 and below 1", hint="Leave out keys that had no choice."
            )
        baseline, candidate = self._rates()
        is_bet = candidate - baseline > self.margin if self.shows == "worse" else candidate - baseline < self.margin
        if is_bet:
            null = nearest_rates(baseline, candidate, share=share, margin=self.margin)
            mine, one = (candidate, null[1]) if is_candidate else (baseline, null[0])
            self.log_e += math.log(mine / one) if is_wrong else math.log((1 - mine) / (1 - one))
        if is_candidate:
            self.candidate_wrong += is_wrong
            self.candidate_n += 1
        else:
            self.baseline_wrong += is_wrong
            self.baseline_n += 1

    def _rates(self) -> tuple[float, float]:
        """(baseline, candidate) from the past, shrunken: what the next outcome is bet on."""
        wrong, right = _PRIOR
        baseline = (self.baseline_wrong + wrong) / (self.baseline_n + wrong + right)
        if self.shows == "worse":  # towards twice the rate that is borne: the harm worth finding early
            borne = min(baseline + self.margin, (1 + baseline) / 2)
            towards, weight = min(2 * borne, (1 + borne) / 2), _WEIGHT
        else:  # towards as good; where better is to be shown, towards half of the errors
            towards, weight = baseline if self.margin else baseline / 2, _WEIGHT_GOOD
        candidate = (self.candidate_wrong + weight * towards) / (self.candidate_n + weight)
        return min(max(baseline, _EDGE), 1 - _EDGE), min(max(candidate, _EDGE), 1 - _EDGE)


def nearest_rates(baseline: float, candidate: float, *, share: float, margin: float) -> tuple[float, float]:
    """The rates (p, p + margin) nearest to those given, in relative entropy, arms weighed by their shares.

    All in (0, 1); margin in [0, 1). The arms' joint distribution is linear in the rates, so those that obey the null
    are a convex set, and the likelihood ratio to its nearest member is an e-value against all of it.
    """
    if margin == 0:
        both = share * candidate + (1 - share) * baseline
        return both, both
    low, high = 0.0, 1.0 - margin
    p = min(max((1 - share) * baseline + share * (candidate - margin), low + _EDGE), high - _EDGE)
    for _ in range(_STEPS_MOST):  # Newton's, and halves where it would leave the bracket
        q = p + margin
        slope = (1 - share) * (p - baseline) / (p * (1 - p)) + share * (q - candidate) / (q * (1 - q))
        bend = (1 - share) * _bend(p, baseline) + share * _bend(q, candidate)
        low, high = (low, p) if slope > 0 else (p, high)
        after = p - slope / bend
        after = after if low < after < high else (low + high) / 2
        if abs(after - p) < _CLOSE:
            break
        p = after
    return p, p + margin


def _bend(p: float, towards: float) -> float:
    """The slope of (p - towards) / (p (1 - p)); above 0."""
    return (p * p - 2 * p * towards + towards) / (p * (1 - p)) ** 2


def log_e_shares(counts: ArrayLike, shares: ArrayLike, *, weight: float = 100.0) -> float:
    """Log evidence that the arms' counts were not drawn with these shares: a fault in the routing, so stop and look.

    `counts` and `shares` (k,); shares add up to 1. `weight` is how close to the shares a fault is thought to lie:
    larger finds smaller faults, later. Source: Lindon and Malek 2022. Raises InvalidInput where sums are wrong.
    """
    n, p = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if n.shape != p.shape or n.ndim != 1 or len(n) < 2:
        raise InvalidInput("counts", got=f"shape {n.shape} for shares of shape {p.shape}", want="one count a share")
    if not (p > 0).all() or abs(p.sum() - 1) > 1e-9:
        raise InvalidInput("shares", got=p.tolist(), want="numbers above 0 that add up to 1")
    if not (n >= 0).all():
        raise InvalidInput("counts", got=n.tolist(), want="0 or more")
    prior = weight * len(p) * p

    def log_beta(values: np.ndarray) -> float:
        return float(gammaln(values).sum() - gammaln(values.sum()))

    return log_beta(prior + n) - log_beta(prior) - float((n * np.log(p)).sum())
