"""What the evidence of a roll-out says now: may it take the next step, is harm shown."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from drivetrain.rollout.evidence import Evidence
from drivetrain.rollout.gates import Criterion, GateConfig, GateResult, Readiness, asked_at, judge_gate, judge_harm
from drivetrain.rollout.stages import Stage
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store

from .premortem import find_unanswered
from .rollout_config import RolloutConfig
from .rollout_evidence import EvidenceReader, Gathered

__all__ = ["Judged", "judge", "judge_gathered", "judge_now", "summarize"]

_OF_STEP = ("requests", "hours", "hours of the day")  # each step needs these anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the evidence says now, and what exactly it was."""

    gate: GateResult
    harm: GateResult
    gathered: Gathered
    ready: Readiness

    @property
    def evidence(self) -> dict[str, Any]:
        """For the ledger: what was judged, with a digest of it."""
        found = {
            "whole": summarize(self.gathered.whole),
            "step": summarize(self.gathered.step),
            "last_request": self.gathered.last_seq,
            "readiness": asdict(self.ready),
            "gate": self.gate.as_json(),
            "harm": self.harm.as_json(),
            "shares": {str(share): list(count) for share, count in self.gathered.shares.counts.items()},
        }
        text = json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return found | {"digest": hashlib.sha256(text.encode()).hexdigest()}


def judge(store: Store, deployment: Deployment) -> tuple[GateResult, GateResult]:
    """(may it take the next step, is harm shown), from all requests."""
    judged = judge_now(store, deployment)
    return judged.gate, judged.harm


def judge_now(store: Store, deployment: Deployment, *, reader: EvidenceReader | None = None) -> Judged:
    """The same with all it rests on; a `reader` that is kept counts only what is new."""
    config = RolloutConfig.from_json(deployment.config)
    gathered = (reader or EvidenceReader(store, deployment)).read()
    ready = Readiness(
        open_alerts=len(store.alerts.list(deployment.id)),
        has_datasheet=config.has_datasheet,
        has_premortem=not find_unanswered(store, deployment),
        backlog=store.requests.backlog(deployment.id),
    )
    stage: Stage = deployment.stage  # type: ignore[assignment]  # only `stages.move` made it
    return judge_gathered(gathered, config, ready, stage=stage)


def judge_gathered(gathered: Gathered, config: RolloutConfig, ready: Readiness, *, stage: Stage) -> Judged:
    """What was counted, against what was settled at the start."""
    asked = asked_at(stage, has_shadow=config.has_shadow)
    whole, step = (
        judge_gate(evidence, config.gate, ready, asked=asked, shares=gathered.shares)
        for evidence in (gathered.whole, gathered.step)
    )
    criteria = whole.criteria
    if gathered.n_steps:
        of_step = {one.name: one for one in step.criteria}
        criteria = tuple(_since_step(of_step[one.name]) if one.name in _OF_STEP else one for one in criteria)
    return Judged(
        gate=GateResult.every(criteria),
        harm=_judge_harm(gathered, config.gate),
        gathered=gathered,
        ready=ready,
    )


def summarize(evidence: Evidence) -> dict[str, Any]:
    """Its counts, as plain values."""
    counts = {
        name: getattr(evidence, name)
        for name in (
            "n", "n_waiting", "n_failed", "n_deferred", "n_automatic", "n_labelled", "n_wrong", "n_untold",
            "wins", "losses", "ties", "n_untold_pairs", "floor",
        )
    }  # fmt: skip
    times = {
        name: None if at is None else at.isoformat()
        for name, at in (("first_at", evidence.first_at), ("last_at", evidence.last_at))
    }
    arms = evidence.arms
    parted = {}
    if arms is not None:
        names = ("candidate_n", "candidate_wrong", "incumbent_n", "incumbent_wrong", "n_untold")
        parted = {"arms": {name: getattr(arms, name) for name in names}}
    return (
        counts | times | parted | {"classes": dict(sorted(evidence.classes.items())), "hours": sorted(evidence.hours)}
    )


def _judge_harm(gathered: Gathered, config: GateConfig) -> GateResult:
    """Half of alpha watches all requests, the other half each step by itself: what was good for long, and then is not.

    The k-th step gets 1 / (k (k + 1)) of its half, which adds up to no more than all of it however many are taken.
    """
    half = config.harm_alpha / 2
    criteria = judge_harm(gathered.whole, replace(config, harm_alpha=half)).criteria
    if k := gathered.n_steps:
        of_step = judge_harm(gathered.step, replace(config, harm_alpha=half / (k * (k + 1))))
        criteria += tuple(_since_step(replace(one, name=f"{one.name}, this step")) for one in of_step.criteria)
    return GateResult.any(criteria)


def _since_step(one: Criterion) -> Criterion:
    return replace(one, sentence=f"{one.sentence.removesuffix('.')}, since the last step.")
