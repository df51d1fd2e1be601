"""Two versions that share the traffic: is the candidate wrong more often? Evidence that may be looked at at any time.

For deployments in which the two cannot answer the same requests. One outcome a key, with the probability that the key's
first request went to the candidate; shares may change as they like, and the rates may drift, if both drift together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from drivetrain.errors import InvalidInput

__all__ = ["CanarySequence", "log_e_shares"]

_PRIOR = 0.5, 4.5  # wrong and right outcomes made up for each arm: a rate of one in ten


@dataclass(slots=True)
class CanarySequence:
    """Log evidence of harm; null: the candidate is wrong at most as often as the baseline.

    Each outcome multiplies by its probability under the rates seen so far, over that under one rate for both, weighed
    by the shares. The mean of that factor is 1 for equal rates, and less where the candidate is better.
    Source: after Turner, Ly and Gruenwald 2024, for shares that change.
    """

    log_e: float = 0.0
    candidate_wrong: float = 0.0
    candidate_n: int = 0
    baseline_wrong: float = 0.0
    baseline_n: int = 0

    def add(self, *, share: float, is_candidate: bool, is_wrong: bool) -> None:
        """One key's outcome; `share`: the probability with which it was given to the candidate, in (0, 1).

        A key that could go one way only tells nothing of the difference: raises InvalidInput.
        """
        if not 0 < share < 1:
            raise InvalidInput(
                "share", got=share, want="above 0 and below 1", hint="Leave out keys that had no choice."
            )
        baseline, candidate = self._rates()
        one = share * candidate + (1 - share) * baseline
        mine = candidate if is_candidate else baseline
        self.log_e += float(np.log(mine / one) if is_wrong else np.log((1 - mine) / (1 - one)))
        if is_candidate:
            self.candidate_wrong += is_wrong
            self.candidate_n += 1
        else:
            self.baseline_wrong += is_wrong
            self.baseline_n += 1

    def _rates(self) -> tuple[float, float]:
        """(baseline, candidate) from the past, shrunken; the candidate's never below the baseline's."""
        wrong, right = _PRIOR
        baseline = (self.baseline_wrong + wrong) / (self.baseline_n + wrong + right)
        # the candidate's few outcomes are drawn towards twice the baseline's rate: the harm worth finding early
        weight = wrong + right
        towards = min(2 * baseline, (1 + baseline) / 2)
        candidate = (self.candidate_wrong + weight * towards) / (self.candidate_n + weight)
        return baseline, max(baseline, candidate)


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
