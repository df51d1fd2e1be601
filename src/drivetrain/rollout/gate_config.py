"""What a gate asks, and what it found: values that the gates, their tests and the ledger share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from drivetrain.errors import InvalidConfig

__all__ = ["Criterion", "GateConfig", "GateResult", "Readiness", "tell_percent", "tell_points"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Frozen when a roll-out starts."""

    bound: float | None = None  # fewer wrong automatic decisions than this
    margin: float | None = None  # not worse than the incumbent by this; 0: better than it
    alpha: float = 0.05  # the chance of a false promotion, at most
    harm_alpha: float = 0.05  # the chance of a false rollback, at most, over all kinds of harm together
    n_min: int = 100  # requests
    class_min: int = 5  # automatic decisions of each class, as far as a class is decided at all
    hours_min: float = 24.0
    day_hours_min: int = 12  # different hours of the day seen: day and night
    defer_max: float | None = None  # largest share that may be left to people
    fail_max: float = 0.01  # share of requests without an answer above which it is harm
    has_incumbent: bool = False  # a version; else people

    def __post_init__(self) -> None:
        problems = [
            f"{name} {value:g}, not above 0 and below 1"
            for name in ("bound", "alpha", "harm_alpha", "defer_max", "fail_max")
            if (value := getattr(self, name)) is not None and not 0 < value < 1
        ]
        if self.margin is not None and not 0 <= self.margin < 1:
            problems.append(f"margin {self.margin:g}, not 0 to below 1")
        problems += [f"{name} {getattr(self, name):g}, below 0" for name in _COUNTS if getattr(self, name) < 0]
        if self.day_hours_min > 24:
            problems.append(f"day_hours_min {self.day_hours_min}, above 24")
        if problems:
            raise InvalidConfig("gate", got="; ".join(problems), want="shares and counts in their ranges")
        if not self.has_incumbent and self.margin is not None:
            raise InvalidConfig(
                "margin", got=self.margin, want="none: people are the incumbent, and their labels are the truth"
            )
        if not self.has_incumbent and self.bound is None:
            raise InvalidConfig("bound", got="none", want="a share, such as 0.05: there is no version to compare with")
        if self.bound is None and self.margin is None:
            raise InvalidConfig("gate", got="neither a bound nor a margin", want="at least one of them")


_COUNTS = ("n_min", "class_min", "hours_min", "day_hours_min")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What is asked beside the numbers."""

    open_alerts: int = 0
    has_datasheet: bool = False
    has_premortem: bool = False
    backlog: int = 0  # requests that the candidate has still to see


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing that must be shown."""

    name: str
    is_met: bool
    sentence: str  # for a person
    log_e: float | None = None  # evidence, where it is a test; met at log(1 / alpha)
    needed: float | None = None
    more: int | None = None  # requests it likely takes, if the rates stay as they are; None: cannot be told

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """Whether the next step may be taken, or harm was shown; with everything that it was decided by."""

    is_met: bool
    criteria: tuple[Criterion, ...]

    @classmethod
    def every(cls, criteria: tuple[Criterion, ...]) -> GateResult:
        """Met where each of them is."""
        return cls(is_met=all(one.is_met for one in criteria), criteria=criteria)

    @classmethod
    def any(cls, criteria: tuple[Criterion, ...]) -> GateResult:
        """Met where one of them is."""
        return cls(is_met=any(one.is_met for one in criteria), criteria=criteria)

    @property
    def missing(self) -> tuple[Criterion, ...]:
        return tuple(one for one in self.criteria if not one.is_met)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the ledger."""
        return {"is_met": self.is_met, "criteria": [one.as_json() for one in self.criteria]}


def tell_percent(share: float) -> str:
    """For a person."""
    return f"{100 * share:.3g} %"


def tell_points(margin: float) -> str:
    """A difference of two shares."""
    return f"{100 * margin:.3g} points"
