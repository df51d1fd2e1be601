"""Pictures made worse as the world makes them: night, a cheap camera, a branch before the lens.

Nine kinds, five strengths each. All lengths are shares of the shorter side, so that a strength looks alike at any
size. What is drawn by chance comes from the picture's digest and a seed, and is the same at all strengths: each one
is the last made worse.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput

__all__ = ["CORRUPTIONS", "STRENGTHS", "corrupt"]

STRENGTHS = 5
# kind -> what it is, for a person
CORRUPTIONS = {
    "night": "little light, noise and faint colour",
    "low_resolution": "few pixels",
    "blur": "out of focus",
    "noise": "a noisy sensor",
    "compression": "saved as a small JPEG",
    "occlusion": "a part is covered",
    "off_centre": "the subject at the edge",
    "small_subject": "the subject far away",
    "grey": "without colour",
}

_LIGHT = (0.35, 0.16, 0.08, 0.04, 0.02)  # night: share of the light that is left
_FADE = (0.15, 0.3, 0.45, 0.6, 0.75)  # night: share of the colour that is lost
_SHOT, _READ = 0.012, 0.004  # night: noise at full light, and of the sensor itself, of linear light in 0 to 1
_SHORT = (0.4, 0.25, 0.16, 0.11, 0.075)  # low resolution: share of the pixels of a side
_SIGMA = (0.005, 0.01, 0.018, 0.03, 0.045)  # blur: of the shorter side
_NOISE = (0.04, 0.08, 0.14, 0.22, 0.35)  # noise: standard deviation, of the range of a value
_QUALITY = (25, 16, 10, 6, 3)  # compression: JPEG's own scale
_COVERED = (0.08, 0.16, 0.26, 0.38, 0.5)  # occlusion: share of the area
_SHIFT = (0.08, 0.16, 0.24, 0.32, 0.4)  # off centre: of each side
_SCALE = (0.7, 0.5, 0.36, 0.26, 0.18)  # small subject: of each side
_GREY = (0.3, 0.55, 0.75, 0.9, 1.0)  # grey: share of the colour that is lost
_FINE = 1 << 14  # steps of linear light: finer than those of a byte, at the dark end too

_Corruption = Callable[[Image.Image, int, np.random.Generator], Image.Image]


def corrupt(image: Image.Image, kind: str, strength: int, *, digest: bytes, seed: int = 0) -> Image.Image:
    """A copy of an 8-bit RGB picture made worse; `kind` is one of CORRUPTIONS, `strength` 1 to 5, 0 changes nothing.

    digest names the picture (its file's sha256, say): the same digest, seed and pixels give the same pixels. Low
    resolution gives fewer pixels, all others as many as before. Raises InvalidInput.
    """
    if kind not in _DO:
        raise InvalidInput("corruption", got=kind, want="one of " + ", ".join(CORRUPTIONS))
    if not 0 <= strength <= STRENGTHS:
        raise InvalidInput("strength", got=strength, want=f"0 to {STRENGTHS}")
    if image.mode != "RGB" or 0 in image.size:
        raise InvalidInput("image", got=f"{image.mode} {image.size}", want="an RGB picture of one pixel at least")
    if strength == 0:
        return image.copy()
    drawn = hashlib.sha256(b"\0".join([kind.encode(), str(seed).encode(), digest])).digest()
    rng = np.random.default_rng(np.frombuffer(drawn, dtype=np.uint32))
    return _DO[kind](image, strength - 1, rng)


def _darken(image: Image.Image, at: int, rng: np.random.Generator) -> Image.Image:
    values = _linear(image) * _LIGHT[at]
    noise = rng.standard_normal(values.shape, dtype=np.float32)
    noisy = values + noise * np.sqrt(np.float32(_SHOT**2) * values + np.float32(_READ**2))
    return _lose_colour(_from_linear(noisy), _FADE[at])


def _drop_pixels(image: Image.Image, at: int, _: np.random.Generator) -> Image.Image:
    size = tuple(max(1, round(side * _SHORT[at])) for side in image.size)
    return image.resize(size, Image.Resampling.BOX)  # type: ignore[arg-type]  # two numbers


def _blur(image: Image.Image, at: int, _: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(_SIGMA[at] * min(image.size)))


def _add_noise(image: Image.Image, at: int, rng: np.random.Generator) -> Image.Image:
    values = np.asarray(image, dtype=np.float32)
    return _to_image(values + 255 * _NOISE[at] * rng.standard_normal(values.shape, dtype=np.float32))


def _compress(image: Image.Image, at: int, _: np.random.Generator) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY[at], subsampling=2)
    with Image.open(out, formats=["JPEG"]) as read:
        return read.convert("RGB")


def _cover(image: Image.Image, at: int, rng: np.random.Generator) -> Image.Image:
    """A plain patch, in the colour of the picture on average; a stronger one holds the weaker."""
    side = _COVERED[at] ** 0.5
    width, height = (max(1, round(length * side)) for length in image.size)
    across, down = rng.uniform(0.3, 0.7, 2)  # so that it meets the subject
    corner = round(across * (image.width - width)), round(down * (image.height - height))
    colour = tuple(int(value) for value in np.asarray(image, dtype=np.float32).mean(axis=(0, 1)).round())
    covered = image.copy()
    covered.paste(colour, (*corner, corner[0] + width, corner[1] + height))
    return covered


def _push_aside(image: Image.Image, at: int, rng: np.random.Generator) -> Image.Image:
    angle = rng.uniform(0, 2 * np.pi)
    steps = (round(_SHIFT[at] * length * turn) for length, turn in zip(image.size, _both(angle), strict=True))
    return _place(image, tuple(steps))  # type: ignore[arg-type]  # two numbers


def _move_away(image: Image.Image, at: int, _: np.random.Generator) -> Image.Image:
    width, height = (max(1, round(length * _SCALE[at])) for length in image.size)
    small = image.resize((width, height), Image.Resampling.BOX if _SCALE[at] < 0.5 else Image.Resampling.BILINEAR)
    return _place(small, ((image.width - width) // 2, (image.height - height) // 2), size=image.size)


def _drop_colour(image: Image.Image, at: int, _: np.random.Generator) -> Image.Image:
    return _lose_colour(image, _GREY[at])


_DO: dict[str, _Corruption] = {
    "night": _darken,
    "low_resolution": _drop_pixels,
    "blur": _blur,
    "noise": _add_noise,
    "compression": _compress,
    "occlusion": _cover,
    "off_centre": _push_aside,
    "small_subject": _move_away,
    "grey": _drop_colour,
}


def _both(angle: float) -> tuple[float, float]:
    """A direction; its longer part is 1, so that all are as far."""
    across, down = np.cos(angle), np.sin(angle)
    longest = max(abs(across), abs(down))
    return float(across / longest), float(down / longest)


def _place(image: Image.Image, corner: tuple[int, int], *, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture on a ground of `size` (its own), its upper left at `corner`; beyond its edge the edge goes on."""
    width, height = size or image.size
    rows = np.clip(np.arange(height) - corner[1], 0, image.height - 1)
    columns = np.clip(np.arange(width) - corner[0], 0, image.width - 1)
    ground = Image.fromarray(np.asarray(image)[rows[:, None], columns[None]])
    ground = ground.filter(ImageFilter.GaussianBlur(0.03 * min(width, height)))  # edges drawn out are stripes
    ground.paste(image, corner)
    return ground


def _lose_colour(image: Image.Image, share: float) -> Image.Image:
    return Image.blend(image, image.convert("L").convert("RGB"), share)


def _linear(image: Image.Image) -> FloatArray:
    """(h, w, 3) linear light in 0 to 1. Source: IEC 61966-2-1, sRGB."""
    table = np.arange(256, dtype=np.float32) / 255
    table = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4).astype(np.float32)
    light: FloatArray = table[np.asarray(image)]
    return light


def _from_linear(light: FloatArray) -> Image.Image:
    steps = np.linspace(0, 1, _FINE, dtype=np.float32)  # a table: powers of a picture's every value take longest
    bent = np.where(steps <= 0.0031308, 12.92 * steps, 1.055 * steps ** (1 / 2.4) - 0.055)
    table = np.rint(255 * bent).astype(np.uint8)
    return Image.fromarray(table[np.rint(np.clip(light, 0, 1) * (_FINE - 1)).astype(np.int32)])


def _to_image(values: FloatArray) -> Image.Image:
    """Of (h, w, 3) values in 0 to 255; what is beyond is cut."""
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
