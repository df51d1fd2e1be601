import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import bootstrap_interval, draw_counts, weigh, wilson_interval


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(336, 372, 0.8690, 0.9293), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634)],
)
def test_wilson_gives_the_published_numbers(hits: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-4)


def test_wilson_ends_solve_the_score_equation() -> None:
    # the interval is all p with |share - p| <= z sqrt(p (1 - p) / n): look for those by brute force
    grid = np.linspace(0, 1, 200_001)
    inside = grid[np.abs(17 / 60 - grid) <= 1.6448536269514722 * np.sqrt(grid * (1 - grid) / 60)]
    assert wilson_interval(17, 60, confidence=0.9) == pytest.approx((inside[0], inside[-1]), abs=1e-5)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_ends_are_exact_and_inside_the_unit_interval() -> None:
    for n in range(1, 400):
        assert wilson_interval(0, n)[0] == 0.0
        assert wilson_interval(n, n)[1] == 1.0


@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_wilson_covers_the_truth_about_as_often_as_it_says(share: float) -> None:
    hits = np.random.default_rng(1).binomial(150, share, size=4000)
    covered = [low <= share <= high for low, high in (wilson_interval(int(h), 150) for h in hits)]
    assert 0.93 <= np.mean(covered) <= 0.975


def test_wilson_widens_with_confidence() -> None:
    low, high = wilson_interval(30, 40, confidence=0.99)
    assert low < wilson_interval(30, 40)[0]
    assert high > wilson_interval(30, 40)[1]


@pytest.mark.parametrize(("hits", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_wilson_refuses_impossible_counts(hits: int, n: int) -> None:
    with pytest.raises(InvalidInput, match="want 0 <= hits <= n"):
        wilson_interval(hits, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, float("nan")])
def test_confidence_must_be_a_share(confidence: float) -> None:
    with pytest.raises(InvalidInput, match="a number between 0 and 1"):
        wilson_interval(1, 2, confidence=confidence)
    with pytest.raises(InvalidInput, match="a number between 0 and 1"):
        bootstrap_interval(np.array([1.0]), confidence=confidence)


def test_bootstrap_is_deterministic_and_heeds_its_seed() -> None:
    values = np.random.default_rng(3).exponential(size=80)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval() -> None:
    values = np.random.default_rng(4).normal(5, 2, size=400)
    half = 1.959964 * values.std() / 20
    assert bootstrap_interval(values, repeats=20_000) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.02
    )


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(600):
        low, high = bootstrap_interval(rng.exponential(size=200), repeats=400)
        covered.append(low <= 1.0 <= high)
    assert 0.91 <= np.mean(covered) <= 0.97


def test_bootstrap_heeds_confidence_repeats_and_statistic() -> None:
    values = np.random.default_rng(6).exponential(size=100)
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(values, confidence=0.5)[0] > low
    assert bootstrap_interval(values, repeats=10) != (low, high)
    median_low, median_high = bootstrap_interval(values, statistic=lambda rows: np.median(rows, axis=1))
    assert median_low < np.median(values) < median_high < high


def test_bootstrap_in_blocks_draws_every_repeat() -> None:
    seen = 0

    def count(rows: np.ndarray) -> np.ndarray:
        nonlocal seen
        seen += len(rows)
        assert rows.size <= 2_000_000
        return rows[:, 0]

    bootstrap_interval(np.arange(3000.0), statistic=count, repeats=1501)
    assert seen == 1501


@pytest.mark.parametrize("values", [np.array([]), np.array([1.0, np.nan]), np.ones((2, 2))])
def test_bootstrap_refuses_what_is_not_a_list_of_numbers(values: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="one finite value or more"):
        bootstrap_interval(values)


def test_bootstrap_refuses_no_repeats() -> None:
    with pytest.raises(InvalidInput, match="repeats: got 0"):
        bootstrap_interval(np.ones(3), repeats=0)


def test_draws_of_pictures() -> None:
    counts = draw_counts(50, repeats=400)
    assert (counts.shape, counts.dtype) == ((400, 50), np.float32)
    assert (counts.sum(axis=1) == 50).all()
    assert 0.9 < counts.var() < 1.1  # of a draw with replacement
    np.testing.assert_array_equal(counts, draw_counts(50, repeats=400))
    assert (counts != draw_counts(50, repeats=400, seed=1)).any()
    values = np.random.default_rng(0).normal(size=50)
    np.testing.assert_allclose(weigh(counts, values), counts.astype(np.float64) @ values)
    np.testing.assert_allclose(weigh(counts, values > 0), counts.astype(np.float64) @ (values > 0))


def test_draws_of_many_pictures_are_fewer() -> None:
    assert draw_counts(100_000, repeats=2_000).shape == (400, 100_000)
