import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.trust.power_law import fit_power_laws, span_laws

SIZES = (200, 400, 600, 800)
AT = np.array([200.0, 800, 1000, 2000])


def draw(errors: np.ndarray, noise: float, *, count: int = 500, seed: int = 0) -> np.ndarray:
    return errors + np.random.default_rng(seed).normal(0, noise, size=(count, len(errors)))


def last(errors: np.ndarray) -> np.ndarray:
    return errors[:, -1]


def gain(errors: np.ndarray) -> np.ndarray:
    return errors[:, -2] - errors[:, -1]


@pytest.mark.parametrize("exponent", [0.2, 0.35, 0.7])
def test_without_noise_the_power_law_comes_back(exponent: float) -> None:
    def law(n: np.ndarray) -> np.ndarray:
        return 0.04 + 0.9 * n**-exponent

    errors = law(np.array(SIZES, dtype=float))
    laws = fit_power_laws(draw(errors, 1e-6), errors, SIZES, at=AT)
    best = max(laws, key=lambda one: one.likelihood)
    assert best.exponent == pytest.approx(exponent)
    assert best.likelihood > 0.99
    assert np.median(best.errors, axis=0) == pytest.approx(law(AT), abs=1e-4)
    low, middle, high = span_laws(laws, last, confidence=0.95)
    assert low < middle < high  # an exponent that fits badly widens it all the same
    assert middle == pytest.approx(law(AT)[-1], abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(errors=st.lists(st.floats(0, 1), min_size=4, max_size=4), noise=st.floats(0, 0.2), seed=st.integers(0, 1000))
def test_a_curve_never_rises_and_never_passes_zero(errors: list[float], noise: float, seed: int) -> None:
    means = np.array(errors)
    laws = fit_power_laws(np.abs(draw(means, noise, count=60, seed=seed)), means, SIZES, at=AT)
    assert sum(law.likelihood for law in laws) == pytest.approx(1)
    for law in laws:
        assert 0 < len(law.errors) <= 60
        assert np.isfinite(law.errors).all()
        assert (law.errors >= 0).all()
        assert (np.diff(law.errors, axis=1) <= 1e-12).all()
    low, middle, high = span_laws(laws, gain, confidence=0.95)
    assert 0 <= low <= middle <= high


def test_noise_leaves_more_open() -> None:
    errors = 0.05 + 0.9 * np.array(SIZES, dtype=float) ** -0.4
    widths = []
    for noise in (0.0002, 0.004):
        low, _, high = span_laws(fit_power_laws(draw(errors, noise), errors, SIZES, at=AT), gain, confidence=0.95)
        widths.append(high - low)
    assert widths[1] > 1.3 * widths[0]


def test_less_confidence_is_narrower() -> None:
    errors = 0.05 + 0.9 * np.array(SIZES, dtype=float) ** -0.4
    laws = fit_power_laws(draw(errors, 0.004), errors, SIZES, at=AT)
    low, middle, high = span_laws(laws, gain, confidence=0.95)
    assert low < span_laws(laws, gain, confidence=0.5)[0] < middle < span_laws(laws, gain, confidence=0.5)[2] < high


def test_a_noisy_size_counts_for_less() -> None:
    errors = np.array([0.50, 0.20, 0.18, 0.17])  # the first is off any curve of the others
    draws = draw(errors, 0.002)
    told = span_laws(fit_power_laws(draws, errors, SIZES, at=AT), lambda e: e[:, 1], confidence=0.95)[1]
    draws[:, 0] += np.random.default_rng(1).normal(0, 0.2, size=len(draws))
    freer = span_laws(fit_power_laws(draws, errors, SIZES, at=AT), lambda e: e[:, 1], confidence=0.95)[1]
    assert abs(freer - 0.17) < abs(told - 0.17) / 2


def test_draws_that_would_grow_worse_are_left_out_unless_nearly_all_do() -> None:
    flat = np.full(4, 0.2)
    for law in fit_power_laws(draw(flat, 0.01), flat, SIZES, at=AT):
        assert 150 < len(law.errors) < 350
        assert (gain(law.errors) > 0).all()
    worse = np.array([0.1, 0.2, 0.3, 0.4])
    laws = fit_power_laws(draw(worse, 0.001), worse, SIZES, at=AT)
    assert {len(law.errors) for law in laws} == {500}
    assert span_laws(laws, gain, confidence=0.95) == (0, 0, 0)
