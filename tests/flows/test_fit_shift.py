"""What is learned of styles: the new is flagged by name, the usual is not, whatever the usual is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import stats

from drivetrain.flows.fit_shift import fit_shift
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.imaging.style_measures import STYLE_DIRECTIONS, STYLE_MEASURES, StyledPreprocess
from drivetrain.runtime.shifted import ShiftRule

SIDE = 64
ALPHA = 0.01
Change = Callable[[Image.Image], Image.Image]

_styled = StyledPreprocess(Preprocess(declare_preprocess(SIDE, mean=[0.5] * 3, std=[0.5] * 3)))


def photograph(seed: int) -> Image.Image:
    """Like a photograph to these measures: discs of many colours, shade, noise; no two alike in light or sharpness."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:72, :80] / 80
    picture = np.full((72, 80, 3), rng.uniform(90, 200, 3))
    for _ in range(12):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 0.9), rng.uniform(0.03, 0.3)
        picture[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = rng.uniform(20, 250, 3)
    picture *= rng.uniform(0.7, 1.0) * (0.9 + 0.1 * np.sin(6 * x + rng.uniform(0, 6)))[..., None]
    picture += rng.normal(0, rng.uniform(2, 7), picture.shape)
    sharp = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    return sharp.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.5)))


def darken(image: Image.Image) -> Image.Image:
    return image.point(lambda value: int(value * 0.15))


def blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(2.5))


def shrink(image: Image.Image) -> Image.Image:
    return image.resize((16, 14))


def grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def draw(image: Image.Image) -> Image.Image:
    """Ink on paper where there was an edge."""
    edges = image.convert("L").filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.FIND_EDGES)
    return edges.point(lambda value: 0 if value > 24 else 255).convert("RGB")


def flatten(image: Image.Image) -> Image.Image:
    return image.point(lambda value: int(value * 0.1 + 110))


CHANGES: dict[str, Change] = {
    "darker": darken,
    "blurrier": blur,
    "lower in resolution": shrink,
    "greyer": grey,
    "more like a drawing": draw,
    "lower in contrast": flatten,
}


def measure(seeds: Sequence[int], change: Change = lambda image: image) -> np.ndarray:
    """(n, measures)."""
    return np.stack([_styled.from_image(change(photograph(seed)))[1] for seed in seeds])


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    return measure(range(800))


