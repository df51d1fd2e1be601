import json

import numpy as np
import pytest
from scipy.stats import binomtest

from drivetrain.errors import InvalidInput
from drivetrain.trust.compare import (
    SCORE_NAMES,
    Comparison,
    compare_predictions,
    compare_right,
    compare_scores,
    score_pictures,
)


def right_and_wrong(both: int, better: int, worse: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, better, worse, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_a_gain_is_told_with_its_interval() -> None:
    told = compare_right(*right_and_wrong(320, 12, 2, 7), reference="head")
    assert (told.n, told.n_groups, told.n_better, told.n_worse) == (341, 341, 12, 2)
    assert told.value == pytest.approx(332 / 341)
    assert told.reference_value == pytest.approx(322 / 341)
    assert told.gain == pytest.approx(10 / 341)
    assert told.low > 0
    assert told.is_told_apart
    assert told.sentence == "the gain over head is +2.9 points (paired, 95 % 0.9 to 5.5)"
    assert told.p_value == pytest.approx(0.0074, abs=1e-4)
    assert (told.interval, told.test) == ("Tango's score interval", "McNemar, mid-p")


def test_a_loss_is_told_as_one() -> None:
    told = compare_right(*right_and_wrong(320, 2, 12, 7), reference="head")
    assert told.sentence == "the loss against head is 2.9 points (paired, 95 % 0.9 to 5.5)"
    assert told.is_told_apart


def test_what_cannot_be_told_apart_is_not_called_better() -> None:
    told = compare_right(*right_and_wrong(320, 8, 7, 6), reference="head")
    assert not told.is_told_apart
    assert told.sentence == (
        "no difference from head can be told apart on 341 pictures: +0.3 points (paired, 95 % -2.1 to 2.8)"
    )
    same = compare_right(*right_and_wrong(1, 0, 0, 0), reference="head")
    assert same.sentence.startswith("no difference from head can be told apart on 1 picture: 0.0 points (paired, 95 %")


def test_an_end_that_is_off_zero_is_not_shown_as_zero() -> None:
    one = Comparison(score="accuracy", is_share=True, reference="head", n=9_000, n_groups=9_000, value=0.91,
                     reference_value=0.9, gain=0.01, low=0.0002, high=0.02, p_value=0.03, n_better=9, n_worse=1,
                     interval="", test="")  # fmt: skip
    assert one.sentence == "the gain over head is +1.00 points (paired, 95 % 0.02 to 2.00)"


def test_groups_widen_the_interval() -> None:
    right, than = right_and_wrong(300, 30, 12, 58)
    order = np.random.default_rng(0).permutation(400)
    right, than = right[order], than[order]
    alone = compare_right(right, than, reference="head")
    copies = compare_right(
        np.repeat(right, 3), np.repeat(than, 3), reference="head", groups=np.repeat(np.arange(400), 3)
    )
    assert copies.n_groups == 400
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high), abs=3e-4)
    assert compare_right(np.repeat(right, 3), np.repeat(than, 3), reference="head").low > copies.low + 0.005
    assert "paired by group" in copies.sentence
    assert (copies.interval, copies.test) == (
        "Tango's score interval, pictures counted by group",
        "sign flips by group",
    )
    singles = compare_right(right, than, reference="head", groups=np.arange(400))
    assert (singles.low, singles.high, singles.p_value) == (alone.low, alone.high, alone.p_value)


def test_one_group_tells_nothing() -> None:
    told = compare_right(*right_and_wrong(30, 9, 0, 1), reference="head", groups=np.zeros(40, dtype=np.int64))
    assert (told.low, told.high, told.p_value) == (-1.0, 1.0, 1.0)


def draw_right(rng: np.random.Generator, n: int, better: float, worse: float) -> tuple[np.ndarray, np.ndarray]:
    state = rng.choice([1, -1, 0], p=[better, worse, 1 - better - worse], size=n)
    both = rng.random(n) < 0.8
    return (state > 0) | ((state == 0) & both), (state < 0) | ((state == 0) & both)


@pytest.mark.parametrize(("n", "better", "worse"), [(100, 0.1, 0.1), (372, 0.06, 0.03), (372, 0.03, 0.03)])
def test_tango_covers_the_truth_and_mid_p_keeps_its_level(n: int, better: float, worse: float) -> None:
    rng = np.random.default_rng(11)
    runs = [compare_right(*draw_right(rng, n, better, worse), reference="head") for _ in range(1500)]
    covered = np.mean([run.low <= better - worse <= run.high for run in runs])
    assert abs(covered - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / 1500)
    if better == worse:
        assert np.mean([run.p_value <= 0.05 for run in runs]) <= 0.05 + 3 * np.sqrt(0.95 * 0.05 / 1500)


