"""What joins batch transforms: all moves of pixels into one interpolation, all changes of light into one pass."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, reduce
from numbers import Real
from typing import ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from threadpoolctl import ThreadpoolController
from torch import Tensor

from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.imaging.preprocess import Op

from .lighting import relight
from .warp import resample

__all__ = [
    "Augment",
    "BatchTransform",
    "GeometricTransform",
    "LightingTransform",
    "RandomTransform",
    "check_batch",
    "check_number",
]

_MODES = ("bilinear", "nearest")
_PAD_MODES = ("zeros", "border", "reflection")
_MAX_SIDE = 4096  # pixels
_CHUNK_FLOATS = 2**18  # 1 MB of pictures, with their grid and logits, stays in a core's own cache
_SLACK = 1e-3  # a resize may leave [0, 1] by rounding; what leaves it by more is another range


@runtime_checkable
class BatchTransform(Protocol):
    """What `batch_tfms` takes: `order` says when it runs, lowest first; `on_valid`, whether outside of training too."""

    @property
    def on_valid(self) -> bool: ...

    @property
    def order(self) -> int: ...

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor: ...

    def valid_ops(self) -> list[Op]:
        """What stands for it outside of training, as declared ops on the picture."""
        ...


class RandomTransform(ABC):
    """Draws for each picture, or with `batch` the same for all pictures of a batch."""

    batch: bool
    on_valid: ClassVar[bool] = False

    def uniform(self, low: float, high: float, n: int, rng: torch.Generator) -> Tensor:
        """(n,) numbers from low up to high, in float64."""
        numbers = torch.rand(1 if self.batch else n, generator=rng, dtype=torch.float64)
        return (low + (high - low) * numbers).expand(n)

    def draw(self, low: float, high: float, n: int, rng: torch.Generator, *, p: float, neutral: float) -> Tensor:
        """(n,) numbers from low up to high for a share p of the pictures, and `neutral` for the others."""
        touched = self.uniform(0, 1, n, rng) < p
        return torch.where(touched, self.uniform(low, high, n, rng), neutral)


@dataclass(frozen=True, kw_only=True)
class GeometricTransform(RandomTransform):
    """One move of pixels. Joined with others, all but p and batch are those of the whole chain."""

    size: int | None = None
    mode: str = "bilinear"
    pad_mode: str = "reflection"
    align_corners: bool = True
    batch: bool = False
    order: ClassVar[int] = 30
    crops: ClassVar[bool] = False  # shows a part only: outside of training, the middle

    @abstractmethod
    def matrices(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
        """(n, 3, 3) for n pictures of (height, width), as in `warp`."""

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self._alone()(x, rng)

    def valid_ops(self) -> list[Op]:
        return self._alone().valid_ops()

    def _alone(self) -> Augment:
        how = {name: getattr(self, name) for name in ("size", "mode", "pad_mode", "align_corners")}
        return Augment((self,), **how)


@dataclass(frozen=True, kw_only=True)
class LightingTransform(RandomTransform):
    """One change of light or colour."""

    batch: bool = False
    order: ClassVar[int] = 40

    @abstractmethod
    def matrices(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, 4, 4) for n pictures, as in `lighting`."""

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return Augment((), (self,))(x, rng)

    def valid_ops(self) -> list[Op]:
        return []


