"""One picture's way from its file to the pixels of a batch: what is the same every time, and what is drawn anew.

A chain of item transforms begins with what no draw touches: decoding, and the resize that `Resize` starts with. That
part is a list of declared ops, run by the same `PictureOps` as in production, and its result is what the pixel cache
keeps. Outside of training the whole chain is such a list, unless a plain function stands in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.arrays import PixelArray
from drivetrain.data.transforms import (
    CropPad,
    ItemTransform,
    Resize,
    ResizeMethod,
    crop_at_random,
    find_min_side,
    resize_op,
)
from drivetrain.errors import DrivetrainError, InvalidInput, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.preprocess import MAX_SIZE, Op, PictureOps
from drivetrain.runtime.pixel_cache import PixelCache, name_pixels

from .blocks import name_of

__all__ = ["PictureLoader", "PictureRecipe", "is_picture", "is_worth_keeping", "plan_training", "plan_validation"]

Vary = Callable[[Image.Image, np.random.Generator], Image.Image]
# Opening a kept picture takes 0.1 ms and 0.3 ms a megabyte; one that is decoded in little more gains nothing.
_OPEN_S = 0.0001
_COPY_S_PER_BYTE = 0.3e-9
_GAIN = 2.0


@dataclass(frozen=True, slots=True)
class PictureRecipe:
    """`steady` is what is done to a picture every time alike; then `vary`, each with the draws of this time."""

    steady: PictureOps
    vary: tuple[tuple[str, Vary], ...] = ()
    undeclared: tuple[str, ...] = ()  # why `steady` alone does not say it all; outside of training only

    def run(self, image: Image.Image, rng: np.random.Generator, *, name: str) -> Image.Image:
        """What `steady` gave, varied. Raises InvalidInput where a function of the user's fails, naming both."""
        for label, step in self.vary:
            try:
                image = step(image, rng)
            except DrivetrainError:
                raise
            except Exception as exc:  # a user's function at work: told with its name and picture, cause kept
                raise InvalidInput(
                    f"item transform {label} on {name}",
                    got=f"{type(exc).__name__}: {exc}",
                    want="a function that takes a PIL picture and gives one",
                ) from exc
            if not isinstance(image, Image.Image):
                raise InvalidInput(
                    f"item transform {label} on {name}", got=f"a {type(image).__name__}", want="a PIL picture"
                )
        return image


def plan_training(item_tfms: Sequence[Any]) -> PictureRecipe:
    """The recipe of the training side."""
    declared = _leading(item_tfms)
    ops = _decode_ops(find_min_side(declared))
    rest = list(item_tfms)
    vary: list[tuple[str, Vary]] = []
    while rest and (split := _split_steady(rest[0])) is not None:
        first = rest.pop(0)
        ops += split[0]
        if split[1] is not None:
            vary.append((name_of(first), split[1]))
            break
    vary += [(name_of(tfm), _as_vary(tfm)) for tfm in rest]
    return PictureRecipe(PictureOps(ops), tuple(vary))


def plan_validation(item_tfms: Sequence[Any], batch_ops: Sequence[Op] = ()) -> PictureRecipe:
    """The recipe of every other side: all transforms in their centre form, and what batch transforms declare."""
    declared = _leading(item_tfms)
    ops = [op for tfm in declared for op in tfm.valid_ops()]
    rest = item_tfms[len(declared) :]
    if not rest:
        ops += batch_ops
    steady = PictureOps([*_decode_ops(_first_size(ops)), *ops])
    vary: list[tuple[str, Vary]] = [
        (name_of(tfm), _centre(tfm.valid_ops()) if _is_declared(tfm) else _plain(tfm)) for tfm in rest
    ]
    if rest and batch_ops:
        vary.append(("batch_tfms", _centre(batch_ops)))
    undeclared = tuple(
        f"the item transform {name_of(tfm)} is a plain function: what it does cannot be written down"
        for tfm in rest
        if not _is_declared(tfm)
    )
    return PictureRecipe(steady, tuple(vary), undeclared)