def fit(styles: np.ndarray, *, held: int = 450, alpha: float = ALPHA) -> ShiftRule:
    """Trained on all but the first `held`, of which half fits."""
    shift = fit_shift(styles[:held], np.arange(held // 2), alpha=alpha, train=styles[held:])
    return ShiftRule({"style": shift.section}, shift.arrays)


def judge(rule: ShiftRule, styles: np.ndarray) -> np.ndarray:
    return np.array([rule.judge(style)[1] for style in styles])


@pytest.mark.parametrize("word", CHANGES)
def test_a_new_style_is_flagged_by_name(word: str, photographs: np.ndarray) -> None:
    rule = fit(photographs)
    told = [rule.judge(style) for style in measure(range(5000, 5060), CHANGES[word])]
    assert np.mean([is_shifted for _, is_shifted, _ in told]) >= 0.9
    assert np.mean([word in words for _, _, words in told]) >= 0.7


def test_the_further_the_more_are_flagged(photographs: np.ndarray) -> None:
    rule = fit(photographs)
    for change, steps in [
        (lambda by: lambda image: image.point(lambda value: int(value * by)), (1, 0.6, 0.4, 0.25, 0.15)),
        (lambda by: lambda image: image.filter(ImageFilter.GaussianBlur(by)), (0, 1, 1.5, 2.5, 4)),
        (lambda by: lambda image: image.resize((by, by)), (72, 56, 40, 28, 16)),
        (lambda by: lambda image: Image.blend(image, grey(image), by), (0, 0.5, 0.8, 0.95, 1)),
    ]:
        p_values = [np.median([rule.judge(style)[0] for style in measure(range(40), change(by))]) for by in steps]
        assert p_values == sorted(p_values, reverse=True)
        assert p_values[0] > 0.1
        assert p_values[-1] <= ALPHA


@pytest.mark.parametrize("change", [grey, draw, darken, blur, shrink])
def test_what_training_is_full_of_is_not_new(change: Change) -> None:
    styles = measure(range(600), change)
    rule = fit(styles, held=400)
    assert judge(rule, measure(range(7000, 7100), change)).mean() <= 0.05
    assert judge(rule, measure(range(7000, 7030))).mean() >= 0.9  # and a plain photograph is


def test_the_false_flag_rate_is_within_its_interval() -> None:
    """Fresh pictures, a fresh calibration each time: at most alpha of them on average, and not much less."""
    rng = np.random.default_rng(0)
    drawn = rng.normal([0.5, 0.8, 0.6, 0.4, 0.6, 0.2, 0.3, 0.7], 0.07, size=(60_000, 8))
    pool = np.clip(drawn, 0, 0.99).astype(np.float32)
    flagged, alpha, judged = 0, 0.05, 200
    for at in range(60):
        part = pool[at * 1000 : (at + 1) * 1000]
        shift = fit_shift(part[:500], np.arange(300), alpha=alpha, train=part[500:])
        flagged += int(shift.is_shifted[300:].sum())
        assert len(shift.is_shifted) == 500
    # each calibration's own rate is Beta distributed around alpha: the variance of both draws
    n = 60 * judged
    spread = np.sqrt(n * alpha * (1 - alpha) * (1 + judged / 302))
    assert abs(flagged - n * alpha) < 3.5 * spread


def test_p_values_are_uniform_where_scores_do_not_tie() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(150):
        styles = np.clip(rng.normal([0.5, 0.8, 0.6, 0.4, 0.6, 0.2, 0.3, 0.5], 0.05, size=(421, 8)), 0, 0.99)
        shift = fit_shift(styles[:220], np.arange(219), alpha=0.05, train=styles[220:])
        rule = ShiftRule({"style": shift.section}, shift.arrays)
        p_value = rule.judge(styles[219].astype(np.float32))[0]
        found.append(p_value - rng.random() / (shift.section["n_calibration"] + 1))
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_few_held_out_pictures_are_joined_by_half_of_those_trained_on(photographs: np.ndarray) -> None:
    few, train = photographs[:40], photographs[40:]
    shift = fit_shift(few, np.arange(20), alpha=ALPHA, train=train[:240])
    assert shift.section["n_calibration"] == 20 + 120
    assert shift.notes == ()
    assert judge(ShiftRule({"style": shift.section}, shift.arrays), measure(range(30), darken)).all()
    ample = fit_shift(photographs[:400], np.arange(199), alpha=ALPHA, train=train)
    assert ample.section["n_calibration"] == 199  # enough by themselves
    assert fit_shift(photographs[:400], np.arange(198), alpha=ALPHA, train=train).section["n_calibration"] > 500


@pytest.mark.parametrize(("held", "train"), [(30, None), (40, 100), (0, 30), (0, 0), (1, 1)])
def test_too_few_pictures_flag_nothing_and_say_so(held: int, train: int | None, photographs: np.ndarray) -> None:
    known = None if train is None else photographs[450 : 450 + train]
    shift = fit_shift(photographs[:held], np.arange(held), alpha=ALPHA, train=known)
    n = shift.section["n_calibration"]
    assert shift.notes == (
        f"Only {n} pictures to tell a new style by: none can be flagged as shifted yet (it takes 99).",
    )
    assert not shift.is_shifted.any()
    assert shift.is_shifted.shape == (held,)
    rule = ShiftRule({"style": shift.section}, shift.arrays)
    assert not judge(rule, measure(range(3), darken)).any()


def test_pictures_that_are_all_alike_leave_room_for_what_no_eye_would_see() -> None:
    same = np.tile(np.array([0.5, 0.8, 0.6, 0.3, 1.2, 0.2, 0.01, 1.0], dtype=np.float32), (400, 1))
    jitter = same + np.random.default_rng(0).normal(0, 1e-3, same.shape).astype(np.float32)
    jitter[:, STYLE_MEASURES.index("side")] = 1.0
    shift = fit_shift(jitter[:200], np.arange(200), alpha=ALPHA, train=jitter[200:])
    spreads = {one["name"]: one["spread"] for one in shift.section["directions"]}
    assert spreads == pytest.approx({one.name: one.least for one in STYLE_DIRECTIONS})


def test_the_rule_that_serves_judged_the_held_out(photographs: np.ndarray) -> None:
    held = np.concatenate([photographs[:400], measure(range(50), darken)])
    shift = fit_shift(held, np.arange(300), alpha=ALPHA, train=photographs[450:])
    rule = ShiftRule({"style": shift.section}, shift.arrays)
    np.testing.assert_array_equal(shift.is_shifted, judge(rule, held))
    assert shift.is_shifted[400:].all()
    assert shift.section["flag_at"] == ALPHA


def test_alpha_is_what_flags(photographs: np.ndarray) -> None:
    strict, loose = (judge(fit(photographs, alpha=alpha), photographs[225:450]) for alpha in (0.005, 0.2))
    assert strict.sum() < loose.sum()
    assert 0.1 < loose.mean() < 0.3


def test_a_rule_fitted_before_gives_what_is_usual(photographs: np.ndarray) -> None:
    before = fit(photographs)
    dark = measure(range(300), darken)
    shift = fit_shift(dark, np.arange(300), alpha=ALPHA, before=before)
    assert shift.section["n_calibration"] == 300
    after = ShiftRule({"style": shift.section}, shift.arrays)
    np.testing.assert_array_equal(after.centres, before.centres)
    assert judge(before, dark).all()
    assert judge(after, dark).mean() <= ALPHA  # these labels say that darkness is now usual


def test_rows_may_come_one_by_one(photographs: np.ndarray) -> None:
    rows = [np.asarray(row) for row in photographs]
    one, all_ = (
        fit_shift(given[:300], np.arange(250), alpha=ALPHA, train=given[300:]) for given in (rows, photographs)
    )
    assert one.section == all_.section
    np.testing.assert_array_equal(one.arrays["style_calibration"], all_.arrays["style_calibration"])
    assert len(STYLE_MEASURES) == photographs.shape[1]
