"""From stored requests to evidence, in the order of arrival, over all starts of one name with one candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from drivetrain.rollout.evidence import Evidence, Outcome, Review
from drivetrain.store.deployments import Deployment
from drivetrain.store.requests import Routed
from drivetrain.store.store import Store

from .rollout_config import RolloutConfig

__all__ = [
    "EvidencePlan",
    "EvidenceReader",
    "Gathered",
    "Row",
    "count_row",
    "gather_evidence",
    "plan_evidence",
    "read_rows",
    "runs_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request, as it was routed and as it counts."""

    routed: Routed
    outcome: Outcome
    floor: float  # the least probability of a label for an automatic decision, at its time
    is_of_step: bool  # it came since the last step was taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What the requests have shown."""

    whole: Evidence  # since the first start
    step: Evidence  # since the last step was taken; waits where the whole waits
    last_seq: int  # of this start: the last request that was looked at
    n_steps: int  # steps taken, over all starts, each start but the first being one too


def runs_of(store: Store, deployment: Deployment) -> list[Deployment]:
    """This start and those before it of the same name with the same candidate, the oldest first.

    They share their evidence, so that starting again does not start it over.
    """
    same = [
        one
        for one in store.deployments.list()
        if (one.name, one.candidate) == (deployment.name, deployment.candidate)
        and one.started_at <= deployment.started_at
    ]
    return [one for one in same if one.id != deployment.id] + [deployment]


def gather_evidence(store: Store, deployment: Deployment) -> Evidence:
    """All that was shown so far, counted anew."""
    return EvidenceReader(store, deployment).read().whole


class EvidenceReader:
    """Reads what came since the last time; for one deployment, by one thread at a time."""

    def __init__(self, store: Store, deployment: Deployment) -> None:
        self._store = store
        self._deployment = deployment  # what may change of it is read from the ledger
        self._plan: EvidencePlan | None = None

    def read(self) -> Gathered:
        """The evidence now. It is counted anew only when a step was taken; else from where counting stopped."""
        plan = plan_evidence(self._store, self._deployment)
        if plan != self._plan:
            self._plan, self._whole = plan, Evidence(floor=plan.floor)
            self._step = Evidence(floor=plan.floor)
            self._counted: dict[str, int] = {}  # start -> the last request counted
            self._last_seq = 0
        whole, step = self._whole, self._step
        whole.n_waiting = step.n_waiting = 0
        for row in read_rows(self._store, plan, after=self._counted):
            count_row(row, whole=whole, step=step)
            if not whole.n_waiting:
                self._counted[row.routed.deployment_id] = row.routed.seq
            if row.routed.deployment_id == self._deployment.id:
                self._last_seq = row.routed.seq
        return Gathered(whole=whole, step=step, last_seq=self._last_seq, n_steps=plan.n_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    deployment_id: str
    is_over: bool
    manual_until: float  # when it left its manual stage; infinity: it did not


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePlan:
    """How the requests are to be counted; while it is the same, counting goes on where it stopped."""

    runs: tuple[_Run, ...]
    floor: float
    audit_share: float
    has_incumbent: bool
    step_since: float  # seconds UTC
    n_steps: int


def plan_evidence(store: Store, deployment: Deployment) -> EvidencePlan:
    """With people as incumbent all is labelled while it is manual: counts decide. Later the audits by chance do."""
    config = RolloutConfig.from_json(deployment.config)
    runs: list[_Run] = []
    n_steps, step_since = 0, deployment.started_at
    for one in runs_of(store, deployment):
        taken = [_seconds(entry["at"]) for entry in store.deployments.ledger(one.id) if entry["action"] == "advance"]
        n_steps += len(taken) + bool(runs)  # to start again is a step too
        until = taken[0] if taken else float("inf")
        runs.append(_Run(deployment_id=one.id, is_over=one.ended_at is not None, manual_until=until))
        step_since = max([one.started_at, *taken])
    has_incumbent = config.gate.has_incumbent
    is_all_labelled = not has_incumbent and all(run.manual_until == float("inf") for run in runs)
    return EvidencePlan(
        runs=tuple(runs),
        floor=1.0 if is_all_labelled else config.audit_share,
        audit_share=config.audit_share,
        has_incumbent=has_incumbent,
        step_since=step_since,
        n_steps=n_steps,
    )


def read_rows(store: Store, plan: EvidencePlan, *, after: dict[str, int] | None = None) -> Iterator[Row]:
    """In order, those behind `after` (start -> number)."""
    for run in plan.runs:
        for routed, review, truth in store.requests.outcomes(
            run.deployment_id, (after or {}).get(run.deployment_id, 0)
        ):
            if routed.state == "pending" and run.is_over:
                continue  # the candidate will never see it: the start ended before, whatever it would have said
            floor = 1.0 if not plan.has_incumbent and routed.at < run.manual_until else plan.audit_share
            yield Row(
                routed=routed,
                outcome=_outcome(routed, review, truth),
                floor=min(floor, routed.label_probability or floor),
                is_of_step=run is plan.runs[-1] and routed.at > plan.step_since,
            )


def _outcome(routed: Routed, review: Review, truth: str | None) -> Outcome:
    candidate, incumbent = _decided(routed.candidate), _decided(routed.incumbent)
    probability = routed.label_probability
    is_missing = None not in (candidate, incumbent) and candidate != incumbent
    if review == "none" and candidate is not None and (is_missing or probability in (0, 1)):
        review = "unclear"  # it was to be asked, and was not: it counts against promotion, never as harm
    return Outcome(
        at=datetime.fromtimestamp(routed.at, UTC),
        candidate=candidate,
        incumbent=incumbent,
        review=review,
        truth=truth,
        probability=probability or 1.0,
        is_failed=routed.candidate is None and routed.state != "pending",
    )


def _decided(answer: Any) -> str | None:
    """The label that a version took by itself; None where it deferred, or was not asked."""
    if answer is None or answer.get("decision") != "accept":
        return None
    label: str = answer["label"]
    return label


def count_row(row: Row, *, whole: Evidence, step: Evidence | None) -> None:
    """Count the next request, in the whole and, where it came since, in the last step."""
    before = whole.n
    outcome = row.outcome
    if whole.floor == 1 and outcome.review == "none" and outcome.candidate is not None and not outcome.is_failed:
        outcome = replace(outcome, review="unclear")  # each was to have a label, and this one was not asked for
    for evidence in filter(None, (whole, step)):
        # within an event's bounds bets may be larger; the stage sets them, never the picture
        evidence.for_promotion.floor = evidence.for_harm.floor = row.floor
    whole.add(outcome)
    if step is None or not row.is_of_step:
        return
    if whole.n > before:
        step.add(outcome)
    else:
        step.n_waiting += 1


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
