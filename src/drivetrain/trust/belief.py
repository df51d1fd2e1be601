"""What someone believed of a model before, and what the pictures leave of it. Shown; nothing is decided by it.

Of two models: `Prior`, the share of their disagreements that one wins. Of one: `ErrorPrior`, the share it has wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv

from drivetrain.errors import InvalidConfig

__all__ = ["Belief", "ErrorBelief", "ErrorPrior", "Prior"]

_SURE = 0.9  # how sure the two answers are: a share below the first, or above the second, surprises once in twenty
_MOST = 1e6  # disagreements, or pictures, that a prior may be worth
_ALONE = 20.0  # pictures that one release is worth at most: how much releases vary it cannot say
_LEAST = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """A Beta distribution of the share of disagreements won: of the pictures that one model alone has right."""

    wins: float
    losses: float

    def __post_init__(self) -> None:
        for value in (self.wins, self.losses):
            if not (np.isfinite(value) and 0 < value <= _MOST):
                raise InvalidConfig("prior", got=f"Beta({self.wins:g}, {self.losses:g})", want="two numbers above 0")

    @classmethod
    def between(cls, low: float, high: float) -> Prior:
        """The Beta of two answers, both shares in (0, 1): below `low` 1 chance in 20, above `high` 1 in 20.

        Raises InvalidConfig where they are no such shares, or so close that they claim more than a million pictures.
        """
        if not 0 < low < high < 1:
            raise InvalidConfig("prior", got=f"{low:g} to {high:g}", want="two shares above 0 and below 1, low first")
        tail = (1 - _SURE) / 2

        def fit_wins(losses: float) -> float:  # so many wins that `tail` lies below `low`
            def excess(log_wins: float) -> float:
                return float(betainc(np.exp(log_wins), losses, low)) - tail

            return float(np.exp(brentq(excess, -15.0, 25.0)))

        def excess_above(log_losses: float) -> float:
            losses = float(np.exp(log_losses))
            return float(betainc(fit_wins(losses), losses, high)) - (1 - tail)

        try:
            losses = float(np.exp(brentq(excess_above, -8.0, np.log(_MOST))))
            return cls(wins=fit_wins(losses), losses=losses)
        except ValueError:
            hint = "Leave more room between them."
            raise InvalidConfig("prior", got=f"{low:g} to {high:g}", want="a wider range", hint=hint) from None

    def update(self, n_better: float, n_worse: float) -> Belief:
        """The belief after so many disagreements won and lost; fractions where pictures count for less than one."""
        wins, losses = self.wins + n_better, self.losses + n_worse
        low, high = betaincinv(wins, losses, [0.025, 0.975])
        return Belief(
            prior_wins=self.wins,
            prior_losses=self.losses,
            prior_better=_chance_above_half(self.wins, self.losses),
            n_better=n_better,
            n_worse=n_worse,
            better=_chance_above_half(wins, losses),
            share=wins / (wins + losses),
            share_low=float(low),
            share_high=float(high),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Prior and posterior side by side. Source: the conjugate pair of Beta and binomial, Bayes 1763."""

    prior_wins: float  # a and b of the Beta
    prior_losses: float
    prior_better: float  # probability, before, that it wins more disagreements than it loses
    n_better: float  # disagreements won, as counted
    n_worse: float
    better: float  # the same probability after them
    share: float  # mean share of disagreements won, after
    share_low: float  # ends of the 95 % credible interval
    share_high: float

    @property
    def sentence(self) -> str:
        """Plain words."""
        return (
            f"With the prior that was given, Beta({self.prior_wins:.3g}, {self.prior_losses:.3g}), the probability "
            f"that the model is the better one was {_show_chance(self.prior_better)} before these pictures and is "
            f"{_show_chance(self.better)} after them; of the pictures that one of the two alone has right it wins "
            f"{100 * self.share:.0f} % (95 % credible, {100 * self.share_low:.0f} to {100 * self.share_high:.0f})."
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPrior:
    """A Beta distribution of the share of wrong decisions: as if so many wrong and right ones had been seen."""

    wrong: float
    right: float

    def __post_init__(self) -> None:
        for value in (self.wrong, self.right):
            if not (np.isfinite(value) and 0 < value <= _MOST):
                raise InvalidConfig("prior", got=f"Beta({self.wrong:g}, {self.right:g})", want="two numbers above 0")

    @classmethod
    def expected(cls, share: float, *, pictures: float) -> ErrorPrior:
        """Two answers: the share expected, in (0, 1), and how sure: as if so many pictures had been seen."""
        if not (0 < share < 1 and 0 < pictures <= _MOST):
            want = "a share above 0 and below 1, and pictures above 0, at most a million"
            raise InvalidConfig("prior", got=f"{share:g}, as sure as {pictures:g} pictures", want=want)
        return cls(wrong=share * pictures, right=(1 - share) * pictures)

    @classmethod
    def of_releases(cls, counts: Sequence[tuple[float, float]]) -> ErrorPrior:
        """From (wrong, decided) of earlier releases: the less they differ among each other, the surer it is.

        Never surer than all their pictures together. Moments of the beta-binomial, Kleinman 1973. Raises InvalidConfig
        where nothing was decided.
        """
        wrong, n = (np.array(column, dtype=np.float64) for column in zip(*counts, strict=True)) if counts else (0, 0)
        total = float(np.sum(n))
        if total <= 0 or np.any(np.asarray(n) <= 0) or np.any(np.asarray(wrong) < 0) or np.any(wrong > n):
            raise InvalidConfig("prior", got="no decisions of earlier releases", want="wrong and decided ones of each")
        share = (float(np.sum(wrong)) + 0.5) / (total + 1)
        k = len(counts)
        if k == 1:
            return cls.expected(share, pictures=max(_LEAST, min(total, _ALONE)))
        spread = float(np.sum(n * (wrong / n - share) ** 2)) / (share * (1 - share))
        room = total - float(np.sum(n**2)) / total - (k - 1)
        alike = (spread - (k - 1)) / room if room > 0 else 1.0  # correlation within a release
        worth = total if alike <= 0 else 1 / alike - 1
        return cls.expected(share, pictures=min(max(worth, _LEAST), total, _MOST))

    def update(self, n_wrong: float, n_right: float, *, bound: float | None = None) -> ErrorBelief:
        """The belief after so many decisions; fractions where labels stand for less than one."""
        wrong, right = self.wrong + n_wrong, self.right + n_right
        low, high = betaincinv(wrong, right, [0.025, 0.975])
        return ErrorBelief(
            prior_wrong=self.wrong,
            prior_right=self.right,
            n_wrong=n_wrong,
            n_right=n_right,
            share=wrong / (wrong + right),
            share_low=float(low),
            share_high=float(high),
            bound=bound,
            prior_below=None if bound is None else float(betainc(self.wrong, self.right, bound)),
            below=None if bound is None else float(betainc(wrong, right, bound)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBelief:
    """Prior and posterior of the share of wrong decisions. Source: Beta and binomial, Bayes 1763."""

    prior_wrong: float  # a and b of the Beta
    prior_right: float
    n_wrong: float
    n_right: float
    share: float  # mean, after
    share_low: float  # ends of the 95 % credible interval
    share_high: float
    bound: float | None
    prior_below: float | None  # probability, before, that fewer than `bound` are wrong
    below: float | None  # the same after

    @property
    def sentence(self) -> str:
        """Plain words."""
        pictures = self.prior_wrong + self.prior_right
        before = f"{100 * self.prior_wrong / pictures:.3g} % wrong, as sure as {pictures:,.3g} pictures"
        told = (
            f"Believed before: {before}. With what was seen: {100 * self.share:.3g} % "
            f"(95 % credible, {100 * self.share_low:.2g} to {100 * self.share_high:.2g})"
        )
        if self.bound is None or self.below is None or self.prior_below is None:
            return f"{told}."
        return (
            f"{told}; the chance that it is below {100 * self.bound:.3g} % was {_show_chance(self.prior_below)} "
            f"and is {_show_chance(self.below)}."
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        return {**asdict(self), "sentence": self.sentence}


def _show_chance(chance: float) -> str:
    """0.973 -> 97 %; neither 0 nor 100 % is ever reached."""
    if chance < 0.005:
        return "below 0.5 %"
    if chance > 0.995:
        return "above 99.5 %"
    return f"{100 * chance:.0f} %"


def _chance_above_half(wins: float, losses: float) -> float:
    return float(betainc(losses, wins, 0.5))  # 1 - I_half(wins, losses), without the loss of digits
