"""What people say of a picture: who looks at what first, when an answer stands, and how well reviewers agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from drivetrain.errors import InvalidConfig
from drivetrain.trust.estimate import Rate

from .share import place_of

__all__ = [
    "CANNOT_TELL",
    "NONE_OF_THESE",
    "Agreement",
    "Order",
    "Verdict",
    "Waiting",
    "measure_agreement",
    "settle",
    "sort_queue",
    "wants_second",
]

CANNOT_TELL = "cannot tell"  # of the picture itself: too dark, cut off
NONE_OF_THESE = "none of these"  # it shows something that the model does not know
_ENOUGH = 2  # equal answers settle a picture that more than one person sees
_MOST = 3  # people who see one picture
_NEVER = datetime.max.replace(tzinfo=UTC)

Order = Literal["deadline", "risk", "audit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A picture that waits for a person. Times have their zones."""

    prediction_id: str
    asked_at: datetime
    due_at: datetime | None  # None: no one waits for it
    risk: float  # how likely the model is wrong, 0 to 1
    is_audit: bool  # drawn by chance, not because the model was unsure


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the answers so far come to."""

    state: Literal["open", "labelled", "unclear"]
    label: str | None = None
    people_wanted: int = 0  # who should look besides


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of two people, or of one with what is known to be right."""

    same: Rate
    kappa: float | None  # 1: always; 0: no more than by chance; None where chance alone would always agree


def sort_queue(waiting: Iterable[Waiting], *, by: Order) -> list[Waiting]:
    """Who comes first: what is due soonest, what is likeliest wrong, or what was drawn by chance; then the oldest."""
    if by == "deadline":
        return sorted(waiting, key=lambda one: (one.due_at or _NEVER, one.asked_at, one.prediction_id))
    if by == "risk":
        return sorted(waiting, key=lambda one: (-one.risk, one.asked_at, one.prediction_id))
    if by == "audit":
        return sorted(waiting, key=lambda one: (not one.is_audit, one.asked_at, one.prediction_id))
    raise InvalidConfig("order", got=by, want="deadline, risk or audit")


def wants_second(prediction_id: str, *, salt: str, share: float) -> bool:
    """Whether two people see a picture: by a hash, so that neither the answer nor the first person decides it."""
    return place_of(prediction_id, salt=f"second:{salt}") < share


def settle(answers: Sequence[str], *, people: int) -> Verdict:
    """What stands after `answers`, one a person in the order given, of a picture that `people` (1 or 2) should see.

    Two that differ call a third; where no two of three agree, or most could not tell, it is unclear.
    """
    if people not in (1, _ENOUGH):
        raise InvalidConfig("people", got=people, want="1 or 2")
    if len(answers) < people:
        return Verdict(state="open", people_wanted=people - len(answers))
    label, count = Counter(answers).most_common(1)[0]
    if people == 1 or count >= _ENOUGH:
        return Verdict(state="unclear") if label == CANNOT_TELL else Verdict(state="labelled", label=label)
    if len(answers) < _MOST:
        return Verdict(state="open", people_wanted=1)
    return Verdict(state="unclear")


def measure_agreement(pairs: Sequence[tuple[str, str]]) -> Agreement:
    """How often two answers to the same picture are the same, and Cohen's kappa (1960)."""
    same = Rate.of(np.array([first == second for first, second in pairs], dtype=bool))
    firsts, seconds, n = Counter(first for first, _ in pairs), Counter(second for _, second in pairs), len(pairs)
    by_chance = sum(firsts[label] * seconds[label] for label in firsts) / n**2 if n else 1.0
    kappa = None if same.share is None or by_chance == 1 else (same.share - by_chance) / (1 - by_chance)
    return Agreement(same=same, kappa=kappa)
