import numpy as np
import pytest

from drivetrain.trust.calibration_interval import calibration_error_interval
from drivetrain.trust.reliability import expected_calibration_error, reliability_bins


def draw(n: int, *, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) probabilities that are too high by `shift`, and the labels."""
    rng = np.random.default_rng(seed)
    first = 0.6 + 0.4 * rng.beta(2, 2, n)
    labels = (rng.random(n) >= first - shift).astype(np.int64)
    return np.stack([first, 1 - first], axis=1), labels


def interval(probs: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    is_right = probs.argmax(axis=1) == labels
    return calibration_error_interval(probs.max(axis=1), is_right, reliability_bins(probs, labels), seed=seed)


@pytest.mark.parametrize(("n", "shift", "truth"), [(300, 0.0, 0.0), (300, 0.1, 0.1), (2_000, 0.1, 0.1)])
def test_it_holds_the_truth(n: int, shift: float, truth: float) -> None:
    held = 0
    for seed in range(30):
        low, high = interval(*draw(n, shift=shift, seed=seed))
        held += low <= truth <= high
    assert held >= 30 * 0.85


def test_what_chance_alone_gives_is_not_told_as_miscalibration() -> None:
    probs, labels = draw(200, shift=0.0, seed=3)
    low, high = interval(probs, labels)
    assert low == 0 < expected_calibration_error(probs, labels) <= high
    low, _ = interval(*draw(2_000, shift=0.15, seed=0))
    assert low > 0.08


def test_the_same_seed_gives_the_same_interval() -> None:
    probs, labels = draw(200, shift=0.1, seed=0)
    assert interval(probs, labels) == interval(probs, labels) != interval(probs, labels, seed=1)


def test_equal_confidences_and_one_picture() -> None:
    probs, labels = np.full((40, 2), 0.5), np.arange(40) % 2
    low, high = interval(probs, labels)
    assert (low, expected_calibration_error(probs, labels)) == (0, 0)
    assert high > 0.1
    assert interval(np.array([[0.9, 0.1]]), np.array([1])) == pytest.approx((0, 0.9))
