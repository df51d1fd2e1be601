"""Item transforms: one picture at a time, random in training and declared for everything after it.

Each has two forms. The training form, `transform(image, rng)`, may draw at random. The centre form, `valid_ops()`, is a
list of the ops that `imaging.preprocess` runs: validation, the exported model and the server use exactly that. Pictures
are 8-bit RGB and already turned as EXIF says.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from PIL import Image

from drivetrain.errors import InvalidInput
from drivetrain.imaging.preprocess import MAX_SIZE, Op, PictureOps
from drivetrain.imaging.resize import Side, resize_picture, resize_region

__all__ = [
    "CropPad",
    "FlipItem",
    "ItemTransform",
    "PadMode",
    "RandomResizedCrop",
    "Resize",
    "ResizeMethod",
    "crop_at_random",
    "find_min_side",
    "resize_op",
]

_ANY_SIDE = 1  # `min_side` of a transform that any size suits
_TRIES = 10  # draws of area and ratio before the crop falls back to the middle
_XTRA_STEP = 8  # fastai rounds the border that validation cuts off up to this


@runtime_checkable
class ItemTransform(Protocol):
    """What is done to one picture. Immutable, hashable by value, and free of state: the generator is passed in."""

    def valid_ops(self) -> list[Op]:
        """The centre form, declared."""
        ...

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """The training form: RGB in, RGB out; the picture given is not changed."""
        ...

    def min_side(self) -> int | None:
        """Pixels that both sides must keep where a JPEG is decoded smaller; 1: any will do, None: the full size.

        So many that nothing is enlarged that would not have been at full size.
        """
        ...


class ResizeMethod(StrEnum):
    """How a picture becomes a square: its shape is lost, its borders, or a part of the square."""

    Squish = "squish"
    Crop = "crop"
    Pad = "pad"


class PadMode(StrEnum):
    """What stands beside the picture: black, its nearest pixel, or its mirror image."""

    Zeros = "zeros"
    Border = "border"
    Reflection = "reflection"


_PAD_OPS = {PadMode.Zeros: "constant", PadMode.Border: "border", PadMode.Reflection: "reflection"}


@dataclass(frozen=True, slots=True)
class Resize:
    """A square of `size` pixels: by `Crop` of the longer side, by `Squish`, or by `Pad` of the shorter one.

    In training, `Crop` keeps a random part of the longer side, and the middle on validation; the others are the same on
    both. `pad_mode` is read by `Pad` alone. Raises InvalidInput.
    """

    size: int
    method: ResizeMethod | str = ResizeMethod.Crop
    pad_mode: PadMode | str = PadMode.Reflection

    def __post_init__(self) -> None:
        _check_size("Resize", self.size)
        _set(self, "method", _choose("Resize(method)", ResizeMethod, self.method))
        _set(self, "pad_mode", _choose("Resize(pad_mode)", PadMode, self.pad_mode))

    def valid_ops(self) -> list[Op]:
        match self.method:
            case ResizeMethod.Squish:
                return [resize_op("squish", self.size)]
            case ResizeMethod.Pad:
                return [resize_op("longest", self.size), _pad_op(self.size, self.pad_mode)]
            case _:
                return [resize_op("crop", self.size)]

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        if self.method != ResizeMethod.Crop:
            return _centre_form(self).from_image(image)
        return crop_at_random(resize_picture(image, "shortest", self.size), self.size, rng)

    def min_side(self) -> int | None:
        return self.size


@dataclass(frozen=True, slots=True)
class RandomResizedCrop:
    """A random part of the picture as a square of `size` pixels: another one each time it is asked for.

    Its area is `min_scale` to `max_scale` of the picture's, its width over height within `ratio`, evenly on the
    logarithm. Where ten draws do not fit into the picture, the middle, as near to `ratio` as it can be. On validation,
    the shortest side comes to `size` plus `val_xtra` of it, rounded up to 8, and the middle is cut out.
    Raises InvalidInput. Source: Szegedy et al. 2015, arXiv:1409.4842, section 6.
    """

    size: int
    min_scale: float = 0.08
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    max_scale: float = field(default=1.0, kw_only=True)
    val_xtra: float = field(default=0.14, kw_only=True)

    def __post_init__(self) -> None:
        _check_size("RandomResizedCrop", self.size)
        _set(self, "ratio", _check_ratio(self.ratio))
        if not (
            _is_number(self.min_scale) and _is_number(self.max_scale) and 0 < self.min_scale <= self.max_scale <= 1
        ):
            raise InvalidInput(
                "RandomResizedCrop(min_scale, max_scale)",
                got=f"{self.min_scale!r} and {self.max_scale!r}",
                want="shares of the picture's area, 0 < min_scale <= max_scale <= 1",
            )
        if not (_is_number(self.val_xtra) and 0 <= self.val_xtra <= 1):
            raise InvalidInput("RandomResizedCrop(val_xtra)", got=self.val_xtra, want="a share of the size, 0 to 1")
        if self._valid_side() > MAX_SIZE:
            want = f"at most {MAX_SIZE} pixels with val_xtra"
            raise InvalidInput("RandomResizedCrop(size)", got=self.size, want=want)

    def valid_ops(self) -> list[Op]:
        return [resize_op("shortest", self._valid_side()), {"op": "center_crop", "size": self.size}]

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        crop = self._draw_crop(image.size, rng)
        if crop is None:
            return resize_region(image, self._fallback(image.size), self.size)
        left, top = (int(rng.integers(side - part, endpoint=True)) for side, part in zip(image.size, crop, strict=True))
        return resize_region(image, (left, top, left + crop[0], top + crop[1]), self.size)

    def min_side(self) -> int | None:
        """The smallest crop of a picture with these sides still has `size` pixels on its shorter one."""
        low, high = self.ratio
        smallest_crop = self.size / math.sqrt(self.min_scale * min(low, 1 / high))
        fallback = self.size * max(low, 1 / high, 1.0)
        side = max(math.ceil(smallest_crop), math.ceil(fallback), self._valid_side())
        return side if side <= MAX_SIZE else None

    def _valid_side(self) -> int:
        return self.size + math.ceil(self.size * self.val_xtra / _XTRA_STEP) * _XTRA_STEP

    def _draw_crop(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int] | None:
        """Width and height of a crop that fits, or None."""
        width, height = size
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_TRIES):
            area = rng.uniform(self.min_scale, self.max_scale) * width * height
            ratio = math.exp(rng.uniform(low, high))
            crop = max(1, round(math.sqrt(area * ratio))), max(1, round(math.sqrt(area / ratio)))
            if crop[0] <= width and crop[1] <= height:
                return crop
        return None

    def _fallback(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The middle, whole where its ratio is allowed."""
        width, height = size
        if width / height < self.ratio[0]:
            height = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            width = max(1, round(height * self.ratio[1]))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        return left, top, left + width, top + height


