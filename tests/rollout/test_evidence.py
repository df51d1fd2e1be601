from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.rollout.evidence import Evidence, Outcome, Review
from drivetrain.rollout.two_arms import Choice, TwoArms

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def outcome(
    candidate: str | None = "bear",
    incumbent: str | None = None,
    truth: str | None = "bear",
    *,
    review: Review = "labelled",
    probability: float = 1.0,
    is_failed: bool = False,
    hour: float = 0,
) -> Outcome:
    return Outcome(
        at=NOON + timedelta(hours=hour),
        candidate=candidate,
        incumbent=incumbent,
        review=review,
        truth=truth if review == "labelled" else None,
        probability=probability,
        is_failed=is_failed,
    )


def test_decisions_are_counted_and_what_is_deferred_beside_them() -> None:
    evidence = Evidence.of(
        [
            outcome(),
            outcome(truth="wolf"),
            outcome(candidate=None),
            outcome("wolf", truth="wolf", hour=5),
            outcome(review="none", candidate=None, is_failed=True),
        ]
    )
    assert (evidence.n, evidence.n_automatic, evidence.n_deferred, evidence.n_failed) == (5, 3, 1, 1)
    assert (evidence.n_labelled, evidence.n_wrong) == (3, 1)
    assert evidence.classes == {"bear": 2, "wolf": 1}
    assert evidence.hours == {12, 17}
    assert evidence.hours_long == 0  # the last came at noon again


def test_counting_stops_at_the_first_label_that_is_awaited() -> None:
    """Otherwise the easy ones, which reviewers answer at once, would run ahead."""
    requests = [outcome(), outcome(review="pending"), outcome(), outcome(truth="wolf")]
    evidence = Evidence.of(requests)
    assert (evidence.n, evidence.n_waiting, evidence.n_wrong) == (1, 3, 0)
    requests[1] = outcome(review="overdue")
    later = Evidence.of(requests)
    assert (later.n, later.n_waiting, later.n_wrong, later.n_untold) == (4, 0, 1, 1)


def test_pairs_are_told_by_those_that_differ() -> None:
    evidence = Evidence.of(
        [
            outcome("bear", "bear", review="none", probability=0.5),  # agree: no label needed
            outcome("bear", "wolf", "bear"),
            outcome("bear", "wolf", "wolf"),
            outcome("bear", "wolf", "fox"),  # both wrong
            outcome("bear", "wolf", review="unclear"),
            outcome("bear", "wolf", review="overdue"),
            outcome(None, "wolf", "wolf"),  # one of them defers: no pair
            outcome("bear", None, "bear"),
        ],
        floor=0.5,
    )
    assert (evidence.wins, evidence.losses, evidence.ties, evidence.n_untold_pairs) == (1, 1, 2, 2)
    assert evidence.n_pairs == 6


def test_two_that_differ_must_be_looked_at() -> None:
    with pytest.raises(InvalidInput, match="differ"):
        Evidence.of([outcome("bear", "wolf", review="none", probability=0.5)], floor=0.5)
    with pytest.raises(InvalidInput, match="without a label"):
        Evidence.of([outcome(review="none")])


def test_audits_by_chance_are_weighed() -> None:
    rng = np.random.default_rng(0)
    requests = []
    for _ in range(4_000):
        is_wrong, is_asked = rng.random() < 0.05, rng.random() < 0.25
        truth = "wolf" if is_wrong else "bear"
        requests.append(outcome(truth=truth, review="labelled" if is_asked else "none", probability=0.25))
    evidence = Evidence.of(requests, floor=0.25)
    low, high = evidence.for_promotion.interval()
    assert low < 0.05 < high < 0.12
    assert evidence.n_labelled == pytest.approx(1_000, abs=100)


def test_what_no_one_can_tell_counts_against_promotion_and_not_as_harm() -> None:
    requests = [outcome(review="unclear", probability=0.5) for _ in range(200)]
    evidence = Evidence.of(requests, floor=0.5)
    assert evidence.for_promotion.estimate == pytest.approx(1.0, abs=0.3)
    assert evidence.for_harm.estimate == pytest.approx(0.0, abs=0.3)


def test_a_label_goes_with_being_labelled() -> None:
    with pytest.raises(InvalidInput, match="truth"):
        Outcome(at=NOON, candidate="a", incumbent=None, review="labelled")
    with pytest.raises(InvalidInput, match="truth"):
        Outcome(at=NOON, candidate="a", incumbent=None, review="unclear", truth="a")


def test_what_the_candidate_was_not_asked_is_no_evidence_of_it_alone() -> None:
    share = {"share": 0.5, "is_drawn": True}
    evidence = Evidence(arms=TwoArms(margin=0.02))
    for is_candidate, decided in ((True, "bear"), (True, None), (False, "wolf"), (False, None)):
        said = outcome(decided, None) if is_candidate else outcome(None, decided)
        choice = Choice(is_candidate=is_candidate, **share)
        evidence.add(replace(said, is_asked=is_candidate, choice=choice))
    assert evidence.arms is not None
    assert (evidence.n, evidence.n_automatic, evidence.n_deferred, evidence.n_pairs) == (2, 1, 1, 0)
    assert (evidence.arms.candidate_n, evidence.arms.candidate_wrong) == (2, 0)
    assert (evidence.arms.incumbent_n, evidence.arms.incumbent_wrong) == (2, 1)
