"""From stored requests to evidence, in the order of arrival, over all starts of one name with one candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from drivetrain.rollout.evidence import Evidence, Outcome, Review
from drivetrain.rollout.share import place_of
from drivetrain.rollout.two_arms import Choice, ShareCheck, TwoArms
from drivetrain.store.deployments import Deployment
from drivetrain.store.requests import Routed
from drivetrain.store.store import Store

from .rollout_config import RolloutConfig

__all__ = [
    "SHARES_ALERT",
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

SHARES_ALERT = "sample_ratio"  # the kind of alert: keys do not go where they should


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request, as it was routed and as it counts."""

    routed: Routed
    outcome: Outcome
    floor: float  # the least probability of a label for an automatic decision, at its time
    is_of_step: bool  # it came since the last step was taken
    share: tuple[float, bool] | None = None  # of a key's first choice: the chance of the candidate, whether it got it


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What the requests have shown."""

    whole: Evidence  # since the first start
    step: Evidence  # since the last step was taken; waits where the whole waits
    last_seq: int  # of this start: the last request that was looked at
    n_steps: int  # steps taken, over all starts, each start but the first being one too
    shares: ShareCheck = field(default_factory=ShareCheck)  # since the last alert of it was closed


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
            self._plan, self._whole, self._step = plan, plan.new_evidence(), plan.new_evidence()
            self._counted: dict[str, int] = {}  # start -> the last request counted
            self._firsts: dict[str, tuple[str, int]] = {}
            self._shares, self._placed = ShareCheck(), set[tuple[str, int]]()
            self._last_seq = 0
        whole, step = self._whole, self._step
        whole.n_waiting = step.n_waiting = 0
        for row in read_rows(self._store, plan, after=self._counted, firsts=self._firsts):
            place = row.routed.deployment_id, row.routed.seq
            if row.share is not None and place not in self._placed and row.routed.at > plan.shares_since:
                self._placed.add(place)
                self._shares.add(row.share[0], is_candidate=row.share[1])
            count_row(row, whole=whole, step=step)
            if not whole.n_waiting:
                self._counted[row.routed.deployment_id] = row.routed.seq
                self._placed.discard(place)
            if row.routed.deployment_id == self._deployment.id:
                self._last_seq = row.routed.seq
        return Gathered(whole=whole, step=step, last_seq=self._last_seq, n_steps=plan.n_steps, shares=self._shares)


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
    has_shadow: bool
    margin: float | None
    salt: str
    step_since: float  # seconds UTC
    shares_since: float  # when the last alert of keys that went elsewhere was closed
    n_steps: int

    def new_evidence(self) -> Evidence:
        """Of nothing yet."""
        is_parted = not self.has_shadow and self.margin is not None
        return Evidence(floor=self.floor, arms=TwoArms(self.margin or 0.0) if is_parted else None)


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
    closed = [
        alert.closed_at or 0.0
        for run in runs
        for alert in store.alerts.list(run.deployment_id, only_open=False)
        if alert.kind == SHARES_ALERT
    ]
    return EvidencePlan(
        runs=tuple(runs),
        floor=1.0 if is_all_labelled else config.audit_share,
        audit_share=config.audit_share,
        has_incumbent=has_incumbent,
        has_shadow=config.has_shadow,
        margin=config.gate.margin,
        salt=deployment.salt,
        step_since=step_since,
        shares_since=max(closed, default=0.0),
        n_steps=n_steps,
    )


def read_rows(
    store: Store,
    plan: EvidencePlan,
    *,
    after: dict[str, int] | None = None,
    firsts: dict[str, tuple[str, int]] | None = None,
) -> Iterator[Row]:
    """In order, those behind `after` (start -> number). `firsts` keeps each key's first choice from call to call."""
    firsts = {} if firsts is None else firsts
    is_whole = True  # what the candidate defers is known so far, alike for all keys
    for run in plan.runs:
        for routed, review, truth in store.requests.outcomes(
            run.deployment_id, (after or {}).get(run.deployment_id, 0)
        ):
            if routed.state == "pending" and run.is_over:
                continue  # the candidate will never see it: the start ended before, whatever it would have said
            is_whole = is_whole and routed.state != "pending"
            share = _find_share(routed, plan) if is_whole else None
            place = routed.deployment_id, routed.seq
            if share is not None and firsts.setdefault(routed.key, place) != place:
                share = None
            floor = 1.0 if not plan.has_incumbent and routed.at < run.manual_until else plan.audit_share
            yield Row(
                routed=routed,
                outcome=_outcome(routed, review, truth, plan=plan, share=share),
                floor=min(floor, routed.label_probability or floor),
                is_of_step=run is plan.runs[-1] and routed.at > plan.step_since,
                share=share,
            )


