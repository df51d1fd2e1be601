import json

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.learning_curve import LearningCurve, fit_learning_curve

SIZES = (100, 200, 300, 400)


def make_losses(errors: np.ndarray, n: int, *, repeats: int = 3, seed: int = 0, flips: float = 0.02) -> np.ndarray:
    """Wrong or right (repeats, sizes, n): a hard picture is wrong until the error is below its place; some flip."""
    rng = np.random.default_rng(seed)
    place = rng.random(n)
    wrong = place[None, None, :] < errors[None, :, None]
    flipped = rng.random((repeats, len(errors), n)) < flips * errors[None, :, None]
    return (wrong ^ flipped).astype(np.float64)


def fit(losses: np.ndarray, **options: object) -> LearningCurve:
    return fit_learning_curve(losses, SIZES, score="accuracy", is_share=True, **options)


def law(n: float | np.ndarray, *, floor: float = 0.03, slope: float = 1.2, exponent: float = 0.4) -> np.ndarray:
    return floor + slope * np.asarray(n, dtype=float) ** -exponent


def test_a_steep_curve_says_that_more_would_help() -> None:
    told = fit(make_losses(law(np.array(SIZES)), 500))
    assert (told.n, told.n_groups, told.repeats) == (500, 500, 3)
    assert [point.n for point in told.points] == list(SIZES)
    assert told.points[-1].score == pytest.approx(1 - law(400), abs=0.02)
    assert (told.now.n, told.twice.n) == (500, 1000)
    assert told.now.score < told.twice.score
    assert told.gain_low < told.gain < told.gain_high
    assert told.verdict == "help"
    assert told.sentence == (
        f"With twice the pictures, about {100 * told.twice.score:.1f} % ({100 * told.twice.low:.1f} to "
        f"{100 * told.twice.high:.1f}), +{100 * told.gain:.1f} points ({100 * told.gain_low:.1f} to "
        f"{100 * told.gain_high:.1f}): more pictures would help"
    )
    assert [told.curve[0].n, told.curve[-1].n] == [100, 1000]
    assert [point.score for point in told.curve] == sorted(point.score for point in told.curve)


def test_a_flat_curve_says_that_more_would_bring_little() -> None:
    told = fit(make_losses(law(np.array(SIZES), floor=0.1, slope=0.02), 500, flips=0.01))
    assert told.chance <= 0.2
    assert told.verdict == "little"
    assert told.sentence.endswith(": probably less than a point")


def test_a_gain_of_about_a_point_is_called_so() -> None:
    told = fit(make_losses(law(np.array(SIZES), slope=0.5), 500, flips=0.0))
    assert 0.2 < told.chance < 0.8
    assert told.verdict == "some"
    assert told.sentence.endswith(": more pictures would help a little")


def test_few_pictures_are_too_noisy_to_tell() -> None:
    rng = np.random.default_rng(0)
    told = fit((rng.random((3, 4, 60)) < 0.2).astype(float))
    assert told.verdict == "unclear"
    assert told.sentence.endswith(": too noisy to tell whether more pictures would help")


@pytest.mark.parametrize(("n", "verdict"), [(50, "unclear"), (1000, "little")])
def test_hardly_a_mistake_leaves_open_what_may_be_hidden(n: int, verdict: str) -> None:
    told = fit(np.zeros((2, 4, n)))
    most = 3.8415 / (n + 3.8415)  # Wilson's upper end of none of n
    assert told.gain == 0
    assert told.gain_high == pytest.approx(most, rel=1e-3)
    assert (told.twice.low, told.twice.high) == pytest.approx((1 - most, 1.0))
    assert told.points[0].low == pytest.approx(1 - most)
    assert told.verdict == verdict


def test_errors_of_numbers_are_told_in_their_units() -> None:
    rng = np.random.default_rng(1)
    errors = 5 * law(np.array(SIZES))
    losses = rng.gamma(2, 0.5, size=500) * errors[None, :, None] * rng.normal(1, 0.05, size=(3, 4, 500))
    told = fit_learning_curve(losses, SIZES, score="mean absolute error", is_share=False)
    assert told.points[0].score > told.points[-1].score > told.now.score > told.twice.score > 0
    assert told.now.score - told.twice.score == pytest.approx(told.gain, abs=0.02)
    assert told.verdict == "help"
    assert told.sentence.startswith(f"With twice the pictures, a mean absolute error of about {told.twice.score:.2f} (")
    assert f", {told.gain:.2f} lower (" in told.sentence
    flat = fit_learning_curve(np.repeat(losses[:, :1], 4, axis=1), SIZES, score="mean absolute error", is_share=False)
    assert flat.sentence.endswith(": probably less than 5 % of it")


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(60):
        told = fit(make_losses(law(np.array(SIZES)), 500, seed=seed, flips=0.0))
        gain = law(500) - law(1000)
        held.append(
            [
                *(point.low <= 1 - law(point.n) <= point.high for point in told.points),
                told.twice.low <= 1 - law(1000) <= told.twice.high,
                told.gain_low <= gain <= told.gain_high,
            ]
        )
    assert (np.mean(held, axis=0) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 60)).all()
    assert np.mean(held) <= 0.99


