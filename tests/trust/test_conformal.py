from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest

from drivetrain.errors import InvalidInput
from drivetrain.trust.calibration import softmax
from drivetrain.trust.conformal import (
    LEAST_PER_CLASS,
    half_width,
    label_set,
    label_set_threshold,
    label_set_thresholds,
    p_value,
    p_values,
)


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


@pytest.mark.parametrize("digits", [0, 1, 12], ids=["many ties", "some ties", "no ties"])
def test_p_values_are_uniform_on_known_pictures(digits: int) -> None:
    """Ties are broken at random, each draw has a calibration of its own; in service they count whole."""
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(4_000, 41)).round(digits)
    drawn = []
    for row in scores:
        reference, score = np.sort(row[:-1]), float(row[-1])
        above, equal = int((reference > score).sum()), int((reference == score).sum())
        drawn.append((above + rng.uniform() * (equal + 1)) / 41)
        assert p_value(reference, score) == (above + equal + 1) / 41
    assert kstest(drawn, "uniform").pvalue > 0.01


def test_p_values_are_those_of_each_score() -> None:
    rng = np.random.default_rng(6)
    reference, scores = np.sort(rng.normal(size=30).round(1)), rng.normal(size=(5, 4)).round(1)
    told = p_values(reference, scores)
    assert told.tolist() == [[p_value(reference, float(score)) for score in row] for row in scores]
    assert p_values(np.zeros(0), scores).tolist() == np.ones((5, 4)).tolist()


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


def imbalanced(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three classes, one of them rare and hard: a set made for all pictures alike leaves it out."""
    labels = rng.choice(3, p=[0.6, 0.3, 0.1], size=n).astype(np.int64)
    sharp = np.array([4.0, 3.0, 0.5])[labels]
    return softmax(sharp[:, None] * np.eye(3)[labels] + rng.normal(size=(n, 3)) + np.array([1.0, 0.5, 0.0])), labels


def test_sets_hold_the_truth_as_often_as_said_in_each_class() -> None:
    rng = np.random.default_rng(3)
    covered, plain = np.zeros(3), np.zeros(3)
    for _ in range(40):
        thresholds = label_set_thresholds(*(given := imbalanced(1_200, rng)), coverage=0.9)
        assert thresholds is not None
        one = label_set_threshold(*given, coverage=0.9)
        probs, labels = imbalanced(4_000, rng)
        truth = probs[np.arange(4_000), labels]
        for c in range(3):
            covered[c] += (truth[labels == c] >= thresholds[c]).mean() / 40
            plain[c] += (truth[labels == c] >= one).mean() / 40
        drawn = [label in label_set(row, thresholds) for row, label in zip(probs[:200], labels[:200], strict=True)]
        assert np.mean(drawn) > 0.8
    assert np.abs(covered - 0.9).max() < 0.015
    assert plain[2] < 0.7  # which is what they are for


@pytest.mark.parametrize(("rarest", "is_made"), [(LEAST_PER_CLASS - 1, False), (LEAST_PER_CLASS, True)])
def test_sets_by_class_take_fifty_pictures_of_each(rarest: int, is_made: bool) -> None:
    labels = np.repeat([0, 1], [100, rarest]).astype(np.int64)
    probs = np.full((len(labels), 2), 0.5)
    assert (label_set_thresholds(probs, labels) is not None) is is_made
    assert label_set_thresholds(np.full((len(labels), 3), 1 / 3), labels) is None  # a class without a picture


def test_a_set_by_class() -> None:
    probs = np.array([0.5, 0.3, 0.2])
    assert label_set(probs, np.array([0.6, 0.3, 0.1])) == [1, 2]
    assert label_set(probs, np.array([0.6, 0.4, 0.3])) == [0]  # never empty