@pytest.mark.parametrize(("n_groups", "size", "likeness"), [(40, 8, 0.5), (100, 4, 1.0), (200, 2, 0.0)])
def test_groups_that_behave_alike_are_covered_too(n_groups: int, size: int, likeness: float) -> None:
    rng = np.random.default_rng(12)
    groups = np.repeat(np.arange(n_groups), size)
    covered, alone = [], []
    for _ in range(400):
        state, own = (rng.choice([1, -1, 0], p=[0.12, 0.06, 0.82], size=n) for n in (n_groups, len(groups)))
        moved = np.where(rng.random(len(groups)) < likeness, state[groups], own)
        right = (moved > 0) | ((moved == 0) & (rng.random(len(groups)) < 0.8))
        than = np.where(moved == 0, right, moved < 0)
        for runs, known in ((covered, groups), (alone, None)):
            run = compare_right(right, than, reference="head", groups=known)
            runs.append(run.low <= 0.06 <= run.high)
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)
    assert np.mean(covered) <= 0.99
    if likeness >= 0.5:  # what comes of leaving the groups out
        assert np.mean(alone) < 0.88


def test_the_bootstrap_covers_the_truth_of_lopsided_scores_and_of_few_groups() -> None:
    rng = np.random.default_rng(13)
    alone, grouped = [], []
    for _ in range(300):
        gains = rng.exponential(size=120)
        run = compare_scores(gains, np.zeros(120), reference="head", score="x", is_share=False)
        alone.append(run.low <= 1.0 <= run.high)
        gains = np.repeat(rng.normal(1, 1, size=12), 10) + rng.normal(size=120)
        groups = np.repeat(np.arange(12), 10)
        run = compare_scores(gains, np.zeros(120), reference="head", score="x", is_share=False, groups=groups)
        grouped.append(run.low <= 1.0 <= run.high)
    for covered in (alone, grouped):
        assert abs(np.mean(covered) - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / 300)


def test_scores_heed_their_seed_and_their_groups() -> None:
    rng = np.random.default_rng(14)
    scores, than = rng.normal(0.2, 1, size=90), np.zeros(90)
    told = compare_scores(scores, than, reference="head", score="x", is_share=False)
    assert told == compare_scores(scores, than, reference="head", score="x", is_share=False)
    assert told != compare_scores(scores, than, reference="head", score="x", is_share=False, seed=1)
    half = 1.98698 * scores.std(ddof=1) / np.sqrt(90)  # Student's t with 89 degrees of freedom: at least as wide
    assert told.low <= told.gain - half + 1e-4
    assert told.high >= told.gain + half - 1e-4
    groups = np.repeat(np.arange(9), 10)
    assert compare_scores(scores, than, reference="head", score="x", is_share=False, groups=groups).n_groups == 9


def test_a_lower_error_is_a_gain() -> None:
    truth = np.linspace(10, 20, 60)[:, None].astype(np.float32)
    told = compare_predictions(truth + 0.5, truth - 1.75, truth, task="regression", reference="head")
    assert told.score == SCORE_NAMES["regression"] == "mean absolute error"
    assert told.gain == pytest.approx(1.25)
    assert (told.value, told.reference_value) == pytest.approx((0.5, 1.75))
    assert told.sentence.startswith("the gain over head is +1.3 of mean absolute error (paired, 95 % 1.2 to 1.3)")


def test_predictions_of_every_task_are_scored_picture_by_picture() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, -1.0]])
    labels = np.array([0, 0, 1])
    assert score_pictures(logits, labels, task="classification").tolist() == [1, 0, 0]
    assert score_pictures(logits, np.array([[1, 1], [0, 0], [0, 1]]), task="multilabel").tolist() == [1, 0.5, 0]
    assert score_pictures(np.array([[3.0], [5.0]]), np.array([[4.0], [2.0]]), task="regression").tolist() == [-1, -3]
    # in metres and in millimetres: each counts by its own spread; one that never varies as it is
    values = np.array([[1.0, 1000, 5], [3, 3000, 5]])
    assert score_pictures(values + np.array([1, 0, 0]), values, task="regression").tolist() == pytest.approx(
        [-1 / 3] * 2
    )
    assert score_pictures(values + np.array([0, 1000, 0]), values, task="regression").tolist() == pytest.approx(
        [-1 / 3] * 2
    )
    assert score_pictures(values + np.array([0, 0, 1]), values, task="regression").tolist() == pytest.approx(
        [-1 / 3] * 2
    )


