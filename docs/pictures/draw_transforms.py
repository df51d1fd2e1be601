"""Draw the figures of docs/transforms.md with the transforms themselves.

python docs/pictures/draw_transforms.py        writes the PNGs beside this file
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from draw import draw_scene
from PIL import Image, ImageDraw, ImageFont

from drivetrain import CropPad, FlipItem, RandomResizedCrop, Resize, ResizeMethod
from drivetrain.data.transforms import ItemTransform
from drivetrain.imaging.preprocess import PictureOps

__all__ = ["FIGURES", "write_figures"]

HERE = Path(__file__).parent
SIDE = 160
_GAP, _CAPTION = 14, 24
_INK, _PAPER = (40, 44, 52), (255, 255, 255)

Tile = tuple[str, Image.Image]


def train(transform: ItemTransform, image: Image.Image, seed: int = 0) -> Image.Image:
    """One draw of the training form."""
    return transform(image, np.random.default_rng(seed))


def valid(transform: ItemTransform, image: Image.Image) -> Image.Image:
    """The form of validation."""
    return PictureOps([{"op": "decode", "mode": "RGB", "jpeg_min_side": None}, *transform.valid_ops()]).from_image(
        image
    )


def lay_out(*rows: Sequence[Tile]) -> Image.Image:
    """Rows of pictures, each under its caption; pictures of a row may differ in size."""
    font = ImageFont.load_default(13)
    wide = [[max(image.width, round(font.getlength(caption))) for caption, image in row] for row in rows]
    high = [max(image.height for _, image in row) + _CAPTION for row in rows]
    width = max(sum(row) + _GAP * (len(row) + 1) for row in wide)
    sheet = Image.new("RGB", (width, sum(high) + _GAP * (len(rows) + 1)), _PAPER)
    brush, top = ImageDraw.Draw(sheet), _GAP
    for row, widths, height in zip(rows, wide, high, strict=True):
        left = _GAP
        for (caption, image), tile in zip(row, widths, strict=True):
            brush.text((left, top), caption, fill=_INK, font=font)
            sheet.paste(image, (left, top + _CAPTION))
            left += tile + _GAP
        top += height + _GAP
    return sheet


def draw_four() -> Image.Image:
    """The four ways to a square, on one picture."""
    picture = draw_scene(2, "grizzly")
    ways = [
        ("Squish", Resize(SIDE, ResizeMethod.Squish)),
        ("Crop (the middle)", Resize(SIDE)),
        ("Pad, zeros", Resize(SIDE, ResizeMethod.Pad, pad_mode="zeros")),
    ]
    random_crop = ("RandomResizedCrop", train(RandomResizedCrop(SIDE, min_scale=0.3), picture, 4))
    whole = picture.resize((SIDE * 3 // 2, SIDE), Image.Resampling.LANCZOS)
    return lay_out(
        [("the picture, 480 x 320", whole), *((name, valid(way, picture)) for name, way in ways), random_crop]
    )


def draw_random_crops() -> Image.Image:
    """Nine draws of RandomResizedCrop, and what validation sees."""
    picture, crop = draw_scene(2, "grizzly"), RandomResizedCrop(SIDE, min_scale=0.3)
    draws = [(f"epoch {at + 1}", train(crop, picture, at)) for at in range(9)]
    return lay_out(draws[:5], [*draws[5:], ("validation, always", valid(crop, picture))])


def draw_pad_modes() -> Image.Image:
    """What stands beside a padded picture, and beside one that is less than half the square."""
    picture, strip = draw_scene(1, "black"), draw_scene(1, "black").crop((0, 130, 480, 270))
    modes = ("zeros", "border", "reflection")
    return lay_out(
        [(mode, valid(Resize(SIDE, ResizeMethod.Pad, mode), picture)) for mode in modes],
        [(f"{mode}, a long picture", valid(Resize(SIDE, ResizeMethod.Pad, mode), strip)) for mode in modes],
    )


def draw_crop_pad() -> Image.Image:
    """CropPad at its picture's own scale, and FlipItem."""
    small = draw_scene(0, "teddy").resize((150, 100), Image.Resampling.LANCZOS)
    squish = Resize(SIDE, ResizeMethod.Squish)
    turned = valid(squish, draw_scene(0, "teddy"))
    return lay_out(
        [
            ("150 x 100", small),
            ("CropPad(90)", valid(CropPad(90), small)),
            ("CropPad(160)", valid(CropPad(SIDE), small)),
            ('CropPad(160, "reflection")', valid(CropPad(SIDE, "reflection"), small)),
        ],
        [("before FlipItem", turned), ("after", train(FlipItem(1.0), turned))],
    )


FIGURES: dict[str, Callable[[], Image.Image]] = {
    "item_transforms.png": draw_four,
    "random_resized_crop.png": draw_random_crops,
    "pad_modes.png": draw_pad_modes,
    "crop_pad_flip.png": draw_crop_pad,
}


def write_figures(folder: Path) -> None:
    """Every figure, as a PNG of few colours: a tenth of the bytes, and no difference that an eye would see."""
    for name, draw in FIGURES.items():
        draw().quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(folder / name, optimize=True)


if __name__ == "__main__":
    write_figures(HERE)
