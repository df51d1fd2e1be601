"""A saliency as a see-through picture, to be laid over the one it explains."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray

from .saliency import Saliency

__all__ = ["paint_saliency"]

_SIDE = 320  # pixels, the longer side: a heat of 7 x 7 places holds no more
# heat -> red, green, blue, opacity: a dark veil, gone where it counts, then a warm light; lightness alone tells it
_STOPS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_COLOURS = np.array(
    [[16, 14, 34, 0.72], [52, 20, 66, 0.52], [170, 50, 60, 0.34], [244, 140, 40, 0.36], [255, 226, 120, 0.5]]
)
_UNSEEN = (118, 118, 118, 0.82)  # what was cropped away before the network saw anything


def paint_saliency(saliency: Saliency) -> bytes:
    """A PNG with transparency and the proportions of the whole picture; grey where the network did not look."""
    scale = _SIDE / max(saliency.width, saliency.height)
    width, height = (max(1, round(side * scale)) for side in (saliency.width, saliency.height))
    frame = saliency.frame
    x = (np.arange(width) + 0.5) / width
    y = (np.arange(height) + 0.5) / height
    rows, columns = saliency.heat.shape
    heat = _sample(
        saliency.heat, _places(y, frame.top, frame.bottom, rows), _places(x, frame.left, frame.right, columns)
    )
    painted = np.stack([np.interp(heat, _STOPS, channel) for channel in _COLOURS.T], axis=-1)
    is_seen = np.outer((y > frame.top) & (y < frame.bottom), (x > frame.left) & (x < frame.right))
    painted[~is_seen] = _UNSEEN
    painted[..., 3] *= 255
    out = io.BytesIO()
    Image.fromarray(painted.round().astype(np.uint8), "RGBA").save(out, "PNG")
    return out.getvalue()


def _places(at: FloatArray, low: float, high: float, count: int) -> FloatArray:
    """Shares of the picture as places of the heat, whose centres are 0, 1, 2 ..."""
    return np.asarray((at - low) / (high - low) * count - 0.5)


def _sample(heat: FloatArray, rows: FloatArray, columns: FloatArray) -> FloatArray:
    """heat at all (rows x columns), smoothly: each place a bell as wide as a place, so that none has an edge."""
    down, across = (
        np.exp(-np.square(at[:, np.newaxis] - np.arange(count)) / (2 * 0.55**2))
        for at, count in ((rows, heat.shape[0]), (columns, heat.shape[1]))
    )
    down, across = (bells / bells.sum(axis=1, keepdims=True) for bells in (down, across))
    smooth = down @ heat.astype(np.float64) @ across.T
    return np.asarray(smooth / max(float(smooth.max()), 1e-12) * float(heat.max()))
