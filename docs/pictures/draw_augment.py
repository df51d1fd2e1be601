"""Draw the figures of docs/augment.md with the transforms themselves.

python docs/pictures/draw_augment.py        writes the PNGs beside this file
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from draw import draw_scene
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from drivetrain import (
    Brightness,
    Contrast,
    Dihedral,
    Flip,
    RandomResizedCropGPU,
    Rotate,
    Saturation,
    Warp,
    Zoom,
    aug_transforms,
)
from drivetrain.learn.augment import BatchTransform

__all__ = ["FIGURES", "write_figures"]

HERE = Path(__file__).parent
SIDE = 128
_GAP, _CAPTION = 8, 22
_ALL_EIGHT, _UPSIDE_DOWN = 201, 179  # seeds: Dihedral draws each way once; Rotate(180) draws 180
_INK, _PAPER, _GOOD, _BAD = (40, 44, 52), (255, 255, 255), (46, 125, 50), (198, 40, 40)


def to_batch(images: Sequence[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float() / 255


def to_images(batch: Tensor) -> list[Image.Image]:
    pixels = (batch * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def transform(tfms: Sequence[BatchTransform], images: Sequence[Image.Image], *, seed: int = 0) -> list[Image.Image]:
    batch, rng = to_batch(images), torch.Generator().manual_seed(seed)
    for tfm in tfms:
        batch = tfm(batch, rng)
    return to_images(batch)


def eight_up(*tfms: BatchTransform, kind: str = "teddy", seed: int = 0) -> Image.Image:
    """Eight draws for one picture."""
    return in_rows([transform(tfms, [square(kind)] * 8, seed=seed)])


def square(kind: str) -> Image.Image:
    return draw_scene(3, kind, size=(480, 480)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def in_rows(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    step = SIDE + _GAP
    sheet = Image.new("RGB", (step * len(rows[0]) - _GAP, step * len(rows) - _GAP), _PAPER)
    for down, row in enumerate(rows):
        for across, image in enumerate(row):
            sheet.paste(image, (across * step, down * step))
    return sheet


def draw_pad_modes() -> Image.Image:
    """What stands beyond the edge: one zoom out, three ways."""
    tiles = {}
    for mode in ("zeros", "border", "reflection"):
        zoom = Zoom(0.6, 0.6, 1.0, pad_mode=mode)
        tiles[mode] = transform([zoom], [square("teddy")], seed=4)[0]
    return captioned([(mode, tile, _INK) for mode, tile in tiles.items()])


def draw_harm() -> Image.Image:
    """Pairs: a picture, and what a transform makes of its label."""
    pairs: list[tuple[str, Image.Image, str, BatchTransform]] = [
        ("6", glyph("6"), "Rotate(180)", Rotate(180, 1.0, pad_mode="border")),
        ("b", glyph("b"), "Flip", Flip(1.0)),
        ("turn right", arrow(), "Flip", Flip(1.0)),
        ("a quarter past", dial(), "Flip", Flip(1.0)),
    ]
    tiles = []
    for label, picture, name, tfm in pairs:
        tiles += [(label, picture, _GOOD), (name, transform([tfm], [picture], seed=_UPSIDE_DOWN)[0], _BAD)]
    return captioned(tiles)


def captioned(tiles: Sequence[tuple[str, Image.Image, tuple[int, int, int]]]) -> Image.Image:
    step = SIDE + _GAP
    sheet = Image.new("RGB", (step * len(tiles) - _GAP, SIDE + _CAPTION), _PAPER)
    brush, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for at, (caption, image, colour) in enumerate(tiles):
        brush.text((at * step + SIDE / 2, 2), caption, fill=colour, font=font, anchor="ma")
        sheet.paste(image, (at * step, _CAPTION))
    return sheet


def sign() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (SIDE, SIDE), (236, 239, 244))
    return image, ImageDraw.Draw(image)


def glyph(text: str) -> Image.Image:
    image, brush = sign()
    brush.text((SIDE / 2, SIDE / 2), text, fill=_INK, font=ImageFont.load_default(96), anchor="mm")
    return image


def arrow() -> Image.Image:
    image, brush = sign()
    brush.ellipse((14, 14, SIDE - 14, SIDE - 14), fill=(33, 98, 176))
    brush.line((34, 64, 78, 64), fill="white", width=12)
    brush.polygon([(72, 40), (72, 88), (100, 64)], fill="white")
    return image


def dial() -> Image.Image:
    image, brush = sign()
    middle = SIDE / 2
    brush.ellipse((12, 12, SIDE - 12, SIDE - 12), fill="white", outline=_INK, width=4)
    for hour in range(12):
        angle = hour * np.pi / 6
        near, far = (40, 46) if hour % 3 else (34, 46)
        ends = [middle + r * f(angle) for r in (near, far) for f in (np.sin, np.cos)]
        brush.line(ends, fill=_INK, width=3)
    brush.line((middle, middle, middle + 38, middle), fill=_INK, width=4)
    brush.line((middle, middle, middle + 5, middle - 24), fill=(198, 40, 40), width=6)
    return image


FIGURES: dict[str, Callable[[], Image.Image]] = {
    "augment-all": lambda: in_rows(
        [transform(aug_transforms(), [square(kind)] * 8, seed=1) for kind in ("grizzly", "teddy")]
    ),
    "augment-mult2": lambda: eight_up(*aug_transforms(mult=2), seed=2),
    "augment-flip": lambda: eight_up(Flip()),
    "augment-dihedral": lambda: eight_up(Dihedral(p=1.0), seed=_ALL_EIGHT),
    "augment-rotate": lambda: eight_up(Rotate(10, 1.0)),
    "augment-zoom": lambda: eight_up(Zoom(1.0, 1.5, 1.0), seed=1),
    "augment-warp": lambda: eight_up(Warp(0.2, 1.0), seed=1),
    "augment-brightness": lambda: eight_up(Brightness(0.4, 1.0)),
    "augment-contrast": lambda: eight_up(Contrast(0.4, 1.0)),
    "augment-saturation": lambda: eight_up(Saturation(0.6, 1.0)),
    "augment-crop": lambda: eight_up(RandomResizedCropGPU(SIDE, 0.3)),
    "augment-pad": draw_pad_modes,
    "augment-harm": draw_harm,
}


def write_figures(folder: Path) -> list[Path]:
    """Every figure as a PNG of few colours; the paths written."""
    paths = []
    for name, draw in FIGURES.items():
        path = folder / f"{name}.png"
        draw().quantize(128, method=Image.Quantize.MEDIANCUT).save(path, optimize=True)
        paths.append(path)
    return paths


if __name__ == "__main__":
    write_figures(HERE)
