"""A rate from audits drawn with known, changing probabilities: intervals that hold at any time, in log space.

Each decision that could have been audited is an event: with probability p it was looked at and found right or wrong;
else it is not known. p may depend on the picture and on the past, never on the answer. What was found, weighed by 1/p,
corrects a running guess, so the mean is without bias whatever p was, and a good guess narrows the interval. The
intervals come of bets against each candidate value of the rate. Order counts: events are given as they came.
Source: Waudby-Smith and Ramdas 2024, section 4; Karampatziakis, Mineiro and Ramdas 2021; Waudby-Smith et al. 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput

__all__ = ["AuditSequence"]

_CELLS = 1_000  # the rates 1/1000 to 999/1000 are bet against
_GRID: FloatArray = np.arange(1, _CELLS) / _CELLS
_CUT = 0.5  # a bet risks at most half of what it could lose
_TARGET = 0.05  # the level that the size of bets is set for; any level may be asked
_LEAST_VARIANCE = 1e-6


@dataclass(slots=True)
class _Bets:
    """Wealth of betting that the mean of x is larger than m, for each m of the grid."""

    log_wealth: FloatArray = field(default_factory=lambda: np.zeros(_CELLS - 1))
    best: FloatArray = field(default_factory=lambda: np.zeros(_CELLS - 1))  # its maximum so far
    n: int = 0
    mean: float = 0.5  # with one made-up event, so that the first bets have something to go by
    squares: float = 0.25  # about the running mean, with the same event

    def add(self, x: float, *, lowest: float) -> None:
        """`lowest`, at most 0, is the least that x could have been: no bet may lose all."""
        t = self.n + 1
        variance = max(self.squares / t, _LEAST_VARIANCE)
        bet = np.sqrt(2 * np.log(1 / _TARGET) / (variance * t * np.log(1 + t)))
        self.log_wealth += np.log1p(np.minimum(bet, _CUT / (_GRID - lowest)) * (x - _GRID))
        np.maximum(self.best, self.log_wealth, out=self.best)
        self.n = t
        self.mean += (x - self.mean) / (t + 1)
        self.squares += (x - self.mean) ** 2


@dataclass(slots=True)
class AuditSequence:
    """The rate of wrong decisions, from audits with recorded probabilities, none of which is below `floor`."""

    floor: float = 1.0
    _wrong: _Bets = field(default_factory=_Bets)
    _right: _Bets = field(default_factory=_Bets)
    n: int = 0  # decisions
    n_audited: int = 0
    _sum: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 1:
            raise InvalidInput("floor", got=self.floor, want="above 0, at most 1: what is never audited cannot be told")

    def add(self, probability: float, *, is_wrong: bool | None) -> None:
        """One decision: it would be audited with `probability`; `is_wrong` is None where it was not.

        Raises InvalidInput unless floor <= probability <= 1, and where a sure audit was not made.
        """
        if not self.floor <= probability <= 1:
            raise InvalidInput("probability", got=probability, want=f"{self.floor:g} to 1")
        if probability == 1 and is_wrong is None:
            raise InvalidInput("is_wrong", got="no audit", want="one: its probability was 1")
        guess = (self._sum + 0.5) / (self.n + 1)
        guess = min(max(guess, 0.0), 1.0)
        correction = 0.0 if is_wrong is None else (is_wrong - guess) / probability
        largest = 1 / self.floor - 1
        self._wrong.add(guess + correction, lowest=-guess * largest)
        self._right.add(1 - guess - correction, lowest=-(1 - guess) * largest)
        self.n += 1
        self.n_audited += is_wrong is not None
        self._sum += guess + correction

    @property
    def estimate(self) -> float | None:
        """The share of wrong decisions, without bias; may lie outside of 0 to 1 while n is small. None of nothing."""
        return self._sum / self.n if self.n else None

    def interval(self, *, alpha: float = 0.05) -> tuple[float, float]:
        """Both ends hold at all times at once with probability 1 - alpha; the running intersection."""
        return self.low(alpha=alpha / 2), self.high(alpha=alpha / 2)

    def low(self, *, alpha: float) -> float:
        """The rate lies below this, at any time, with probability of at most alpha."""
        return _bound(self._wrong, alpha)

    def high(self, *, alpha: float) -> float:
        """The rate lies above this, at any time, with probability of at most alpha."""
        return 1.0 - _bound(self._right, alpha)

    def log_e_below(self, rate: float) -> float:
        """Log evidence now that the rate lies below `rate`; null: it is at least that."""
        return _evidence(self._right, 1 - rate)

    def log_e_above(self, rate: float) -> float:
        """Log evidence now that the rate lies above `rate`; null: it is at most that."""
        return _evidence(self._wrong, rate)


def _bound(bets: _Bets, alpha: float) -> float:
    """Every mean up to here has been ruled out: the larger the mean, the less is won against it."""
    if not 0 < alpha < 1:
        raise InvalidInput("alpha", got=alpha, want="a number above 0 and below 1")
    left = np.flatnonzero(bets.best < np.log(1 / alpha))
    first = int(left[0]) if len(left) else _CELLS - 1
    return float(_GRID[first - 1]) if first else 0.0


def _evidence(bets: _Bets, mean: float) -> float:
    """Against a mean between two cells, the wealth of the larger: less is won against it."""
    if not 0 < mean < 1:
        raise InvalidInput("rate", got=mean, want="a number above 0 and below 1")
    place = int(np.ceil(round(mean * _CELLS, 9))) - 1
    return float(bets.log_wealth[min(place, _CELLS - 2)])
