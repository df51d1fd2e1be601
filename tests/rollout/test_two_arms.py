from __future__ import annotations

import numpy as np
import pytest

from drivetrain.rollout.two_arms import SHARES_BROKEN, Choice, ShareCheck, TwoArms


def choice(share: float = 0.25, *, is_candidate: bool = True, is_drawn: bool = True) -> Choice:
    return Choice(share=share, is_candidate=is_candidate, is_drawn=is_drawn)


def test_what_is_not_drawn_counts_nowhere() -> None:
    arms = TwoArms(margin=0.02)
    arms.add(choice(is_drawn=False), is_wrong=True)
    assert (arms.candidate_n, arms.for_harm.log_e, arms.for_promotion.log_e) == (0, 0.0, 0.0)
    arms.add(choice(), is_wrong=True)
    arms.add(choice(is_candidate=False), is_wrong=False)
    assert (arms.candidate_n, arms.candidate_wrong, arms.incumbent_n, arms.incumbent_wrong) == (1, 1, 1, 0)


@pytest.mark.parametrize("is_candidate", [True, False])
def test_what_no_one_can_tell_is_at_its_worst_for_a_promotion_and_at_its_best_for_harm(is_candidate: bool) -> None:
    untold, wrong, right = TwoArms(margin=0.0), TwoArms(margin=0.0), TwoArms(margin=0.0)
    untold.add(choice(is_candidate=is_candidate), is_wrong=None)
    wrong.add(choice(is_candidate=is_candidate), is_wrong=True)
    right.add(choice(is_candidate=is_candidate), is_wrong=False)
    worst, best = (wrong, right) if is_candidate else (right, wrong)
    assert untold.for_promotion.log_e == worst.for_promotion.log_e != best.for_promotion.log_e
    assert untold.for_harm.log_e == best.for_harm.log_e != worst.for_harm.log_e
    assert untold.n_untold == 1


def test_no_answer_is_as_bad_as_a_wrong_one_for_a_promotion_and_no_wrong_one_for_harm() -> None:
    failed, wrong, right = TwoArms(margin=0.1), TwoArms(margin=0.1), TwoArms(margin=0.1)
    failed.add(choice(), is_wrong=False, is_failed=True)
    wrong.add(choice(), is_wrong=True)
    right.add(choice(), is_wrong=False)
    assert failed.for_promotion.log_e == wrong.for_promotion.log_e
    assert failed.for_harm.log_e == right.for_harm.log_e


def run(rng: np.random.Generator, *, candidate: float, incumbent: float, n: int, margin: float) -> tuple[bool, bool]:
    """(was it ever shown to be not worse, was it ever shown to be worse), looked at after each key; shares grow."""
    arms, is_good, is_bad = TwoArms(margin=margin), False, False
    for share in np.repeat([0.05, 0.25, 0.5], n // 3):
        is_candidate = bool(rng.random() < share)
        is_wrong: bool | None = bool(rng.random() < (candidate if is_candidate else incumbent))
        arms.add(choice(float(share), is_candidate=is_candidate), is_wrong=is_wrong)
        is_good |= arms.for_promotion.log_e >= np.log(20)
        is_bad |= arms.for_harm.log_e >= np.log(20)
    return is_good, is_bad


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_at_the_margin_and_beyond_it_neither_is_shown_more_often_than_alpha(margin: float) -> None:
    rng, repeats, n = np.random.default_rng(5), 40, 300
    allowed = 0.05 * repeats + 3 * np.sqrt(0.05 * 0.95 * repeats)
    at = [run(rng, candidate=0.1 + margin, incumbent=0.1, n=n, margin=margin) for _ in range(repeats)]
    assert sum(good for good, _ in at) <= allowed
    assert sum(bad for _, bad in at) <= allowed
    worse = [run(rng, candidate=0.15 + margin, incumbent=0.1, n=n, margin=margin) for _ in range(repeats)]
    assert sum(good for good, _ in worse) <= allowed


def test_good_and_bad_ones_are_told_apart() -> None:
    rng = np.random.default_rng(6)
    equal = [run(rng, candidate=0.1, incumbent=0.1, n=4_000, margin=0.1) for _ in range(4)]
    assert equal == [(True, False)] * 4
    better = [run(rng, candidate=0.03, incumbent=0.15, n=4_000, margin=0.0) for _ in range(4)]
    assert better == [(True, False)] * 4
    worse = [run(rng, candidate=0.3, incumbent=0.1, n=4_000, margin=0.02) for _ in range(4)]
    assert worse == [(False, True)] * 4


def test_keys_that_go_where_they_should_raise_no_alarm() -> None:
    rng = np.random.default_rng(7)
    for _ in range(60):
        check = ShareCheck()
        for share in (0.05, 0.25, 0.5):
            for is_candidate in rng.random(400) < share:
                check.add(share, is_candidate=bool(is_candidate))
        assert not check.is_broken
    assert check.n == 1_200


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_keys_that_go_elsewhere_are_found_in_the_share_where_they_do(share: float) -> None:
    rng = np.random.default_rng(8)
    check = ShareCheck()
    for each in (0.05, 0.25, 0.5):
        chance = each * 0.7 if each == share else each
        for is_candidate in rng.random(4_000) < chance:
            check.add(each, is_candidate=bool(is_candidate))
    assert check.log_e >= SHARES_BROKEN
    assert check.is_broken
    assert "of 4,000 keys got the candidate where 25 % should have" in check.sentence


def test_a_gross_fault_is_found_at_once() -> None:
    check = ShareCheck()
    while not check.is_broken:
        check.add(0.25, is_candidate=False)
    assert check.n < 50


def test_nothing_is_told_of_no_key() -> None:
    assert ShareCheck().log_e == 0.0
    assert ShareCheck().sentence == "No key had a choice yet."
