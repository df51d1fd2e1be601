"""A vector per picture that its copies share, and the groups of copies in a table of such vectors. numpy alone.

A copy is the same photograph saved again: recompressed, resized, brightened, cropped by a twentieth, written on,
mirrored. Another photograph of a like thing is none, be it another white shirt on the same table.

Measured on 3,781 photographs of clothing, most of them shot in series on a few tables, with copies made of 300 of them.
Found in percent, with features (and without):

    recompressed, half or a third the size, brighter, darker, greyed, sharpened, mirrored, written on   100 (100)
    a bar of text laid over the bottom tenth                                                             99 (99)
    cropped by a twentieth: all round, at a corner, on one side                                         96, 92, 92 (82+)
    squished by a twentieth                                                                              96 (77)
    a large translucent watermark three times over                                                       92 (93)
    cropped by a tenth; turned by two degrees                                                            48, 44 (18, 5)
    a white strip with a caption added below, a tenth of the height                                      25 (9)

No wrong pair among these (179,700 pairs a kind). Among the 7 million real ones it found one, by eye a true one, in two
classes. The most alike that are none: two pairs of jeans, A = 0.88 with c = 0.88 (A = 0.905; A and c as below).
Called copies where chance makes pictures alike, in percent, and the largest cluster: none of 1,797 scanned digits of
8 x 8 pixels and of 2,000 pictures of fabric (PyPI: conformal-clip-data); none of 200 upright stripes, 200 checkers and
200 weaves; of 600 printed digits, a little turned and moved, 19 (15), 11 of the 60 that are one digit (6); of 200
discs 62 (64), 8 (9).
On one core: 0.18 ms a fingerprint; all pairs of 3,781 in 0.2 s (0.6 s), of 50,000 in 20 s and 150 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput

from .alignment import PARTS, align, cosines, project_part, sharpen
from .detail import count_strokes, count_waves

__all__ = [
    "FINGERPRINT_LENGTH",
    "FINGERPRINT_VERSION",
    "CopyPairs",
    "cluster_copies",
    "find_copies",
    "fingerprint",
    "join_pairs",
]

FINGERPRINT_VERSION = 2  # of what `fingerprint` computes: a cache must not mix two
_WAVES = 32  # cosine coefficients a side
FINGERPRINT_LENGTH = _WAVES * _WAVES
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_SIDE = 56  # samples a side, from which the coefficients come
_FLAT = (
    0.004  # standard deviation below which there is nothing to compare: half a grey level of bytes scaled to [-1, 1]
)

# Two pictures correlate by A, in all coefficients once aligned. Their features, where known, have the cosine c around
# the mean of all. Copies are those with A above _ALIKE or, with features, above _ALIKE_KIN or with A + c / 2 above
# _SUM; where c is so low that the network sees different things, above _SURE.
_ALIKE = 0.91
_ALIKE_KIN = 0.92
_SUM = 1.33
_LEAST_ALIKE = 0.84
_LEAST_KIN = 0.3
_SURE = 0.96

# Where there is little in a picture (a digit, stripes), chance makes others like it, above all once they are aligned,
# and the network finds them alike too. With few waves these bounds rise by up to _PLAIN; with very few waves or few
# strokes they go towards _SUREST, whatever c is; and what has next to no waves is like too much to be a copy of any.
_PLAIN = 0.06
_PLAIN_WAVES = (40.0, 100.0)  # so few raise the bounds fully, so many not at all
_SUREST = 0.99
_BARE_WAVES = (16.0, 20.0)
_BARE_STROKES = (190.0, 210.0)
_LEAST_WAVES = 6.0

# Who is looked at at all, by the correlation of a few coefficients (plus c / 2, about)
_LOW = 6  # coefficients a side; even, so that half of them are of odd columns
_MAYBE = 0.87
_MAYBE_KIN = 1.2
_MAYBE_SURE = 0.98  # whatever c is
_TILE = 64  # rows compared at a time with 64 others: BLAS starts no threads for products of that size
_CLOSE = 2048  # pairs looked at closely at a time: 8 MB of coefficients a side

# What is cut apart again: clusters of more than _MANY rows where fewer than this share of all pairs are copies
_MANY = 8
_DENSE = 0.25
_SAME = 0.9999  # links above are never cut: the same pixels


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
    # means of rows first, then luminance, then means of columns: the fewest numbers to weigh and to copy
    rows = _shrink(pixels, axis=1)
    luma = rows[0] * _LUMA[0]
    luma += rows[1] * _LUMA[1]
    luma += rows[2] * _LUMA[2]
    luma = _shrink(luma, axis=1)
    if not luma.std() > _FLAT:
        return np.zeros(FINGERPRINT_LENGTH, dtype=np.float32)
    waves = _waves()
    coefficients = waves.T @ luma @ waves  # so small that no BLAS starts threads for it, beside those that call this
    coefficients[0, 0] = 0
    out: FloatArray = (coefficients / np.linalg.norm(coefficients)).astype(np.float32).ravel()
    return out


def _shrink(values: FloatArray, *, axis: int) -> FloatArray:
    """Means of _SIDE runs along an axis; where it is shorter than that, some repeat."""
    length, shape = values.shape[axis], values.shape
    run = length // _SIDE
    means: FloatArray
    if run * _SIDE != length or not run:
        starts = np.arange(_SIDE) * length // _SIDE
        counts = np.maximum(np.diff(starts, append=length), 1).astype(np.float32)
        means = np.add.reduceat(values, starts, axis=axis) / counts.reshape(-1, *(1 for _ in shape[axis + 1 :]))
    elif axis < values.ndim - 1:
        means = np.add.reduce(values.reshape(*shape[:axis], _SIDE, run, *shape[axis + 1 :]), axis=axis + 1) / run
    else:  # a few strided sums are four times as fast as many short ones
        means = sum((values[..., at::run] for at in range(1, run)), start=values[..., ::run]) / run
    return means


@lru_cache(maxsize=1)
def _waves() -> FloatArray:
    """(_SIDE, _WAVES) cosines at the samples' middles."""
    return cosines((np.arange(_SIDE) + 0.5) / _SIDE, _WAVES)


