from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from drivetrain.arrays import BoolArray, FloatArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.deferral import Promise, certify_threshold, choose_start, labels_needed
from drivetrain.trust.estimate import wilson_interval

Risk = Callable[[FloatArray], FloatArray]  # score -> chance to be wrong


def certify(scores: FloatArray, wrong: BoolArray, *, eligible: BoolArray | None = None, **options: float) -> Promise:
    return certify_threshold(scores, wrong, np.ones(len(scores), bool) if eligible is None else eligible, **options)


def ranked(n: int, *, wrong_at: tuple[int, ...] = ()) -> tuple[FloatArray, BoolArray]:
    """n different scores, the surest first; those at these places are wrong."""
    return np.linspace(1.0, 0.5, n), np.isin(np.arange(n), wrong_at)


@pytest.mark.parametrize(
    ("max_error", "errors", "needed"),
    [
        (0.01, 0, 299),
        (0.01, 1, 473),
        (0.01, 2, 628),
        (0.02, 0, 149),
        (0.02, 1, 236),
        (0.05, 0, 59),
        (0.05, 1, 93),
        (0.05, 2, 124),
        (0.05, 5, 208),
    ],
)
def test_pictures_it_takes(max_error: float, errors: int, needed: int) -> None:
    """The numbers of Geifman and El-Yaniv's bound; errors come last, so that they do not end the walk early."""
    for n, is_enough in ((needed - 1, False), (needed, True)):
        scores, wrong = ranked(n, wrong_at=tuple(range(n - errors, n)))
        promise = certify(scores, wrong, max_error=max_error)
        if errors:  # the errors are the least sure: with one picture too few, the last of them stays out
            assert (promise.n_wrong == errors) is is_enough
        else:
            assert promise.is_certified is is_enough
    if not errors:
        assert labels_needed(max_error) == promise.n_needed == needed


@pytest.mark.parametrize(("confidence", "needed"), [(0.5, 14), (0.9, 45), (0.99, 90)])
def test_confidence_sets_how_many(confidence: float, needed: int) -> None:
    assert labels_needed(0.05, confidence=confidence) == needed
    assert certify(*ranked(needed), confidence=confidence).is_certified
    assert not certify(*ranked(needed - 1), confidence=confidence).is_certified


def test_all_right_accepts_every_picture() -> None:
    promise = certify(*ranked(100))
    assert (promise.is_certified, promise.n_accepted, promise.n_wrong) == (True, 100, 0)
    assert promise.threshold < 0.5  # strictly below the last score, so that it is accepted too
    assert promise.threshold == pytest.approx(0.5)


def test_the_threshold_is_the_score_of_the_first_picture_left_out() -> None:
    scores, wrong = ranked(100, wrong_at=tuple(range(70, 100)))
    promise = certify(scores, wrong)
    assert promise.is_certified
    assert promise.threshold == scores[promise.n_accepted]
    assert promise.n_accepted == int((scores > promise.threshold).sum()) == 70
    assert promise.n_wrong == 0


def test_early_errors_end_the_walk() -> None:
    """A model that is wrong where it is surest gets no promise, however right it is further down."""
    promise = certify(*ranked(2_000, wrong_at=(0, 1)))
    assert not promise.is_certified


def test_ties_are_never_split() -> None:
    scores = np.repeat([0.9, 0.8, 0.7], [40, 40, 40])
    wrong = np.repeat([False, False, True], [40, 40, 40])
    promise = certify(scores, wrong)
    assert (promise.threshold, promise.n_accepted, promise.n_wrong) == (0.7, 80, 0)
    all_one = certify(np.full(100, 0.9), np.zeros(100, bool))
    assert all_one.is_certified
    assert all_one.n_accepted == 100
    assert not certify(np.full(100, 0.9), np.arange(100) < 10).is_certified


def test_pictures_deferred_already_count_for_nothing() -> None:
    scores, wrong = ranked(200, wrong_at=tuple(range(0, 200, 2)))
    promise = certify(scores, wrong, eligible=~wrong)
    assert (promise.is_certified, promise.n_accepted, promise.n_wrong) == (True, 100, 0)
    assert promise.n_calibration == 200
    assert not certify(scores, wrong).is_certified
    assert not certify(scores, np.zeros(200, bool), eligible=np.zeros(200, bool)).is_certified


