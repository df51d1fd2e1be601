"""Augmented views of pictures: a random part, perhaps mirrored, under another light; and their trunk features, cached.

A view is drawn by (seed, number of the view, sha256 of the picture's file) and by nothing else: neither the folder nor
the order nor the number of threads changes one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray, PixelArray
from drivetrain.data.transforms import RandomResizedCrop
from drivetrain.errors import Conflict, InvalidConfig, InvalidInput
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn, decode_picture
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.preprocess import Op, Preprocess
from drivetrain.progress import Progress

from .feature_cache import FeatureCache
from .features import FrozenTrunk
from .parallel import callers_for, map_in_order
from .session import Session

__all__ = ["ViewRecipe", "decode_for_views", "draw_view", "extract_views", "seed_view"]

_VERSION = 1  # raise it when the same draws give other pixels: features of older versions are then left alone
_COMMIT_EVERY = 128  # pictures
_EDGE = 1e-7  # of [0, 1]: black and white themselves have no finite logit


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRecipe:
    """How far a view may be from its picture. Raises InvalidConfig."""

    min_scale: float = 0.35  # the least share of the picture's area that a view shows
    flip: bool = True  # mirrored left for right, half of the time
    light: float = 0.2  # 0: as it is; else brightness and contrast as in `aug_transforms(max_lighting=light)`
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise InvalidConfig(
                "min_scale", got=self.min_scale, want="a share of the picture's area, above 0 and at most 1"
            )
        if not 0 <= self.light < 1:
            raise InvalidConfig("light", got=self.light, want="a number from 0 to below 1")
        if self.seed < 0:
            raise InvalidConfig("seed", got=self.seed, want="a whole number of at least 0")

    def name_view(self, view: int) -> str:
        """Everything that a view's draws depend on besides its picture."""
        return f"view:{_VERSION}:{float(self.min_scale)!r}:{self.flip}:{float(self.light)!r}:{self.seed}:{view}"


def seed_view(sha256: bytes, view: int, recipe: ViewRecipe) -> np.random.Generator:
    """The generator of one view of one picture; the same draws for the same picture, wherever it lies."""
    return np.random.default_rng([recipe.seed, view, int.from_bytes(sha256, "big")])


def decode_for_views(
    data: bytes, *, name: str, limits: DecodeLimits, preprocess: Preprocess, recipe: ViewRecipe
) -> Image.Image:
    """8-bit RGB as its camera held it, as small as may be without a view being enlarged more than at full size.

    Raises UnreadablePicture.
    """
    side = _crop_of(preprocess.size, recipe.min_scale).min_side()
    image = apply_exif_turn(decode_picture(data, name=name, limits=limits, min_side=side))
    factor = min(image.size) // side if side is not None else 1
    return image.reduce(factor) if factor > 1 else image  # what is no JPEG was decoded at full size


def draw_view(
    picture: Image.Image | PixelArray, preprocess: Preprocess, rng: np.random.Generator, recipe: ViewRecipe
) -> FloatArray:
    """One view as the network reads it: float32 (3, size, size), under the preprocessing's own mean and std.

    picture is decoded: 8-bit RGB, or uint8 (h, w, 3). Without draws that change it, a picture of size x size pixels
    comes out bit for bit as `preprocess` gives it. Some 1.5 ms from 400 x 533 to 224 pixels.
    """
    image = picture if isinstance(picture, Image.Image) else _image_of(picture)
    is_mirrored, brightness, contrast = rng.random(), rng.uniform(-1, 1), rng.uniform(-1, 1)
    image = _crop_of(preprocess.size, recipe.min_scale)(image, rng)  # last: it takes as many draws as it needs
    if recipe.flip and is_mirrored < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    numbers = _number_table(preprocess)
    if recipe.light > 0:
        numbers = _relight(numbers, brightness * recipe.light, contrast * -math.log(1 - recipe.light))
    pixels = np.asarray(image)
    out = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    for channel in range(3):
        np.take(numbers[channel], pixels[:, :, channel], out=out[channel], mode="clip")  # "raise" would copy first
    return out


