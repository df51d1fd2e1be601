"""The transforms that `chain` joins, one by one: each draws, for every picture, a matrix of `warp` or of `lighting`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from drivetrain.errors import InvalidConfig

from .chain import GeometricTransform, LightingTransform, check_number
from .lighting import brightness_matrices, contrast_matrices, saturation_matrices
from .warp import crop_matrices, dihedral_matrices, rotate_matrices, warp_matrices, zoom_matrices

__all__ = [
    "MAX_LIGHTING",
    "MAX_WARP",
    "Brightness",
    "Contrast",
    "Dihedral",
    "Flip",
    "RandomResizedCropGPU",
    "Rotate",
    "Saturation",
    "Warp",
    "Zoom",
]

MAX_WARP = 0.49  # at 0.5 the horizon comes into the picture
MAX_LIGHTING = 0.99  # at 1 all is black or white
_ZOOMS = (0.05, 20)
_TRIES = 10  # for a part that fits into the picture


@dataclass(frozen=True)
class Flip(GeometricTransform):
    """Mirrored left to right."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_number("Flip.p", self.p, 0, 1)

    def matrices(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
        turns = self.draw(1, 1, n, rng, p=self.p, neutral=0).long()
        return dihedral_matrices(turns, height=size[0], width=size[1])


@dataclass(frozen=True)
class Dihedral(GeometricTransform):
    """One of the eight ways to lay down a square; as it lies is one of them: p=1 leaves an eighth as they are."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_number("Dihedral.p", self.p, 0, 1)

    def matrices(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
        turns = self.draw(0, 8, n, rng, p=self.p, neutral=0).long()
        return dihedral_matrices(turns, height=size[0], width=size[1])


@dataclass(frozen=True)
class Rotate(GeometricTransform):
    """Turned by up to max_deg degrees, either way."""

    max_deg: float = 10.0
    p: float = 0.5

    def __post_init__(self) -> None:
        check_number("Rotate.max_deg", self.max_deg, 0, 180)
        check_number("Rotate.p", self.p, 0, 1)

    def matrices(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
        degrees = self.draw(-self.max_deg, self.max_deg, n, rng, p=self.p, neutral=0)
        return rotate_matrices(degrees, height=size[0], width=size[1])


@dataclass(frozen=True)
class Zoom(GeometricTransform):
    """Seen closer (above 1) or from further away (below 1); which part is drawn too."""

    min_zoom: float = 1.0
    max_zoom: float = 1.1
    p: float = 0.5

    def __post_init__(self) -> None:
        check_number("Zoom.min_zoom", self.min_zoom, *_ZOOMS)
        check_number("Zoom.max_zoom", self.max_zoom, *_ZOOMS)
        check_number("Zoom.p", self.p, 0, 1)
        if self.min_zoom > self.max_zoom:
            raise InvalidConfig(
                "Zoom.min_zoom", got=self.min_zoom, want=f"at most max_zoom, which is {self.max_zoom:g}"
            )

    def matrices(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
        zoom = self.draw(self.min_zoom, self.max_zoom, n, rng, p=self.p, neutral=1)
        return zoom_matrices(zoom, self.uniform(0, 1, n, rng), self.uniform(0, 1, n, rng))


@dataclass(frozen=True)
class Warp(GeometricTransform):
    """Tilted, as if the camera had stood elsewhere, by up to `magnitude` about either axis."""

    magnitude: float = 0.2
    p: float = 0.5

    def __post_init__(self) -> None:
        check_number("Warp.magnitude", self.magnitude, 0, MAX_WARP)
        check_number("Warp.p", self.p, 0, 1)

    def matrices(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
        # one draw for both axes, where fastai has one each: p of the pictures are touched, and not 1 - (1 - p)^2
        reach = self.draw(self.magnitude, self.magnitude, n, rng, p=self.p, neutral=0)
        return warp_matrices(reach * self.uniform(-1, 1, n, rng), reach * self.uniform(-1, 1, n, rng))


@dataclass(frozen=True)
class RandomResizedCropGPU(GeometricTransform):
    """A part with min_scale of the area or more, its width by its height within `ratio`, as size x size pixels.

    fastai shows the same part of all pictures of a batch; here that takes batch=True.
    """

    size: int | None = None
    min_scale: float = 0.08
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crops: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.size is None:
            raise InvalidConfig(
                "RandomResizedCropGPU.size", got="nothing", want="the side of what comes out, in pixels"
            )
        check_number("RandomResizedCropGPU.min_scale", self.min_scale, 0.001, 1)
        check_number("RandomResizedCropGPU.ratio[0]", self.ratio[0], 0.1, 10)
        check_number("RandomResizedCropGPU.ratio[1]", self.ratio[1], self.ratio[0], 10)

    def matrices(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
        height, width = size
        nearest = min(max(width / height, self.ratio[0]), self.ratio[1])  # for where no try fits: the largest such part
        wide = torch.full((n,), min(1.0, nearest * height / width), dtype=torch.float64)
        tall = torch.full((n,), min(1.0, width / height / nearest), dtype=torch.float64)
        found = torch.zeros(n, dtype=torch.bool)
        low, high = map(math.log, self.ratio)
        for _ in range(_TRIES):
            area = self.uniform(self.min_scale, 1, n, rng)
            ratio = self.uniform(low, high, n, rng).exp() * height / width  # of shares, not of pixels
            fits = ~found & (area * ratio <= 1) & (area <= ratio)
            wide, tall = torch.where(fits, (area * ratio).sqrt(), wide), torch.where(fits, (area / ratio).sqrt(), tall)
            found |= fits
        across, down = (torch.where(found, self.uniform(0, 1, n, rng), 0.5) for _ in range(2))
        return crop_matrices(wide, tall, across, down)


@dataclass(frozen=True)
class Brightness(LightingTransform):
    """Lighter or darker: mid grey comes out between (1 - max_lighting) / 2 and (1 + max_lighting) / 2."""

    max_lighting: float = 0.2
    p: float = 0.75

    def __post_init__(self) -> None:
        _check_lighting(self)

    def matrices(self, n: int, rng: torch.Generator) -> Tensor:
        low, high = 0.5 * (1 - self.max_lighting), 0.5 * (1 + self.max_lighting)
        return brightness_matrices(self.draw(low, high, n, rng, p=self.p, neutral=0.5))


@dataclass(frozen=True)
class Contrast(LightingTransform):
    """Harder or softer: by a factor between 1 - max_lighting and its inverse."""

    max_lighting: float = 0.2
    p: float = 0.75

    def __post_init__(self) -> None:
        _check_lighting(self)

    def matrices(self, n: int, rng: torch.Generator) -> Tensor:
        return contrast_matrices(_draw_gains(self, n, rng))


@dataclass(frozen=True)
class Saturation(LightingTransform):
    """Stronger or paler in colour: by a factor between 1 - max_lighting and its inverse."""

    max_lighting: float = 0.2
    p: float = 0.75

    def __post_init__(self) -> None:
        _check_lighting(self)

    def matrices(self, n: int, rng: torch.Generator) -> Tensor:
        return saturation_matrices(_draw_gains(self, n, rng))


def _check_lighting(light: Brightness | Contrast | Saturation) -> None:
    name = type(light).__name__
    check_number(f"{name}.max_lighting", light.max_lighting, 0, MAX_LIGHTING)
    check_number(f"{name}.p", light.p, 0, 1)


def _draw_gains(light: Contrast | Saturation, n: int, rng: torch.Generator) -> Tensor:
    reach = -math.log(1 - light.max_lighting)
    return light.draw(-reach, reach, n, rng, p=light.p, neutral=0).exp()
