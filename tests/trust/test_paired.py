import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, permutation_test

from drivetrain.errors import InvalidInput
from drivetrain.trust.paired import bca_interval, flip_signs, mcnemar_mid_p, tango_interval
from drivetrain.trust.pieces import Pieces

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("better", "worse", "n", "low", "high", "mid_p"),
    [
        # Fagerland, Lydersen and Laake 2013 and 2014: airway hyper-responsiveness; complete response
        (1, 7, 21, -0.517, -0.026, 0.039),
        (6, 16, 161, -0.124, -0.005, 0.035),
    ],
)
def test_the_published_examples(better: int, worse: int, n: int, low: float, high: float, mid_p: float) -> None:
    assert tango_interval(better, worse, n, quantile=Z) == pytest.approx((low, high), abs=5e-4)
    assert mcnemar_mid_p(better, worse) == pytest.approx(mid_p, abs=5e-4)


def likeliest(difference: float, better: int, worse: int, n: int) -> float:
    """The share of "worse" of the greatest likelihood among those that the difference allows, by trying them."""
    shares = np.linspace(max(0.0, -difference), (1 - difference) / 2, 4001)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [
            count * np.log(share) if count else np.zeros_like(shares)
            for count, share in (
                (better, shares + difference),
                (worse, shares),
                (n - better - worse, 1 - 2 * shares - difference),
            )
        ]
    return float(shares[np.argmax(np.nan_to_num(sum(logs), nan=-np.inf))])


@pytest.mark.parametrize(("better", "worse", "n"), [(12, 5, 80), (0, 0, 60), (0, 6, 6), (3, 0, 50), (9, 9, 40)])
def test_tango_ends_solve_the_score_equation(better: int, worse: int, n: int) -> None:
    grid = np.linspace(-1, 1, 2001)
    inside = [
        d
        for d in grid
        if (better - worse - n * d) ** 2 <= Z**2 * n * (2 * likeliest(d, better, worse, n) + d * (1 - d)) + 1e-9
    ]
    assert tango_interval(better, worse, n, quantile=Z) == pytest.approx((inside[0], inside[-1]), abs=1.5e-3)


def test_tango_is_turned_over_when_the_models_change_places() -> None:
    for better, worse, n in ((0, 0, 10), (4, 1, 30), (0, 9, 9), (2.5, 0.25, 17.5)):
        low, high = tango_interval(better, worse, n, quantile=Z)
        assert tango_interval(worse, better, n, quantile=Z) == pytest.approx((-high, -low), abs=1e-9)
        assert -1 <= low < high <= 1


def test_no_spread_known_says_nothing() -> None:
    assert tango_interval(3, 1, 9, quantile=np.inf) == (-1.0, 1.0)


def test_mid_p_is_the_exact_test_without_half_of_what_was_seen() -> None:
    for better in range(12):
        for worse in range(12):
            tosses = better + worse
            exact = binomtest(better, tosses).pvalue if tosses else 1.0
            seen = binomtest(better, tosses, alternative="less").pvalue if tosses else 1.0
            seen -= binomtest(better - 1, tosses, alternative="less").pvalue if better else 0.0
            assert mcnemar_mid_p(better, worse) == pytest.approx(1.0 if better == worse else exact - seen)


def test_bca_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    gains, groups = rng.exponential(size=240) - 0.9, np.repeat(np.arange(60), 4)
    pieces = Pieces.of(gains, groups)
    want = bootstrap(
        (pieces.sums, pieces.sizes),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True, n_resamples=9999, method="BCa", rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert bca_interval(pieces, seed=0) == pytest.approx((want.low, want.high), abs=0.02)
    assert bca_interval(pieces, seed=0) == bca_interval(pieces, seed=0)
    assert bca_interval(pieces, seed=1) != bca_interval(pieces, seed=0)
    assert bca_interval(Pieces.of(gains, None), seed=0) != bca_interval(pieces, seed=0)


@pytest.mark.parametrize("n", [9, 40])
def test_sign_flips_agree_with_scipy(n: int) -> None:
    gains = np.random.default_rng(n).normal(0.3, 1, size=n)
    want = permutation_test((gains,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", vectorized=True,
                            n_resamples=9999, rng=np.random.default_rng(3)).pvalue  # fmt: skip
    assert flip_signs(Pieces.of(gains, None)) == pytest.approx(want, abs=1e-12 if n < 13 else 0.02)


def test_sign_flips_of_groups_move_whole_groups() -> None:
    # four groups that all gained: of 16 sign tables two are as far from 0
    assert flip_signs(Pieces.of(np.ones(20), np.repeat(np.arange(4), 5))) == 2 / 16
    assert flip_signs(Pieces.of(np.zeros(20), None)) == 1.0
    assert flip_signs(Pieces.of(np.ones(20), None)) == pytest.approx(1 / 10_000)


def test_the_design_effect_is_that_of_copies() -> None:
    alone = np.random.default_rng(5).choice([-1.0, 0.0, 1.0], size=400)
    assert Pieces.of(np.repeat(alone, 3), np.repeat(np.arange(400), 3)).design_effect(
        np.repeat(alone, 3)
    ) == pytest.approx(3, rel=0.01)
    assert Pieces.of(alone, np.arange(400)).design_effect(alone) == pytest.approx(1, rel=0.01)
    assert Pieces.of(np.zeros(12), np.repeat([0, 1], 6)).design_effect(np.zeros(12)) == 6  # nothing to see: all


def test_groups_must_be_one_for_each_picture() -> None:
    with pytest.raises(InvalidInput, match=r"groups: got shape \(3,\); want a group for each of 4 pictures"):
        Pieces.of(np.zeros(4), np.arange(3))
