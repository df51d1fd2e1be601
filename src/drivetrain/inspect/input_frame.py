"""Where in a picture the square lies that the network was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivetrain.imaging.preprocess import Op
from drivetrain.imaging.resize import MAX_STRIP, find_middle

__all__ = ["Frame", "find_frame"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The network's input in shares of the picture's width and height, the picture being [0, 1] both ways.

    Within it where the picture was cropped, beyond it where it was padded.
    """

    left: float
    top: float
    right: float
    bottom: float


def find_frame(ops: Sequence[Op], *, width: int, height: int) -> Frame:
    """For a picture of these pixels, turned as its EXIF says: the arithmetic of `imaging.resize`, along each axis."""
    across, down = _Axis(width, 0.0, 1.0), _Axis(height, 0.0, 1.0)
    for op in ops:
        size = op.get("size", 0)
        if op["op"] == "resize":
            across, down = _resize(across, down, mode=op["mode"], size=size)
        elif op["op"] == "center_crop":
            across, down = (axis.window((axis.pixels - size) // 2, size) for axis in (across, down))
        elif op["op"] == "pad":  # its corner is rounded the other way
            across, down = (axis.window(-((size - axis.pixels) // 2), size) for axis in (across, down))
    return Frame(left=across.low, top=down.low, right=across.high, bottom=down.high)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Along one side: how many pixels there are now, and which shares of the picture they begin and end at."""

    pixels: int
    low: float
    high: float

    def window(self, start: int, pixels: int) -> _Axis:
        each = (self.high - self.low) / self.pixels
        return _Axis(pixels, self.low + start * each, self.low + (start + pixels) * each)

    def resized(self, pixels: int) -> _Axis:
        return _Axis(pixels, self.low, self.high)


def _resize(across: _Axis, down: _Axis, *, mode: str, size: int) -> tuple[_Axis, _Axis]:
    width, height = across.pixels, down.pixels
    if mode == "crop":
        left, top, right, bottom = find_middle(width, height)
        across, down = across.window(left, right - left), down.window(top, bottom - top)
    if mode in ("crop", "squish"):
        return across.resized(size), down.resized(size)
    side = min(width, height) if mode == "shortest" else max(width, height)
    target = (max(1, round(width * size / side)), max(1, round(height * size / side)))
    if mode == "shortest" and max(target) > MAX_STRIP * size:
        if width > height:
            across = across.window((width - MAX_STRIP * height) // 2, MAX_STRIP * height)
            target = (MAX_STRIP * size, size)
        else:
            down = down.window((height - MAX_STRIP * width) // 2, MAX_STRIP * width)
            target = (size, MAX_STRIP * size)
    return across.resized(target[0]), down.resized(target[1])