def _find_share(routed: Routed, plan: EvidencePlan) -> tuple[float, bool] | None:
    """(chance of the candidate, whether it got the key), where the key had a choice and it can be told who got it.

    Where both see all, who decided tells it of those that the candidate would decide, and only of those.
    """
    if not 0 < routed.propensity < 1:
        return None
    if not plan.has_shadow:
        return routed.propensity, _is_asked(routed)
    return None if _decided(routed.candidate) is None else (routed.propensity, routed.decided_by == "candidate")


def _is_asked(routed: Routed) -> bool:
    """Whether the candidate was, of a request that one version was asked."""
    return routed.candidate is not None or routed.state == "failed"


def _outcome(
    routed: Routed, review: Review, truth: str | None, *, plan: EvidencePlan, share: tuple[float, bool] | None
) -> Outcome:
    candidate, incumbent = _decided(routed.candidate), _decided(routed.incumbent)
    is_asked = plan.has_shadow or _is_asked(routed)
    if is_asked and not plan.has_shadow:
        incumbent = None  # it stood in, and is not compared
    probability = routed.label_probability
    is_missing = None not in (candidate, incumbent) and candidate != incumbent
    is_automatic = candidate is not None or (not is_asked and incumbent is not None)
    choice = None
    if share is not None and not plan.has_shadow:
        is_drawn = _is_drawn(routed, review, is_automatic=is_automatic, plan=plan)
        choice = Choice(share=share[0], is_candidate=share[1], is_drawn=is_drawn)
    if review == "none" and is_automatic and (is_missing or probability in (0, 1)):
        review = "unclear"  # it was to be asked, and was not: it counts against promotion, never as harm
    return Outcome(
        at=datetime.fromtimestamp(routed.at, UTC),
        candidate=candidate,
        incumbent=incumbent,
        review=review,
        truth=truth,
        probability=probability or 1.0,
        # done without an answer: its picture was forgotten before it saw it, as if it had deferred
        is_failed=routed.candidate is None and routed.state == "failed",
        is_asked=is_asked,
        choice=choice,
    )


def _is_drawn(routed: Routed, review: Review, *, is_automatic: bool, plan: EvidencePlan) -> bool:
    """With the chance of an audit, alike for both versions and whatever they said.

    Of automatic decisions the audits themselves are those that were drawn, where they had no greater chance; what is
    known without one, as that it was left to people, is drawn by a hash.
    """
    chance = routed.label_probability if is_automatic and 0 < routed.label_probability < 1 else 1.0
    if chance < 1 and review == "none":
        return False
    return place_of(routed.prediction_id, salt=f"compared:{plan.salt}") < plan.audit_share / chance


def _decided(answer: Any) -> str | None:
    """The label that a version took by itself; None where it deferred, or was not asked."""
    if answer is None or answer.get("decision") != "accept":
        return None
    label: str = answer["label"]
    return label


def count_row(row: Row, *, whole: Evidence, step: Evidence | None) -> None:
    """Count the next request, in the whole and, where it came since, in the last step."""
    before = whole.n_waiting
    outcome = row.outcome
    is_decided = outcome.is_asked and outcome.candidate is not None and not outcome.is_failed
    if whole.floor == 1 and outcome.review == "none" and is_decided:
        outcome = replace(outcome, review="unclear")  # each was to have a label, and this one was not asked for
    for evidence in filter(None, (whole, step)):
        # within an event's bounds bets may be larger; the stage sets them, never the picture
        evidence.for_promotion.floor = evidence.for_harm.floor = row.floor
    whole.add(outcome)
    if step is None or not row.is_of_step:
        return
    if whole.n_waiting == before:
        step.add(outcome)
    else:
        step.n_waiting += 1


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
