"""Pictures of another kind than clothing: textile under a lens, photographs, digits, text, noise, one colour."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from bench.methods import find_textile
from drivetrain.arrays import FloatArray

_COUNT = 200  # of each kind that is drawn here
_SIDE = 224
_WORDS = (
    "ranger",
    "river",
    "bears",
    "the",
    "of",
    "a",
    "and",
    "weather",
    "north",
    "wrote",
    "page",
    "to",
    "counts",
    "with",
)

Draw = Callable[[np.random.Generator, int], Image.Image]


def make_foreign(folder: Path) -> dict[str, list[Path]]:
    """Files by kind, those drawn and cropped here in `folder`; a kind whose package is not installed is left out."""
    found = {kind: _write(folder / kind, draw) for kind, draw in _DRAWN.items()}
    textile = find_textile()
    if textile is not None:
        found["textile under a lens"] = sorted(textile.rglob("*.jpg"))
    photographs = _crop_photographs(folder / "photographs")
    if photographs:
        found["photographs of scikit-image"] = photographs
    return found


def _write(folder: Path, draw: Draw) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    files = [folder / f"{number:03}.png" for number in range(_COUNT)]
    for number, file in enumerate(files):
        draw(rng, number).convert("RGB").save(file)
    return files


def _crop_photographs(folder: Path) -> list[Path]:
    """The pictures that the package brings, and of the larger ones their quarters as well. Nothing is imported."""
    found = find_spec("skimage")
    if found is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for source in sorted((Path(str(found.origin)).parent / "data").iterdir()):
        try:
            with Image.open(source) as opened:
                image = opened.convert("RGB")
        except (UnidentifiedImageError, OSError):
            continue
        width, height = image.size
        boxes = [(0, 0, width, height)]
        if min(width, height) >= 200:
            halves = [(x * width // 2, y * height // 2) for x in (0, 1) for y in (0, 1)]
            boxes += [(x, y, x + width // 2, y + height // 2) for x, y in halves]
        for number, box in enumerate(boxes):
            files.append(folder / f"{source.stem}-{number}.png")
            image.crop(box).save(files[-1])
    return files


@cache
def _load_digits() -> FloatArray:
    """(n, 8, 8), 0 to 16."""
    from sklearn.datasets import load_digits

    digits: FloatArray = load_digits().images
    return digits


def _draw_digit(_rng: np.random.Generator, number: int) -> Image.Image:
    small = Image.fromarray((255 - 15.9 * _load_digits()[7 * number]).astype(np.uint8))
    return small.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC if number % 2 else Image.Resampling.NEAREST)


def _draw_text(rng: np.random.Generator, _number: int) -> Image.Image:
    width, height = (int(side) for side in rng.integers(300, 600, 2))
    red, green, blue = (int(value) for value in rng.integers(215, 256, 3))
    size, ink = int(rng.integers(10, 36)), int(rng.integers(0, 60))
    image = Image.new("RGB", (width, height), (red, green, blue))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for top in range(10, height, int(1.4 * size)):
        draw.text((10, top), " ".join(rng.choice(_WORDS, 12)), fill=(ink, ink, ink), font=font)
    return image


def _draw_noise(rng: np.random.Generator, number: int) -> Image.Image:
    shape = (_SIDE, _SIDE, 3)
    if number % 4 == 0:
        return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    if number % 4 == 1:
        return Image.fromarray(np.clip(rng.normal(127, rng.uniform(10, 60), shape), 0, 255).astype(np.uint8))
    if number % 4 == 2:
        return Image.fromarray(255 * rng.integers(0, 2, shape[:2], dtype=np.uint8))
    side = int(rng.integers(4, 60))
    clouds = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return clouds.resize(shape[:2], Image.Resampling.BICUBIC)


def _draw_flat(rng: np.random.Generator, number: int) -> Image.Image:
    """One colour; every fourth goes over into another from top to bottom."""
    first, last = rng.integers(0, 256, (2, 3))
    share = np.linspace(0, number % 4 == 3, _SIDE)[:, np.newaxis, np.newaxis]
    rows = (1 - share) * first + share * last
    return Image.fromarray(np.broadcast_to(rows, (_SIDE, _SIDE, 3)).astype(np.uint8))


_DRAWN: dict[str, Draw] = {
    "digits of scikit-learn": _draw_digit,
    "text": _draw_text,
    "noise": _draw_noise,
    "flat colours": _draw_flat,
}