def cluster_copies(fingerprints: FloatArray, *, features: FloatArray | None = None) -> IntArray:
    """(n,) cluster id of each picture: copies of one picture share one, a picture without copies has its own.

    fingerprints is (n, FINGERPRINT_LENGTH); features, (n, d) of the frozen trunk, find more copies and make it faster.
    Ids count from 0 in order of first appearance. Copies of copies are copies, as `join_pairs` has it. Raises
    InvalidInput for other shapes.
    """
    return join_pairs(len(fingerprints), find_copies(fingerprints, features=features))


def join_pairs(n: int, pairs: CopyPairs) -> IntArray:
    """(n,) id of each row's cluster, the rows of a pair sharing one; ids count from 0 in order of appearance.

    Where a chain ties many rows together of which few are like each other, the weaker half of its links is cut, until
    what is left hangs together: A like B like C ... must not make one picture of a whole class.
    """
    first, second, similarity = pairs.first, pairs.second, pairs.similarity
    while True:
        ids = _find_components(n, first, second)
        sizes = np.bincount(ids, minlength=1)
        links = np.bincount(ids[first], minlength=len(sizes))
        is_chain = (sizes > _MANY) & (links < _DENSE * sizes * (sizes - 1) / 2)
        keep = np.ones(len(first), dtype=bool)
        for cluster in np.flatnonzero(is_chain):
            own = ids[first] == cluster
            keep &= ~own | (similarity > min(float(np.median(similarity[own])), _SAME))
        if keep.all():
            return ids
        first, second, similarity = first[keep], second[keep], similarity[keep]


def _find_components(n: int, first: IntArray, second: IntArray) -> IntArray:
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
    n_waves = count_waves(waves)
    found = [_confirm(waves, kin, n_waves, maybe) for maybe in _batch(_list_candidates(waves, kin))]
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
    is_mirrored: BoolArray  # whether it was found with the first mirrored

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, rows: slice) -> _Candidates:
        return _Candidates(
            first=self.first[rows],
            second=self.second[rows],
            parts=self.parts[rows],
            is_mirrored=self.is_mirrored[rows],
        )


def _centre(features: FloatArray) -> FloatArray:
    """Rows of unit length around their mean: what all pictures of this data share says nothing."""
    centred = features - features.mean(axis=0)
    out: FloatArray = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return out


