from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from drivetrain.arrays import FloatArray
from drivetrain.learn.lbfgs import minimise


def quadratic(condition: float) -> tuple[FloatArray, FloatArray]:
    """(curvatures, optimum) of a bowl `condition` times as steep in one direction as in another."""
    rng = np.random.default_rng(0)
    return np.geomspace(1.0, condition, 200), rng.normal(size=200)


@pytest.mark.parametrize("condition", [1.0, 100.0, 10_000.0])
def test_finds_the_bottom_of_a_bowl(condition: float) -> None:
    curvature, optimum = quadratic(condition)

    def objective(x: FloatArray) -> tuple[float, FloatArray]:
        return float(0.5 * curvature @ (x - optimum) ** 2), curvature * (x - optimum)

    found = minimise(objective, np.zeros(200), tolerance=1e-6)
    assert objective(found)[0] < 1e-5
    assert np.abs(objective(found)[1]).max() < 1e-3 * condition**0.5


def test_finds_what_scipy_finds() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 40)), rng.integers(0, 2, 300)

    def objective(w: FloatArray) -> tuple[float, FloatArray]:
        margin = (2 * y - 1) * (x @ w)
        slope = -(2 * y - 1) / (1 + np.exp(margin)) / len(y)
        return float(np.logaddexp(0, -margin).mean() + 0.005 * w @ w), x.T @ slope + 0.01 * w

    ours = minimise(objective, np.zeros(40), tolerance=1e-8)
    theirs = minimize(objective, np.zeros(40), jac=True, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 1e-15}).x
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3])
def test_stops_at_its_tolerance(tolerance: float) -> None:
    curvature, optimum = quadratic(100.0)
    calls = []

    def objective(x: FloatArray) -> tuple[float, FloatArray]:
        calls.append(x)
        return float(0.5 * curvature @ (x - optimum) ** 2), curvature * (x - optimum)

    found = minimise(objective, np.zeros(200), tolerance=tolerance)
    assert np.abs(curvature * (found - optimum)).max() <= tolerance
    steps = len(calls)
    calls.clear()
    minimise(objective, np.zeros(200), tolerance=tolerance / 10)
    assert len(calls) > steps


def test_a_start_at_the_bottom_stays() -> None:
    found = minimise(lambda x: (float(x @ x), 2 * x), np.zeros(3), tolerance=1e-6)
    assert found.tolist() == [0.0, 0.0, 0.0]


def test_a_function_that_cannot_fall_ends() -> None:
    """The gradient lies: no step gains anything, and the start is given back instead of a search without end."""
    found = minimise(lambda x: (1.0, np.ones(3)), np.zeros(3), tolerance=1e-6)
    assert found.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_what_is_known_of_the_curvature_saves_steps(factor: float) -> None:
    """Known up to a factor: that much is seen after one step."""
    curvature, optimum = quadratic(10_000.0)
    calls = []

    def objective(x: FloatArray) -> tuple[float, FloatArray]:
        calls.append(x)
        return float(0.5 * curvature @ (x - optimum) ** 2), curvature * (x - optimum)

    found = minimise(objective, np.zeros(200), tolerance=1e-6, inverse=lambda gradient: factor * gradient / curvature)
    np.testing.assert_allclose(found, optimum, atol=1e-5)
    told = len(calls)
    calls.clear()
    minimise(objective, np.zeros(200), tolerance=1e-6)
    assert told <= 8 < len(calls)
