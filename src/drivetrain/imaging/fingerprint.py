"""A vector per picture that its copies share, and the groups of copies in a table of such vectors. numpy alone.

A copy is the same photograph saved again: recompressed, resized, brightened, cropped by a twentieth, written on,
mirrored. Another photograph of a like thing is none, be it another white shirt on the same table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput

from .alignment import CAPTION, align, cosines, sharpen

__all__ = [
    "FINGERPRINT_LENGTH",
    "FINGERPRINT_VERSION",
    "CopyPairs",
    "cluster_copies",
    "find_copies",
    "fingerprint",
    "join_pairs",
]

FINGERPRINT_VERSION = 1  # of what `fingerprint` computes: a cache must not mix two
_WAVES = 32  # cosine coefficients a side
FINGERPRINT_LENGTH = _WAVES * _WAVES
_SIDE = 56  # samples a side, from which the coefficients come
_FLAT = (
    0.004  # standard deviation below which there is nothing to compare: half a grey level of bytes scaled to [-1, 1]
)

# Two pictures correlate by A, in all coefficients once aligned. Their features, where known, have the cosine c around
# the mean of all. Copies are those with A above _ALIKE or, with features, above _ALIKE_KIN or with A + c / 2 above
# _SUM, unless c is so low that the network sees different things in one and the same layout. Where there is little in
# a picture (a digit, a plain shirt), chance makes others like it: all these bounds rise, by _PLAIN at most.
_ALIKE = 0.91
_ALIKE_KIN = 0.92
_SUM = 1.33
_LEAST_ALIKE = 0.84
_LEAST_KIN = 0.3
_PLAIN = 0.06
_PLAIN_TO_RICH = (40.0, 100.0)  # coefficients that carry a picture: so few raise the bounds fully, so many not at all

# Who is looked at at all, by the correlation of a few coefficients (plus c / 2, about)
_LOW = 6  # coefficients a side
_MAYBE = 0.87
_MAYBE_KIN = 1.2
_SKETCH = 64  # numbers that stand for a feature vector there
_BLOCK = 128  # rows compared with all before them at a time: of 50,000 pictures, 10 tables of 25 MB
_CLOSE = 2048  # pairs looked at closely at a time: 8 MB of coefficients a side


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPairs:
    """Pairs of rows that show one picture: first < second, in that order; each array is (m,)."""

    first: IntArray
    second: IntArray
    similarity: FloatArray  # float32 in (0, 1]


def fingerprint(pixels: FloatArray) -> FloatArray:
    """float32 (FINGERPRINT_LENGTH,) of unit length, of `pixels` (3, h, w) as a network reads them; zeros if flat.

    It knows no brightness and no contrast: the lowest cosine coefficients of the luminance, without the mean. Raises
    InvalidInput for another shape.
    """
    if pixels.ndim != 3 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise InvalidInput("pixels", got=f"shape {pixels.shape}", want="(3, height, width)")
    luma = 0.299 * pixels[0] + 0.587 * pixels[1] + 0.114 * pixels[2]
    for axis in (0, 1):  # means of rows, then of columns: a picture of fewer than _SIDE repeats some
        starts = np.arange(_SIDE) * luma.shape[axis] // _SIDE
        counts = np.maximum(np.diff(starts, append=luma.shape[axis]), 1).astype(np.float32)
        luma = np.add.reduceat(luma, starts, axis=axis) / np.expand_dims(counts, 1 - axis)
    if not luma.std() > _FLAT:
        return np.zeros(FINGERPRINT_LENGTH, dtype=np.float32)
    waves = _waves()
    coefficients = waves.T @ luma @ waves  # so small that no BLAS starts threads for it, beside those that call this
    coefficients[0, 0] = 0
    out: FloatArray = (coefficients / np.linalg.norm(coefficients)).astype(np.float32).ravel()
    return out


@lru_cache(maxsize=1)
def _waves() -> FloatArray:
    """(_SIDE, _WAVES) cosines at the samples' middles."""
    return cosines((np.arange(_SIDE) + 0.5) / _SIDE, _WAVES)


def cluster_copies(fingerprints: FloatArray, *, features: FloatArray | None = None) -> IntArray:
    """(n,) cluster id of each picture: copies of one picture share one, a picture without copies has its own.

    fingerprints is (n, FINGERPRINT_LENGTH); features, (n, d) of the frozen trunk, confirm and make it faster. Ids
    count from 0 in order of first appearance. Copies of copies are copies. Raises InvalidInput for other shapes.
    """
    pairs = find_copies(fingerprints, features=features)
    return join_pairs(len(fingerprints), pairs.first, pairs.second)


def join_pairs(n: int, first: IntArray, second: IntArray) -> IntArray:
    """(n,) id of each row's cluster, the rows of each pair sharing one; ids count from 0 in order of appearance."""
    parent = list(range(n))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        a, b = find(i), find(j)
        parent[max(a, b)] = min(a, b)  # the root is its cluster's first row, so sorted roots are in order of appearance
    _, ids = np.unique(np.array([find(row) for row in range(n)], dtype=np.int64), return_inverse=True)
    return ids.astype(np.int64)