def test_groups_and_repeats_widen() -> None:
    losses = make_losses(law(np.array(SIZES)), 200)
    copies = np.repeat(losses, 4, axis=2)
    alone, grouped = fit(copies), fit(copies, groups=np.repeat(np.arange(200), 4))
    assert grouped.n_groups == 200
    for name in ("now", "twice"):
        assert getattr(grouped, name).low < getattr(alone, name).low - 0.01
    assert grouped.points[0].low < alone.points[0].low - 0.01
    restless = losses.copy()
    restless[0], restless[2] = np.maximum(restless[0], np.arange(200) < 20), restless[2] * (np.arange(200) >= 20)
    assert np.ptp([fit(restless).now.low, fit(restless).now.high]) > np.ptp([fit(losses).now.low, fit(losses).now.high])


def test_the_seed_is_heeded() -> None:
    losses = make_losses(law(np.array(SIZES)), 300)
    assert fit(losses) == fit(losses)
    assert fit(losses) != fit(losses, seed=1)


def test_classes_are_told_by_what_the_last_doubling_brought() -> None:
    n = 300
    class_losses = np.full((4, n, 3), np.nan)
    class_losses[:, :200, 0] = 0.1
    class_losses[1, 200:240, 1], class_losses[3, 200:240, 1] = 1.0, 0.25  # at half of the last size, and at the last
    class_losses[[0, 2], 200:240, 1] = 0.5
    class_losses[:, 240:242, 2] = [[1], [1], [0], [0]]
    told = fit(make_losses(law(np.array(SIZES)), n), class_losses=class_losses, classes=["hat", "shoe", "sock"])
    hat, shoe, sock = told.classes
    assert [hat.label, hat.n, hat.score, hat.gain] == ["hat", 200, pytest.approx(0.9), 0.0]
    assert -0.05 < hat.low < 0 < hat.high < 0.05  # never of no width
    assert [shoe.n, shoe.score, shoe.gain] == [40, pytest.approx(0.75), pytest.approx(0.75)]
    assert 0 < shoe.low < 0.75 < shoe.high <= 1
    assert (sock.n, sock.gain) == (2, 1.0)
    assert sock.low < 0  # two pictures prove nothing
    assert told.class_sentence == (
        "The last doubling surely helped "
        f"shoe (+75.0 points, {100 * shoe.low:.1f} to {100 * shoe.high:.1f}; 40 pictures)"
    )
    grouped = fit(make_losses(law(np.array(SIZES)), n), class_losses=class_losses, classes=["hat", "shoe", "sock"],
                  groups=np.arange(n) // 10)  # fmt: skip
    assert grouped.classes[1].low < shoe.low


def test_a_class_without_pictures_has_nothing_to_tell() -> None:
    told = fit(make_losses(law(np.array(SIZES)), 80), class_losses=np.full((4, 80, 1), np.nan), classes=["none"])
    assert (told.classes[0].n, told.classes[0].low, told.classes[0].high) == (0, -1.0, 1.0)
    assert told.class_sentence == ""


def test_it_becomes_json() -> None:
    told = fit(make_losses(law(np.array(SIZES)), 200), class_losses=np.zeros((4, 200, 1)), classes=["a"])
    plain = json.loads(json.dumps(told.as_json()))
    assert plain["sentence"] == told.sentence
    assert plain["class_sentence"] == ""
    assert plain["twice"]["score"] == told.twice.score
    assert len(plain["points"]) == 4
    assert plain["classes"][0]["label"] == "a"


def test_unfit_input_is_refused() -> None:
    losses = make_losses(law(np.array(SIZES)), 50)
    with pytest.raises(InvalidInput, match=r"losses: got shape \(3, 3, 50\)"):
        fit(losses[:, :3])
    with pytest.raises(InvalidInput, match="losses: got shape"):
        fit(np.where(losses > 0, np.nan, losses))
    with pytest.raises(InvalidInput, match=r"sizes: got .*; want two sizes or more, rising"):
        fit_learning_curve(losses, (1, 3, 3, 4), score="accuracy", is_share=True)
    with pytest.raises(InvalidInput, match="sizes"):
        fit_learning_curve(losses[:, :1], (9,), score="accuracy", is_share=True)
    with pytest.raises(InvalidInput, match="groups: got 3 of 50 pictures"):
        fit(losses, groups=np.arange(3))
    with pytest.raises(InvalidInput, match="class_losses: got shape"):
        fit(losses, class_losses=np.zeros((4, 50, 2)), classes=["one"])
