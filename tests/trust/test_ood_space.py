"""The space of known pictures, and Mahalanobis distances in it, each against a slow direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, oas

from drivetrain.trust.ood import normalise_roots
from drivetrain.trust.ood_space import fit_gaussian, fit_space, shrink_ledoit_wolf, shrink_oas


def make_rows(n: int, d: int, *, seed: int = 0) -> np.ndarray:
    """Rows whose columns differ in spread, the first the most."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * 0.9 ** np.arange(d) + rng.normal(size=d)).astype(np.float32)


@pytest.mark.parametrize(("n", "d", "rank"), [(200, 12, 4), (200, 12, 12), (5, 12, 3), (60, 700, 6)])
def test_coordinates_and_rest_equal_principal_components(n: int, d: int, rank: int) -> None:
    features, others = make_rows(n, d), make_rows(30, d, seed=1)
    rows = normalise_roots(features)
    space = fit_space(rows, rank=rank)
    apart = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    slow = np.linalg.svd(apart, full_matrices=False)[2][:rank]
    np.testing.assert_allclose(space.basis @ space.basis.T, np.eye(rank), atol=1e-5)
    told = space.project(normalise_roots(others))
    for row, (coordinates, outside), same in zip(others, map(space.place, others), told, strict=True):
        root = np.sign(row) * np.sqrt(np.abs(row.astype(np.float64)))
        moved = root / np.linalg.norm(root) - rows.mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(np.abs(coordinates), np.abs(slow @ moved), atol=5e-3)
        np.testing.assert_allclose(same, coordinates, atol=1e-5)
        assert space.measure_outside(row) == outside
        assert outside == pytest.approx(np.square(moved - slow.T @ (slow @ moved)).sum(), abs=1e-3)


def test_places_do_not_depend_on_length_and_nothing_has_one() -> None:
    space = fit_space(normalise_roots(make_rows(50, 8)), rank=3)
    row = make_rows(1, 8, seed=2)[0]
    for times in (1e-6, 7.0, 1e13):
        coordinates, outside = space.place(row * np.float32(times))
        np.testing.assert_allclose(coordinates, space.place(row)[0], atol=1e-5)
        assert outside == pytest.approx(space.place(row)[1], abs=1e-5)
    coordinates, outside = space.place(np.zeros(8, np.float32))
    np.testing.assert_allclose(coordinates, space.project(np.zeros((1, 8), np.float32))[0], atol=1e-6)
    assert outside >= 0


def test_a_space_is_the_same_bytes_each_time() -> None:
    rows = make_rows(300, 800)
    first, again = (fit_space(rows, rank=16) for _ in range(2))
    assert first.basis.tobytes() == again.basis.tobytes()
    assert first.centre.tobytes() == again.centre.tobytes()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("d", [4, 600])
def test_a_space_of_few_rows(n: int, d: int) -> None:
    space = fit_space(normalise_roots(make_rows(n, d)), rank=max(1, n - 1))
    for row in make_rows(n, d):
        coordinates, outside = space.place(row)
        assert np.isfinite(coordinates).all()
        assert outside == pytest.approx(0, abs=1e-4)  # all there is lies in it


@pytest.mark.parametrize(("n", "d"), [(500, 6), (40, 30), (8, 20), (2, 3)])
def test_shrunk_covariances_equal_scikit_learns(n: int, d: int) -> None:
    rows = make_rows(n, d).astype(np.float64)
    rows -= rows.mean(axis=0)
    for ours, theirs in ((shrink_ledoit_wolf, ledoit_wolf), (shrink_oas, oas)):
        covariance, share = ours(rows)
        expected, expected_share = theirs(rows, assume_centered=True)
        assert share == pytest.approx(expected_share, abs=1e-9)
        np.testing.assert_allclose(covariance, expected, atol=1e-9)


def test_rows_that_are_all_alike_shrink_to_nothing() -> None:
    for shrink in (shrink_ledoit_wolf, shrink_oas):
        covariance, share = shrink(np.zeros((5, 3)))
        assert share == 1
        np.testing.assert_array_equal(covariance, 0)


def test_distances_equal_a_slow_computation() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, size=300) * 10  # numbered in any way
    rows = (make_rows(300, 9) + labels[:, np.newaxis] / 7).astype(np.float32)
    places = fit_space(rows, rank=9).project(rows)
    gaussian = fit_gaussian(places, labels)
    means = {label: places[labels == label].astype(np.float64).mean(axis=0) for label in np.unique(labels)}
    within = np.linalg.inv(ledoit_wolf(places - np.stack([means[label] for label in labels]), assume_centered=True)[0])
    for row in rng.normal(size=(25, 9)):
        slow = min((row - mean) @ within @ (row - mean) for mean in means.values())
        assert gaussian.distance(row.astype(np.float32)) == pytest.approx(slow, rel=1e-3)


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [0, 0, 0]])
def test_distances_of_few_or_equal_pictures_are_finite(labels: list[int]) -> None:
    """A class of one picture tells nothing of its spread, nor do pictures that are all alike."""
    for places in (np.zeros((len(labels), 2), np.float32), make_rows(len(labels), 2)):
        assert 0 <= fit_gaussian(places, np.array(labels)).distance(np.ones(2, np.float32)) < np.inf
