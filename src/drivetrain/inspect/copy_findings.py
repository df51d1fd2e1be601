"""What copies of one picture do: two labels for one thing, both sides of a split, more weight than one picture has."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.inspect.duplicates import CopyPair, Duplicates

from .findings import Finding, Picture, count_of, join_names

__all__ = ["CopyFindings", "find_copy_faults"]

# The pictures of the higher one stay where copies stand in two parts: what is measured must not be trained on
_RANK = {None: 0, "train": 0, "valid": 1, "test": 2}
_MIRRORED = 0.05  # by how much a pair must be more alike when one of it is mirrored, to be a mirrored pair


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFindings:
    """The findings, and pairs of classes that hold each other's mirrored pictures."""

    findings: tuple[Finding, ...]
    mirrored: tuple[tuple[int, int], ...]  # pairs of rows of two classes, alike only when one is mirrored


def find_copy_faults(
    pictures: Sequence[Picture], duplicates: Duplicates | None, fingerprints: FloatArray | None
) -> CopyFindings:
    """All that copies do; without duplicates and fingerprints only those with the same bytes are known."""
    exact = _group_by_digest(pictures)
    findings = [
        _find_two_labels(pictures, exact),
        _find_leak(pictures, exact),
        _find_torn_groups(pictures),
        _find_repeats(pictures, exact),
    ]
    mirrored: list[tuple[int, int]] = []
    if duplicates is not None and fingerprints is not None:
        across, leaks, within = [], [], []
        for pair in duplicates.pairs:
            one, other = pictures[pair.first].item, pictures[pair.second].item
            if one.label != other.label:
                if _is_mirrored(pair, fingerprints):
                    mirrored.append((pair.first, pair.second))
                else:
                    across.append(pair)
            elif _RANK[one.split] != _RANK[other.split]:
                leaks.append(pair)
            else:
                within.append(pair)
        findings += [
            _find_near_labels(pictures, across),
            _find_near_leak(pictures, leaks),
            _find_near(pictures, within),
        ]
    return CopyFindings(findings=tuple(one for one in findings if one is not None), mirrored=tuple(mirrored))


def _group_by_digest(pictures: Sequence[Picture]) -> list[list[int]]:
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, picture in enumerate(pictures):
        rows[picture.digest].append(row)
    return [group for group in rows.values() if len(group) > 1]


def _is_mirrored(pair: CopyPair, fingerprints: FloatArray) -> bool:
    """Whether two copies are more alike when one is mirrored, which turns the sign of a fingerprint's odd columns."""
    one, other = fingerprints[pair.first], fingerprints[pair.second]
    signs = np.where(np.arange(len(one)) % math.isqrt(len(one)) % 2, -1.0, 1.0)
    return float(np.dot(one * signs, other)) > float(np.dot(one, other)) + _MIRRORED


def _paths(pictures: Sequence[Picture], rows: Iterable[int]) -> tuple[str, ...]:
    return tuple(pictures[row].item.path for row in rows)


def _labels(pictures: Sequence[Picture], rows: Iterable[int]) -> set[str]:
    return {pictures[row].item.label for row in rows}


def _find_two_labels(pictures: Sequence[Picture], exact: Sequence[list[int]]) -> Finding | None:
    groups = [rows for rows in exact if len(_labels(pictures, rows)) > 1]
    if not groups:
        return None
    n = sum(map(len, groups))
    return Finding(
        code="two_labels",
        severity="error",
        what=f"{count_of(n, 'file')} of {count_of(len(groups), 'picture')} stand in more than one class.",
        why="The same bytes cannot be both: whatever the model answers counts as wrong, and it learns to doubt.",
        next_step="Decide which class is right and take the others away. `--quarantine` leaves all of them out.",
        count=n,
        groups=tuple(_paths(pictures, rows) for rows in groups),
        details=_count_label_pairs(pictures, groups),
        quarantine=tuple(
            (path, "the same file stands in another class") for rows in groups for path in _paths(pictures, rows)
        ),
    )


def _find_leak(pictures: Sequence[Picture], exact: Sequence[list[int]]) -> Finding | None:
    groups = [
        rows
        for rows in exact
        if len(_labels(pictures, rows)) == 1 and len({_RANK[pictures[row].item.split] for row in rows}) > 1
    ]
    if not groups:
        return None
    leave = [row for rows in groups for row in rows if _rank(pictures, row) < max(_rank(pictures, one) for one in rows)]
    return Finding(
        code="leak",
        severity="error",
        what=f"{count_of(len(groups), 'picture stands', 'pictures stand')} on both sides of the split, byte for byte.",
        why="What is trained on and tested on flatters every number of the test.",
        next_step="Take the copies out of the lower part (train before valid before test). `--quarantine` does that.",
        count=len(groups),
        groups=tuple(_paths(pictures, rows) for rows in groups),
        quarantine=tuple((path, "a copy stands in valid or test") for path in _paths(pictures, leave)),
    )


