"""What a roll-out has shown so far, counted from its requests in the order in which they came.

What is measured is wrong automatic decisions over automatic decisions, and beside it the share deferred. Counting stops
at the first request whose label is still awaited, so that what is labelled soon, the easy ones, cannot run ahead of the
rest. A label that is overdue, or that no reviewer could tell, counts against promotion and never as harm. Where two
versions see the same requests, those on which they agree need no label for the comparison: neither can gain there.
Where each request is asked of one of them, the candidate's counts are of those it was asked, and `arms` compares both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from drivetrain.errors import InvalidInput
from drivetrain.trust.audit_sequence import AuditSequence

from .two_arms import Choice, TwoArms

__all__ = ["Evidence", "Outcome", "Review"]

Review = Literal["none", "pending", "labelled", "unclear", "overdue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One request, as far as the roll-out is concerned."""

    at: datetime
    candidate: str | None  # its label; None: it deferred
    incumbent: str | None  # None: it deferred, or people are the incumbent
    review: Review  # none: no label was asked for, by chance or because none is needed
    truth: str | None = None  # the reviewers' label, where `review` is labelled
    probability: float = 1.0  # with which a label was asked for, decided before anyone knew the answer
    is_failed: bool = False  # the candidate gave no answer at all
    is_asked: bool = True  # the candidate was; else, without shadow, only the incumbent was
    choice: Choice | None = None  # where it was the key's first request that could have gone either way

    def __post_init__(self) -> None:
        if (self.review == "labelled") != (self.truth is not None):
            raise InvalidInput(
                "truth", got=f"{self.truth!r}, {self.review}", want="a label where and only where reviewed"
            )


@dataclass(slots=True)
class Evidence:
    """Counts; `add` the requests in order. Without audits by chance (`floor` 1) they alone decide every test."""

    floor: float = 1.0  # the least probability of a label for an automatic decision
    arms: TwoArms | None = None  # where each request is asked of one version, and they are to be compared
    n: int = 0  # requests counted, of those the candidate was asked
    n_waiting: int = 0  # requests behind the first whose label is awaited, itself included
    n_failed: int = 0
    n_deferred: int = 0
    n_automatic: int = 0
    n_labelled: int = 0  # automatic decisions with a label
    n_wrong: int = 0
    n_untold: int = 0  # automatic decisions whose label is overdue or cannot be told
    wins: int = 0  # the candidate alone was right
    losses: int = 0
    ties: int = 0
    n_untold_pairs: int = 0  # the two differ, and no one can say who is right
    classes: Counter[str] = field(default_factory=Counter)  # automatic decisions, by what was decided
    hours: set[int] = field(default_factory=set)  # of the day, in which something was counted
    first_at: datetime | None = None
    last_at: datetime | None = None
    for_promotion: AuditSequence = field(init=False)  # of wrong decisions; untold ones count as wrong
    for_harm: AuditSequence = field(init=False)  # untold ones count as right

    def __post_init__(self) -> None:
        self.for_promotion, self.for_harm = AuditSequence(floor=self.floor), AuditSequence(floor=self.floor)

    @classmethod
    def of(cls, outcomes: Iterable[Outcome], *, floor: float = 1.0) -> Evidence:
        """Count all of them, in the order given."""
        evidence = cls(floor=floor)
        for outcome in outcomes:
            evidence.add(outcome)
        return evidence

    def add(self, outcome: Outcome) -> None:
        """Count the next request; from the first awaited label on, it waits."""
        if self.n_waiting or outcome.review == "pending":
            self.n_waiting += 1
            return
        if outcome.choice is not None and self.arms is not None:
            self.arms.add(outcome.choice, is_wrong=_is_wrong(outcome), is_failed=outcome.is_failed)
        if not outcome.is_asked:
            return
        self.n += 1
        self.hours.add(outcome.at.hour)
        self.first_at = outcome.at if self.first_at is None else self.first_at
        self.last_at = outcome.at
        if outcome.is_failed:
            self.n_failed += 1
        elif outcome.candidate is None:
            self.n_deferred += 1
        else:
            self._count_decision(outcome, outcome.candidate)
            if outcome.incumbent is not None:
                self._count_pair(outcome)

    def _count_decision(self, outcome: Outcome, decided: str) -> None:
        self.n_automatic += 1
        self.classes[decided] += 1
        if outcome.review == "none":
            wrong_at_worst = wrong_at_best = None
        elif outcome.review == "labelled":
            wrong_at_worst = wrong_at_best = decided != outcome.truth
            self.n_labelled += 1
            self.n_wrong += wrong_at_best
        else:
            wrong_at_worst, wrong_at_best = True, False
            self.n_untold += 1
        if self.floor < 1:
            self.for_promotion.add(outcome.probability, is_wrong=wrong_at_worst)
            self.for_harm.add(outcome.probability, is_wrong=wrong_at_best)
        elif wrong_at_worst is None:
            raise InvalidInput("review", got="an automatic decision without a label", want="a floor below 1")

    def _count_pair(self, outcome: Outcome) -> None:
        if outcome.candidate == outcome.incumbent:
            self.ties += 1
        elif outcome.review == "labelled":
            if outcome.truth == outcome.candidate:
                self.wins += 1
            elif outcome.truth == outcome.incumbent:
                self.losses += 1
            else:
                self.ties += 1
        elif outcome.review == "none":
            raise InvalidInput("review", got="two that differ, without a label", want="a review of each of them")
        else:
            self.n_untold_pairs += 1

    @property
    def n_pairs(self) -> int:
        """Requests that both versions decided by themselves."""
        return self.wins + self.losses + self.ties + self.n_untold_pairs

    @property
    def hours_long(self) -> float:
        """Hours from the first request counted to the last."""
        if self.first_at is None or self.last_at is None:
            return 0.0
        return (self.last_at - self.first_at).total_seconds() / 3600


def _is_wrong(outcome: Outcome) -> bool | None:
    """Of the version that was asked; what it left to people is not. None: it cannot be told."""
    decided = outcome.candidate if outcome.is_asked else outcome.incumbent
    if decided is None:
        return False
    return decided != outcome.truth if outcome.review == "labelled" else None
