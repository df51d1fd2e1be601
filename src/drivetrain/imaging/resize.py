"""The arithmetic that fits a picture into a square: resize, crop and pad of PIL pictures in 8-bit RGB.

The declared ops (`imaging.preprocess`) and the item transforms (`data.transforms`) are both made of these.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from drivetrain.arrays import IntArray

__all__ = [
    "FILTERS",
    "MAX_STRIP",
    "PAD_MODES",
    "POINT_FILTERS",
    "RESIZE_MODES",
    "PadFill",
    "Side",
    "crop_centre",
    "find_middle",
    "pad_square",
    "resize_picture",
    "resize_region",
]

Side = Literal["shortest", "longest", "squish", "crop"]
PadFill = Literal["constant", "border", "reflection"]

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
POINT_FILTERS = ("nearest", "bilinear", "bicubic")  # those that Pillow can sample with, without antialias
RESIZE_MODES: tuple[Side, ...] = ("shortest", "longest", "squish", "crop")
PAD_MODES: tuple[PadFill, ...] = ("constant", "border", "reflection")
MAX_STRIP = 8  # times as long as wide: of a longer picture only the middle is resized to its shortest side


def resize_picture(
    image: Image.Image, mode: Side, size: int, *, filter_: str = "bilinear", antialias: bool = True
) -> Image.Image:
    """The `shortest` or `longest` side brought to `size`, the other in proportion (halves to even); `squish`: both.

    `crop`: the largest square in the middle, resized, and nothing beside it: a quarter less work than to resize all of
    a photograph first. Of a picture longer than 8:1, `shortest` keeps the middle 8:1. Without antialias each pixel is
    sampled at its centre. A picture that has the size already is given back as it is.
    """
    width, height = image.size
    if mode == "crop":
        return _resize_box(image, find_middle(width, height), (size, size), filter_, antialias=antialias)
    if mode == "squish":
        target = (size, size)
    else:
        side = min(width, height) if mode == "shortest" else max(width, height)
        target = (max(1, round(width * size / side)), max(1, round(height * size / side)))
        if mode == "shortest":  # a very long strip: only its middle can survive the crop, so cut it first
            image, target = _trim_strip(image, target, size)
    return _resize_box(image, (0, 0, *image.size), target, filter_, antialias=antialias)


def find_middle(width: int, height: int) -> tuple[int, int, int, int]:
    """The largest square in the middle: left, top, right, bottom; its corner rounded down."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def resize_region(image: Image.Image, box: tuple[int, int, int, int], size: int) -> Image.Image:
    """The region (left, top, right, bottom) as a square of `size`: cropped and resized in one antialiased pass."""
    return image.resize((size, size), FILTERS["bilinear"], box=box)


def crop_centre(image: Image.Image, size: int) -> Image.Image:
    """The middle square of `size`, its corner rounded down; beyond the edge comes out black."""
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def pad_square(image: Image.Image, size: int, *, mode: PadFill = "constant", fill: int = 0) -> Image.Image:
    """The picture in the middle of a square of `size`; what is larger is cut, what is missing is made up.

    `constant`: one grey, `fill`; `border`: the nearest pixel; `reflection`: the picture mirrored at its edge, which
    itself is not repeated, as often as it takes (a side of one pixel is repeated).
    """
    if image.size == (size, size):
        return image
    left, top = (size - image.width) // 2, (size - image.height) // 2
    if mode == "constant":
        canvas = Image.new("RGB", (size, size), (fill, fill, fill))
        canvas.paste(image, (left, top))
        return canvas
    reach = _mirror if mode == "reflection" else _clamp
    rows = reach(np.arange(-top, size - top), image.height)
    columns = reach(np.arange(-left, size - left), image.width)
    return Image.fromarray(np.asarray(image)[rows][:, columns])


def _resize_box(
    image: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int], filter_: str, *, antialias: bool
) -> Image.Image:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if (width, height) == size:
        return image if size == image.size else image.crop(box)
    if antialias:
        return image.resize(size, FILTERS[filter_], box=box)
    # Pillow's resize always antialiases; its affine transform samples points, which is what "no antialias" means
    place = (width / size[0], 0, left, 0, height / size[1], top)
    return image.transform(size, Image.Transform.AFFINE, place, FILTERS[filter_])


def _clamp(at: IntArray, length: int) -> IntArray:
    return at.clip(0, length - 1)


def _mirror(at: IntArray, length: int) -> IntArray:
    if length == 1:
        return np.zeros_like(at)
    period = 2 * (length - 1)  # there and back, the two ends once each
    at = at % period
    return np.minimum(at, period - at)


def _trim_strip(image: Image.Image, target: tuple[int, int], size: int) -> tuple[Image.Image, tuple[int, int]]:
    """A 1 x 60,000 picture would become 224 x 13 million pixels: keep the middle 8:1 of anything longer than that."""
    if max(target) <= MAX_STRIP * size:
        return image, target
    width, height = image.size
    if width > height:
        left = (width - MAX_STRIP * height) // 2
        return image.crop((left, 0, left + MAX_STRIP * height, height)), (MAX_STRIP * size, size)
    top = (height - MAX_STRIP * width) // 2
    return image.crop((0, top, width, top + MAX_STRIP * width)), (size, MAX_STRIP * size)
