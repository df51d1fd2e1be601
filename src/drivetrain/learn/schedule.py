"""Learning rates over a training: constant, or up and down once; and how a range of them is spread over a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drivetrain.errors import InvalidConfig

__all__ = ["FlatSchedule", "OneCycle", "Rate", "Rates", "Schedule", "anneal_cosine", "spread_rates"]

Rate = float | slice | Sequence[float]
_LOWER = 10  # slice(lr): the backbone's groups get this many times less than the head, as in fastai


Rates = tuple[tuple[float, ...] | None, float | None]


class Schedule(Protocol):
    """Learning rates and momentum by how much of the training is done."""

    @property
    def lrs(self) -> tuple[float, ...]:
        """The highest rate of each group of weights."""
        ...

    def at(self, done: float) -> Rates:
        """Rates of the groups and momentum with `done` of [0, 1] over; None: as the optimiser has them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatSchedule:
    """Rates that are set once, so that a callback may lower them."""

    lrs: tuple[float, ...]

    def at(self, done: float) -> Rates:
        return (self.lrs if done == 0 else None), None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle:
    """From lr / div up to lr, then down to lr / div_final, by cosines; momentum the other way round.

    Source: Smith 2018, arXiv:1803.09820, in fastai's form: cosines in place of straight lines.
    """

    lrs: tuple[float, ...]
    div: float = 25.0
    div_final: float = 1e5
    pct_start: float = 0.25  # share of the training that goes up
    moms: tuple[float, float, float] = (0.95, 0.85, 0.95)  # at the start, at the top, at the end

    def __post_init__(self) -> None:
        for name in ("div", "div_final"):
            if not getattr(self, name) >= 1:
                raise InvalidConfig(f"fit_one_cycle({name})", got=getattr(self, name), want="a number of at least 1")
        if not 0 <= self.pct_start <= 1:
            raise InvalidConfig("fit_one_cycle(pct_start)", got=self.pct_start, want="a share, 0 to 1")
        moms: Sequence[float] = self.moms
        if len(moms) != 3 or not all(0 <= mom < 1 for mom in moms):
            raise InvalidConfig("moms", got=moms, want="three numbers from 0 to below 1")

    def at(self, done: float) -> Rates:
        start, top, end = self.moms
        if done < self.pct_start:
            part = done / self.pct_start
            return tuple(anneal_cosine(lr / self.div, lr, part) for lr in self.lrs), anneal_cosine(start, top, part)
        part = (done - self.pct_start) / (1 - self.pct_start) if self.pct_start < 1 else 1.0
        return tuple(anneal_cosine(lr, lr / self.div_final, part) for lr in self.lrs), anneal_cosine(top, end, part)


def anneal_cosine(start: float, end: float, done: float) -> float:
    """Half a cosine from start (done 0) to end (done 1)."""
    return start + (1 + math.cos(math.pi * (1 - done))) * (end - start) / 2


def spread_rates(lr: Rate, groups: int, *, name: str = "lr") -> tuple[float, ...]:
    """A rate for each group of weights, from the stem to the head.

    A number is for all; slice(a, b) goes from a to b in equal factors; slice(b) is b for the head, a tenth of it for
    the others; a list has one for each. Raises InvalidConfig for another count, or a rate that is not above 0.
    """
    want = f"a number, slice(low, high), slice(high), or {groups} numbers, one for each group; all above 0"
    if isinstance(lr, slice):
        if lr.stop is None or lr.step is not None:
            raise InvalidConfig(name, got=lr, want=want)
        if lr.start is None:
            rates = [lr.stop / _LOWER] * (groups - 1) + [lr.stop]
        else:
            _check(lr.start, name, got=lr, want=want)
            _check(lr.stop, name, got=lr, want=want)
            steps = max(1, groups - 1)
            rates = [lr.start * (lr.stop / lr.start) ** (group / steps) for group in range(groups - 1)] + [lr.stop]
    elif isinstance(lr, Sequence) and not isinstance(lr, str):
        rates = list(lr)
    else:
        rates = [lr] * groups
    if len(rates) != groups:
        raise InvalidConfig(name, got=f"{len(rates)} numbers", want=want)
    for rate in rates:
        _check(rate, name, got=lr, want=want)
    return tuple(float(rate) for rate in rates)


def _check(rate: object, name: str, *, got: object, want: str) -> None:
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not is_number or not 0 < float(rate) < math.inf:  # type: ignore[arg-type]
        raise InvalidConfig(name, got=got, want=want)