@dataclass(frozen=True, slots=True)
class CropPad:
    """The middle of the picture, `size` pixels square, at its own scale: cut where larger, padded where smaller.

    The same on validation. Raises InvalidInput.
    """

    size: int
    pad_mode: PadMode | str = PadMode.Zeros

    def __post_init__(self) -> None:
        _check_size("CropPad", self.size)
        _set(self, "pad_mode", _choose("CropPad(pad_mode)", PadMode, self.pad_mode))

    def valid_ops(self) -> list[Op]:
        return [_pad_op(self.size, self.pad_mode)]

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return _centre_form(self).from_image(image)

    def min_side(self) -> int | None:
        return None  # at another scale it would be another part of the picture


@dataclass(frozen=True, slots=True)
class FlipItem:
    """The picture's mirror image, left for right, with probability `p`; on validation never. Raises InvalidInput."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not (_is_number(self.p) and 0 <= self.p <= 1):
            raise InvalidInput("FlipItem(p)", got=self.p, want="a probability, 0 to 1")

    def valid_ops(self) -> list[Op]:
        return []

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < self.p else image

    def min_side(self) -> int | None:
        return _ANY_SIDE


def find_min_side(transforms: Sequence[ItemTransform]) -> int | None:
    """`min_side` of a chain: that of the first transform to which the size matters; None where there is none."""
    for transform in transforms:
        side = transform.min_side()
        if side != _ANY_SIDE:
            return side
    return None


def crop_at_random(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A square of `size` pixels, anywhere in a picture that has as many on both sides."""
    left, top = (int(rng.integers(side - size, endpoint=True)) for side in image.size)
    return image.crop((left, top, left + size, top + size))


@lru_cache(maxsize=64)
def _centre_form(transform: ItemTransform) -> PictureOps:
    """The declared form as it is run in production, for a picture that is decoded."""
    return PictureOps([{"op": "decode", "mode": "RGB", "jpeg_min_side": None}, *transform.valid_ops()])


def resize_op(mode: Side, size: int) -> Op:
    """The declared form of a resize as the item transforms do it."""
    return {"op": "resize", "mode": mode, "size": size, "filter": "bilinear", "antialias": True}


def _pad_op(size: int, pad_mode: PadMode | str) -> Op:
    return {"op": "pad", "size": size, "mode": _PAD_OPS[PadMode(pad_mode)], "fill": 0}


_Choice = TypeVar("_Choice", bound=StrEnum)


def _choose(what: str, choices: type[_Choice], given: object) -> _Choice:
    allowed = [choice.value for choice in choices]
    if given not in allowed:
        near = difflib.get_close_matches(str(given).lower(), allowed, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else ""
        raise InvalidInput(what, got=given, want="one of " + ", ".join(allowed), hint=hint)
    return choices(given)


def _check_size(what: str, size: object) -> None:
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_SIZE:
        hint = "A square comes out, so one number is enough." if isinstance(size, tuple | list) else ""
        raise InvalidInput(
            f"{what}(size)", got=repr(size), want=f"a whole number of pixels, 1 to {MAX_SIZE}", hint=hint
        )


def _check_ratio(ratio: object) -> tuple[float, float]:
    if isinstance(ratio, tuple | list) and len(ratio) == 2 and all(map(_is_number, ratio)) and 0 < ratio[0] <= ratio[1]:
        return (ratio[0], ratio[1])
    want = "two numbers above 0, the smaller first: the least and the greatest width / height"
    raise InvalidInput("RandomResizedCrop(ratio)", got=ratio, want=want)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _set(frozen: object, name: str, value: object) -> None:
    """Bring a field to its one spelling, so that equal transforms are equal and hash alike."""
    object.__setattr__(frozen, name, value)