def find_copies(fingerprints: FloatArray, *, features: FloatArray | None = None) -> CopyPairs:
    """The pairs of rows that are copies; arguments and errors as of `cluster_copies`."""
    n = len(fingerprints)
    if fingerprints.shape != (n, FINGERPRINT_LENGTH):
        raise InvalidInput("fingerprints", got=f"shape {fingerprints.shape}", want=f"(n, {FINGERPRINT_LENGTH})")
    if features is not None and (features.ndim != 2 or len(features) != n):
        raise InvalidInput("features", got=f"shape {features.shape}", want=f"({n}, d), a row for each fingerprint")
    waves = fingerprints.reshape(n, _WAVES, _WAVES)
    kin = None if features is None else _centre(features)
    found = [_confirm(waves, kin, maybe) for maybe in _list_candidates(waves, kin)]
    first, second, alike = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else _NOTHING
    order = np.lexsort((-alike, second, first))  # of a pair found both plain and mirrored, the better comes first
    first, second, alike = first[order], second[order], alike[order]
    is_new = np.ones(len(first), dtype=bool)
    is_new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return CopyPairs(first=first[is_new], second=second[is_new], similarity=np.minimum(alike[is_new], 1))


_Found = tuple[IntArray, IntArray, FloatArray]
_NOTHING: _Found = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """Pairs of rows worth a closer look, first < second: (m,) each."""

    first: IntArray
    second: IntArray
    parts: IntArray  # by which part each was found
    is_mirrored: bool


def _centre(features: FloatArray) -> FloatArray:
    """Rows of unit length around their mean: what all pictures of this data share says nothing."""
    centred = features - features.mean(axis=0)
    out: FloatArray = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return out


def _look_low(waves: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Per part of a picture, unit vectors in two halves: (n, even columns) and (n, odd columns).

    Two pictures correlate by even @ even + odd @ odd, and one with the other's mirror image by the difference.
    """
    samples = (np.arange(_SIDE, dtype=np.float32) + 0.5) / _SIDE
    analyse = cosines(samples, _LOW).T / _SIDE  # (_LOW, _SIDE)
    looks = []
    for start, height in ((0.0, 1.0), (CAPTION, 1 - CAPTION), (0.0, 1 - CAPTION)):
        rows = analyse @ cosines(start + height * samples, _WAVES)  # (_LOW, _WAVES): coefficients of that part alone
        part = sharpen(rows @ waves[:, :, :_LOW], 0.5)
        part /= np.maximum(np.linalg.norm(part, axis=(1, 2), keepdims=True), 1e-12)
        halves = (np.ascontiguousarray(part[:, :, i::2].reshape(len(waves), -1)) for i in (0, 1))
        looks.append((next(halves), next(halves)))
    return looks


def _sketch(kin: FloatArray) -> FloatArray:
    """(n, _SKETCH) vectors whose products are about half those of `kin`: cheap enough for every pair."""
    directions = np.random.default_rng(0).standard_normal((kin.shape[1], _SKETCH), dtype=np.float32)
    sketch = kin @ directions
    out: FloatArray = sketch * (np.sqrt(0.5) / np.maximum(np.linalg.norm(sketch, axis=1, keepdims=True), 1e-12))
    return out


def _list_candidates(waves: FloatArray, kin: FloatArray | None) -> Iterator[_Candidates]:
    """The pairs worth a closer look, a block of rows at a time."""
    n = len(waves)
    looks = _look_low(waves)
    sketch, floor = (None, _MAYBE) if kin is None else (_sketch(kin), _MAYBE_KIN)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        even = [one[start:stop] @ one[:stop].T for one, _ in looks]
        odd = [other[start:stop] @ other[:stop].T for _, other in looks]
        for is_mirrored in (False, True):
            alike = [one - other if is_mirrored else one + other for one, other in zip(even, odd, strict=True)]
            most = np.maximum(alike[0], alike[1])
            np.maximum(most, alike[2], out=most)
            if sketch is not None:
                most += sketch[start:stop] @ sketch[:stop].T
            second, first = np.nonzero(most > floor)
            is_before = first < second + start
            second, first = second[is_before], first[is_before]
            parts = np.argmax([of[second, first] for of in alike], axis=0)
            yield _Candidates(first=first, second=second + start, parts=parts, is_mirrored=is_mirrored)


def _measure_plainness(waves: FloatArray) -> FloatArray:
    """(n,) 0 for a picture rich in detail, 1 for one that few coefficients describe."""
    energy = np.square(sharpen(waves, 1.0)).reshape(len(waves), FINGERPRINT_LENGTH)
    carriers = energy.sum(axis=1) ** 2 / np.maximum(np.square(energy, out=energy).sum(axis=1), 1e-20)
    few, many = _PLAIN_TO_RICH
    out: FloatArray = np.clip((many - carriers) / (many - few), 0, 1)
    return out


def _confirm(waves: FloatArray, kin: FloatArray | None, maybe: _Candidates) -> _Found:
    """Those of the candidates that are copies, with their similarity."""
    found = [_NOTHING]
    for start in range(0, len(maybe.first), _CLOSE):
        i, j, parts = (rows[start : start + _CLOSE] for rows in (maybe.first, maybe.second, maybe.parts))
        nearness = np.ones(len(i), dtype=np.float32)
        if kin is not None:
            nearness = np.einsum("ij,ij->i", kin[i], kin[j])
            is_kin = nearness > _LEAST_KIN
            i, j, parts, nearness = i[is_kin], j[is_kin], parts[is_kin], nearness[is_kin]
        floor = _ALIKE if kin is None else _LEAST_ALIKE
        alike = align(waves, i, j, parts, is_mirrored=maybe.is_mirrored, floor=floor)
        near = alike > floor
        i, j, alike, nearness = i[near], j[near], alike[near], nearness[near]
        fair = alike - _PLAIN * np.maximum(_measure_plainness(waves[i]), _measure_plainness(waves[j]))
        is_copy = fair > (_ALIKE if kin is None else _ALIKE_KIN)
        if kin is not None:
            is_copy |= (fair > _LEAST_ALIKE) & (fair + nearness / 2 > _SUM)
        found.append((i[is_copy], j[is_copy], alike[is_copy]))
    first, second, alike = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return first, second, alike