def _look_low(waves: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Per part of a picture, unit vectors in two halves: (n, even columns) and (n, odd columns).

    Two pictures correlate by even @ even + odd @ odd, and one with the other's mirror image by the difference.
    """
    looks = []
    for place in PARTS:
        part = sharpen(project_part(place, _LOW, _WAVES) @ waves[:, :, :_LOW], 0.5)
        part /= np.maximum(np.linalg.norm(part, axis=(1, 2), keepdims=True), 1e-12)
        even, odd = part[:, :, 0::2], part[:, :, 1::2]
        looks.append((even.reshape(len(waves), _LOW * _LOW // 2), odd.reshape(len(waves), _LOW * _LOW // 2)))
    return looks


def _sketch(kin: FloatArray) -> FloatArray:
    """(n, 64) or less: vectors whose products are about half those of `kin`; a count sketch, cheap for every pair."""
    d = kin.shape[1]
    signs = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.float32), d)
    starts = np.arange(min(_TILE, d)) * d // min(_TILE, d)
    sketch = np.add.reduceat(kin * signs, starts, axis=1)
    out: FloatArray = sketch * (np.sqrt(0.5) / np.maximum(np.linalg.norm(sketch, axis=1, keepdims=True), 1e-12))
    return out


def _tile(rows: FloatArray) -> FloatArray:
    """(n, k) as (tiles, 64, k), the last filled up with zeros."""
    tiles = np.zeros((-(-len(rows) // _TILE), _TILE, rows.shape[1]), dtype=np.float32)
    tiles.reshape(-1, rows.shape[1])[: len(rows)] = rows
    return tiles


def _list_candidates(waves: FloatArray, kin: FloatArray | None) -> Iterator[_Candidates]:
    """The pairs worth a closer look: each tile of rows with itself and all before it."""
    looks = [(_tile(even), _tile(odd)) for even, odd in _look_low(waves)]
    sketch = None if kin is None else _tile(_sketch(kin))
    for at in range(len(looks[0][0])):
        even = [one[at] @ one[: at + 1].transpose(0, 2, 1) for one, _ in looks]  # (tiles before, 64, 64)
        odd = [other[at] @ other[: at + 1].transpose(0, 2, 1) for _, other in looks]
        near = None if sketch is None else sketch[at] @ sketch[: at + 1].transpose(0, 2, 1)
        for is_mirrored in (False, True):
            alike = [one - other if is_mirrored else one + other for one, other in zip(even, odd, strict=True)]
            most = np.maximum(alike[0], alike[1])
            np.maximum(most, alike[2], out=most)
            is_near = most > (_MAYBE if near is None else _MAYBE_SURE)
            if near is not None:
                most += near
                is_near |= most > _MAYBE_KIN
            hits = np.nonzero(is_near)
            parts = np.argmax([of[hits] for of in alike], axis=0)
            first, second = hits[0] * _TILE + hits[2], at * _TILE + hits[1]
            is_before = first < second
            yield _Candidates(
                first=first[is_before],
                second=second[is_before],
                parts=parts[is_before],
                is_mirrored=np.full(np.count_nonzero(is_before), is_mirrored),
            )


def _batch(candidates: Iterable[_Candidates]) -> Iterator[_Candidates]:
    """The same in batches of _CLOSE, the last smaller."""
    waiting: list[_Candidates] = []
    for some in candidates:
        waiting.append(some)
        if sum(map(len, waiting)) >= _CLOSE:
            joined = _join(waiting)
            cut = len(joined) - len(joined) % _CLOSE
            yield from (joined[start : start + _CLOSE] for start in range(0, cut, _CLOSE))
            waiting = [joined[cut:]]
    if waiting:
        yield _join(waiting)


def _join(some: Sequence[_Candidates]) -> _Candidates:
    return _Candidates(
        first=np.concatenate([one.first for one in some]),
        second=np.concatenate([one.second for one in some]),
        parts=np.concatenate([one.parts for one in some]),
        is_mirrored=np.concatenate([one.is_mirrored for one in some]),
    )


def _fall(values: FloatArray, ends: tuple[float, float]) -> FloatArray:
    """1 up to the first end, 0 from the second on."""
    low, high = ends
    out: FloatArray = np.clip((high - values) / (high - low), 0, 1)
    return out


def _confirm(waves: FloatArray, kin: FloatArray | None, n_waves: FloatArray, maybe: _Candidates) -> _Found:
    """Those of the candidates that are copies, with their similarity."""
    i, j = maybe.first, maybe.second
    floor = np.full(len(i), _ALIKE, dtype=np.float32)
    if kin is not None:
        nearness = np.einsum("ij,ij->i", kin[i], kin[j])
        floor = np.clip(_SUM - nearness / 2, _LEAST_ALIKE, _ALIKE_KIN)
        floor[nearness < _LEAST_KIN] = _SURE
    fewest = np.minimum(n_waves[i], n_waves[j])
    floor = np.minimum(floor + _PLAIN * _fall(fewest, _PLAIN_WAVES), _SUREST)
    floor += (_SUREST - floor) * _fall(fewest, _BARE_WAVES)
    alike = align(waves, i, j, maybe.parts, is_mirrored=maybe.is_mirrored, floor=floor)
    left = np.flatnonzero((alike > floor) & (fewest > _LEAST_WAVES))
    i, j, floor, alike = i[left], j[left], floor[left], alike[left]
    rows, places = np.unique(np.concatenate([i, j]), return_inverse=True)  # strokes of those left alone: they take time
    n_strokes = count_strokes(waves[rows])[places.reshape(2, len(left))].min(axis=0)
    floor += (_SUREST - floor) * _fall(n_strokes, _BARE_STROKES)
    is_copy = alike > floor
    return i[is_copy], j[is_copy], alike[is_copy]