def _find_torn_groups(pictures: Sequence[Picture]) -> Finding | None:
    """Groups of the data itself, such as all pictures of one bear, in more than one part of its split."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, picture in enumerate(pictures):
        if picture.item.group is not None:
            rows_of[picture.item.group].append(row)
    torn = {name: rows for name, rows in rows_of.items() if len({_rank(pictures, row) for row in rows}) > 1}
    if not torn:
        return None
    stand = count_of(len(torn), "group stands", "groups stand")
    return Finding(
        code="group_leak",
        severity="error",
        what=f"{stand} on both sides of the split: {join_names(sorted(torn))}.",
        why="What the column `group` keeps together is alike: trained on and tested on, it flatters the test, and "
        "`train` refuses it.",
        next_step="Give all pictures of a group the same split, or drop the column `split`.",
        count=len(torn),
        groups=tuple(_paths(pictures, _one_a_part(pictures, rows)) for rows in torn.values()),
        details=tuple(f"{name}: {_count_parts(pictures, rows)}" for name, rows in torn.items()),
    )


def _one_a_part(pictures: Sequence[Picture], rows: Sequence[int]) -> list[int]:
    first = {_rank(pictures, row): row for row in reversed(rows)}
    return [first[rank] for rank in sorted(first)]


def _count_parts(pictures: Sequence[Picture], rows: Sequence[int]) -> str:
    counts = Counter(pictures[row].item.split or "no part" for row in rows)
    return ", ".join(f"{n:,} in {part}" for part, n in sorted(counts.items()))


def _rank(pictures: Sequence[Picture], row: int) -> int:
    return _RANK[pictures[row].item.split]


def _find_repeats(pictures: Sequence[Picture], exact: Sequence[list[int]]) -> Finding | None:
    """Copies within one class, and within the part of the split that keeps its pictures."""
    groups = []
    for rows in exact:
        if len(_labels(pictures, rows)) == 1:
            top = max(_rank(pictures, row) for row in rows)
            kept = [row for row in rows if _rank(pictures, row) == top]
            if len(kept) > 1:
                groups.append(sorted(kept, key=lambda row: pictures[row].item.path))
    if not groups:
        return None
    n = sum(len(rows) - 1 for rows in groups)
    return Finding(
        code="copies",
        severity="warning",
        what=f"{count_of(n, 'file repeats', 'files repeat')} another file of the same class, byte for byte.",
        why="A picture that is there three times counts three times, and says nothing new.",
        next_step="`--quarantine` leaves out all but the first of each.",
        count=n,
        groups=tuple(_paths(pictures, rows) for rows in groups),
        quarantine=tuple(
            (path, f"the same file as {_paths(pictures, rows)[0]}")
            for rows in groups
            for path in _paths(pictures, rows)[1:]
        ),
    )


def _find_near_labels(pictures: Sequence[Picture], pairs: Sequence[CopyPair]) -> Finding | None:
    groups = _join(pairs)
    if not groups:
        return None
    n = sum(map(len, groups))
    return Finding(
        code="near_two_labels",
        severity="warning",
        what=f"{count_of(n, 'file')} show {count_of(len(groups), 'picture')} of more than one class, all but alike.",
        why="Resized, cropped or saved anew, it is the same picture: one of its labels is probably wrong.",
        next_step="Look at each pair and mend the wrong label. Nothing is left out by itself.",
        count=n,
        groups=tuple(_paths(pictures, rows) for rows in groups),
        details=_count_label_pairs(pictures, groups),
    )


def _find_near_leak(pictures: Sequence[Picture], pairs: Sequence[CopyPair]) -> Finding | None:
    groups = _join(pairs)
    if not groups:
        return None
    lower = {
        min(pair.first, pair.second, key=lambda row: (_rank(pictures, row), row)): pair for pair in reversed(pairs)
    }
    return Finding(
        code="near_leak",
        severity="error",
        what=f"{count_of(len(groups), 'picture stands', 'pictures stand')} on both sides of the split, all but alike.",
        why="A copy that was resized or saved anew is learned like the picture itself, and flatters the test.",
        next_step="`--quarantine` takes the copies out of the lower part (train before valid before test).",
        count=len(groups),
        groups=tuple(_paths(pictures, rows) for rows in groups),
        quarantine=tuple(
            (pictures[row].item.path, "all but the same as a picture of valid or test") for row in sorted(lower)
        ),
    )


def _find_near(pictures: Sequence[Picture], pairs: Sequence[CopyPair]) -> Finding | None:
    groups = _join(pairs)
    if not groups:
        return None
    n = sum(map(len, groups))
    return Finding(
        code="near_copies",
        severity="note",
        what=f"{count_of(n, 'file')} show {count_of(len(groups), 'picture')} more than once, all but alike.",
        why="`drivetrain train` keeps them on one side of its split; a split of your own may not.",
        next_step="Keep them, or leave out by hand what adds nothing. Nothing is left out by itself.",
        count=n,
        groups=tuple(_paths(pictures, rows) for rows in groups),
    )


def _join(pairs: Sequence[CopyPair]) -> list[list[int]]:
    """Rows that pairs connect, the most alike first."""
    group_of: dict[int, list[int]] = {}
    for pair in pairs:
        one, other = group_of.get(pair.first, [pair.first]), group_of.get(pair.second, [pair.second])
        if one is not other:
            joined = [*one, *other]
            for row in joined:
                group_of[row] = joined
    return list({id(rows): sorted(rows) for rows in group_of.values()}.values())


def _count_label_pairs(pictures: Sequence[Picture], groups: Sequence[Sequence[int]]) -> tuple[str, ...]:
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for rows in groups:
        counts[tuple(sorted(_labels(pictures, rows)))] += 1
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(f"{' and '.join(labels)}: {count_of(n, 'picture')}" for labels, n in ranked)
