"""How a roll-out stands: for a person, for a machine, and for its report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drivetrain.errors import Unavailable
from drivetrain.rollout.reviewing import measure_agreement
from drivetrain.store.store import Store

from .premortem import QUESTIONS
from .rollout import get_deployment, position_of
from .rollout_config import RolloutConfig
from .rollout_evidence import EvidenceReader
from .rollout_judge import Judged, judge_now
from .rollout_prior import describe_belief
from .rollout_words import draw_ladder, tell_decider, tell_distance, tell_gate, tell_harm

__all__ = ["describe_rollout", "list_rollouts", "tell_costs"]

_WEEK_S = 7 * 86_400.0


def list_rollouts(store: Store) -> list[dict[str, Any]]:
    """All, the newest last, a line each."""
    return [
        {
            "name": one.name,
            "stands": position_of(one).in_words,
            "candidate": one.candidate,
            "incumbent": one.incumbent,
            "started_at": one.started_at,
            "ended_at": one.ended_at,
        }
        for one in store.deployments.list()
    ]


def describe_rollout(store: Store, name: str, *, reader: EvidenceReader | None = None) -> dict[str, Any]:
    """Stage, evidence, each criterion and how far it is, reviews, alerts, pre-mortem; plain values.

    With a `reader` that is kept, only what is new is counted.
    """
    deployment = get_deployment(store, name)
    now = store.deployments.clock()
    if deployment.ended_at is None:
        _expire(store, now)
    judged = judge_now(store, deployment, reader=reader)
    config = RolloutConfig.from_json(deployment.config)
    stands = position_of(deployment)
    oldest = store.reviews.oldest_open(deployment.id)
    agreement = measure_agreement(store.reviews.pairs(deployment.id))
    ledger = store.deployments.ledger(deployment.id)
    answers = store.deployments.premortem(deployment.id)
    unanswered = [one for one in QUESTIONS if one not in answers]
    names = _name_callers(store)
    gate = tell_gate(judged, config, n_answered=len(QUESTIONS) - len(unanswered))
    return {
        "name": deployment.name,
        "id": deployment.id,
        "model": deployment.model,
        "stands": stands.in_words,
        "stage": deployment.stage,
        "share": deployment.share,
        "is_held": deployment.is_held,
        "revision": deployment.revision,
        "ladder": draw_ladder(deployment, sum(entry["action"] == "advance" for entry in ledger)),
        "decides": tell_decider(deployment, config),
        "distance": tell_distance(stands, gate, is_harmed=judged.harm.is_met),
        "harm": tell_harm(judged, is_over=stands.is_over),
        "gate": gate,
        "belief": describe_belief(config, judged.gathered.whole),
        "next": None if stands.is_over else stands.next().in_words,
        "candidate": deployment.candidate,
        "incumbent": deployment.incumbent,
        "started_at": deployment.started_at,
        "started_by": deployment.started_by,
        "ended_at": deployment.ended_at,
        "config": config.as_json(),
        "evidence": judged.evidence,
        "costs": tell_costs(judged, config),
        "backlog": judged.ready.backlog,
        "reviews": {
            "open": store.reviews.open_count(deployment.id),
            "oldest_hours": None if oldest is None else (now - oldest) / 3600,
            "same": agreement.same.share,
            "twice": agreement.same.n,
            "kappa": agreement.kappa,
            "people": [
                {"by": names.get(by, by), "answers": n, "median_seconds": seconds}
                for by, n, seconds in store.reviews.load(now - _WEEK_S)
            ],
        },
        "alerts": [asdict(alert) for alert in store.alerts.list(deployment.id)],
        "unanswered": {one: QUESTIONS[one] for one in unanswered},
        "premortem": [{"name": one, "asks": QUESTIONS[one], **answers.get(one, {})} for one in QUESTIONS],
        "last_event": {name: ledger[-1][name] for name in ("at", "by", "action", "reason")} if ledger else None,
    }


def tell_costs(judged: Judged, config: RolloutConfig) -> dict[str, float | None]:
    """What the evidence cost so far, and what a thousand requests would cost by the candidate; in the given unit."""
    whole = judged.gathered.whole
    if not whole.n:
        return {"reviews": 0.0, "per_thousand": None}
    error = whole.for_promotion.estimate if whole.floor < 1 else None
    if whole.floor == 1 and whole.n_labelled:
        error = whole.n_wrong / whole.n_labelled
    labels = whole.n_labelled + whole.n_untold
    per_request = (
        None
        if error is None
        else (whole.n_automatic * max(0.0, error) * config.cost_error + whole.n_deferred * config.cost_review) / whole.n
    )
    return {
        "reviews": labels * config.cost_review,
        "per_thousand": None if per_request is None else 1000 * per_request,
    }


def _name_callers(store: Store) -> dict[str, str]:
    """Tag of a person or a key -> what people call them, of those who are gone too."""
    people = {f"user:{user.id}": user.name for user in store.users.list()}
    return people | {f"key:{key.id}": key.name for key in store.keys.list()}


def _expire(store: Store, now: float) -> None:
    """Labels that came too late; one may look where nothing can be written, too."""
    try:
        store.reviews.expire(now)
    except Unavailable:
        return
