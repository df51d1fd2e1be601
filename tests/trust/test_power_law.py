import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.trust.power_law import fit_power_laws

SIZES = (200, 400, 600, 800)


def draw(errors: np.ndarray, noise: float, *, count: int = 500, seed: int = 0) -> np.ndarray:
    return errors + np.random.default_rng(seed).normal(0, noise, size=(count, len(errors)))


@pytest.mark.parametrize("exponent", [0.2, 0.35, 0.7])
def test_without_noise_the_power_law_comes_back(exponent: float) -> None:
    def law(n: np.ndarray) -> np.ndarray:
        return 0.04 + 0.9 * n**-exponent

    errors = law(np.array(SIZES, dtype=float))
    at = np.array([200.0, 1000, 2000])
    told = fit_power_laws(draw(errors, 1e-6), errors, SIZES, at=at)
    assert told.shape == (500, 3)
    assert np.median(told, axis=0) == pytest.approx(law(at), abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    errors=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    noise=st.floats(0, 0.2),
    seed=st.integers(0, 1000),
)
def test_a_curve_never_rises_and_never_passes_zero(errors: list[float], noise: float, seed: int) -> None:
    means = np.array(errors)
    at = np.array([200.0, 500, 800, 1000, 2000, 1e6])
    told = fit_power_laws(np.abs(draw(means, noise, count=60, seed=seed)), means, SIZES, at=at, seed=seed)
    assert 0 < len(told) <= 60
    assert np.isfinite(told).all()
    assert (told >= 0).all()
    assert (np.diff(told, axis=1) <= 1e-12).all()


def test_noise_and_few_sizes_leave_more_open() -> None:
    errors = 0.05 + 0.9 * np.array(SIZES, dtype=float) ** -0.4
    at = np.array([1000.0, 2000])
    widths = []
    for noise in (0.001, 0.004):
        told = fit_power_laws(draw(errors, noise), errors, SIZES, at=at)
        widths.append(np.ptp(np.quantile(told[:, 0] - told[:, 1], [0.025, 0.975])))
    assert widths[1] > 1.5 * widths[0]
    two = fit_power_laws(draw(errors[2:], 1e-6), errors[2:], SIZES[2:], at=at)
    four = fit_power_laws(draw(errors, 1e-6), errors, SIZES, at=at)
    assert np.ptp(two[:, 1]) > 3 * np.ptp(four[:, 1])  # two sizes say nothing of the exponent


def test_a_noisy_size_counts_for_less() -> None:
    errors = np.array([0.30, 0.20, 0.18, 0.17])  # the first is off the curve of the others
    at = np.array([800.0, 1600])
    draws = draw(errors, 0.002)
    told = fit_power_laws(draws, errors, SIZES, at=at)
    draws[:, 0] += np.random.default_rng(1).normal(0, 0.2, size=len(draws))
    freer = fit_power_laws(draws, errors, SIZES, at=at)
    assert np.median(freer[:, 0]) > np.median(told[:, 0]) + 0.002  # nearer to 0.17


def test_draws_that_fall_are_left_out_unless_nearly_all_do() -> None:
    flat = np.full(4, 0.2)
    told = fit_power_laws(draw(flat, 0.01), flat, SIZES, at=np.array([1000.0, 2000]))
    assert 150 < len(told) < 350
    assert (told[:, 0] > told[:, 1]).all()
    worse = np.array([0.1, 0.2, 0.3, 0.4])
    told = fit_power_laws(draw(worse, 0.001), worse, SIZES, at=np.array([1000.0, 2000]))
    assert len(told) == 500
    assert told[:, 0].tolist() == told[:, 1].tolist()


def test_the_seed_draws_the_exponents() -> None:
    errors = np.array([0.3, 0.25, 0.23, 0.22])
    draws = draw(errors, 0.01)
    told = [fit_power_laws(draws, errors, SIZES, at=np.array([2000.0]), seed=seed) for seed in (0, 0, 1)]
    assert (told[0] == told[1]).all()
    assert told[0].shape != told[2].shape or (told[0] != told[2]).any()
