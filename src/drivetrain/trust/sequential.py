"""Evidence that may be looked at after every event: e-processes and confidence sequences for shares, in log space.

An e-process begins at 1 and, while its null hypothesis is true, has a mean of at most 1 whenever one chooses to look;
so it exceeds 1/alpha with probability at most alpha, ever (Ville 1939). All here depend on counts alone, so evidence is
recomputed from what is stored, in any number of steps. Counts may be arrays; the shapes are those of the counts.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, betaln, logsumexp

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput

__all__ = [
    "Side",
    "log_e_mean",
    "log_e_rate",
    "log_e_superior",
    "rate_interval",
]

Side = Literal["above", "below"]

_FLAT = (1.0, 1.0)
_BETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # shares of the largest bet allowed
_TINY = 1e-280  # below it a double soon underflows: the continued fraction takes over
_STEPS_MOST = 20_000
_CONVERGED = 1e-14


def log_e_rate(
    hits: ArrayLike, misses: ArrayLike, *, null: float, side: Side, prior: tuple[float, float] = _FLAT
) -> FloatArray:
    """Log evidence that the rate of hits lies below `null` (null: it is at least that), or above it.

    The likelihoods of all rates on that side, mixed by a Beta prior, over that of `null`. Valid for rates that drift,
    too, where all of them obey the null hypothesis. The prior moves the power, never the validity.
    Source: Robbins 1970; Turner, Ly and Gruenwald 2024. Raises InvalidInput unless 0 < null < 1.
    """
    _check_share("null", null)
    s, f = _counts(hits, misses)
    a, b = prior
    if side == "above":
        mass, mass_before = _log_betainc(1 - null, b + f, a + s), _log_betainc(1 - null, b, a)
    else:
        mass, mass_before = _log_betainc(null, a + s, b + f), _log_betainc(null, a, b)
    mixed = betaln(a + s, b + f) - betaln(a, b) + mass - mass_before
    return np.asarray(mixed - s * np.log(null) - f * np.log1p(-null))


def rate_interval(hits: int, n: int, *, alpha: float = 0.05, prior: tuple[float, float] = _FLAT) -> tuple[float, float]:
    """Interval that holds the rate at all times at once with probability 1 - alpha, however often it is looked at.

    Nested counts give intervals that need not be nested; a caller may keep their intersection.
    Source: Beta mixture, Robbins 1970. Raises InvalidInput unless 0 <= hits <= n and 0 < alpha < 1.
    """
    _check_share("alpha", alpha)
    s, f = (float(value) for value in _counts(hits, n - hits))
    a, b = prior
    if n == 0:
        return 0.0, 1.0
    mixed = float(betaln(a + s, b + f) - betaln(a, b))

    def excess(rate: float) -> float:
        return mixed - _power(s, rate) - _power(f, 1 - rate) + float(np.log(alpha))

    middle = s / n
    low = 0.0 if s == 0 else brentq(excess, 0.0, middle) if excess(0.0) > 0 else 0.0
    high = 1.0 if f == 0 else brentq(excess, middle, 1.0) if excess(1.0) > 0 else 1.0
    return float(low), float(high)


def log_e_superior(wins: ArrayLike, losses: ArrayLike, *, prior: tuple[float, float] = _FLAT) -> FloatArray:
    """Log evidence that the candidate wins more of the disagreements than it loses: a sequential McNemar test.

    A win is a picture that it alone has right. Pictures on which both are right, or both wrong, add nothing.
    Swap the two for evidence of harm. Also the Bayes factor against "as good" under the prior cut to (1/2, 1].
    """
    return log_e_rate(wins, losses, null=0.5, side="above", prior=prior)


def log_e_mean(wins: ArrayLike, ties: ArrayLike, losses: ArrayLike, *, margin: float) -> FloatArray:
    """Log evidence that the mean of 1 a win, 0 a tie, -1 a loss is above -margin; null: at most that.

    margin 0.02: "not worse by 2 points". A negative margin asks for a gain of as much. Ties count, yet need no label
    where the two models agree. Wins and losses swapped, and the margin -m, test for a harm greater than m.
    A mean of constant bets. Source: Waudby-Smith and Ramdas 2024. Raises InvalidInput unless -1 < margin < 1.
    """
    if not -1 < margin < 1:
        raise InvalidInput("margin", got=margin, want="a number above -1 and below 1")
    w, t, lost = _counts(wins, ties, losses)
    logs = []
    for share in _BETS:
        bet = share / (1 - margin)  # the worst that can come, a loss, multiplies by 1 - share
        logs.append(w * np.log1p(bet * (1 + margin)) + t * np.log1p(bet * margin) + lost * np.log1p(-share))
    return np.asarray(logsumexp(np.stack(logs), axis=0) - np.log(len(_BETS)))


def _counts(*counts: ArrayLike) -> list[FloatArray]:
    """As float64; whole numbers or fractions of them, never below 0."""
    arrays: list[FloatArray] = [np.asarray(count, dtype=np.float64) for count in counts]
    if any(not (np.isfinite(array) & (array >= 0)).all() for array in arrays):
        raise InvalidInput("counts", got=", ".join(str(array.tolist())[:40] for array in arrays), want="0 or more")
    return arrays


def _check_share(what: str, value: float) -> None:
    if not 0 < value < 1:
        raise InvalidInput(what, got=value, want="a number above 0 and below 1")


def _power(count: float, rate: float) -> float:
    """count * log(rate), with 0 log 0 = 0."""
    if count == 0:
        return 0.0
    return count * float(np.log(rate)) if rate > 0 else -float("inf")


def _log_betainc(x: float, a: ArrayLike, b: ArrayLike) -> FloatArray:
    """log of the regularised incomplete beta function I_x(a, b), where it underflows too."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    lower = betainc(a, b, x)
    with np.errstate(divide="ignore"):
        logs = np.where(lower < 0.5, np.log(lower), np.log1p(-betaincc(a, b, x)))
    if (lower < _TINY).any():
        logs = np.where(lower < _TINY, _log_fraction(x, a, b), logs)
    return np.asarray(logs)


def _log_fraction(x: float, a: FloatArray, b: FloatArray) -> FloatArray:
    """The same by its continued fraction, for x below the mean. Source: DLMF 8.17.22, by Lentz's method."""
    front = a * np.log(x) + b * np.log1p(-x) - np.log(a) - betaln(a, b)
    with np.errstate(all="ignore"):  # places where x is above the mean are thrown away by the caller
        c, d = np.ones_like(front), 1 / (1 - (a + b) * x / (a + 1))
        total = d.copy()
        for m in range(1, _STEPS_MOST):
            even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
            odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
            for step in (even, odd):
                d, c = 1 / (1 + step * d), 1 + step / c
                total *= c * d
            if not (np.abs(c * d - 1) > _CONVERGED).any():
                break
        return np.asarray(front + np.log(total))
