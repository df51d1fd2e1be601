"""Folds for cross-validation, alike in what they hold: dealt within strata, groups kept together."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from drivetrain.arrays import IntArray
from drivetrain.errors import InvalidInput

__all__ = ["deal_folds", "find_tied"]


def deal_folds(strata: IntArray, *, count: int, groups: IntArray | None = None, part_tied: bool = True) -> IntArray:
    """A fold in [0, count) for each item, dealt like cards within each stratum, so that folds are alike.

    strata is (n,) of 0 and above: the classes, or what `data.targets.find_strata` makes of others. Items of one of the
    `groups` (n,) are dealt as one; None is a group each. The largest come first, each to the fold that has the fewest
    of its stratum, of those to the one that has the fewest items. With `part_tied`, a group of a stratum that
    `find_tied` names is parted: else no fold could be fitted to the class and another judge it. Where strata are bins
    of a number, that is no reason to part a group. Raises InvalidInput where the lengths differ.
    """
    _check_groups(strata, groups)
    dealt = [[0] * count for _ in range(int(strata.max(initial=-1)) + 1)]  # items by stratum and fold
    sizes = [0] * count
    folds = np.empty(len(strata), dtype=np.int64)
    for rows in _list_pieces(strata, groups, part_tied):
        weights = Counter(strata[rows].tolist())
        cost = [sum(n * dealt[stratum][fold] for stratum, n in weights.items()) for fold in range(count)]
        fold = min(range(count), key=lambda one: (cost[one], sizes[one]))
        folds[rows] = fold
        sizes[fold] += len(rows)
        for stratum, n in weights.items():
            dealt[stratum][fold] += n
    return folds


def find_tied(strata: IntArray, groups: IntArray | None) -> tuple[int, ...]:
    """Strata of several items that are all of one group: whoever keeps it together cannot part them."""
    if groups is None:
        return ()
    _check_groups(strata, groups)
    _, numbers = np.unique(groups, return_inverse=True)
    n_groups = int(numbers.max(initial=0)) + 1
    groups_of = np.bincount(
        np.unique(strata * n_groups + numbers) // n_groups
    )  # each stratum once for each of its groups
    return tuple(np.flatnonzero((np.bincount(strata) > 1) & (groups_of == 1)).tolist())


def _check_groups(strata: IntArray, groups: IntArray | None) -> None:
    if groups is not None and len(groups) != len(strata):
        raise InvalidInput("groups", got=f"{len(groups)} of {len(strata)} items", want="a group for each item")


def _list_pieces(strata: IntArray, groups: IntArray | None, part_tied: bool) -> list[list[int]]:
    """Rows to be dealt together: the largest first, then by stratum, then as given."""
    if groups is None:
        groups = np.arange(len(strata))
    tied = find_tied(strata, groups) if part_tied else ()
    is_parted = np.isin(groups, groups[np.isin(strata, tied)])
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, (group, alone) in enumerate(zip(groups.tolist(), is_parted.tolist(), strict=True)):
        members[group, row if alone else -1].append(row)
    return sorted(members.values(), key=lambda rows: (-len(rows), strata[rows[0]], rows[0]))
