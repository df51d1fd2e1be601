"""Gates: what must be shown before the next step, and what harm ends a roll-out at once.

A promotion needs every criterion (an intersection, so each may use all of alpha); harm needs one (a union, so they
share it). All tests may be looked at as often as one likes. "Not enough evidence" is an answer: it holds.
"""

from __future__ import annotations

from typing import Literal

from .evidence import Evidence
from .gate_config import Criterion, GateConfig, GateResult, Readiness, tell_percent
from .gate_tests import harm_tests, promotion_tests
from .stages import Stage
from .two_arms import ShareCheck

__all__ = ["Asked", "Criterion", "GateConfig", "GateResult", "Readiness", "asked_at", "judge_gate", "judge_harm"]

Asked = Literal["all", "alone", "conditions"]


def asked_at(stage: Stage, *, has_shadow: bool) -> Asked:
    """What can be asked at a stage. Without shadow nothing is seen in `manual`, and nothing is compared in `limited`.

    There the candidate has no request, and here no key has a choice: chance parts the keys from the first share on.
    """
    if has_shadow or stage not in ("manual", "limited"):
        return "all"
    return "conditions" if stage == "manual" else "alone"


def judge_gate(
    evidence: Evidence,
    config: GateConfig,
    ready: Readiness,
    *,
    asked: Asked = "all",
    shares: ShareCheck | None = None,
) -> GateResult:
    """May the candidate take the next step? `shares`: where keys went, as far as they had a choice."""
    criteria: list[Criterion] = []
    if asked != "conditions":
        criteria += promotion_tests(evidence, config, is_compared=asked == "all")
        criteria += _amounts(evidence, config)
    criteria += _conditions(ready)
    if shares is not None and shares.n:
        criteria.append(Criterion(name="sample ratio", is_met=not shares.is_broken, sentence=shares.sentence))
    return GateResult.every(tuple(criteria))


def judge_harm(evidence: Evidence, config: GateConfig) -> GateResult:
    """Must the candidate be taken back? `is_met` says yes; alpha is split over the kinds of harm that can be seen."""
    return GateResult.any(tuple(harm_tests(evidence, config)))


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
        most = tell_percent(config.defer_max)
        sentence = f"It leaves {tell_percent(share)} to people; at most {most} may be."
        found.append(Criterion(name="deferred", is_met=evidence.n > 0 and share <= config.defer_max, sentence=sentence))
    return found


def _amount(name: str, have: float, want: float, what: str) -> Criterion:
    is_met = have >= want
    lacking = "" if is_met else f": {want - have:,.4g} more"
    return Criterion(name=name, is_met=is_met, sentence=f"{have:,.4g} of {want:,.4g} {what}{lacking}.")


def _conditions(ready: Readiness) -> list[Criterion]:
    n = ready.open_alerts
    alerts = "No alert is open." if not n else f"{n} alert{' is' if n == 1 else 's are'} open."
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
