from __future__ import annotations

import numpy as np
import pytest

from drivetrain.arrays import IntArray
from drivetrain.errors import InvalidInput
from drivetrain.learn.head import deal_folds, find_tied, fit_head
from drivetrain.progress import SilentProgress


@pytest.mark.parametrize(
    ("sizes", "count"), [((10, 10), 5), ((7, 3, 1), 5), ((1,) * 12, 5), ((4, 4), 2), ((101, 2), 3)]
)
def test_folds_are_balanced(sizes: tuple[int, ...], count: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    folds = deal_folds(labels, count=count)
    assert set(folds) <= set(range(count))
    assert np.ptp(np.bincount(folds, minlength=count)) <= 1
    for label in range(len(sizes)):
        assert np.ptp(np.bincount(folds[labels == label], minlength=count)) <= 1


def deal_cards(labels: IntArray, count: int) -> IntArray:
    """Folds as they were dealt before there were groups: in turn, each class going on where the last one ended."""
    folds, dealt = np.empty(len(labels), dtype=np.int64), 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        folds[members] = (np.arange(len(members)) + dealt) % count
        dealt += len(members)
    return folds


@pytest.mark.parametrize("seed", range(20))
def test_pictures_without_company_are_dealt_in_turn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, count = rng.integers(0, rng.integers(1, 9), rng.integers(1, 150)), int(rng.integers(2, 6))
    np.testing.assert_array_equal(deal_folds(labels, count=count), deal_cards(labels, count))
    alone = rng.permutation(len(labels))
    np.testing.assert_array_equal(deal_folds(labels, count=count, groups=alone), deal_cards(labels, count))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("largest", [2, 8])
def test_a_group_is_dealt_as_one_and_folds_stay_alike(count: int, largest: int) -> None:
    rng = np.random.default_rng(count)
    labels = rng.permutation(np.repeat([0, 1, 2], [120, 60, 200]))
    groups = np.empty(380, dtype=np.int64)
    for label in range(3):
        members = np.flatnonzero(labels == label)
        groups[members] = (
            1000 * label
            + np.repeat(np.arange(len(members)), rng.integers(1, largest + 1, len(members)))[: len(members)]
        )
    folds = deal_folds(labels, count=count, groups=groups)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    for label in range(3):
        assert np.ptp(np.bincount(folds[labels == label], minlength=count)) <= 1  # the small ones fill up
    assert np.ptp(np.bincount(folds, minlength=count)) <= 2
    shuffled = deal_folds(labels, count=count, groups=rng.permutation(4000)[groups])
    np.testing.assert_array_equal(folds, shuffled)  # the numbers of the groups say nothing


def test_a_group_of_two_classes_is_dealt_as_one() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    folds = deal_folds(labels, count=2, groups=np.array([5, 5, 6, 6, 7, 7, 8, 8]))
    assert (folds[::2] == folds[1::2]).all()
    assert np.bincount(folds).tolist() == [4, 4]


def test_a_class_of_one_group_is_dealt_picture_by_picture() -> None:
    """Kept together, no fold could be fitted to the class and another judge it."""
    labels = np.array([0] * 6 + [1] * 6 + [2])
    groups = np.array([0] * 6 + [1, 1, 1, 2, 2, 2] + [9])
    assert find_tied(labels, groups) == (0,)
    assert find_tied(labels, None) == find_tied(labels, np.arange(13)) == ()
    folds = deal_folds(labels, count=2, groups=groups)
    assert np.bincount(folds[:6]).tolist() == [3, 3]
    assert sorted({tuple(folds[6:9]), tuple(folds[9:12])}) == [(0, 0, 0), (1, 1, 1)]
    assert find_tied(labels, np.zeros(13, dtype=np.int64)) == (0, 1)  # a class of one picture is parted nowhere anyway
    features = np.eye(13, dtype=np.float32)
    fit_head(
        features, labels, class_count=3, threads=1, progress=SilentProgress(), groups=groups
    )  # and it can be fitted


def test_a_group_for_each_item() -> None:
    with pytest.raises(InvalidInput, match="groups: got 2 of 3 items; want a group for each item"):
        deal_folds(np.array([0, 1, 1]), count=2, groups=np.array([0, 1]))


def test_a_group_of_like_values_stays_whole() -> None:
    """A bin of values is no class: that all of it is one group is no reason to part the group."""
    strata = np.repeat([0, 1], 20)
    groups = np.concatenate([np.zeros(20), np.arange(1, 21)]).astype(np.int64)
    assert len(set(deal_folds(strata, count=5, groups=groups)[:20])) == 5
    assert len(set(deal_folds(strata, count=5, groups=groups, part_tied=False)[:20])) == 1
