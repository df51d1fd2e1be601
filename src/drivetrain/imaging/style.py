"""How a picture looks, apart from what it shows: light, sharpness, size, colour, drawn or photographed.

A model learns whatever tells the classes apart. Where one class is drawn and another photographed, it learns that; and
where production sends darker pictures than training had, it fails. `check` compares these measures between classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drivetrain.arrays import IntArray
from drivetrain.errors import InvalidInput

__all__ = ["STYLE_FLAGS", "STYLE_SIDE", "STYLE_VERSION", "Style", "measure_style"]

STYLE_VERSION = 1  # of what is measured: a cache must not mix two
STYLE_SIDE = 224  # pixels: the shorter side at which a picture is measured, so that its own size does not matter

# Flag -> what it means. The thresholds stand in Style.flags; docs/check.md tells how often each is wrong.
STYLE_FLAGS = {
    "dark": "too dark: even its bright parts are dim",
    "bright": "overexposed: what is not plain white is nearly so",
    "flat": "little contrast",
    "blurred": "blurred, or enlarged from a smaller picture",
    "small": "fewer than 128 pixels on its shorter side",
    "grey": "without colour",
    "drawn": "drawn: even areas or lines on paper, not a photograph",
}
_DIM = 0.42  # 95th percentile of the luminance below which a picture is dark
_NIGHT = 0.12  # mean luminance below which it is dark even with a lamp in it
_WASHED = 0.8  # mean luminance of what is not plain white, from which it is overexposed
_CLIPPED, _WASHED_AND_CLIPPED = 0.15, 0.7  # the same where this share is plain white
_FAINT = 0.15  # 5th to 95th percentile of the luminance
_SOFT = 0.40  # Laplacian over gradient, at the strongest edges
_SMEARED = 0.64  # share of the pixel-to-pixel variation that survives a blur
_SMALL = 128  # pixels
_COLOURLESS = 0.04  # 99th percentile of the spread of red, green and blue
_EVEN = 0.40  # share of even tiles, plain white and black ones left out
_PAPER, _LINES = 0.1, 0.7  # share of plain tiles, and of the others those where paper and ink meet
_TILE = 8  # pixels
_WHITE, _BLACK = 245, 8
_INK = 90.0  # luminance between a line and its paper
_LEAST_SIDE = 24  # pixels: of a smaller picture neither sharpness nor drawing can be told
_LONGEST = 8  # times as long as wide: of a longer strip only the middle is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """The measures of one picture; all but the size are shares in [0, 1] (sharpness may be more)."""

    width: int  # pixels, as stored
    height: int
    brightness: float  # mean luminance
    highlights: float  # its 95th percentile
    ink_brightness: float  # mean luminance of what is not plain white; 0 where all is white
    contrast: float  # 5th to 95th percentile of the luminance
    sharpness: float  # variation of the Laplacian at the strongest edges, over the gradient there; higher is sharper
    smear: float  # share of the pixel-to-pixel variation that survives a blur; higher is more blurred
    colour: float  # 99th percentile of the spread between red, green and blue
    paper: float  # share of plain white or black tiles
    even: float  # share of even tiles among the others
    lines: float  # share of tiles where paper and ink meet among the others
    white: float  # share of plain white pixels

    @property
    def flags(self) -> frozenset[str]:
        """Which of STYLE_FLAGS hold."""
        is_dark = self.highlights < _DIM or self.brightness < _NIGHT
        is_faint = self.contrast < _FAINT and self.paper < _PAPER
        is_ruled = self.paper >= _PAPER and self.lines >= _LINES
        # what is dark or faint is saved as even areas, whatever it shows
        is_drawn = is_ruled or (self.even >= _EVEN and not is_dark and not is_faint)
        is_washed = self.ink_brightness >= (_WASHED if self.white < _CLIPPED else _WASHED_AND_CLIPPED)
        is_bright = is_washed and not is_drawn
        found = {
            "dark": is_dark,
            "bright": is_bright,
            "flat": is_faint and not is_dark and not is_bright,
            "blurred": self.sharpness < _SOFT or self.smear > _SMEARED,
            "small": min(self.width, self.height) < _SMALL,
            "grey": self.colour < _COLOURLESS,
            "drawn": is_drawn,
        }
        return frozenset(name for name, holds in found.items() if holds)

    def as_json(self) -> dict[str, Any]:
        """Plain values; `Style(**values)` gives the same again."""
        return asdict(self)


def measure_style(image: Image.Image, *, size: tuple[int, int] | None = None) -> Style:
    """The style of an 8-bit RGB picture; `size` is the stored (width, height) where a smaller decode is given.

    Measured at STYLE_SIDE pixels, never enlarged. Raises InvalidInput for another mode or an empty picture.
    """
    if image.mode != "RGB" or 0 in image.size:
        raise InvalidInput("image", got=f"{image.mode} {image.size}", want="an RGB picture of one pixel at least")
    width, height = size or image.size
    shrunk = _shrink(image)
    pixels = np.asarray(shrunk)  # (h, w, 3) bytes: whole numbers cost a third of what floats do
    luma = np.asarray(shrunk.convert("L")).astype(np.int16)
    counts = np.bincount(luma.ravel(), minlength=256)
    low, high = _quantile(counts, 0.05) / 255, _quantile(counts, 0.95) / 255
    red, green, blue = (pixels[..., channel] for channel in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    n_ink = int(counts[:_WHITE].sum())
    ink_sum = float(counts[:_WHITE] @ np.arange(_WHITE))
    sharpness, smear = _measure_sharpness(luma)
    paper, even, lines = _measure_tiles(luma)
    return Style(
        width=width,
        height=height,
        brightness=_round(counts @ np.arange(256) / luma.size / 255),
        highlights=_round(high),
        ink_brightness=_round(ink_sum / n_ink / 255 if n_ink > 0.02 * luma.size else 0.0),
        contrast=_round(high - low),
        sharpness=sharpness,
        smear=smear,
        colour=_round(_quantile(np.bincount(spread.ravel(), minlength=256), 0.99) / 255),
        paper=paper,
        even=even,
        lines=lines,
        white=_round(1 - n_ink / luma.size),
    )


def _shrink(image: Image.Image) -> Image.Image:
    width, height = image.size
    short = min(width, height)
    if max(width, height) > _LONGEST * short:
        half_width, half_height = (min(side, _LONGEST * short) / 2 for side in (width, height))
        box = (width / 2 - half_width, height / 2 - half_height, width / 2 + half_width, height / 2 + half_height)
        image = image.crop(tuple(map(round, box)))  # type: ignore[arg-type]  # four numbers
        width, height = image.size
    if short <= STYLE_SIDE:
        return image
    by = STYLE_SIDE / short
    return image.resize(
        (max(1, round(width * by)), max(1, round(height * by))), Image.Resampling.BILINEAR, reducing_gap=2.0
    )


def _quantile(counts: IntArray, share: float) -> float:
    """The smallest value that `share` of all do not exceed, of counts by value."""
    reached = np.cumsum(counts)
    return float(np.searchsorted(reached, share * reached[-1]))


def _measure_sharpness(luma: NDArray[np.int16]) -> tuple[float, float]:
    """Sharpness and smear of (h, w) luminance in 0 to 255.

    The strongest half percent of the Laplacian over that of the gradient: a sharp edge turns within a pixel, a blurred
    one does not, and neither contrast nor a plain background matters. Smear is Crete et al. 2007's blur effect
    (doi 10.1117/12.702790) with a 5-pixel mean; it also hears motion in one direction.
    """
    if min(luma.shape) < _LEAST_SIDE:
        return 1.0, 0.0
    up, down, left, right = luma[:-2, 1:-1], luma[2:, 1:-1], luma[1:-1, :-2], luma[1:-1, 2:]
    laplacian = np.abs(4 * luma[1:-1, 1:-1] - up - down - left - right)
    across, along = (right - left).astype(np.int32), (down - up).astype(np.int32)
    gradient = (across * across + along * along).ravel()
    at = int(0.995 * (gradient.size - 1))
    strong = float(np.partition(gradient, at)[at]) ** 0.5
    if strong < 2.0:  # an even area has no edge to judge by
        return 1.0, 0.0
    sharpness = _quantile(np.bincount(laplacian.ravel()), 0.995) / (strong + 4)
    smear = max(_survives(luma), _survives(np.ascontiguousarray(luma.T)))
    return _round(sharpness), _round(smear)


def _survives(luma: NDArray[np.int16]) -> float:
    """Share of the variation from row to row that a 5-row mean leaves."""
    before = 5 * np.abs(np.diff(luma[2:-2], axis=0))
    after = np.abs(luma[5:] - luma[:-5])  # five times the step from one 5-row mean to the next
    total = int(before.sum(dtype=np.int64))
    return 1 - int(np.maximum(0, before - after).sum(dtype=np.int64)) / total if total else 0.0


def _measure_tiles(luma: NDArray[np.int16]) -> tuple[float, float, float]:
    """Shares of plain tiles, and among the others of even ones and of those where paper and ink meet."""
    rows, columns = (side // _TILE for side in luma.shape)
    if min(luma.shape) < _LEAST_SIDE:
        return 0.0, 0.0, 0.0
    grid = luma[: rows * _TILE, : columns * _TILE].reshape(rows, _TILE, columns, _TILE).swapaxes(1, 2)
    tiles = grid.reshape(rows * columns, -1).astype(np.float32)
    mean = tiles.mean(axis=1)
    is_even = np.einsum("ij,ij->i", tiles, tiles) / tiles.shape[1] - mean * mean < 1.0  # variance
    is_paper = is_even & ((mean >= _WHITE) | (mean <= _BLACK))
    others = max(1, int((~is_paper).sum()))
    low, high = tiles.min(axis=1), tiles.max(axis=1)
    is_light = (mean >= _WHITE).sum() >= (mean <= _BLACK).sum()
    touches = (high >= _WHITE if is_light else low <= _BLACK) & (high - low >= _INK)
    return (
        _round(is_paper.mean()),
        _round((is_even & ~is_paper).sum() / others),
        _round((touches & ~is_paper).sum() / others),
    )


def _round(value: Any) -> float:
    """Four digits: so that the cache stays small, and no machine's last bit moves a flag."""
    return round(float(value), 4)