def extract_views(
    files: Sequence[Path],
    digests: Sequence[bytes],
    *,
    trunk: FrozenTrunk,
    recipe: ViewRecipe,
    count: int,
    cache: FeatureCache,
    threads: int,
    limits: DecodeLimits,
    progress: Progress,
) -> FloatArray:
    """Frozen features (count, n, feature_count) float32 of views 0 to count - 1 of `files`, whose sha256 is `digests`.

    A picture of which the cache lacks a view is decoded once, however many it lacks. Ctrl-C keeps what was done.
    Raises UnreadablePicture, or Conflict for a file that is no longer the one with that digest.
    """
    if len(digests) != len(files):
        raise InvalidInput("digests", got=f"{len(digests)} of {len(files)} files", want="the sha256 of each file")
    recipes = [_name_feature(trunk, recipe, view) for view in range(count)]
    views = np.empty((count, len(files), trunk.feature_count), dtype=np.float32)
    rows: dict[bytes, list[int]] = {}  # copies of one file have the same views
    for row, digest in enumerate(digests):
        rows.setdefault(digest, []).append(row)
    lacking: dict[bytes, list[int]] = {}
    for view, feature in enumerate(recipes):
        found = cache.features(feature, rows, feature_count=trunk.feature_count)
        for digest, at in rows.items():
            if digest in found:
                views[view, at] = found[digest]
            else:
                lacking.setdefault(digest, []).append(view)
    if not lacking:
        return views
    session = Session(trunk.model)

    def work(job: tuple[bytes, list[int]]) -> list[FloatArray]:
        digest, wanted = job
        picture = _read_again(files[rows[digest][0]], digest, preprocess=trunk.preprocess, recipe=recipe, limits=limits)
        drawn = (draw_view(picture, trunk.preprocess, seed_view(digest, view, recipe), recipe) for view in wanted)
        return [session.run(["frozen"], pixels[np.newaxis])[0][0] for pixels in drawn]

    with progress.task("Drawing views", total=len(lacking)) as advance:
        results = map_in_order(work, lacking.items(), threads=callers_for(threads))
        for digest, vectors in _keep(results, lacking, recipes, cache):
            for view, vector in zip(lacking[digest], vectors, strict=True):
                views[view, rows[digest]] = vector
            advance(1)
    return views


def _keep(
    results: Generator[list[FloatArray], None, None],
    lacking: dict[bytes, list[int]],
    recipes: Sequence[bytes],
    cache: FeatureCache,
) -> Generator[tuple[bytes, list[FloatArray]], None, None]:
    """Hand the results on as they come; whatever ends this, they are in the cache."""
    pending: dict[bytes, list[tuple[bytes, FloatArray]]] = {recipe: [] for recipe in recipes}
    try:
        for at, (digest, vectors) in enumerate(zip(lacking, results, strict=True), start=1):
            for view, vector in zip(lacking[digest], vectors, strict=True):
                pending[recipes[view]].append((digest, vector))
            if at % _COMMIT_EVERY == 0:
                cache.add_together(pending, ())
                pending = {recipe: [] for recipe in recipes}
            yield digest, vectors
    finally:
        results.close()
        cache.add_together(pending, ())


def _name_feature(trunk: FrozenTrunk, recipe: ViewRecipe, view: int) -> bytes:
    """The cache's recipe: preprocessing, weights and all that a view's draws depend on."""
    return hashlib.sha256(trunk.recipe + recipe.name_view(view).encode()).digest()


def _read_again(
    file: Path, sha256: bytes, *, preprocess: Preprocess, recipe: ViewRecipe, limits: DecodeLimits
) -> Image.Image:
    name = str(file)
    data = read_picture_file(file, name=name, limits=limits)
    if hashlib.sha256(data).digest() != sha256:
        raise Conflict(
            name,
            got="other bytes than some minutes ago",
            want="a file that no one changes meanwhile",
            hint="Run again.",
        )
    return decode_for_views(data, name=name, limits=limits, preprocess=preprocess, recipe=recipe)


def _image_of(pixels: PixelArray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        got = f"{pixels.dtype} of shape {pixels.shape}"
        raise InvalidInput("picture", got=got, want="uint8 of shape (height, width, 3)")
    return Image.fromarray(np.ascontiguousarray(pixels))


@lru_cache(maxsize=16)
def _crop_of(size: int, min_scale: float) -> RandomResizedCrop:
    return RandomResizedCrop(size, min_scale=min_scale)


@lru_cache(maxsize=16)
def _number_table(preprocess: Preprocess) -> FloatArray:
    """(3, 256) float32: the number for every byte of every channel, made by the one interpreter of the ops."""
    cut = [op["op"] for op in preprocess.ops].index("scale")
    squish: Op = {"op": "resize", "mode": "squish", "size": 16, "filter": "nearest", "antialias": False}
    numbers = Preprocess([{"op": "decode", "mode": "RGB", "jpeg_min_side": None}, squish, *preprocess.ops[cut:]])
    every_byte = np.arange(256, dtype=np.uint8).reshape(16, 16)
    return numbers.from_array(np.repeat(every_byte[:, :, np.newaxis], 3, axis=2)).reshape(3, 256)


def _relight(numbers: FloatArray, brightness: float, contrast: float) -> FloatArray:
    """The table for bytes whose logit is spread by exp(contrast) and shifted to where `brightness` takes mid grey.

    brightness is in (-1, 1); the arithmetic is that of `learn.lighting`.
    """
    values = np.clip(np.arange(256) / 255, _EDGE, 1 - _EDGE)
    logits = np.log(values / (1 - values)) * math.exp(contrast) + 2 * math.atanh(brightness)
    relit = 1 / (1 + np.exp(-logits))  # in (0, 1)
    low, high = numbers[:, :1].astype(np.float64), numbers[:, 255:].astype(np.float64)
    return (low + (high - low) * relit).astype(np.float32)
