"""How long a gate will likely take before it starts: simulated, as the gates themselves count.

But for two versions that share the traffic, where the count is that of theory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput

from .canary_sequence import nearest_rates
from .sequential import log_e_mean, log_e_rate, log_e_superior

__all__ = ["GatePlan", "plan_bound", "plan_margin", "plan_parted", "plan_superiority"]

_REPEATS = 400
_GROWTH = 1.02  # looks are this far apart, so a plan is up to 2 % too long
_LEAST = 1e-4  # no rate is thought to be smaller
_MOST = 1_000_000  # requests; a gate that takes more is said not to pass

Counts = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """Requests until a gate passes, if the rates are as assumed. None: more than a million."""

    median: int | None
    p90: int | None  # nine of ten roll-outs pass by then
    labels: int | None  # of the median, those that need a person


def plan_bound(error: float, *, bound: float, alpha: float = 0.05, prior: tuple[float, float] = (1, 1)) -> GatePlan:
    """To show that fewer than `bound` of the automatic decisions are wrong, where `error` are; each needs a label."""
    _check_rates(error)
    return _simulate(
        (error, 1 - error, 0.0),
        lambda wrong, right, _: log_e_rate(wrong, right, null=bound, side="below", prior=prior),
        alpha=alpha,
        labelled=1.0,
    )


def plan_superiority(
    *, wins: float, losses: float, alpha: float = 0.05, prior: tuple[float, float] = (1, 1)
) -> GatePlan:
    """To show that the candidate is better, where it alone is right in `wins` of the requests, alone wrong in `losses`.

    Only those need a label, and those on which the two differ and are both wrong, which are not counted here.
    """
    _check_rates(wins, losses)
    return _simulate(
        (wins, losses, 1 - wins - losses),
        lambda won, lost, _: log_e_superior(won, lost, prior=prior),
        alpha=alpha,
        labelled=wins + losses,
    )


def plan_margin(*, wins: float, losses: float, margin: float, alpha: float = 0.05) -> GatePlan:
    """To show that the candidate is not worse by `margin`."""
    _check_rates(wins, losses)
    return _simulate(
        (wins, losses, 1 - wins - losses),
        lambda won, lost, tied: log_e_mean(won, tied, lost, margin=margin),
        alpha=alpha,
        labelled=wins + losses,
    )


def plan_parted(*, candidate: float, incumbent: float, share: float, margin: float, alpha: float = 0.05) -> GatePlan:
    """To show that the candidate's rate is not worse by `margin`, where each key goes to one, `share` to the candidate.

    Keys, each with a label: what one tells on average is the relative entropy to the nearest rates that are worse by
    the margin. Half of the roll-outs pass by about then; no p90. Source: Gruenwald et al. 2024.
    Raises InvalidInput where a rate or the share is not between 0 and 1.
    """
    _check_rates(candidate)
    _check_rates(incumbent)
    if not 0 < share < 1 or not 0 < alpha < 1:
        raise InvalidInput("share", got=f"{share:g}, alpha {alpha:g}", want="above 0 and below 1")
    new, old = (min(max(rate, _LEAST), 1 - _LEAST) for rate in (candidate, incumbent))
    if new - old >= margin:
        return GatePlan(median=None, p90=None, labels=None)
    p, q = nearest_rates(old, new, share=share, margin=margin)
    each = share * _entropy(new, q) + (1 - share) * _entropy(old, p)
    n = np.log(1 / alpha) / each
    median = None if n > _MOST else int(np.ceil(n))
    return GatePlan(median=median, p90=None, labels=median)


def _entropy(p: float, q: float) -> float:
    """Of a coin of p relative to one of q."""
    return float(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def _check_rates(*rates: float) -> None:
    if any(not 0 <= rate <= 1 for rate in rates) or sum(rates) > 1:
        raise InvalidInput("rates", got=rates, want="shares of the requests, from 0 to 1 together")


def _simulate(rates: tuple[float, float, float], log_e: Counts, *, alpha: float, labelled: float) -> GatePlan:
    if not 0 < alpha < 1:
        raise InvalidInput("alpha", got=alpha, want="a number above 0 and below 1")
    looks = np.unique(np.round(np.geomspace(1, _MOST, int(np.log(_MOST) / np.log(_GROWTH)))).astype(np.int64))
    rng = np.random.default_rng(0)
    steps = np.diff(looks, prepend=0)
    counts = rng.multinomial(np.broadcast_to(steps, (_REPEATS, len(steps))), rates).cumsum(axis=1)
    passed = log_e(counts[..., 0], counts[..., 1], counts[..., 2]) >= np.log(1 / alpha)
    taken = np.where(passed.any(axis=1), looks[passed.argmax(axis=1)], np.inf)

    def at(quantile: float) -> int | None:
        value = float(np.quantile(taken, quantile, method="higher"))
        return int(value) if np.isfinite(value) else None

    median = at(0.5)
    return GatePlan(median=median, p90=at(0.9), labels=None if median is None else round(median * labelled))