@dataclass(frozen=True)
class Augment:
    """Moves of pixels as one interpolation, then changes of light as one pass; each joined in the order given."""

    geometry: tuple[GeometricTransform, ...] = ()
    lighting: tuple[LightingTransform, ...] = ()
    size: int | None = field(default=None, kw_only=True)  # side of what comes out, in pixels; None keeps both sides
    mode: str = field(default="bilinear", kw_only=True)
    pad_mode: str = field(default="reflection", kw_only=True)
    align_corners: bool = field(default=True, kw_only=True)
    on_valid: ClassVar[bool] = False
    order: ClassVar[int] = 30

    def __post_init__(self) -> None:
        for name, choices in (("mode", _MODES), ("pad_mode", _PAD_MODES)):
            if getattr(self, name) not in choices:
                raise InvalidConfig(name, got=getattr(self, name), want="one of " + ", ".join(choices))
        if self.size is not None:
            check_number("size", self.size, 1, _MAX_SIDE, whole=True)

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """x (n, 3, h, w) in [0, 1] as a new tensor, or as it is where nothing was drawn for any picture.

        Raises InvalidInput for another shape or dtype, and on the CPU for values outside of [0, 1].
        """
        check_batch(x)
        _check_range(x)
        _check_rng(rng)
        n, _, height, width = x.shape
        place = _joined([part.matrices(n, (height, width), rng) for part in self.geometry], n, 3)
        light = _joined([part.matrices(n, rng) for part in self.lighting][::-1], n, 4)
        size = (height, width) if self.size is None else (self.size, self.size)
        moves, lights = size != (height, width) or _is_anything(place), _is_anything(light)
        if not moves and not lights:
            return x
        shrink = _shrink(place, (height, width), size) if self.mode == "bilinear" else 1
        out = torch.empty((n, 3, *size), dtype=x.dtype, device=x.device)

        @torch.no_grad()
        def run(part: slice) -> None:
            seen = self._move(x[part], place[part], size, shrink) if moves else x[part]
            relight(seen, light[part], out=out[part])

        _for_each(run, _chunks(n, 3 * max(height * width, size[0] * size[1]), x.device))
        return out

    def _move(self, x: Tensor, matrices: Tensor, size: tuple[int, int], shrink: int) -> Tensor:
        if shrink > 1:
            x = F.interpolate(x, size=(x.shape[2] // shrink, x.shape[3] // shrink), mode="area")
        return resample(x, matrices, size, mode=self.mode, pad_mode=self.pad_mode, align_corners=self.align_corners)

    def valid_ops(self) -> list[Op]:
        """A resize to size x size, of the middle if a part is shown in training; [] without a size."""
        if self.size is None:
            return []
        resize = {"op": "resize", "mode": "squish", "size": self.size, "filter": "bilinear", "antialias": True}
        if any(part.crops for part in self.geometry):
            return [{**resize, "mode": "crop"}]
        return [resize]


def _joined(matrices: Sequence[Tensor], n: int, side: int) -> Tensor:
    return reduce(torch.matmul, matrices, torch.eye(side, dtype=torch.float64).expand(n, side, side))


def _is_anything(matrices: Tensor) -> bool:
    return bool((matrices != torch.eye(matrices.shape[1], dtype=matrices.dtype)).any())


def _shrink(place: Tensor, size: tuple[int, int], target: tuple[int, int]) -> int:
    """How many pixels become one before the interpolation: it looks at four, and would pass over the others."""
    zoom_out = float(torch.linalg.det(place[:, :2, :2]).abs().min().sqrt())
    shrink = zoom_out * min(size[0] / target[0], size[1] / target[1])
    return max(1, min(int(shrink), *size))


def _chunks(n: int, floats: int, device: torch.device) -> list[slice]:
    """A few pictures at a time on the CPU, so that all is done to them while they are in its caches; elsewhere all."""
    step = max(1, round(_CHUNK_FLOATS / floats)) if device.type == "cpu" else n
    return [slice(at, at + step) for at in range(0, n, step)]


def _for_each(run: Callable[[slice], None], chunks: Sequence[slice]) -> None:
    """A chunk is one thread's alone, for as many threads as torch would take.

    Were the threads to share each step of a chunk, as torch has it, they would wait for one another after every step:
    on cores that also decode the next pictures, longer than the work takes.
    """
    threads = min(torch.get_num_threads(), len(chunks))
    if threads <= 1:
        for chunk in chunks:
            run(chunk)
        return
    with ThreadPoolExecutor(threads, "augment", initializer=_keep_to_one_thread) as pool:
        for _ in pool.map(run, chunks):
            pass


def _keep_to_one_thread() -> None:
    """For the thread that calls it alone, where torch.set_num_threads would be for all that are yet to begin."""
    torch.get_num_threads()  # makes torch set this thread up, which would undo the next line if it came later
    _openmp().limit(limits=1, user_api="openmp")


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController()


def _check_rng(rng: object) -> None:
    if not isinstance(rng, torch.Generator) or rng.device.type != "cpu":
        raise InvalidInput("rng", got=rng, want="a torch.Generator of the CPU")


def _check_range(x: Tensor) -> None:
    """Look at one pixel in 64: enough to tell bytes and normalised pictures, and costs nothing."""
    if x.device.type != "cpu":
        return  # the answer would have to be waited for, where all else is only queued
    low, high = (float(bound) for bound in x[..., ::8, ::8].aminmax())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise InvalidInput(
            "batch", got=f"values from {low:.4g} to {high:.4g}", want="values in [0, 1]", hint="Put Normalize last."
        )


def check_batch(x: object) -> None:
    """Raise InvalidInput unless x is a batch of RGB pictures in floats."""
    if not isinstance(x, Tensor):
        raise InvalidInput("batch", got=type(x).__name__, want="a torch.Tensor of shape (n, 3, height, width)")
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise InvalidInput(
            "batch", got=f"shape {tuple(x.shape)}", want="shape (n, 3, height, width), and none of them 0"
        )
    if x.dtype not in (torch.float32, torch.float64):
        raise InvalidInput(
            "batch", got=str(x.dtype), want="torch.float32 or torch.float64", hint="Of bytes: x.float() / 255."
        )


def check_number(field: str, got: object, low: float, high: float, *, whole: bool = False, hint: str = "") -> None:
    """Raise InvalidConfig unless got is a number from low to high."""
    is_kind = isinstance(got, int if whole else Real) and not isinstance(got, bool)
    if not is_kind or not low <= got <= high:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        span = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise InvalidConfig(field, got=repr(got), want=f"{kind} {span}", hint=hint)
