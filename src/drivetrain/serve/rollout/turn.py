"""Whose turn a request is, and whether a person is to label it. Values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drivetrain.rollout.scope import Facts, Scope
from drivetrain.rollout.share import gets_candidate, place_of
from drivetrain.store.requests import DecidedBy
from drivetrain.store.reviews import Why

__all__ = ["LabelWish", "Turn", "is_drawn", "label_of", "whose_turn", "wish_for_label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Who is to decide, before anyone was asked."""

    in_scope: bool
    propensity: float  # with which the candidate was to decide
    is_candidates: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelWish:
    """Whether a label is wanted as evidence, and for what a person is asked."""

    is_wanted: bool
    probability: float
    why: Why | None  # None: nobody is asked


def whose_turn(*, stage: str, share: float, salt: str, scope: Scope, facts: Facts) -> Turn:
    """By the stage alone: limited inside the scope, expanding for a share of the keys, else never the candidate."""
    in_scope = scope.holds(facts)
    if stage not in ("limited", "expanding") or (stage == "limited" and not in_scope):
        return Turn(in_scope=in_scope, propensity=0.0, is_candidates=False)
    mine = gets_candidate(facts.key, salt=salt, share=share)
    return Turn(in_scope=in_scope, propensity=share, is_candidates=mine)


def is_drawn(prediction_id: str, *, salt: str, share: float) -> bool:
    """Whether its label is among the audits: by a hash, so that no answer can change it."""
    return place_of(prediction_id, salt=f"audit:{salt}") < share


def label_of(answer: Mapping[str, Any] | None) -> str | None:
    """What was decided automatically; None where it was left to people, or nobody was asked."""
    if answer is None or answer.get("decision") != "accept":
        return None
    return str(answer["label"])


def wish_for_label(
    *,
    decided_by: DecidedBy,
    candidate: Mapping[str, Any] | None,
    incumbent: Mapping[str, Any] | None,
    has_shadow: bool,
    is_pending: bool,
    is_audit: bool,
    audit_share: float,
) -> LabelWish:
    """What `flows.rollout_evidence` counts on.

    People label what they decide. Two automatic decisions that differ: always. Of the rest `audit_share`, as drawn
    (`is_audit`). While one of the two has still to see it (`is_pending`), only what was deferred is asked for.
    """
    if decided_by == "people":
        return LabelWish(is_wanted=True, probability=1.0, why="all")
    new, old = label_of(candidate), label_of(incumbent)
    if new is not None and old is not None and new != old:
        return LabelWish(is_wanted=True, probability=1.0, why="disagreement")
    decided = candidate if decided_by == "candidate" else incumbent
    is_deferred = label_of(decided) is None
    is_automatic = is_pending or new is not None or (not has_shadow and old is not None)
    is_wanted = is_audit and is_automatic
    why: Why | None = "deferred" if is_deferred else "audit" if is_wanted and not is_pending else None
    return LabelWish(is_wanted=is_wanted, probability=audit_share, why=why)
