"""How alike two pictures are once one is shifted and scaled onto the other, from their lowest cosine coefficients.

A picture is here its (K, K) cosine coefficients (type II, rows then columns) without the mean, sharpened: weighted by
frequency, for a photograph holds less of the finer ones, and those tell one white shirt from another. Mirroring turns
the sign of every odd column; shifting and scaling is evaluating the cosines elsewhere. What is compared is a *part*:
all but the edge, or that without the top or without the bottom, where a caption may stand.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from drivetrain.arrays import FloatArray, IntArray

__all__ = ["CAPTION", "PARTS", "align", "cosines", "sharpen"]

CAPTION = 0.18  # of the height: what a part leaves out
PARTS = 3  # all, without the top, without the bottom
_EDGE = 0.05  # of each side that is not compared: there one of two shifted pictures has nothing to show
_ZOOM = 0.95  # a side of the smallest part of a picture that is looked for in another
_SHIFT = 0.025  # of a side: how far such a part can lie off the middle
_STEP = (0.02, 0.0125, 0.0125)  # of scale, shift down, shift right: between two places tried after the first search
_COARSE = 8  # coefficients a side in the first search
_SEARCH_SLACK = 0.06  # how much that search, which tries few places, may underrate a pair
_CLIMB_SLACK = 0.04
_AT_A_TIME = 1024  # pairs: 1,024 x 19 places x 64 floats are 5 MB


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


def align(
    waves: FloatArray, first: IntArray, second: IntArray, parts: IntArray, *, is_mirrored: bool, floor: float
) -> FloatArray:
    """(m,) correlation, up to 1, of each pair at its best shift, scale and part; below `floor` it is an estimate.

    waves is (n, K, K), not sharpened, K at least 16; first and second are the rows of each pair, and the first is
    mirrored if `is_mirrored`. parts is the part by which each pair was found: all that the first search looks at.
    """
    places, best = _search(_take(waves, first, _COARSE, is_mirrored=is_mirrored), _take(waves, second, _COARSE), parts)
    rough = np.flatnonzero(best > floor - _SEARCH_SLACK)
    for size, step, slack in ((16, 1.0, _CLIMB_SLACK), (16, 0.5, _CLIMB_SLACK), (waves.shape[1], 0.25, 0.0)):
        one, other = _take(waves, first[rough], size, is_mirrored=is_mirrored), _take(waves, second[rough], size)
        places[rough], best[rough] = _climb(one, other, places[rough], step=step)
        rough = rough[best[rough] > floor - slack]
    return best


def _take(waves: FloatArray, rows: IntArray, size: int, *, is_mirrored: bool = False) -> FloatArray:
    """(m, size, size): the lowest coefficients of those rows, sharpened, the odd columns' signs turned to mirror."""
    taken = sharpen(waves[rows, :size, :size], 1.0)
    if is_mirrored:
        taken[:, :, 1::2] *= -1
    return taken


def _sample(scale: FloatArray, shift: FloatArray, size: int) -> FloatArray:
    """(m, size, size): from `size` coefficients to as many samples, for each scale and shift."""
    grid = (_EDGE - 0.5) + (1 - 2 * _EDGE) * (np.arange(size, dtype=np.float32) + 0.5) / size
    return cosines(scale[:, np.newaxis] * grid + 0.5 + shift[:, np.newaxis], size)


def _still(size: int) -> FloatArray:
    out: FloatArray = _sample(np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32), size)[0]
    return out


def _mask_parts(size: int) -> FloatArray:
    """(size, PARTS): which of `size` rows of samples belong to each part."""
    cut = round(CAPTION * size)
    mask = np.ones((size, PARTS), dtype=np.float32)
    mask[:cut, 1] = 0
    mask[size - cut :, 2] = 0
    return mask


@lru_cache(maxsize=1)
def _list_places() -> tuple[FloatArray, FloatArray]:
    """Places (t, 3) of scale, shift down and shift right; and (64, t * 64): from coefficients to the samples there."""
    places = [(1.0, 0.0, 0.0)]
    for scale in (_ZOOM, 1 / _ZOOM):
        places += [(scale, y, x) for y in (-_SHIFT, 0.0, _SHIFT) for x in (-_SHIFT, 0.0, _SHIFT)]
    table = np.array(places, dtype=np.float32)
    rows, columns = _sample(table[:, 0], table[:, 1], _COARSE), _sample(table[:, 0], table[:, 2], _COARSE)
    sampler = np.einsum("trj,tck->jktrc", rows, columns).reshape(_COARSE**2, -1)
    return table, np.ascontiguousarray(sampler, dtype=np.float32)


def _search(first: FloatArray, second: FloatArray, parts: IntArray) -> tuple[FloatArray, FloatArray]:
    """The best of a few places for each pair: (m, 3), and the correlation there (m,)."""
    places, sampler = _list_places()
    still = sampler[:, : _COARSE**2]  # the first place is no shift
    masks = np.repeat(_mask_parts(_COARSE), _COARSE, axis=0)  # (64, PARTS)
    found = np.empty((len(first), 3), dtype=np.float32)
    best = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), _AT_A_TIME):
        rows = slice(start, start + _AT_A_TIME)
        mask = masks.T[parts[rows]]  # (m, 64)
        kept = (second[rows, :_COARSE, :_COARSE].reshape(len(mask), -1) @ still) * mask
        moved = first[rows, :_COARSE, :_COARSE].reshape(len(mask), -1) @ sampler
        moved = moved.reshape(len(mask), len(places), -1)
        both = (moved @ kept[:, :, np.newaxis])[:, :, 0]  # (m, t)
        power = (np.square(moved, out=moved) @ mask[:, :, np.newaxis])[:, :, 0]
        power *= np.square(kept).sum(axis=1, keepdims=True)
        alike = both / np.sqrt(np.maximum(power, 1e-20))
        found[rows], best[rows] = places[alike.argmax(axis=1)], alike.max(axis=1)
    return found, best


def _climb(first: FloatArray, second: FloatArray, places: FloatArray, *, step: float) -> tuple[FloatArray, FloatArray]:
    """Better places near the given ones, one coordinate after the other, and the correlations there."""
    size = first.shape[1]
    still, mask = _still(size), _mask_parts(size)
    kept = still @ second @ still.T
    kept_power = np.einsum("mrc,mrc->mr", kept, kept) @ mask
    places = places.copy()

    def measure(at: FloatArray) -> FloatArray:
        moved = _sample(at[:, 0], at[:, 1], size) @ first @ _sample(at[:, 0], at[:, 2], size).transpose(0, 2, 1)
        power = np.einsum("mrc,mrc->mr", moved, moved) @ mask * kept_power
        alike = np.einsum("mrc,mrc->mr", moved, kept) @ mask / np.sqrt(np.maximum(power, 1e-20))
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
