"""How alike two pictures are once one is shifted and scaled onto the other, from their lowest cosine coefficients.

A picture is here its (K, K) cosine coefficients (type II, rows then columns) without the mean, sharpened: weighted by
frequency, for a photograph holds less of the finer ones, and those tell one white shirt from another. Mirroring turns
the sign of every odd column; shifting and scaling is evaluating the cosines elsewhere. What is compared is a *part*:
all but the edge, or that without the top or without the bottom, where a caption may stand.

No product of matrices here is larger than 64 x 64 x 64: BLAS would start threads, which wait by spinning. Measured on
two cores that others used too: 3 s instead of 0.3.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray

__all__ = ["PARTS", "align", "cosines", "project_part", "sharpen"]

_CAPTION = 0.18  # of the height
PARTS = ((0.0, 1.0), (_CAPTION, 1.0), (0.0, 1 - _CAPTION))  # top and bottom: all, without the top, without the bottom
_EDGE = 0.05  # of each side that is not compared: there one of two shifted pictures has nothing to show
_ZOOM = 0.95  # a side of the smallest part of a picture that is looked for in another
_SHIFT = 0.025  # of a side: how far such a part can lie off the middle
_STEP = (0.02, 0.0125, 0.0125)  # of scale, shift down, shift right: between two places tried after the first search
_COARSE = 8  # coefficients a side in the first search
_SEARCH_SLACK = 0.06  # how much that search, which tries few places, may underrate a pair
_CLIMB_SLACK = 0.04
_TILE = 64  # pairs in one product of matrices
_AT_A_TIME = 16 * _TILE  # pairs: by 19 places and 64 floats, 5 MB


def cosines(at: FloatArray, count: int) -> FloatArray:
    """(..., count) float32 values of the first `count` cosines at positions `at` (...), 0 to 1 along a side.

    Their mean square over a side is 1.
    """
    waves = np.cos(np.float32(np.pi) * np.arange(count, dtype=np.float32) * at[..., np.newaxis].astype(np.float32))
    waves *= np.float32(np.sqrt(2))
    waves[..., 0] = 1
    out: FloatArray = waves
    return out


def sharpen(coefficients: FloatArray, power: float) -> FloatArray:
    """Coefficients (n, k, k) times their frequency to the `power`: the mean, of frequency 0, goes."""
    k = np.arange(coefficients.shape[-1], dtype=np.float32)
    frequency = np.hypot(k[:, np.newaxis], k)
    weight = np.zeros_like(frequency)
    np.power(frequency, power, out=weight, where=frequency > 0)
    out: FloatArray = coefficients * weight
    return out


def project_part(part: tuple[float, float], size: int, count: int) -> FloatArray:
    """(size, count): from `count` coefficients of the rows of a picture to the lowest `size` of a part of it alone."""
    top, bottom = part
    samples = (np.arange(2 * count, dtype=np.float32) + 0.5) / (2 * count)
    out: FloatArray = cosines(samples, size).T @ cosines(top + (bottom - top) * samples, count) / len(samples)
    return out


def align(
    waves: FloatArray,
    first: IntArray,
    second: IntArray,
    parts: IntArray,
    *,
    is_mirrored: BoolArray,
    floor: FloatArray,
) -> FloatArray:
    """(m,) correlation, up to 1, of each pair at its best shift, scale and part; below its `floor` an estimate.

    waves is (n, K, K), not sharpened, K at least 16; first and second are the rows of each pair, the first mirrored
    where `is_mirrored`. parts is the part by which each pair was found: all that the first search looks at.
    """
    plain = np.zeros_like(is_mirrored)
    one, other = _take_parts(waves, first, parts, is_mirrored), _take_parts(waves, second, parts, plain)
    places, best = _search(one, other)
    rough = np.flatnonzero(best > floor - _SEARCH_SLACK)
    for size, step, slack in ((16, 1.0, _CLIMB_SLACK), (16, 0.5, _CLIMB_SLACK), (waves.shape[1], 0.25, 0.0)):
        one, other = (
            sharpen(_mirror(waves[rows[rough], :size, :size], turned[rough]), 1.0)
            for rows, turned in ((first, is_mirrored), (second, plain))
        )
        places[rough], best[rough] = _climb(one, other, places[rough], step=step)
        rough = rough[best[rough] > floor[rough] - slack]
    return best


def _take_parts(waves: FloatArray, rows: IntArray, parts: IntArray, is_mirrored: BoolArray) -> FloatArray:
    """(m, 8, 8): the lowest coefficients, sharpened, of the part alone: a caption outside leaves no trace in them."""
    taken = np.empty((len(rows), _COARSE, _COARSE), dtype=np.float32)
    for number, part in enumerate(PARTS):
        own = parts == number
        taken[own] = project_part(part, _COARSE, waves.shape[1]) @ waves[rows[own], :, :_COARSE]
    return sharpen(_mirror(taken, is_mirrored), 1.0)


def _mirror(taken: FloatArray, is_mirrored: BoolArray) -> FloatArray:
    """In place: the odd columns' signs turned where asked."""
    taken[is_mirrored, :, 1::2] *= -1
    return taken


