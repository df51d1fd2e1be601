"""The queue of reviews as its overview shows it: what waits, who did how much, how well people agree."""

from __future__ import annotations

from dataclasses import dataclass

from drivetrain.rollout.reviewing import Agreement, measure_agreement
from drivetrain.store.deployments import Deployment
from drivetrain.store.review_queue import count_answers, count_waiting
from drivetrain.store.store import Store

__all__ = ["PersonGold", "PersonLoad", "QueueFacts", "RolloutAgreement", "describe_queue", "name_people"]

SOON_S = 3600.0
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonLoad:
    """One person's answers of the last seven days."""

    name: str
    is_you: bool
    today: int
    week: int
    seconds: float | None  # median of an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAgreement:
    """How well two people agree, in one roll-out."""

    rollout: str
    agreement: Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonGold:
    """How often one person was right where the label is known."""

    name: str
    agreement: Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """Everything on the overview; times in seconds."""

    open: int
    for_you: int
    for_others: int  # you answered these: another has to look
    oldest_s: float | None
    due_soon: int  # within an hour
    late: int
    yours_today: int  # since midnight, UTC
    load: tuple[PersonLoad, ...]
    agreement: tuple[RolloutAgreement, ...]  # of roll-outs that go on
    gold: tuple[PersonGold, ...] | None  # None: not for who asks


def describe_queue(
    store: Store, by: str, *, deployment: Deployment | None = None, with_gold: bool = False
) -> QueueFacts:
    """As this person sees it, of one roll-out or of all; `with_gold` for who approves."""
    now = store.reviews.clock()
    midnight = now - now % _DAY_S
    waiting = count_waiting(
        store.reviews, by=by, soon_s=SOON_S, deployment_id=None if deployment is None else deployment.id
    )
    return QueueFacts(
        open=waiting.open,
        for_you=waiting.open - waiting.for_others,
        for_others=waiting.for_others,
        oldest_s=None if waiting.oldest_at is None else max(0.0, now - waiting.oldest_at),
        due_soon=waiting.due_soon,
        late=waiting.late,
        yours_today=count_answers(store.reviews, by, since=midnight),
        load=_load(store, by, now=now, midnight=midnight),
        agreement=_agreement(store, deployment),
        gold=_gold(store) if with_gold else None,
    )


def name_people(store: Store) -> dict[str, str]:
    """What answers are signed with -> a name."""
    users = {f"user:{user.id}": user.name for user in store.users.list()}
    keys = {f"key:{key.id}": f"{key.name} (key)" for key in store.keys.list()}
    return {"local": "this machine"} | keys | users


def _load(store: Store, by: str, *, now: float, midnight: float) -> tuple[PersonLoad, ...]:
    names = name_people(store)
    today = {who: answers for who, answers, _ in store.reviews.load(midnight)}
    rows = [
        PersonLoad(name=names.get(who, who), is_you=who == by, today=today.get(who, 0), week=answers, seconds=seconds)
        for who, answers, seconds in store.reviews.load(now - 7 * _DAY_S)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.week, row.name)))


def _agreement(store: Store, deployment: Deployment | None) -> tuple[RolloutAgreement, ...]:
    going = [one for one in store.deployments.list() if one.ended_at is None] if deployment is None else [deployment]
    return tuple(
        RolloutAgreement(rollout=one.name, agreement=measure_agreement(store.reviews.pairs(one.id))) for one in going
    )


def _gold(store: Store) -> tuple[PersonGold, ...]:
    names = name_people(store)
    rows = ((who, store.reviews.gold_pairs(who)) for who, *_ in store.reviews.load(0.0))
    return tuple(PersonGold(name=names.get(who, who), agreement=measure_agreement(told)) for who, told in rows if told)
