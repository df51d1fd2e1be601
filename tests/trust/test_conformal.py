from __future__ import annotations

import math

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.calibration import softmax
from drivetrain.trust.conformal import half_width, label_set, label_set_threshold, p_value


@pytest.mark.parametrize(
    ("score", "want"),
    [(0.0, 1.0), (1.0, 1.0), (1.5, 4 / 5), (2.0, 4 / 5), (2.5, 2 / 5), (3.0, 2 / 5), (9.0, 1 / 5), (math.nan, 1 / 5)],
)
def test_p_value_counts_ties_whole(score: float, want: float) -> None:
    assert p_value(np.array([1.0, 2.0, 2.0, 3.0]), score) == want


@pytest.mark.parametrize("is_tied", [False, True])
def test_p_value_is_valid(is_tied: bool) -> None:
    rng = np.random.default_rng(1)
    draws, n = 4_000, 39
    scores = rng.normal(size=(draws, n + 1))
    if is_tied:
        scores = np.round(scores)
    p_values = np.array([p_value(np.sort(row[:n]), row[n]) for row in scores])
    for level in (0.025, 0.05, 0.1, 0.5):
        share = float((p_values <= level).mean())
        assert share <= level + 3 * math.sqrt(level * (1 - level) / draws)
        if not is_tied:  # and not needlessly cautious: (n + 1) * level is whole here
            assert share >= level - 3 * math.sqrt(level * (1 - level) / draws)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_label_sets_hold_the_truth_as_often_as_stated(coverage: float) -> None:
    rng = np.random.default_rng(2)
    draws, n, k = 1_500, 60, 5
    held = 0
    for _ in range(draws):
        logits = rng.normal(0, 2, (n + 1, k))
        labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        probs = softmax(logits, temperature=0.5)  # far too sure of itself: the promise must hold all the same
        threshold = label_set_threshold(probs[:n], labels[:n], coverage=coverage)
        held += int(labels[n]) in label_set(probs[n], threshold)
    error = 3 * math.sqrt(coverage * (1 - coverage) / draws)
    assert coverage - error <= held / draws <= coverage + 1 / (n + 1) + error


@pytest.mark.parametrize(("n", "is_enough"), [(1, False), (18, False), (19, True), (99, True)])
def test_too_few_pictures_put_every_label_in_the_set(n: int, is_enough: bool) -> None:
    probs = np.tile([0.7, 0.2, 0.1], (n, 1))
    threshold = label_set_threshold(probs, np.zeros(n, dtype=np.int64), coverage=0.95)
    assert threshold == (0.7 if is_enough else 0.0)  # exactly: a picture that set the threshold is in its own set
    assert label_set(np.array([0.7, 0.2, 0.1]), threshold) == ([0] if is_enough else [0, 1, 2])


@pytest.mark.parametrize("n", [19, 39, 59, 999])
def test_label_set_threshold_is_the_stated_rank(n: int) -> None:
    truth = np.random.default_rng(n).permutation(np.linspace(0.1, 0.9, n))
    probs = np.stack([truth, 1 - truth], axis=1)
    rank = -(-(n + 1) * 95 // 100)
    assert label_set_threshold(probs, np.zeros(n, dtype=np.int64)) == np.sort(truth)[::-1][rank - 1]


@pytest.mark.parametrize(
    ("threshold", "want"),
    [(0.0, [2, 1, 0]), (0.3, [2, 1]), (0.5, [2]), (0.99, [2])],
    ids=["all", "a tie is in", "the top", "never empty"],
)
def test_label_set_is_ordered_and_never_empty(threshold: float, want: list[int]) -> None:
    assert label_set(np.array([0.2, 0.3, 0.5]), threshold) == want


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, math.nan])
def test_coverage_is_a_share(coverage: float) -> None:
    with pytest.raises(InvalidInput, match=r"coverage: got .*; want a share between 0 and 1"):
        label_set_threshold(np.ones((1, 1)), np.zeros(1, dtype=np.int64), coverage=coverage)


@pytest.mark.parametrize(
    ("n", "rank"), [(18, None), (19, 19), (20, 20), (38, 38), (39, 38), (59, 57), (100, 96), (199, 190)]
)
def test_half_width_is_the_residual_of_the_right_rank(n: int, rank: int | None) -> None:
    residuals = np.random.default_rng(0).permutation(np.arange(1, n + 1)) * np.where(np.arange(n) % 2, 1.0, -1.0)
    assert half_width(residuals, coverage=0.95) == (None if rank is None else float(rank))


def test_intervals_hold_the_truth_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        width = half_width(rng.standard_t(3, size=60), coverage=0.9)
        assert width is not None
        covered.append(np.mean(np.abs(rng.standard_t(3, size=400)) <= width))
    assert 0.9 - 0.005 <= np.mean(covered) <= 0.9 + 1 / 61 + 0.005


def test_half_width_of_a_coverage_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="coverage"):
        half_width(np.ones(9), coverage=1.0)