@pytest.mark.parametrize("n", [0, 1, 58])
def test_too_few_pictures_make_no_promise_and_say_how_many_it_takes(n: int) -> None:
    promise = certify(*ranked(n), max_error=0.05)
    sure = {0: 0, 1: 1, 58: 6}[n]
    assert (promise.is_certified, promise.n_accepted, promise.threshold) == (False, sure, 0.95)
    told = (
        f"No promise: {n} pictures kept apart could not show that at most 5 % of its own decisions are wrong "
        "(it takes 59 sure and right ones at least)."
    )
    alone = (
        f" All the same it decides {100 * sure / n:.0f} % of such pictures by itself, where it is more than 95 % sure; "
        "of these nothing is promised."
        if sure
        else ""
    )
    assert promise.statement == told + alone


def test_without_a_promise_another_threshold_may_be_given() -> None:
    scores, wrong = ranked(50, wrong_at=(3,))
    promise = certify(scores, wrong, otherwise=0.8)
    counts = (promise.is_certified, promise.threshold, promise.n_accepted, promise.n_wrong)
    assert counts == (False, 0.8, int((scores > 0.8).sum()), 1)


def test_the_statement_says_what_is_promised() -> None:
    assert certify(*ranked(300, wrong_at=(290,)), max_error=0.025, confidence=0.9).statement == (
        "Of the pictures it decides by itself, at most 2.5 % are wrong (90 % confidence, from 300 decisions, "
        "1 of them wrong, on 300 kept apart). It decides 100 % of such pictures by itself (95 % interval 99 to 100)."
    )
    half = certify(*ranked(200, wrong_at=tuple(range(100, 200))))
    assert (half.coverage, half.coverage_interval) == (0.505, wilson_interval(101, 200))
    assert half.statement.endswith("It decides 50 % of such pictures by itself (95 % interval 44 to 57).")
    assert certify(*ranked(0)).coverage == 0.0


@pytest.mark.parametrize(
    ("max_error", "confidence"), [(0.0, 0.95), (1.0, 0.95), (0.05, 0.0), (0.05, 1.0), (math.nan, 0.95)]
)
def test_promise_takes_shares(max_error: float, confidence: float) -> None:
    with pytest.raises(InvalidInput, match=r"promise: got \(.*\); want two shares between 0 and 1"):
        certify(*ranked(3), max_error=max_error, confidence=confidence)


def falling(scores: FloatArray) -> FloatArray:
    return 0.4 * (1 - scores)


def noisy(scores: FloatArray) -> FloatArray:
    """Sure and right, but one label in a hundred is wrong itself."""
    return 0.01 + np.where(scores < 0.3, 0.9 * (0.3 - scores), 0.0)


def wavy(scores: FloatArray) -> FloatArray:
    """Wrong more often among the very surest than a little further down: no order of thresholds is safe to assume."""
    return np.where(scores > 0.85, 0.10, np.where(scores > 0.45, 0.005, 0.35))


@pytest.mark.parametrize("risk", [falling, noisy, wavy])
@pytest.mark.parametrize("levels", [None, 40], ids=["no ties", "ties"])
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("is_piloted", [False, True])
def test_the_promise_fails_no_more_often_than_it_says(
    risk: Risk, levels: int | None, is_masked: bool, is_piloted: bool
) -> None:
    rng = np.random.default_rng(7)
    draws, n, max_error = 300, 600, 0.05

    def draw(count: int) -> tuple[FloatArray, BoolArray, BoolArray]:
        scores = rng.uniform(size=count)
        if levels:
            scores = np.floor(scores * levels) / levels
        wrong = rng.uniform(size=count) < risk(scores)
        # what another rule defers already is wrong more often than the rest
        eligible = rng.uniform(size=count) < np.where(wrong, 0.6, 0.95) if is_masked else np.ones(count, bool)
        return scores, wrong, eligible

    scores, wrong, eligible = draw(400_000)  # stands for all pictures there are
    order = np.argsort(-scores[eligible], kind="stable")
    all_scores, all_wrong = scores[eligible][order], wrong[eligible][order].cumsum()
    failed = certified = 0
    for _ in range(draws):
        start = choose_start(*draw(n), max_error=max_error) if is_piloted else 0.0
        promise = certify_threshold(*draw(n), max_error=max_error, start=start)
        if not promise.is_certified:
            continue
        certified += 1
        accepted = int(np.searchsorted(-all_scores, -promise.threshold, side="left"))
        failed += all_wrong[accepted - 1] / accepted > max_error
    assert failed / draws <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
    if risk is noisy:
        assert certified / draws > (0.85 if is_piloted else 0.3)  # and it is of use


