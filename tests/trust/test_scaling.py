"""Which calibration is chosen, and that a bias is what shifted logits need."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.calibration import fit_bias_corrected, fit_temperature, log_softmax, scale_logits, softmax
from drivetrain.trust.scaling import Scaling, choose_scaling

SHIFT = np.array([1.5, 0.0, -0.5, -1.0])  # sums to 0


def shifted(
    n: int, *, shift: FloatArray = SHIFT, temperature: float = 1.7, seed: int = 0
) -> tuple[FloatArray, IntArray]:
    """Logits whose labels are drawn from softmax(logits / temperature + shift)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, len(shift)))
    gumbel = rng.gumbel(size=logits.shape)
    return logits, (logits / temperature + shift + gumbel).argmax(axis=1).astype(np.int64)


def log_loss(scaled: FloatArray, labels: IntArray) -> float:
    return float(-log_softmax(scaled)[np.arange(len(labels)), labels].mean())


def folds(n: int) -> IntArray:
    return np.arange(n) % 5


def test_temperature_and_bias_are_found_again() -> None:
    temperature, bias = fit_bias_corrected(*shifted(20_000))
    assert temperature == pytest.approx(1.7, rel=0.05)
    np.testing.assert_allclose(bias, SHIFT, atol=0.08)
    assert bias.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "k"), [(40, 2), (300, 4), (500, 30)])
def test_the_fit_is_the_minimum_of_its_loss(n: int, k: int) -> None:
    rng = np.random.default_rng(n)
    logits, labels = shifted(n, shift=rng.normal(size=k), seed=n)
    temperature, bias = fit_bias_corrected(logits, labels)

    def loss(at: FloatArray) -> float:
        log_probs = log_softmax(at[0] * logits + at[1:])
        prior = 0.5 * float(at[1:] @ at[1:])
        return float(-log_probs[np.arange(n), labels].sum() - log_probs.mean()) + prior

    found = minimize(loss, np.r_[1.0, np.zeros(k)], method="BFGS", options={"gtol": 1e-7})
    assert loss(np.r_[1 / temperature, bias]) <= found.fun + 1e-6
    assert temperature == pytest.approx(1 / found.x[0], rel=1e-3)


def test_the_fit_stays_within_bounds_and_finite() -> None:
    labels = np.arange(40) % 2
    for scale, is_right in ((1e-4, True), (1.0, False), (1e4, True), (0.0, True)):
        logits = scale * np.eye(2)[labels]
        temperature, bias = fit_bias_corrected(logits, labels if is_right else 1 - labels)
        assert 0.0497 <= temperature <= 20.1
        assert np.isfinite(bias).all()
    absent = np.zeros(40, dtype=np.int64)  # a class without a picture: not driven out of the world
    _, bias = fit_bias_corrected(np.zeros((40, 3)), absent)
    assert -3 < bias[1] < 0
    assert bias[1] == pytest.approx(bias[2])


def test_a_set_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="got 3 logits, 2 labels; want one or more, as many of each"):
        fit_bias_corrected(np.zeros((3, 2)), np.zeros(2, dtype=np.int64))
    with pytest.raises(InvalidInput, match="folds: got 3 of 40 pictures"):
        choose_scaling(*shifted(40), folds=folds(3))


def test_shifted_logits_get_a_bias_and_gain_by_it_on_fresh_pictures() -> None:
    logits, labels = shifted(600)
    chosen = choose_scaling(logits, labels, folds=folds(600))
    assert chosen.method == "bias_corrected_temperature"
    assert chosen.bias is not None
    assert (chosen.temperature, chosen.n) == (fit_bias_corrected(logits, labels)[0], 600)
    assert chosen.bias_loss is not None
    assert chosen.temperature_loss is not None
    assert chosen.bias_loss < chosen.temperature_loss
    fresh, truth = shifted(5_000, seed=9)
    plain = scale_logits(fresh, temperature=fit_temperature(logits, labels))
    gain = log_loss(plain, truth) - log_loss(chosen.apply(fresh), truth)
    assert gain > 0.05
    assert gain == pytest.approx(chosen.temperature_loss - chosen.bias_loss, abs=0.05)


def test_without_a_shift_temperature_alone_is_chosen_nearly_always() -> None:
    chosen = [choose_scaling(*shifted(300, shift=np.zeros(4), seed=seed), folds=folds(300)) for seed in range(40)]
    assert sum(one.method == "temperature" for one in chosen) >= 37
    plain = chosen[0]
    assert (plain.bias, plain.temperature) == (None, fit_temperature(*shifted(300, shift=np.zeros(4))))


def test_the_difference_is_measured_on_pictures_not_fitted_to() -> None:
    """With many classes a bias always fits its own pictures better; out of the fold it does not."""
    logits, labels = shifted(420, shift=np.zeros(30), seed=3)
    labels[:300] = np.arange(300) % 30  # ten of each class at least
    biased = fit_bias_corrected(logits[300:], labels[300:])
    assert log_loss(scale_logits(logits[300:], temperature=biased[0], bias=biased[1]), labels[300:]) < log_loss(
        scale_logits(logits[300:], temperature=fit_temperature(logits[300:], labels[300:])), labels[300:]
    )
    assert choose_scaling(logits, labels, folds=folds(420)).method == "temperature"


@pytest.mark.parametrize(
    ("n", "rare", "with_folds", "method"),
    [(29, 7, True, "none"), (200, 9, True, "temperature"), (200, 10, True, "bias_corrected_temperature"),
     (200, 10, False, "temperature")],
)  # fmt: skip
def test_what_too_few_pictures_leave(n: int, rare: int, with_folds: bool, method: str) -> None:
    labels = np.where(np.arange(n) < rare, 2, np.arange(n) % 2).astype(np.int64)
    rng = np.random.default_rng(1)
    logits = 2.0 * np.eye(3)[labels] + rng.normal(size=(n, 3)) + np.array([3.0, 0.0, 0.0])
    chosen = choose_scaling(logits, labels, folds=folds(n) if with_folds else None)
    assert chosen.method == method
    assert (chosen.temperature == 1.0) is (method == "none")


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_temperature_alone_never_changes_the_answer(temperature: float, dtype: type) -> None:
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(2_000, 7)) * 10 ** rng.uniform(-3, 2, (2_000, 1))).astype(dtype)
    scaled = Scaling(method="temperature", temperature=temperature, bias=None, n=1).apply(logits)
    assert (scaled.argmax(axis=1) == logits.argmax(axis=1)).all()
    order = np.argsort(logits, axis=1, kind="stable")
    assert (np.argsort(scaled, axis=1, kind="stable") == order).all()
    # of answers so near to one another that probabilities tie, softmax keeps the first, as argmax does
    best = np.take_along_axis(softmax(scaled), logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    assert (best == softmax(scaled).max(axis=1)).all()