def _sample(scale: FloatArray, shift: FloatArray, size: int) -> FloatArray:
    """(m, size, size): from `size` coefficients to as many samples, for each scale and shift."""
    grid = (_EDGE - 0.5) + (1 - 2 * _EDGE) * (np.arange(size, dtype=np.float32) + 0.5) / size
    return cosines(scale[:, np.newaxis] * grid + 0.5 + shift[:, np.newaxis], size)


def _still(size: int) -> FloatArray:
    out: FloatArray = _sample(np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32), size)[0]
    return out


def _sum_parts(rows: FloatArray) -> FloatArray:
    """(m, parts): what the samples of each part sum to, from the sums of their rows (m, r)."""
    cut = round(_CAPTION * rows.shape[1])
    of_all = rows.sum(axis=1)
    out: FloatArray = np.stack(
        [of_all, of_all - rows[:, :cut].sum(axis=1), of_all - rows[:, -cut:].sum(axis=1)], axis=1
    )
    return out


@lru_cache(maxsize=1)
def _list_places() -> tuple[FloatArray, FloatArray]:
    """Places (t, 3) of scale, shift down and shift right; and (t, 64, 64): from coefficients to the samples there."""
    places = [(1.0, 0.0, 0.0)]
    for scale in (_ZOOM, 1 / _ZOOM):
        places += [(scale, y, x) for y in (-_SHIFT, 0.0, _SHIFT) for x in (-_SHIFT, 0.0, _SHIFT)]
    table = np.array(places, dtype=np.float32)
    rows, columns = _sample(table[:, 0], table[:, 1], _COARSE), _sample(table[:, 0], table[:, 2], _COARSE)
    sampler = np.einsum("trj,tck->tjkrc", rows, columns).reshape(len(table), _COARSE**2, _COARSE**2)
    return table, np.ascontiguousarray(sampler, dtype=np.float32)


def _search(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The best of a few places for each pair of (m, 8, 8): (m, 3), and the correlation there (m,)."""
    places, sampler = _list_places()
    found = np.empty((len(first), 3), dtype=np.float32)
    best = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), _AT_A_TIME):
        rows = slice(start, start + _AT_A_TIME)
        moved = _tile(first[rows])[:, np.newaxis] @ sampler  # (b, t, 64 pairs, 64 samples)
        kept = _tile(second[rows]) @ sampler[0]  # (b, 64 pairs, 64 samples): the first place is no shift
        power = np.einsum("btps,btps->bpt", moved, moved) * np.einsum("bps,bps->bp", kept, kept)[:, :, np.newaxis]
        alike = np.einsum("btps,bps->bpt", moved, kept) / np.sqrt(np.maximum(power, 1e-20))
        alike = alike.reshape(-1, len(places))[: len(first[rows])]
        found[rows], best[rows] = places[alike.argmax(axis=1)], alike.max(axis=1)
    return found, best


def _tile(coefficients: FloatArray) -> FloatArray:
    """(m, 8, 8) as (b, 64, 64): 64 pairs a table, the last filled up with zeros."""
    m = len(coefficients)
    tiles = np.zeros((-(-m // _TILE) * _TILE, _COARSE**2), dtype=np.float32)
    tiles[:m] = coefficients.reshape(m, _COARSE**2)
    return tiles.reshape(-1, _TILE, _COARSE**2)


def _climb(first: FloatArray, second: FloatArray, places: FloatArray, *, step: float) -> tuple[FloatArray, FloatArray]:
    """Better places near the given ones, one coordinate after the other, and the correlations there."""
    size = first.shape[1]
    still = _still(size)
    kept = still @ second @ still.T
    kept_power = _sum_parts(np.einsum("mrc,mrc->mr", kept, kept))
    places = places.copy()

    def measure(at: FloatArray) -> FloatArray:
        moved = _sample(at[:, 0], at[:, 1], size) @ first @ _sample(at[:, 0], at[:, 2], size).transpose(0, 2, 1)
        power = _sum_parts(np.einsum("mrc,mrc->mr", moved, moved)) * kept_power
        alike = _sum_parts(np.einsum("mrc,mrc->mr", moved, kept)) / np.sqrt(np.maximum(power, 1e-20))
        out: FloatArray = alike.max(axis=1)
        return out

    best = measure(places)
    for axis in (1, 2, 0):
        for sign in (-1, 1):
            tried = places.copy()
            tried[:, axis] += sign * step * _STEP[axis]
            alike = measure(tried)
            is_better = alike > best
            places[is_better], best[is_better] = tried[is_better], alike[is_better]
    return places, best
