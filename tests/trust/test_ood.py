from __future__ import annotations

import math

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.conformal import p_value
from drivetrain.trust.ood import (
    NearestNeighbours,
    choose_neighbours,
    find_surest,
    measure_doubt,
    measure_energy,
    normalise_roots,
    normalise_rows,
)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (10, 1), (149, 1), (151, 2), (1_000, 10), (90_000, 10)])
def test_neighbours_are_one_in_a_hundred(n: int, k: int) -> None:
    assert choose_neighbours(n) == k


def test_rows_are_at_length_one_and_zeros_stay() -> None:
    rows = normalise_rows(np.array([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [1, 0]], atol=1e-6)


def test_rows_of_the_largest_numbers_have_a_length() -> None:
    most = float(np.finfo(np.float32).max)
    np.testing.assert_allclose(normalise_rows(np.full((1, 4), most)), 0.5, rtol=1e-6)
    np.testing.assert_allclose(normalise_roots(np.array([[most, -most]])), [[0.5**0.5, -(0.5**0.5)]], rtol=1e-6)


def test_roots_keep_signs_and_lengths() -> None:
    rows = normalise_roots(np.array([[9.0, -16.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, -0.8], [0.0, 0.0]], rtol=1e-6)
    assert rows.dtype == np.float32


def test_energy_and_doubt_equal_a_slow_computation() -> None:
    logits = np.random.default_rng(5).normal(size=(40, 7)) * 4
    for row in logits:
        shares = [math.exp(value) for value in row]
        most, probability = find_surest(row)
        assert (most, probability) == pytest.approx((row.max(), max(shares) / sum(shares)))
        assert measure_energy(most, probability) == pytest.approx(-math.log(sum(shares)))
        assert measure_doubt(probability) == pytest.approx(math.log(1 - max(shares) / sum(shares)))
    assert measure_doubt(1.0) == pytest.approx(math.log(1e-6))  # sure is sure
    assert measure_doubt(0.5) == pytest.approx(math.log(0.5))


def test_energy_of_large_logits_does_not_overflow_and_moves_with_them() -> None:
    for row, energy, doubt in (([1e5, 0.0], -1e5, 1e-6), ([-1e5, -1e5], 1e5 - math.log(2), 0.5)):
        most, probability = find_surest(np.array(row))
        assert measure_energy(most, probability) == pytest.approx(energy)
        assert measure_energy(*find_surest(np.array(row) + 3)) == pytest.approx(energy - 3)
        assert measure_doubt(probability) == pytest.approx(math.log(doubt))


@pytest.mark.parametrize("k", [1, 3, 40])
def test_scores_are_the_distance_to_the_kth_nearest(k: int) -> None:
    rng = np.random.default_rng(0)
    known, asked = normalise_rows(rng.normal(size=(40, 8))), rng.normal(size=(25, 8))
    brute = np.sort(np.linalg.norm(normalise_rows(asked)[:, None] - known[None], axis=2), axis=1)[:, k - 1]
    np.testing.assert_allclose(NearestNeighbours(known, k=k).scores(asked), brute, atol=2e-4)


def test_scores_do_not_depend_on_order_company_or_length() -> None:
    rng = np.random.default_rng(1)
    known, asked = normalise_rows(rng.normal(size=(50, 16))), rng.normal(size=(30, 16)).astype(np.float32)
    neighbours = NearestNeighbours(known, k=2)
    scores = neighbours.scores(asked)
    order = rng.permutation(30)
    np.testing.assert_allclose(neighbours.scores(asked[order]), scores[order], atol=1e-6)
    np.testing.assert_allclose(NearestNeighbours(known[::-1], k=2).scores(asked), scores, atol=1e-6)
    np.testing.assert_allclose([neighbours.scores(row[None])[0] for row in asked], scores, atol=1e-6)
    np.testing.assert_allclose(neighbours.scores(7 * asked), scores, atol=1e-6)


def test_a_known_picture_scores_nothing_and_its_opposite_two() -> None:
    known = normalise_rows(np.array([[1.0, 0.0], [0.6, 0.8]]))
    scores = NearestNeighbours(known[:1], k=1).scores(np.array([[5.0, 0.0], [-5.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(scores, [0, 2, 2**0.5], atol=1e-3)


def test_known_features_of_half_precision_give_the_same() -> None:
    rng = np.random.default_rng(2)
    known, asked = normalise_rows(rng.normal(size=(50, 64))), rng.normal(size=(20, 64))
    half = NearestNeighbours(known.astype(np.float16), k=1).scores(asked)
    np.testing.assert_allclose(half, NearestNeighbours(known, k=1).scores(asked), atol=2e-3)


def test_far_pictures_get_the_least_p_value() -> None:
    rng = np.random.default_rng(3)
    centre = rng.normal(size=32)

    def near(n: int) -> np.ndarray:
        return centre + 0.3 * rng.normal(size=(n, 32))

    neighbours = NearestNeighbours(normalise_rows(near(200)), k=2)
    reference = np.sort(neighbours.scores(near(99)))
    far = neighbours.scores(-near(20))
    assert {p_value(reference, float(score)) for score in far} == {1 / 100}
    same = np.array([p_value(reference, float(score)) for score in neighbours.scores(near(500))])
    assert 0.01 <= (same <= 0.05).mean() <= 0.10


@pytest.mark.parametrize(("shape", "k"), [((3, 2), 0), ((3, 2), 4), ((3,), 1), ((0, 2), 1)])
def test_known_features_must_fit_k(shape: tuple[int, ...], k: int) -> None:
    with pytest.raises(InvalidInput, match=rf"known features: got shape .*, k={k}; want \(n, d\) with 1 <= k <= n"):
        NearestNeighbours(np.zeros(shape), k=k)
