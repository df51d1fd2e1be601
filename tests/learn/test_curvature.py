from __future__ import annotations

import numpy as np
import pytest

from drivetrain.arrays import FloatArray
from drivetrain.learn.curvature import sketch_curvature


def steep_features(n: int = 700, d: int = 80) -> FloatArray:
    """Three directions in which they vary a hundred times as much as in the others."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, d)).astype(np.float32)
    features[:, :3] *= 10
    return features - features.mean(axis=0)


def test_the_steepest_directions_are_found() -> None:
    features = steep_features()
    found = sketch_curvature(features)
    exact = np.linalg.eigvalsh(features.T.astype(np.float64) @ features / len(features))[::-1]
    assert found.directions.shape == (80, 32)
    np.testing.assert_allclose(found.mean_squares[:3], exact[:3], rtol=1e-3)
    assert (np.diff(found.mean_squares) <= 0).all()
    np.testing.assert_allclose(np.square(found.directions[:3, :3]).sum(axis=0), 1, atol=0.05)


@pytest.mark.parametrize("d", [1, 5, 32, 40])
def test_few_features_have_no_more_directions(d: int) -> None:
    found = sketch_curvature(steep_features(d=d))
    assert found.directions.shape == (d, min(d, 32))
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(min(d, 32)), atol=1e-4)


def test_a_gradient_is_turned_into_a_step() -> None:
    """Along a direction that is known, by its curvature and the penalty; the bias by itself."""
    features = steep_features()
    curvature = sketch_curvature(features)
    gradient = np.zeros((81, 2))
    gradient[:-1, 1] = curvature.directions[:, 0]
    gradient[-1, 0] = 1.0
    for penalty in (0.01, 1.0):
        step = curvature.invert(penalty, 2)(gradient.ravel()).reshape(81, 2)
        want = curvature.directions[:, 0] / (0.05 * curvature.mean_squares[0] + penalty)
        np.testing.assert_allclose(step[:-1, 1], want, atol=1e-5)
        np.testing.assert_allclose(step[:-1, 0], 0, atol=1e-12)
        assert step[-1].tolist() == [20.0, 0.0]


def test_what_comes_back_is_symmetric_and_positive() -> None:
    invert = sketch_curvature(steep_features(d=40)).invert(0.03, 3)
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 41 * 3))
    assert invert(one) @ other == pytest.approx(invert(other) @ one, rel=1e-4)
    assert invert(one) @ one > 0


def test_features_that_say_nothing() -> None:
    step = sketch_curvature(np.zeros((20, 6), dtype=np.float32)).invert(0.5, 1)(np.ones(7))
    np.testing.assert_allclose(step, [2.0] * 6 + [20.0], rtol=1e-5)
