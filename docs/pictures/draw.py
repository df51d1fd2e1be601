"""Draw pictures for the documentation: bears of our own making, free of anyone's rights.

`draw_scene` gives the same picture for the same seed and kind; the scripts beside this file make figures of it.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["KINDS", "draw_scene"]

KINDS = ("grizzly", "black", "teddy")
_FINE = 3  # drawn so many times larger, then reduced: smooth edges

Colour = tuple[int, int, int]
Point = tuple[float, float]

_FUR: dict[str, tuple[Colour, Colour, Colour]] = {  # coat, lighter parts, ears and paws
    "grizzly": ((121, 78, 44), (165, 116, 70), (92, 57, 31)),
    "black": ((43, 41, 48), (120, 96, 76), (28, 27, 33)),
    "teddy": ((214, 160, 92), (243, 213, 164), (186, 130, 66)),
}


def draw_scene(seed: int, kind: str, *, size: tuple[int, int] = (480, 320)) -> Image.Image:
    """A bear of `kind` (KINDS) in front of mountains, 8-bit RGB; seed varies the light, the land, and where it stands.

    Something stands at each edge (sun, tree, signpost, flowers), so that what a crop loses can be seen.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    width, height = size[0] * _FINE, size[1] * _FINE
    image = _sky(width, height, rng)
    brush = ImageDraw.Draw(image)
    unit = height / 320  # what follows is measured in pixels of a picture 320 high
    _sun(brush, (rng.uniform(30, 70) * unit, rng.uniform(36, 60) * unit), 22 * unit)
    for centre in (0.34, 0.62, 0.86):
        _cloud(brush, (centre + rng.uniform(-0.06, 0.06)) * width, rng.uniform(24, 58) * unit, unit)
    _mountains(brush, width, height, rng)
    _meadow(brush, width, height, rng)
    _trees(brush, width, unit, rng)
    _signpost(brush, rng.uniform(30, 48) * unit, 262 * unit, unit)
    _flowers(brush, width, height, unit, rng)
    place = rng.uniform(0.4, 0.6) * width, 226 * unit
    (_teddy if kind == "teddy" else _bear)(brush, place, unit * rng.uniform(0.95, 1.15), _FUR[kind], rng)
    return image.resize(size, Image.Resampling.LANCZOS)


