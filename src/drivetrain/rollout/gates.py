"""Gates: what must be shown before the next step, and what harm ends a roll-out at once.

A promotion needs every criterion (an intersection, so each may use all of alpha); harm needs one (a union, so they
share it). All tests may be looked at as often as one likes. "Not enough evidence" is an answer: it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from drivetrain.errors import InvalidConfig
from drivetrain.trust.sequential import log_e_mean, log_e_rate, log_e_superior

from .evidence import Evidence

__all__ = ["Criterion", "GateConfig", "GateResult", "Readiness", "judge_gate", "judge_harm"]

_MOST_MORE = 1_000_000  # requests; more is not foretold


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

    @property
    def missing(self) -> tuple[Criterion, ...]:
        return tuple(one for one in self.criteria if not one.is_met)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the ledger."""
        return {"is_met": self.is_met, "criteria": [one.as_json() for one in self.criteria]}


def judge_gate(evidence: Evidence, config: GateConfig, ready: Readiness) -> GateResult:
    """May the candidate take the next step?"""
    criteria = [*_tests(evidence, config), *_amounts(evidence, config), *_conditions(ready)]
    return GateResult(is_met=all(one.is_met for one in criteria), criteria=tuple(criteria))


def judge_harm(evidence: Evidence, config: GateConfig) -> GateResult:
    """Must the candidate be taken back? `is_met` says yes; alpha is split over the kinds of harm that can be seen."""
    kinds: list[tuple[str, float, str]] = []
    if config.bound is not None:
        log_e = _log_e_bound(evidence, config.bound, is_harm=True)
        kinds.append(
            ("harm: errors", log_e, f"more than {_percent(config.bound)} of its automatic decisions are wrong")
        )
    if config.margin is not None:
        log_e = float(
            log_e_mean(evidence.losses, evidence.ties + evidence.n_untold_pairs, evidence.wins, margin=-config.margin)
        )
        by = f" by more than {_points(config.margin)}" if config.margin else ""
        kinds.append(("harm: against the incumbent", log_e, f"it is worse than the incumbent{by}"))
    log_e = float(log_e_rate(evidence.n_failed, evidence.n - evidence.n_failed, null=config.fail_max, side="above"))
    kinds.append(("harm: failures", log_e, f"more than {_percent(config.fail_max)} of the requests got no answer"))
    needed = float(np.log(len(kinds) / config.harm_alpha))
    criteria = tuple(
        Criterion(
            name=name,
            is_met=log_e >= needed,
            log_e=log_e,
            needed=needed,
            sentence=f"It is shown that {what}." if log_e >= needed else f"It is not shown that {what}.",
        )
        for name, log_e, what in kinds
    )
    return GateResult(is_met=any(one.is_met for one in criteria), criteria=criteria)


def _tests(evidence: Evidence, config: GateConfig) -> list[Criterion]:
    needed = float(np.log(1 / config.alpha))
    found = []
    if config.bound is not None:
        bound = config.bound

        def log_e_bound(times: float) -> float:
            return _log_e_bound(evidence, bound, is_harm=False, times=times)

        seen = f"{evidence.n_wrong} wrong of {evidence.n_labelled:,} labelled"
        what = f"fewer than {_percent(bound)} of its automatic decisions are wrong ({seen}{_untold(evidence.n_untold)})"
        found.append(_test("error", log_e_bound, needed, what, evidence, can_foretell=evidence.floor == 1))
    if config.margin is not None:
        margin = config.margin

        def log_e_pairs(times: float) -> float:
            wins, ties = times * evidence.wins, times * evidence.ties
            losses = times * (evidence.losses + evidence.n_untold_pairs)
            if margin == 0:
                return float(log_e_superior(wins, losses))
            return float(log_e_mean(wins, ties, losses, margin=margin))

        seen = f"{evidence.wins} won, {evidence.losses} lost of {evidence.n_pairs:,}"
        better = "better than the incumbent" if margin == 0 else f"not worse than the incumbent by {_points(margin)}"
        what = f"it is {better} ({seen}{_untold(evidence.n_untold_pairs)})"
        found.append(_test("against the incumbent", log_e_pairs, needed, what, evidence, can_foretell=True))
    return found