@pytest.mark.parametrize(
    ("wrong_at", "want"),
    [((), 135 / 400), ((0,), 181 / 400), ((150,), 135 / 400), (tuple(range(40)), 0.0), (tuple(range(0, 400, 3)), 0.0)],
)
def test_the_walk_begins_where_other_pictures_leave_no_doubt(wrong_at: tuple[int, ...], want: float) -> None:
    scores, wrong = ranked(400, wrong_at=wrong_at)
    assert choose_start(scores, wrong, np.ones(400, bool)) == want
    kept = np.arange(400) % 2 == 0
    assert choose_start(scores, np.zeros(400, bool), kept) == 135 / 200  # a share of those that count


def test_the_start_is_where_the_walk_begins() -> None:
    scores, wrong = ranked(400, wrong_at=(3,))  # one wrong label among the surest
    assert not certify(scores, wrong).is_certified
    promise = certify(scores, wrong, start=0.5)
    assert (promise.is_certified, promise.n_accepted, promise.n_wrong) == (True, 400, 1)
    late = ranked(400, wrong_at=tuple(range(100, 400)))
    assert certify(*late).n_accepted == 101  # one error; with two it would take 124
    assert not certify(*late, start=0.5).is_certified  # begun too late, and stricter ones are not tried
    assert not certify(*ranked(58), start=0.0).is_certified  # never below the least count


def edge(scores: FloatArray) -> FloatArray:
    """A hair riskier than allowed at every threshold: each promise is broken."""
    return np.full_like(scores, 0.0501)


def cliff(scores: FloatArray) -> FloatArray:
    """Just within the promise above a score, far from it below."""
    return np.where(scores > 0.4, 0.0499, 0.5)


@pytest.mark.parametrize(
    ("risk", "levels", "is_piloted", "least_certified"),
    [(edge, None, True, 0.0), (edge, 40, False, 0.0), (cliff, 5, True, 0.0), (wavy, 5, False, 0.6)],
)
def test_ten_thousand_calibrations_keep_the_promise(
    risk: Risk, levels: int | None, is_piloted: bool, least_certified: float
) -> None:
    """The share of broken promises, with the true risk of each threshold summed over a fine grid of scores."""
    draws, n, max_error = 10_000, 400, 0.05
    rng = np.random.default_rng(11)

    def coarse(scores: FloatArray) -> FloatArray:
        return scores if levels is None else np.floor(scores * levels) / levels

    grid = coarse((np.arange(100_000)[::-1] + 0.5) / 100_000)
    true_risk = risk(grid).cumsum() / np.arange(1, len(grid) + 1)
    sides = []
    for _ in range(2):
        scores = coarse(rng.uniform(size=(draws, n)))
        sides.append((scores, rng.uniform(size=scores.shape) < risk(scores)))
    everything = np.ones(n, bool)
    thresholds = np.full(draws, np.inf)
    for at in range(draws):
        (pilot, pilot_wrong), (scores, wrong) = ((side[0][at], side[1][at]) for side in sides)
        start = choose_start(pilot, pilot_wrong, everything, max_error=max_error) if is_piloted else 0.0
        promise = certify_threshold(scores, wrong, everything, max_error=max_error, start=start)
        if promise.is_certified:
            thresholds[at] = promise.threshold
    is_made = np.isfinite(thresholds)
    accepted = np.searchsorted(-grid, -thresholds[is_made], side="left")
    broken = int((true_risk[accepted - 1] > max_error).sum())
    assert broken / draws <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
    assert is_made.mean() >= least_certified
