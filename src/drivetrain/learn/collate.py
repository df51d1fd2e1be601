"""Many items to one batch: pictures as bytes until they are on the device, then as floats in [0, 1]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.arrays import PixelArray
from drivetrain.errors import InvalidInput

__all__ = ["BatchBuffers", "collate_pictures", "collate_values", "scale_pixels"]

_GAIN = np.float32(1 / 255)  # times, not divided by: to the last bit what the declared op `scale` gives
_NOBODY = 3  # references to an array that only the list, the loop and the call that counts them hold


class BatchBuffers:
    """Memory for batches on the CPU, used again once nobody holds a tensor on it.

    A new batch of 40 MB costs up to 30 ms, most of it the system handing out its pages; one used again costs 1 ms.
    Every tensor that shares the memory, a view or what autograd keeps too, holds a reference to its array.
    """

    def __init__(self) -> None:
        self._arrays: list[np.ndarray[Any, Any]] = []

    def take(self, shape: Sequence[int], dtype: type[np.generic]) -> Tensor:
        """An uninitialised tensor."""
        for array in self._arrays:
            if array.shape == tuple(shape) and array.dtype == dtype and sys.getrefcount(array) == _NOBODY:
                return torch.from_numpy(array)
        self._arrays = [array for array in self._arrays if sys.getrefcount(array) != _NOBODY]  # of another shape
        self._arrays.append(np.empty(tuple(shape), dtype=dtype))
        return torch.from_numpy(self._arrays[-1])


def collate_pictures(
    pictures: Sequence[PixelArray], names: Sequence[str], *, buffers: BatchBuffers, pinned: bool = False
) -> Tensor:
    """uint8 (n, 3, h, w) of n pictures (3, h, w); `pinned` memory travels to a GPU while the CPU goes on.

    Raises InvalidInput, naming two pictures, where they differ in size.
    """
    first = pictures[0].shape
    for picture, name in zip(pictures, names, strict=True):
        if picture.shape != first:
            sizes = [f"{shape[2]} x {shape[1]}" for shape in (first, picture.shape)]
            raise InvalidInput(
                "a batch",
                got=f"{_shorten(names[0])} with {sizes[0]} pixels and {_shorten(name)} with {sizes[1]}",
                want="pictures of one size, width x height",
                hint="Add item_tfms=Resize(224), or another size.",
            )
    shape = (len(pictures), *first)
    batch = torch.empty(shape, dtype=torch.uint8, pin_memory=True) if pinned else buffers.take(shape, np.uint8)
    np.stack(pictures, out=batch.numpy())
    return batch


def collate_values(values: Sequence[Any], names: Sequence[str], role: str) -> Tensor:
    """Numbers, arrays or tensors of one shape, stacked; float64 comes out as float32.

    Raises InvalidInput, naming the item, where one is no number or has another shape than the first.
    """
    arrays = [np.asarray(value) for value in values]
    for array, name in zip(arrays, names, strict=True):
        if array.dtype.kind not in "fiub":
            raise InvalidInput(
                f"{role} on {name}",
                got=f"a {type(values[names.index(name)]).__name__}",
                want="a number or an array of numbers",
                hint="Blocks make numbers: ImageBlock of pictures, CategoryBlock and its like of labels.",
            )
        if array.shape != arrays[0].shape:
            raise InvalidInput(
                "a batch",
                got=f"{role} of shape {arrays[0].shape} on {names[0]} and of shape {array.shape} on {name}",
                want="one shape",
            )
    batch = np.stack(arrays)
    return torch.from_numpy(batch.astype(np.float32) if batch.dtype == np.float64 else batch)


def scale_pixels(batch: Tensor, *, buffers: BatchBuffers) -> Tensor:
    """uint8 (n, 3, h, w) -> float32 in [0, 1], on the device it is on."""
    if batch.device.type != "cpu":
        return batch.to(torch.float32).mul_(float(_GAIN))
    scaled = buffers.take(batch.shape, np.float32)
    # by numpy, a picture at a time: torch would wait for threads of its own, while the cores are busy decoding
    for source, target in zip(batch.numpy(), scaled.numpy(), strict=True):
        np.multiply(source, _GAIN, out=target, dtype=np.float32)
    return scaled


def _shorten(name: str) -> str:
    """A path by its last two parts: two names and their sizes must fit into one line."""
    return "/".join(name.replace("\\", "/").rsplit("/", 2)[-2:])
