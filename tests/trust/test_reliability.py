from itertools import pairwise

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from drivetrain.errors import InvalidInput
from drivetrain.trust.reliability import brier_losses, expected_calibration_error, log_losses, reliability_bins


def binary(confidence: list[float]) -> np.ndarray:
    said = np.array(confidence)
    return np.stack([said, 1 - said], axis=1)


def sample(n: int, k: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from them: calibrated by construction."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(k, 0.4), size=n)
    labels = np.array([rng.choice(k, p=row) for row in probs])
    return probs, labels


def test_ece_by_hand() -> None:
    # two bins of two: said 0.65 and right half the time, said 0.95 and always right
    probs, labels = binary([0.6, 0.7, 0.9, 1.0]), np.array([0, 1, 0, 0])
    assert expected_calibration_error(probs, labels, bins=2) == pytest.approx((0.15 + 0.05) / 2)


def test_bins_hold_equally_many_pictures() -> None:
    probs, labels = sample(300, 4)
    rows = reliability_bins(probs, labels)
    assert [row.n for row in rows] == [20] * 15
    assert all(a.confidence_max < b.confidence_min for a, b in pairwise(rows))


def test_bin_tells_what_was_said_and_what_was_right() -> None:
    (row,) = reliability_bins(binary([0.6, 0.8]), np.array([0, 1]), bins=1)
    assert (row.n, row.confidence, row.accuracy) == (2, pytest.approx(0.7), 0.5)
    assert (row.confidence_min, row.confidence_max) == (0.6, 0.8)
    assert row.accuracy_low < 0.5 < row.accuracy_high


def test_equal_confidences_stay_together_so_order_does_not_matter() -> None:
    probs = binary([1.0] * 20 + [0.7] * 10)
    labels = np.array([0] * 15 + [1] * 5 + [0] * 10)
    back = np.arange(30)[::-1]
    assert expected_calibration_error(probs, labels) == expected_calibration_error(probs[back], labels[back])
    assert sorted(row.n for row in reliability_bins(probs, labels)) == [10, 20]


def test_ece_is_small_when_calibrated_and_large_when_sure_of_nonsense() -> None:
    probs, labels = sample(6000, 3)
    assert expected_calibration_error(probs, labels) < 0.03
    sharp = probs**4 / (probs**4).sum(axis=1, keepdims=True)
    assert expected_calibration_error(sharp, labels) > 0.1


def test_more_bins_than_pictures_is_one_bin_each() -> None:
    assert len(reliability_bins(binary([0.6, 0.8]), np.array([0, 0]), bins=15)) == 2


def test_losses_agree_with_scikit_learn() -> None:
    probs, labels = sample(200, 5, seed=2)
    assert log_losses(probs, labels).mean() == pytest.approx(log_loss(labels, probs, labels=range(5)))
    ours = brier_losses(probs, labels).mean()
    assert ours == pytest.approx(brier_score_loss(labels, probs, labels=range(5), scale_by_half=False))


def test_a_true_class_of_probability_zero_has_a_finite_loss() -> None:
    assert log_losses(binary([0.0]), np.array([0]))[0] == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize(
    ("probs", "labels", "said"),
    [
        (np.ones((0, 3)), np.zeros(0, int), "probs: got shape"),
        (np.ones(3), np.zeros(3, int), "probs: got shape"),
        (binary([0.5]), np.array([0, 1]), "one label for each of 1 pictures"),
        (binary([0.5]), np.array([2]), r"integers in \[0, 2\)"),
        (binary([0.5]), np.array([-1]), r"integers in \[0, 2\)"),
        (binary([0.5]), np.array([0.0]), r"integers in \[0, 2\)"),
        (np.array([[0.5, 0.4]]), np.array([0]), "sum to 1"),
        (np.array([[1.5, -0.5]]), np.array([0]), "sum to 1"),
        (np.array([[np.nan, 1.0]]), np.array([0]), "sum to 1"),
    ],
)
def test_what_is_no_probability_is_refused(probs: np.ndarray, labels: np.ndarray, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        expected_calibration_error(probs, labels)


def test_bins_must_be_at_least_one() -> None:
    with pytest.raises(InvalidInput, match="bins: got 0"):
        reliability_bins(binary([0.5]), np.array([0]), bins=0)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_bins_and_error_agree_with_scikit_learn(bins: int) -> None:
    """Its curve with equal-mass bins, of the confidence in the predicted class."""
    probs, labels = sample(600, 3, seed=4)
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    shares, means = calibration_curve(right, confidence, n_bins=bins, strategy="quantile")
    rows = reliability_bins(probs, labels, bins=bins)
    np.testing.assert_allclose([row.accuracy for row in rows], shares)
    np.testing.assert_allclose([row.confidence for row in rows], means)
    assert expected_calibration_error(probs, labels, bins=bins) == pytest.approx(np.abs(shares - means).mean())