class PictureLoader:
    """Runs one recipe on pictures from anywhere; for many threads at once."""

    def __init__(self, recipe: PictureRecipe, *, limits: DecodeLimits, cache: PixelCache | None = None) -> None:
        self.recipe = recipe
        self.limits = limits
        self.cache = cache

    def load(self, source: Any, rng: np.random.Generator, *, name: str) -> PixelArray:
        """uint8 (3, h, w), perhaps read-only. Raises UnreadablePicture, or InvalidInput for what is no picture."""
        pixels = self._load_steady(source, name)
        if not self.recipe.vary and isinstance(pixels, np.ndarray):
            return np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return _planes(self._vary(pixels, rng, name))

    def open(self, source: Any, rng: np.random.Generator, *, name: str) -> Image.Image:
        """The same as a PIL picture."""
        return self._vary(self._load_steady(source, name), rng, name)

    def _vary(self, pixels: PixelArray | Image.Image, rng: np.random.Generator, name: str) -> Image.Image:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image = self.recipe.run(image, rng, name=name)
        return image if image.mode == "RGB" else image.convert("RGB")

    def _load_steady(self, source: Any, name: str) -> PixelArray | Image.Image:
        ops = self.recipe.steady
        if isinstance(source, Image.Image):
            return ops.from_image(source)
        if isinstance(source, np.ndarray):
            return ops.from_image(_image_of(source, name))
        if isinstance(source, bytes | bytearray):
            return ops.from_bytes(bytes(source), name=name, limits=self.limits)
        if not isinstance(source, str | Path):
            raise InvalidInput(
                name, got=f"a {type(source).__name__}", want="a path, bytes, a PIL picture or a uint8 array",
                hint="get_x says which part of an item is the picture, such as ColReader('path').",
            )  # fmt: skip
        return self._load_file(source if isinstance(source, Path) else Path(source), name)

    def _load_file(self, file: Path, name: str) -> PixelArray | Image.Image:
        ops = self.recipe.steady
        kept = None
        if self.cache is not None:
            try:
                kept = name_pixels(file, ops.digest)
            except OSError as exc:
                raise UnreadablePicture(name, reason=f"cannot be opened: {exc.strerror or exc}") from None
        if self.cache is not None and kept is not None and (pixels := self.cache.get(kept)) is not None:
            return pixels
        data = read_picture_file(file, name=name, limits=self.limits)
        begun = time.perf_counter()
        image = ops.from_bytes(data, name=name, limits=self.limits)
        if self.cache is not None and kept is not None and not self.cache.stopped:
            spent_s = time.perf_counter() - begun
            if is_worth_keeping(spent_s, image.width * image.height * 3):
                self.cache.add(kept, np.asarray(image))
        return image


def _planes(image: Image.Image) -> PixelArray:
    """uint8 (3, h, w): Pillow's own way, plane by plane a line, is twice as fast as transposing an array."""
    lines = np.frombuffer(image.tobytes("raw", "RGB;L"), dtype=np.uint8)
    return lines.reshape(image.height, 3, image.width).transpose(1, 0, 2)


def is_worth_keeping(spent_s: float, size: int) -> bool:
    """Whether a picture of `size` bytes that took `spent_s` seconds of work is read again in half of that, or less."""
    return spent_s >= _GAIN * (_OPEN_S + _COPY_S_PER_BYTE * size)


def is_picture(source: object) -> bool:
    """Whether it can be opened as a picture: a path, the bytes of a file, a PIL picture or an array of pixels."""
    return isinstance(source, str | Path | bytes | bytearray | Image.Image) or (
        isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim in (2, 3)
    )


def _is_declared(tfm: Any) -> bool:
    return isinstance(tfm, ItemTransform)


def _leading(item_tfms: Sequence[Any]) -> list[ItemTransform]:
    """The declared transforms before the first plain function."""
    declared = []
    for tfm in item_tfms:
        if not _is_declared(tfm):
            break
        declared.append(tfm)
    return declared


def _decode_ops(min_side: int | None) -> list[Op]:
    if min_side is not None and min_side > MAX_SIZE:
        min_side = None
    return [{"op": "decode", "mode": "RGB", "jpeg_min_side": min_side}, {"op": "exif_transpose"}]


def _first_size(ops: Sequence[Op]) -> int | None:
    """To how many pixels the first op that sees the size resizes; None where it cuts or pads at full size."""
    first = next((op for op in ops if "size" in op), None)
    return first["size"] if first is not None and first["op"] == "resize" else None


def _split_steady(tfm: Any) -> tuple[list[Op], Vary | None] | None:
    """The training form as ops that no draw touches, and what is left to draw; None where all of it is drawn."""
    match tfm:
        case Resize(method=ResizeMethod.Crop):
            return [resize_op("shortest", tfm.size)], lambda image, rng: crop_at_random(image, tfm.size, rng)
        case Resize() | CropPad():
            return tfm.valid_ops(), None
    return None


def _as_vary(tfm: Any) -> Vary:
    return tfm if _is_declared(tfm) else _plain(tfm)


def _plain(function: Callable[[Image.Image], Image.Image]) -> Vary:
    return lambda image, rng: function(image)


def _centre(ops: Sequence[Op]) -> Vary:
    steady = PictureOps([*_decode_ops(None), *ops])
    return lambda image, rng: steady.from_image(image)


def _image_of(pixels: PixelArray, name: str) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise InvalidInput(
            name,
            got=f"{pixels.dtype} of shape {pixels.shape}",
            want="uint8 of shape (height, width, 3) or (height, width)",
        )
    return Image.fromarray(
        np.ascontiguousarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    )
