"""About how long the gates of a roll-out will take, from what the bundles measured: for a person, before it starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from drivetrain.rollout.stages import LADDER
from drivetrain.store.versions import Version
from drivetrain.trust.rollout_plan import GatePlan, plan_bound, plan_margin, plan_parted, plan_superiority

from .rollout_config import RolloutConfig

__all__ = ["Plan", "plan_rollout"]

_DAY_H = 24
_FIRST_SHARE = min(share for _, share in LADDER if share > 0)  # at which keys are parted first


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """About what the first gate will take, if the versions are as good as their bundles say. None: cannot be told."""

    requests: int | None
    labels: int | None
    days: float | None
    sentence: str  # for a person

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan_rollout(config: RolloutConfig, candidate: Version, incumbent: Version | None) -> Plan:
    """Simulated with the gates' own arithmetic, from what the bundles measured. One gate; there are six."""
    error, coverage = _error_of(candidate)
    if error is None or not coverage:
        return Plan(requests=None, labels=None, days=None, sentence=_UNKNOWN)
    if not config.has_shadow:
        return _plan_parted(config, candidate, incumbent)
    gate, plans = config.gate, []
    if gate.bound is not None:
        each = plan_bound(error, bound=gate.bound, alpha=gate.alpha)
        audited = coverage * config.audit_share
        plans.append((each, coverage, 1.0) if incumbent is None else (each, audited, audited))
    if gate.margin is not None and incumbent is not None:
        theirs, _ = _error_of(incumbent)
        if theirs is None:
            return Plan(requests=None, labels=None, days=None, sentence=_UNKNOWN)
        wins, losses = theirs * (1 - error), error * (1 - theirs)
        each = (
            plan_superiority(wins=wins, losses=losses, alpha=gate.alpha)
            if gate.margin == 0
            else plan_margin(wins=wins, losses=losses, margin=gate.margin, alpha=gate.alpha)
        )
        plans.append((each, coverage, coverage * (wins + losses)))
    return _add_up(config, plans)


def _plan_parted(config: RolloutConfig, candidate: Version, incumbent: Version | None) -> Plan:
    """Without shadow: what it shows by itself, and then, once keys are parted, against the incumbent."""
    gate, audit = config.gate, config.audit_share
    error, coverage = _error_of(candidate)
    assert error is not None
    alone = None if gate.bound is None else plan_bound(error, bound=gate.bound, alpha=gate.alpha)
    against = None
    if gate.margin is not None and incumbent is not None:
        theirs, covered = _error_of(incumbent)
        if theirs is None:
            return Plan(requests=None, labels=None, days=None, sentence=_UNKNOWN)
        against = plan_parted(
            candidate=error * coverage,
            incumbent=theirs * covered,
            share=_FIRST_SHARE,
            margin=gate.margin,
            alpha=gate.alpha,
        )
    plans = [one for one in (alone, against) if one is not None]
    if any(one.median is None for one in plans):
        return Plan(requests=None, labels=None, days=None, sentence=_NEVER_PARTED)
    told, requests, labels = [], config.gate.n_min, 0
    if alone is not None and alone.median is not None:
        requests = max(requests, math.ceil(alone.median / (coverage * audit)))
        labels = alone.median
        told.append(f"its errors take about {requests:,} requests that it is asked, {labels:,} labels")
    days = None
    if against is not None and against.median is not None:
        keys = math.ceil(against.median / audit)
        more = math.ceil(against.median * coverage)
        requests, labels = max(requests, keys), labels + more
        told.append(
            f"the comparison at {100 * _FIRST_SHARE:.0f} % about {keys:,} requests of as many keys, {more:,} labels"
        )
        if config.traffic is not None:
            days = max(keys / config.traffic, gate.hours_min / _DAY_H)
            told[-1] += f", at your traffic {days:.3g} day{'' if days == 1 else 's'}"
    cost = f" The labels cost {labels * config.cost_review:,.4g}." if config.cost_review else ""
    sentence = f"Without shadow the first gate asks for no requests. Then {'; '.join(told)}.{cost}"
    return Plan(requests=requests, labels=labels, days=days, sentence=sentence)


def _add_up(config: RolloutConfig, plans: list[tuple[GatePlan, float, float]]) -> Plan:
    """Each plan with the share of requests that it can use and that need a label; the longest counts."""
    taken = [plan.median / usable for plan, usable, _ in plans if plan.median is not None]
    if len(taken) < len(plans):
        return Plan(requests=None, labels=None, days=None, sentence=_NEVER)
    requests = math.ceil(max(config.gate.n_min, *taken))
    labels = math.ceil(requests * max(labelled for *_, labelled in plans))
    days = None if config.traffic is None else max(requests / config.traffic, config.gate.hours_min / _DAY_H)
    told = f"about {requests:,} requests, {labels:,} labels"
    if days is not None:
        told += f", at your traffic {days:.3g} day{'' if days == 1 else 's'}"
        if config.review_budget is not None and labels > config.review_budget * days:
            days = labels / config.review_budget
            told += f"; {config.review_budget:g} labels a day make that {days:.3g} days"
    cost = f" The labels cost {labels * config.cost_review:,.4g}." if config.cost_review else ""
    return Plan(requests=requests, labels=labels, days=days, sentence=f"The first gate likely takes {told}.{cost}")


_UNKNOWN = "How long it takes cannot be told: the bundle says nothing of its errors among what it decides by itself."
_NEVER_PARTED = (
    "At the errors that the bundles state, and without shadow, a gate would likely not pass within a million keys."
)
_NEVER = "At the errors that the bundle states, the first gate would likely not pass within a million requests."


def _error_of(version: Version) -> tuple[float | None, float]:
    """(wrong among what it decides by itself, share that it decides), as its bundle measured.

    With one error and one right decision more than were found: none wrong of 30 is not zero.
    """
    found = version.facts.get("evaluation", {}).get("deferral") or {}
    n, coverage = version.facts.get("evaluation", {}).get("n"), found.get("coverage")
    if not n or not coverage or found.get("n_wrong") is None:
        return None, 0.0
    return (found["n_wrong"] + 1) / (n * coverage + 2), coverage
