from __future__ import annotations

import numpy as np
import pytest

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.calibration import (
    fit_label_temperature,
    fit_temperature,
    log_sigmoid,
    log_softmax,
    sigmoid,
    softmax,
)


def simulate(temperature: float, *, n: int = 20_000, k: int = 4, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Logits whose labels are drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, k))
    gumbel = rng.gumbel(size=(n, k))
    return logits, (logits / temperature + gumbel).argmax(axis=1).astype(np.int64)


@pytest.mark.parametrize("known", [0.5, 1.0, 2.0, 4.0])
def test_a_known_temperature_is_recovered(known: float) -> None:
    logits, labels = simulate(known)
    assert fit_temperature(logits, labels) == pytest.approx(known, rel=0.05)


def test_temperature_is_the_minimum_of_the_log_loss_with_one_label_more() -> None:
    logits, labels = simulate(1.7, n=500)
    best = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        log_probs = log_softmax(logits, temperature=temperature)
        return float(-log_probs[np.arange(500), labels].sum() - log_probs.mean())

    assert all(loss(best) <= loss(best * factor) for factor in (0.9, 0.999, 1.001, 1.1))


@pytest.mark.parametrize("n", [20, 200, 2_000])
def test_right_answers_alone_do_not_make_sure_of_everything(n: int) -> None:
    """They drove T to its bound: each probability came out as 1.0, and the sure were tied with the unsure."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    logits = 6.0 * np.eye(3)[labels] + rng.normal(size=(n, 3))
    probs = softmax(logits, temperature=fit_temperature(logits, labels))
    assert (probs.argmax(axis=1) == labels).all()
    doubt = 1 - probs[np.arange(n), labels].mean()
    assert 0.3 / n < doubt < 2 / n
    assert len(np.unique(probs.max(axis=1))) == n


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_temperature_scales_with_the_logits(factor: float) -> None:
    logits, labels = simulate(1.5, n=2_000)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-5)


@pytest.mark.parametrize(
    ("scale", "is_right", "bound"), [(1e-4, True, 0.0498), (1.0, False, 20.09), (1e4, True, 20.09)]
)
def test_temperature_stays_within_bounds(scale: float, is_right: bool, bound: float) -> None:
    labels = np.arange(8) % 2
    logits = scale * np.eye(2)[labels]
    assert fit_temperature(logits, labels if is_right else 1 - labels) == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize(("n_logits", "n_labels"), [(0, 0), (2, 3)])
def test_temperature_needs_as_many_labels_as_logits(n_logits: int, n_labels: int) -> None:
    with pytest.raises(InvalidInput, match=f"got {n_logits} logits, {n_labels} labels; want one or more, as many"):
        fit_temperature(np.zeros((n_logits, 2)), np.zeros(n_labels, dtype=np.int64))


def test_softmax_is_stable_and_of_float64() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4], [3e38, 0.0, 0.0]], dtype=np.float32)
    probs = softmax(logits)
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]], atol=1e-12)
    assert np.isfinite(log_softmax(logits[:2])).all()


def test_softmax_takes_the_temperature_and_one_row() -> None:
    row = np.array([1.0, 2.0, 4.0])
    want = np.exp(row / 2) / np.exp(row / 2).sum()
    np.testing.assert_allclose(softmax(row, temperature=2.0), want, rtol=1e-12)
    np.testing.assert_allclose(softmax(row + 100, temperature=2.0), want, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_softmax(row, temperature=2.0)), want, rtol=1e-12)


def test_sigmoid_of_any_number() -> None:
    values = np.array([-1e4, -30.0, 0.0, 2.0, 1e4], dtype=np.float64)
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(sigmoid(values), [0, 9.3576229688e-14, 0.5, 0.8807970779778823, 1])
        np.testing.assert_allclose(log_sigmoid(values)[[0, 4]], [-1e4, 0])


@pytest.mark.parametrize("truth", [0.4, 1.0, 3.0])
def test_the_temperature_of_a_label_is_found_again(truth: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=40_000)
    is_present = rng.random(40_000) < sigmoid(logits)
    assert fit_label_temperature(logits * truth, is_present) == pytest.approx(truth, rel=0.05)


def test_the_temperature_of_a_label_that_is_always_right_is_not_that_of_certainty() -> None:
    logits = np.where(np.arange(200) % 2, 3.0, -3.0)
    few, many = (fit_label_temperature(logits[:n], logits[:n] > 0) for n in (40, 200))
    assert many < few < 1
    assert 1 - sigmoid(np.array(3.0 / few)) == pytest.approx(0.5 / 41, rel=0.01)  # the added label says an error in 41


def test_a_label_without_pictures() -> None:
    with pytest.raises(InvalidInput, match="one or more, as many of each"):
        fit_label_temperature(np.zeros(0), np.zeros(0, bool))
    with pytest.raises(InvalidInput, match="3 logits, 2 labels"):
        fit_label_temperature(np.zeros(3), np.zeros(2, bool))