def _test(
    name: str,
    log_e_of: Callable[[float], float],
    needed: float,
    what: str,
    evidence: Evidence,
    *,
    can_foretell: bool,
) -> Criterion:
    log_e = log_e_of(1.0)
    if log_e >= needed:
        return Criterion(name=name, is_met=True, log_e=log_e, needed=needed, sentence=f"It is shown that {what}.")
    more = _foretell(log_e_of, needed, evidence.n) if can_foretell else None
    tail = "" if more is None else f" At these rates it takes about {more:,} more requests."
    return Criterion(
        name=name,
        is_met=False,
        log_e=log_e,
        needed=needed,
        more=more,
        sentence=f"Not enough evidence yet that {what}.{tail}",
    )


def _foretell(log_e_of: Callable[[float], float], needed: float, n: int) -> int | None:
    """How many more requests, were the counts so far to grow in proportion."""
    if n == 0:
        return None
    low, high = 1.0, 2.0
    while log_e_of(high) < needed:
        low, high = high, 2 * high
        if n * (low - 1) > _MOST_MORE:
            return None
    while n * (high - low) > 1:
        middle = (low + high) / 2
        low, high = (low, middle) if log_e_of(middle) >= needed else (middle, high)
    return max(1, int(np.ceil(n * (high - 1))))


def _log_e_bound(evidence: Evidence, bound: float, *, is_harm: bool, times: float = 1.0) -> float:
    if evidence.floor < 1:
        if is_harm:
            return evidence.for_harm.log_e_above(bound)
        return evidence.for_promotion.log_e_below(bound)
    right = evidence.n_labelled - evidence.n_wrong
    if is_harm:
        return float(log_e_rate(evidence.n_wrong, right + evidence.n_untold, null=bound, side="above"))
    wrong = evidence.n_wrong + evidence.n_untold
    return float(log_e_rate(times * wrong, times * right, null=bound, side="below"))


def _amounts(evidence: Evidence, config: GateConfig) -> list[Criterion]:
    rare = [(count, label) for label, count in evidence.classes.items() if count < config.class_min]
    found = [
        _amount("requests", evidence.n, config.n_min, f"requests{_waiting(evidence)}"),
        _amount("hours", evidence.hours_long, config.hours_min, "hours from the first to the last"),
        _amount("hours of the day", len(evidence.hours), config.day_hours_min, "different hours of the day"),
        Criterion(
            name="classes",
            is_met=not rare and bool(evidence.classes),
            sentence=(
                f"{min(rare)[1]}: {min(rare)[0]} decisions, of {config.class_min} needed"
                + (f"; {len(rare) - 1} other classes lack some too." if len(rare) > 1 else ".")
                if rare
                else f"Each class that it decides has {config.class_min} decisions."
                if evidence.classes
                else "It has decided nothing yet."
            ),
        ),
    ]
    if config.defer_max is not None:
        share = evidence.n_deferred / evidence.n if evidence.n else 0.0
        sentence = f"It leaves {_percent(share)} to people; at most {_percent(config.defer_max)} may be."
        found.append(Criterion(name="deferred", is_met=evidence.n > 0 and share <= config.defer_max, sentence=sentence))
    return found


def _amount(name: str, have: float, want: float, what: str) -> Criterion:
    is_met = have >= want
    lacking = "" if is_met else f": {want - have:,.4g} more"
    return Criterion(name=name, is_met=is_met, sentence=f"{have:,.4g} of {want:,.4g} {what}{lacking}.")


def _conditions(ready: Readiness) -> list[Criterion]:
    alerts = "No alert is open." if not ready.open_alerts else f"{ready.open_alerts} alerts are open."
    seen = "The candidate has seen every request." if not ready.backlog else f"It has {ready.backlog:,} still to see."
    return [
        Criterion(name="alerts", is_met=not ready.open_alerts, sentence=alerts),
        Criterion(
            name="datasheet",
            is_met=ready.has_datasheet,
            sentence="The datasheet is answered." if ready.has_datasheet else "The datasheet is not answered.",
        ),
        Criterion(
            name="pre-mortem",
            is_met=ready.has_premortem,
            sentence="The pre-mortem is answered." if ready.has_premortem else "The pre-mortem is not answered.",
        ),
        Criterion(name="backlog", is_met=not ready.backlog, sentence=seen),
    ]


def _waiting(evidence: Evidence) -> str:
    return f" ({evidence.n_waiting:,} more wait for a label)" if evidence.n_waiting else ""


def _untold(count: int) -> str:
    return f", {count} that no one could tell" if count else ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _points(margin: float) -> str:
    return f"{100 * margin:.3g} points"