def _sky(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    hue = rng.uniform(0.54, 0.6)
    top, bottom = (np.array(colorsys.hsv_to_rgb(hue, s, v)) * 255 for s, v in ((0.5, 0.9), (0.12, 1.0)))
    rows = np.linspace(0, 1, height)[:, None] ** 0.8
    column = top * (1 - rows) + bottom * rows  # (h, 3)
    return Image.fromarray(np.repeat(column[:, None], width, axis=1).round().astype(np.uint8))


def _sun(brush: ImageDraw.ImageDraw, centre: Point, radius: float) -> None:
    for turn in range(12):
        angle = turn * math.tau / 12
        ends = [
            (centre[0] + math.cos(angle) * radius * reach, centre[1] + math.sin(angle) * radius * reach)
            for reach in (1.25, 1.6)
        ]
        brush.line(ends, fill=(255, 206, 84), width=round(radius / 6))
    _disc(brush, centre, radius, (255, 214, 102))


def _cloud(brush: ImageDraw.ImageDraw, x: float, y: float, unit: float) -> None:
    for dx, dy, radius in ((-24, 5, 11), (-8, -2, 15), (10, -1, 13), (26, 6, 10)):
        _disc(brush, (x + dx * unit, y + dy * unit), radius * unit, (255, 255, 255))
    brush.rounded_rectangle(
        (x - 34 * unit, y + 3 * unit, x + 36 * unit, y + 16 * unit), radius=7 * unit, fill=(255, 255, 255)
    )


def _mountains(brush: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    far, near = (137, 152, 186), (102, 118, 150)
    for colour, base, heights in ((far, 0.62, (0.3, 0.42)), (near, 0.66, (0.18, 0.3))):
        at = -0.1
        while at < 1.05:
            wide, high = rng.uniform(0.3, 0.42), rng.uniform(*heights)
            peak = (at + wide / 2) * width, (base - high) * height
            left, right = (at * width, base * height), ((at + wide) * width, base * height)
            brush.polygon([left, peak, right], fill=colour)
            snow = 0.26
            foot_left, foot_right = (_between(peak, end, snow) for end in (left, right))
            third = (foot_right[0] - foot_left[0]) / 4
            teeth = [(foot_right[0] - third * k, foot_right[1] - (k % 2) * high * height * 0.09) for k in range(1, 4)]
            brush.polygon([foot_left, peak, foot_right, *teeth], fill=(245, 247, 252))
            at += wide * rng.uniform(0.5, 0.7)


def _meadow(brush: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    x = np.linspace(0, 1, 60)
    for level, colour in ((0.62, (126, 176, 104)), (0.72, (104, 158, 86)), (0.86, (86, 140, 74))):
        y = level + 0.018 * np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6))
        edge = list(zip((x * width).tolist(), (y * height).tolist(), strict=True))
        brush.polygon([(0, height), *edge, (width, height)], fill=colour)


def _trees(brush: ImageDraw.ImageDraw, width: int, unit: float, rng: np.random.Generator) -> None:
    for share, foot, tall in ((0.8, 214, 62), (0.88, 228, 84), (0.955, 252, 118)):
        x, y = (share + rng.uniform(-0.012, 0.012)) * width, foot * unit
        high = tall * unit * rng.uniform(0.9, 1.1)
        brush.rectangle((x - high * 0.04, y - high * 0.15, x + high * 0.04, y), fill=(104, 74, 52))
        for tier in range(3):
            low, wide = y - high * (0.12 + 0.24 * tier), high * (0.26 - 0.055 * tier)
            brush.polygon(
                [(x - wide, low), (x, low - high * 0.42), (x + wide, low)], fill=(46 + 9 * tier, 96 + 12 * tier, 66)
            )


def _signpost(brush: ImageDraw.ImageDraw, x: float, y: float, unit: float) -> None:
    brush.rectangle((x - 3 * unit, y - 58 * unit, x + 3 * unit, y), fill=(124, 88, 58))
    for up, colour, points_left in ((54, (214, 90, 72), True), (36, (236, 183, 84), False)):
        top, low = y - up * unit, y - (up - 14) * unit
        tip, end = (x - 24 * unit, x + 16 * unit) if points_left else (x + 26 * unit, x - 14 * unit)
        neck = tip + (7 if points_left else -7) * unit
        brush.polygon([(tip, (top + low) / 2), (neck, top), (end, top), (end, low), (neck, low)], fill=colour)


def _flowers(brush: ImageDraw.ImageDraw, width: int, height: int, unit: float, rng: np.random.Generator) -> None:
    for _ in range(26):
        x, y = rng.uniform(0.01, 0.99) * width, rng.uniform(0.9, 0.985) * height
        colour = [(250, 246, 240), (247, 205, 82), (226, 118, 148)][int(rng.integers(3))]
        for turn in range(5):
            angle = turn * math.tau / 5
            _disc(brush, (x + math.cos(angle) * 2.6 * unit, y + math.sin(angle) * 2.6 * unit), 2 * unit, colour)
        _disc(brush, (x, y), 1.6 * unit, (232, 160, 60))


def _bear(brush: ImageDraw.ImageDraw, at: Point, unit: float, fur: Sequence[Colour], rng: np.random.Generator) -> None:
    """On four legs, seen from the side, its head to the left or to the right."""
    coat, light, dark = fur
    way = 1 if rng.random() < 0.5 else -1

    def spot(dx: float, dy: float) -> Point:
        return at[0] + way * dx * unit, at[1] + dy * unit

    def blob(dx: float, dy: float, rx: float, ry: float, colour: Colour) -> None:
        x, y = spot(dx, dy)
        brush.ellipse((x - rx * unit, y - ry * unit, x + rx * unit, y + ry * unit), fill=colour)

    blob(4, 66, 84, 9, (78, 128, 68))  # shadow
    for dx in (-30, 52):  # the legs on the far side
        blob(dx, 38, 15, 28, dark)
    blob(8, 0, 74, 42, coat)
    blob(-34, -16, 34, 32, coat)  # the hump of its shoulders
    for dx in (-46, 64):
        blob(dx, 36, 17, 30, coat)
        blob(dx - 4, 62, 17, 7, dark)
    blob(80, -8, 8, 8, coat)  # tail
    for dx in (-66, -92):
        blob(dx, -54, 12, 12, coat)
        blob(dx, -53, 6, 6, dark)
    blob(-78, -28, 33, 30, coat)
    blob(-96, -16, 19, 15, light)
    blob(-109, -21, 7, 5.5, (24, 20, 22))
    for dx in (-92, -72):
        blob(dx, -36, 4, 4, (24, 20, 22))
        blob(dx - 1, -37.5, 1.4, 1.4, (255, 255, 255))
    x, y = spot(-99, -12)
    brush.arc((x - 9 * unit, y - 6 * unit, x + 9 * unit, y + 6 * unit), 20, 160, fill=dark, width=round(2 * unit))


def _teddy(brush: ImageDraw.ImageDraw, at: Point, unit: float, fur: Sequence[Colour], rng: np.random.Generator) -> None:
    """Sitting, seen from the front, with a bow."""
    coat, light, dark = fur
    bow = [(206, 66, 74), (70, 112, 184), (120, 84, 160)][int(rng.integers(3))]

    def blob(dx: float, dy: float, rx: float, ry: float, colour: Colour) -> None:
        x, y = at[0] + dx * unit, at[1] + dy * unit
        brush.ellipse((x - rx * unit, y - ry * unit, x + rx * unit, y + ry * unit), fill=colour)

    blob(0, 64, 72, 10, (78, 128, 68))
    for side in (-1, 1):
        blob(side * 48, 14, 15, 28, coat)
        blob(side * 51, 36, 13, 11, dark)
    blob(0, 24, 44, 44, coat)
    blob(0, 30, 28, 30, light)
    for side in (-1, 1):
        blob(side * 40, 54, 23, 20, coat)
        blob(side * 43, 56, 13, 12, light)
        blob(side * 34, -72, 17, 17, coat)
        blob(side * 34, -71, 9, 9, dark)
    blob(0, -42, 46, 41, coat)
    blob(0, -28, 21, 17, light)
    blob(0, -36, 8, 6, (44, 30, 26))
    for side in (-1, 1):
        blob(side * 18, -50, 5, 5.5, (44, 30, 26))
        blob(side * 18 - 1.5, -52, 1.7, 1.7, (255, 255, 255))
    x, y = at[0], at[1] - 27 * unit
    brush.arc((x - 9 * unit, y - 6 * unit, x + 9 * unit, y + 7 * unit), 20, 160, fill=dark, width=round(2.2 * unit))
    y = at[1] + 2 * unit
    for side in (-1, 1):
        brush.polygon([(x, y), (x + side * 22 * unit, y - 11 * unit), (x + side * 22 * unit, y + 11 * unit)], fill=bow)
    _disc(brush, (x, y), 6 * unit, bow)


def _disc(brush: ImageDraw.ImageDraw, centre: Point, radius: float, colour: Colour) -> None:
    x, y = centre
    brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
