"""Which pictures are the same file, and which are copies of one picture: a table of rows in, groups of rows out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.imaging.fingerprint import CopyPairs, find_copies, join_pairs

__all__ = ["CopyPair", "Duplicates", "find_duplicates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPair:
    """Two rows that show one picture in two files, first < second; similarity is in (0, 1]."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Copies among n pictures; every number is a row of the tables that were given.

    Groups are sorted by their first row, and the rows in each. A group of `near` may hold rows of a group of `exact`:
    `near` names all that show one picture, in two different files at least.
    """

    exact: tuple[tuple[int, ...], ...]  # rows with the same bytes, two or more
    near: tuple[tuple[int, ...], ...]  # rows that show one picture, not all of the same bytes
    pairs: tuple[CopyPair, ...]  # found alike, not the same file, the most alike first; a group needs not all its pairs
    clusters: IntArray  # (n,) id of each row: copies, exact or near, share one; ids count from 0 in order of appearance

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """All groups of two rows or more, exact and near together."""
        return _gather(self.clusters)

    @property
    def n_copies(self) -> int:
        """Pictures that are in a group."""
        return sum(map(len, self.groups))


def find_duplicates(digests: Sequence[bytes], fingerprints: FloatArray, features: FloatArray | None) -> Duplicates:
    """The copies among n pictures.

    digests are the sha256 of the files, fingerprints (n, FINGERPRINT_LENGTH), features (n, d) of the frozen trunk or
    None (then the fingerprint alone decides, more strictly). Raises InvalidInput where the lengths differ.
    """
    n = len(digests)
    if len(fingerprints) != n or (features is not None and len(features) != n):
        got = f"{n} digests, {len(fingerprints)} fingerprints" + (
            "" if features is None else f", {len(features)} features"
        )
        raise InvalidInput("digests", got=got, want="one of each for every picture")
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        rows_of[digest].append(row)
    exact = tuple(tuple(rows) for rows in rows_of.values() if len(rows) > 1)
    copies = find_copies(fingerprints, features=features)
    pairs = [
        CopyPair(first=int(i), second=int(j), similarity=float(similarity))
        for i, j, similarity in zip(copies.first, copies.second, copies.similarity, strict=True)
        if digests[i] != digests[j]
    ]
    same = np.array([(rows[0], row) for rows in exact for row in rows[1:]], dtype=np.int64).reshape(-1, 2)
    links = CopyPairs(
        first=np.concatenate([copies.first, same[:, 0]]),
        second=np.concatenate([copies.second, same[:, 1]]),
        similarity=np.concatenate([copies.similarity, np.ones(len(same), dtype=np.float32)]),
    )
    clusters = join_pairs(n, links)
    near = tuple(rows for rows in _gather(clusters) if len({digests[row] for row in rows}) > 1)
    pairs.sort(key=lambda pair: (-pair.similarity, pair.first, pair.second))
    return Duplicates(exact=exact, near=near, pairs=tuple(pairs), clusters=clusters)


def _gather(clusters: IntArray) -> tuple[tuple[int, ...], ...]:
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, cluster in enumerate(clusters.tolist()):
        rows_of[cluster].append(row)
    return tuple(tuple(rows) for rows in rows_of.values() if len(rows) > 1)
