import json
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from drivetrain.errors import InvalidInput
from drivetrain.trust import estimate
from drivetrain.trust.detection import measure_detection


def scores(n: int, m: int, *, gap: float = 1.0, digits: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, n).round(digits), rng.normal(gap, 1.3, m).round(digits)


@pytest.mark.parametrize(
    ("n", "m", "digits", "seed"), [(400, 150, 3, 0), (40, 90, 0, 1), (20, 1, 1, 2), (1, 6, 1, 3), (200, 200, 1, 4)]
)
def test_the_numbers_are_those_of_scikit_learn(n: int, m: int, digits: int, seed: int) -> None:
    known, foreign = scores(n, m, digits=digits, seed=seed)  # few digits: many ties
    told = measure_detection(known, foreign, repeats=200)
    is_foreign = np.repeat([0, 1], [n, m])
    both = np.concatenate([known, foreign])
    assert told.auroc == pytest.approx(roc_auc_score(is_foreign, both))
    assert told.aupr_foreign == pytest.approx(average_precision_score(is_foreign, both))
    assert told.aupr_known == pytest.approx(average_precision_score(1 - is_foreign, -both))
    foreign_accepted, known_accepted, _ = roc_curve(1 - is_foreign, -both, drop_intermediate=False)
    assert told.fpr95 == pytest.approx(foreign_accepted[np.argmax(known_accepted >= 0.95)])
    assert (told.n_known, told.n_foreign) == (n, m)


def test_fpr95_is_of_the_foreign() -> None:
    """95 of 100 known pictures are accepted up to the score 94; two of the four foreign ones are no stranger."""
    told = measure_detection(np.arange(100.0), np.array([10.0, 94.0, 94.5, 200.0]), repeats=200)
    assert told.fpr95 == 0.5


def test_intervals_hold_the_numbers_and_follow_the_seed() -> None:
    known, foreign = scores(120, 60)
    told = measure_detection(known, foreign)
    for name in ("auroc", "fpr95", "aupr_foreign", "aupr_known"):
        value, low, high = (getattr(told, name + end) for end in ("", "_low", "_high"))
        assert 0 <= low <= value <= high <= 1
        assert 0.005 < high - low < 0.5
    assert measure_detection(known, foreign) == told
    assert measure_detection(known, foreign, seed=1) != told
    assert measure_detection(known, foreign, repeats=200) != told


def test_the_interval_of_the_area_holds_the_truth() -> None:
    truth = 0.5 * (1 + float(np.vectorize(math.erf)(1.0 / np.sqrt(1 + 1.3**2) / np.sqrt(2))))
    told = [measure_detection(*scores(60, 40, digits=9, seed=seed), repeats=200) for seed in range(120)]
    held = np.mean([row.auroc_low <= truth <= row.auroc_high for row in told])
    assert held >= 0.95 - 3 * (0.05 * 0.95 / 120) ** 0.5


def test_a_perfect_score_on_few_pictures_is_not_told_as_certain() -> None:
    told = measure_detection(np.zeros(30), np.ones(12))
    assert (told.auroc, told.auroc_high, told.fpr95, told.fpr95_low) == (1, 1, 0, 0)
    assert told.auroc_low < 0.95
    assert told.fpr95_high > 0.2
    worst = measure_detection(np.ones(30), np.zeros(12))
    assert (worst.auroc, worst.auroc_low, worst.fpr95) == (0, 0, 1)
    assert worst.auroc_high > 0.05


@pytest.mark.parametrize(("n", "m", "is_drawn"), [(30, 30, True), (29, 300, False), (300, 1, False)])
def test_what_is_drawn_of_few_has_no_interval(n: int, m: int, is_drawn: bool) -> None:
    told = measure_detection(*scores(n, m), repeats=200)
    ends = [getattr(told, f"aupr_{side}_{end}") for side in ("foreign", "known") for end in ("low", "high")]
    assert [end is not None for end in ends] == [is_drawn] * 4
    assert told.auroc_low < told.auroc_high  # by its score interval


def test_many_pictures_fit_the_memory() -> None:
    known, foreign = scores(12_000, 9_000, digits=6)
    told = measure_detection(known, foreign, repeats=200)
    assert told.auroc_high - told.auroc_low < 0.03


def test_as_json_is_plain() -> None:
    plain = measure_detection(*scores(20, 10), repeats=200).as_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) >= {"auroc", "auroc_low", "fpr95_high", "aupr_known", "n_foreign"}


@pytest.mark.parametrize("foreign", [np.zeros(0), np.array([1.0, np.nan]), np.zeros((2, 2))])
def test_what_cannot_be_measured_is_refused(foreign: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="foreign: got shape"):
        measure_detection(np.zeros(3), foreign)


@pytest.mark.parametrize(("n", "m"), [(900, 60), (60, 900)])
def test_of_many_pictures_both_sides_are_drawn_as_often(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_MOST_COUNTS", 300 * 900)  # as with 40,000 and more
    known, foreign = scores(n, m)
    few = measure_detection(known, foreign)
    monkeypatch.undo()
    many = measure_detection(known, foreign)
    assert few.auroc == many.auroc
    assert few.aupr_known_low == pytest.approx(many.aupr_known_low, abs=0.03)
    assert few.aupr_known_low != many.aupr_known_low