def test_predictions_are_compared_by_their_task() -> None:
    rng = np.random.default_rng(15)
    labels = rng.integers(3, size=80)
    good = np.eye(3)[labels]
    told = compare_predictions(good, rng.normal(size=(80, 3)), labels, task="classification", reference="chance")
    assert (told.score, told.value, told.test) == ("accuracy", 1.0, "McNemar, mid-p")
    many = (rng.random((80, 3)) < 0.3).astype(np.float32)
    told = compare_predictions(many - 0.5, np.ones((80, 3)), many, task="multilabel", reference="all",
                               groups=np.arange(80) // 2)  # fmt: skip
    assert (told.score, told.value, told.n_groups) == ("label accuracy", 1.0, 40)
    assert told.gain == pytest.approx(1 - many.mean())
    assert "points (paired by group" in told.sentence


def test_a_comparison_becomes_json() -> None:
    told = compare_right(*right_and_wrong(320, 12, 2, 7), reference="head")
    plain = json.loads(json.dumps(told.as_json()))
    assert plain["gain"] == told.gain
    assert plain["is_told_apart"] is True
    assert plain["sentence"] == told.sentence


def test_unfit_input_is_refused() -> None:
    yes = np.ones(4, dtype=bool)
    with pytest.raises(InvalidInput, match=r"scores: got shapes \(4,\) and \(3,\); want one a picture"):
        compare_right(yes, yes[:3], reference="head")
    with pytest.raises(InvalidInput, match="right: got int64 and bool; want bool"):
        compare_right(np.ones(4, dtype=np.int64), yes, reference="head")
    with pytest.raises(InvalidInput, match="one a picture"):
        compare_right(yes[:0], yes[:0], reference="head")
    with pytest.raises(InvalidInput, match="missing or infinite"):
        compare_scores(np.array([1.0, np.nan]), np.zeros(2), reference="head", score="x", is_share=False)
    with pytest.raises(InvalidInput, match="one alone has no spread"):
        compare_scores(np.ones(4), np.zeros(4), reference="head", score="x", is_share=False, groups=np.zeros(4))
    with pytest.raises(InvalidInput, match=r"targets: got shape \(2,\) for outputs \(3, 2\)"):
        score_pictures(np.ones((3, 2)), np.zeros(2), task="classification")


def test_the_p_value_is_told_for_what_it_is() -> None:
    words = compare_right(*right_and_wrong(320, 8, 7, 6), reference="head").p_value_words
    assert words.startswith(
        "p = 0.8 (mid-p: the chance of just this outcome counts half): if the two were equally good, "
        "luck alone would part them at least this far in about 100 of 100 such comparisons."
    )
    assert "It is not the chance that they are equally good, nor does it give the chance that one is better." in words
    assert "A large p does not show that they are equal" in words
    never = compare_right(*right_and_wrong(320, 60, 2, 7), reference="head")
    assert "in fewer than 2 of 10,000 such comparisons." in never.p_value_words
    assert never.as_json()["p_value_words"] == never.p_value_words


@pytest.mark.parametrize(
    ("better", "worse", "mid_p", "told", "of"),
    [(3, 4, "0.73", 100, 100), (11, 6, "0.24", 33, 100), (12, 2, "0.0074", 13, 1_000), (5, 0, "0.031", 6, 100)],
)
def test_what_luck_does_is_told_by_the_exact_test(better: int, worse: int, mid_p: str, told: int, of: int) -> None:
    """Symptom before: the words told the mid-p, 3 of 100 for five wins of five, which a fair coin gives 6 times."""
    assert round(of * binomtest(better, better + worse).pvalue) == told
    words = compare_right(*right_and_wrong(320, better, worse, 7), reference="head").p_value_words
    assert words.startswith(f"p = {mid_p} (mid-p: ")
    assert f"at least this far in about {told} of {of:,} such comparisons." in words


def test_a_test_by_sign_flips_is_exact_and_told_as_it_is() -> None:
    told = compare_scores(np.ones(5), np.zeros(5), reference="head", score="x", is_share=False)
    assert told.p_value_words.startswith("p = 0.062: if the two were equally good, luck alone")
    assert "at least this far in about 6 of 100 such comparisons." in told.p_value_words
    told = compare_right(*right_and_wrong(0, 20, 0, 0), reference="head", groups=np.arange(20) // 4)
    assert "at least this far in about 6 of 100 such comparisons." in told.p_value_words


def test_how_much_a_picture_counts_is_told() -> None:
    right, than = right_and_wrong(300, 30, 12, 58)
    assert compare_right(right, than, reference="head").counted == 1
    copies = compare_right(
        np.repeat(right, 3), np.repeat(than, 3), reference="head", groups=np.repeat(np.arange(400), 3)
    )
    assert copies.counted == pytest.approx(1 / 3, abs=0.01)
