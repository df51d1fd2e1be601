"""Batch transforms: a whole batch at once, on the device it is on. Names and meaning are fastai's.

Each takes float pictures (n, 3, h, w) in [0, 1] and a torch.Generator of the CPU, and gives such pictures back; what it
does to each of them is drawn from that generator alone. docs/augment.md shows them all and says when they do harm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from drivetrain.errors import InvalidConfig
from drivetrain.imaging.preprocess import Op

from .chain import Augment, BatchTransform, GeometricTransform, LightingTransform, check_batch, check_number
from .random_transforms import (
    MAX_LIGHTING,
    MAX_WARP,
    Brightness,
    Contrast,
    Dihedral,
    Flip,
    RandomResizedCropGPU,
    Rotate,
    Saturation,
    Warp,
    Zoom,
)

__all__ = [
    "Augment",
    "BatchTransform",
    "Brightness",
    "Contrast",
    "Dihedral",
    "Flip",
    "Normalize",
    "RandomResizedCropGPU",
    "Rotate",
    "Saturation",
    "Warp",
    "Zoom",
    "aug_transforms",
    "imagenet_stats",
]

imagenet_stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of each channel, of values in [0, 1]


@dataclass(frozen=True)
class Normalize:
    """(x - mean) / std, channel by channel, in training and outside of it."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    on_valid: ClassVar[bool] = True
    order: ClassVar[int] = 99

    def __post_init__(self) -> None:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            is_fit = len(numbers) == 3 and all(map(math.isfinite, numbers)) and (name == "mean" or min(numbers) > 0)
            if not is_fit:
                want = "three finite numbers" + (" above 0" if name == "std" else "")
                raise InvalidConfig(f"Normalize.{name}", got=numbers, want=want)

    @classmethod
    def from_stats(cls, mean: Sequence[float], std: Sequence[float]) -> Normalize:
        """mean and std of each channel, of values in [0, 1]: `Normalize.from_stats(*imagenet_stats)`."""
        return cls(tuple(float(number) for number in mean), tuple(float(number) for number in std))

    def __call__(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        mean, std = self._columns(x)
        return (x - mean).div_(std)

    def decode(self, x: Tensor) -> Tensor:
        """Undone: pictures in [0, 1] again, to be looked at."""
        mean, std = self._columns(x)
        return torch.addcmul(mean, x, std)

    def valid_ops(self) -> list[Op]:
        return []  # on_valid runs it on the batch; in a bundle it is the declared op `normalize`

    def _columns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_batch(x)
        columns = torch.tensor([self.mean, self.std], dtype=x.dtype).to(x.device)[..., None, None]  # (2, 3, 1, 1)
        return columns[0], columns[1]


def aug_transforms(
    mult: float = 1.0,
    do_flip: bool = True,
    flip_vert: bool = False,
    max_rotate: float = 10.0,
    min_zoom: float = 1.0,
    max_zoom: float = 1.1,
    max_lighting: float = 0.2,
    max_warp: float = 0.2,
    p_affine: float = 0.75,
    p_lighting: float = 0.75,
    xtra_tfms: BatchTransform | Iterable[BatchTransform] | None = None,
    size: int | None = None,
    mode: str = "bilinear",
    pad_mode: str = "reflection",
    align_corners: bool = True,
    batch: bool = False,
    min_scale: float = 1.0,
) -> list[BatchTransform]:
    """Flip, tilt, turn, zoom and light, as suits most photographs: one Augment, and after it what cannot join it.

    mult scales max_rotate and max_warp (up to 180 and 0.49, where both end), max_lighting, and how far min_zoom and
    max_zoom are from 1 (which fastai leaves).
    flip_vert draws from all eight ways to lay down a square. size gives size x size pixels, squeezed; with a min_scale
    below 1, of a square part with that share of the area or more. xtra_tfms join in after the others if they move
    pixels or change light, else they run afterwards. Raises InvalidConfig for what is out of range.
    """
    geometry: list[GeometricTransform] = []
    lighting: list[LightingTransform] = []
    others: list[BatchTransform] = []
    reach = _reach(mult, max_rotate=max_rotate, max_warp=max_warp, max_lighting=max_lighting)
    zooms = _zooms(mult, min_zoom, max_zoom)
    check_number("p_affine", p_affine, 0, 1)
    check_number("p_lighting", p_lighting, 0, 1)
    check_number("min_scale", min_scale, 0.001, 1)
    if do_flip:
        geometry.append(Dihedral(0.5, batch=batch) if flip_vert else Flip(0.5, batch=batch))
    if reach["max_warp"] > 0:
        geometry.append(Warp(reach["max_warp"], p_affine, batch=batch))
    if reach["max_rotate"] > 0:
        geometry.append(Rotate(reach["max_rotate"], p_affine, batch=batch))
    if zooms != (1, 1):
        geometry.append(Zoom(*zooms, p_affine, batch=batch))
    if reach["max_lighting"] > 0:
        lighting += [light(reach["max_lighting"], p_lighting, batch=batch) for light in (Brightness, Contrast)]
    if min_scale < 1:
        if size is None:
            raise InvalidConfig(
                "size", got="nothing", want="the side of what comes out, in pixels: min_scale is below 1"
            )
        geometry.append(RandomResizedCropGPU(size, min_scale, (1.0, 1.0), batch=batch))
    for extra in _listed(xtra_tfms):
        if isinstance(extra, GeometricTransform):
            geometry.append(extra)
            if size is not None and extra.size not in (None, size):
                raise InvalidConfig("size", got=f"{size}, and {extra.size} in xtra_tfms", want="one size")
            size = size or extra.size
        elif isinstance(extra, LightingTransform):
            lighting.append(extra)
        else:
            others.append(extra)
    chain = Augment(
        tuple(geometry), tuple(lighting), size=size, mode=mode, pad_mode=pad_mode, align_corners=align_corners
    )
    does_anything = bool(geometry or lighting) or size is not None
    return [chain, *others] if does_anything else others


def _reach(mult: float, **most: float) -> dict[str, float]:
    """Each `max_...` times mult, checked."""
    check_number("mult", mult, 0, 100)
    highest = {"max_rotate": 180.0, "max_warp": MAX_WARP, "max_lighting": MAX_LIGHTING}
    for name, number in most.items():
        check_number(name, number, 0, highest[name])
    reach = {name: float(number * mult) for name, number in most.items()}
    check_number("max_lighting x mult", reach["max_lighting"], 0, MAX_LIGHTING, hint="Lower mult, or max_lighting.")
    # a turn beyond 180 degrees is one the other way, and a tilt beyond MAX_WARP would show what is behind the camera
    return {name: min(number, highest[name]) for name, number in reach.items()}


def _zooms(mult: float, min_zoom: float, max_zoom: float) -> tuple[float, float]:
    check_number("min_zoom", min_zoom, 0.05, 20)
    check_number("max_zoom", max_zoom, 0.05, 20)
    if min_zoom > max_zoom:
        raise InvalidConfig("min_zoom", got=min_zoom, want=f"at most max_zoom, which is {max_zoom:g}")
    low, high = 1 + (min_zoom - 1) * mult, 1 + (max_zoom - 1) * mult
    check_number("min_zoom, scaled by mult", low, 0.05, 20, hint="Lower mult, or bring min_zoom nearer to 1.")
    check_number("max_zoom, scaled by mult", high, 0.05, 20, hint="Lower mult, or bring max_zoom nearer to 1.")
    return low, high


def _listed(extras: BatchTransform | Iterable[BatchTransform] | None) -> list[BatchTransform]:
    found = [] if extras is None else [extras] if isinstance(extras, BatchTransform) else list(extras)
    for extra in found:
        if not isinstance(extra, BatchTransform):
            want = "batch transforms: on_valid, order, valid_ops() and a call with a batch and a torch.Generator"
            raise InvalidConfig("xtra_tfms", got=extra, want=want)
    return found
