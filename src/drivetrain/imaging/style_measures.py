"""A few measures of style so cheap that every picture gets them, in training and in service, beside its pixels.

`imaging.style` looks closely, for `check`, and names faults by fixed thresholds. These are taken from the very pixels
that a network reads, and say nothing by themselves: `flows.fit_shift` learns which of them are usual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray, PixelArray

from .decode import DecodeLimits, decode_picture
from .preprocess import Op, Preprocess

__all__ = [
    "STYLE_DIRECTIONS",
    "STYLE_MEASURES",
    "STYLE_MEASURES_VERSION",
    "SizedPreprocess",
    "StyleDirection",
    "StyleKernel",
    "StyledPreprocess",
    "find_style_kernel",
    "follow_directions",
]

STYLE_MEASURES_VERSION = 4  # of all below: neither a cache nor a bundle may mix two
STYLE_MEASURES = (
    "brightness",  # mean luminance
    "highlights",  # two standard deviations above it
    "contrast",  # the standard deviation
    "colour",  # how far red, green and blue are apart: root mean square, 1 for pure colours
    "sharpness",  # of green: energy of second differences over that of first, [0, 4]; the lesser of across and down
    "even",  # of green: share of neighbours in a row that are alike; those nearly alike count for a part
    "grain",  # of green: mean step from pixel to pixel where the picture is calmest, in the lowest tenth of its tiles
    "side",  # shorter side of the picture over that of the network's input, at most 1
)


@dataclass(frozen=True, slots=True)
class StyleDirection:
    """One way to be strange: `sign * log2(slope * measure + offset)` rises with it, about evenly to the eye."""

    name: str
    words: str  # "It is ... than the pictures it was calibrated on."
    measure: str
    sign: int = -1
    slope: int = 1  # 1: a step for each halving of the measure; -1: of what it lacks to 1
    offset: float = 0.01
    least: float = 0.25  # a step of which is the least worth telling, in these logarithms
    implied_by: tuple[str, ...] = ()  # not worth telling beside these: a dark picture has little colour and contrast


_DARK = ("dark", "dim")
_FAINT = (*_DARK, "flat")
STYLE_DIRECTIONS = (
    StyleDirection("dark", "darker", "brightness"),
    StyleDirection("dim", "darker", "highlights"),
    StyleDirection("bright", "brighter", "brightness", slope=-1, offset=1.02),
    StyleDirection("flat", "lower in contrast", "contrast", implied_by=_DARK),
    StyleDirection("grey", "greyer", "colour", implied_by=_FAINT),
    StyleDirection("colourful", "more colourful", "colour", slope=-1, offset=1.02, least=0.15),
    StyleDirection("blurred", "blurrier", "sharpness", offset=0.02),
    StyleDirection("sharp", "sharper", "sharpness", sign=1, offset=0.02, implied_by=("grainy",)),
    StyleDirection("small", "lower in resolution", "side", offset=0.0, least=0.4),
    StyleDirection("drawn", "more like a drawing", "even", slope=-1, offset=1.01, implied_by=_FAINT),
    StyleDirection("grainy", "noisier", "grain", sign=1, offset=0.05),
)

_AT = np.array([STYLE_MEASURES.index(one.measure) for one in STYLE_DIRECTIONS])
_SLOPE = np.array([float(one.slope) for one in STYLE_DIRECTIONS])
_OFFSET = np.array([one.offset for one in STYLE_DIRECTIONS])
_SIGN = np.array([float(one.sign) for one in STYLE_DIRECTIONS])

_ROWS, _COLUMNS, _TILE = 14, 56, 14  # about so many places are looked at; steps are averaged over so many in a row
_PLANES = 8  # what is seen of a place, see `StyleKernel`
_STEP = 4  # the plane of steps across
# Of red, green and blue: luminance (ITU-R BT.601), and how far they are apart
_LIGHTS = np.array([[0.299, 0.587, 0.114], [1, -1, 0], [0, 1, -1], [-1, 0, 1]], dtype=np.float32)
_ALIKE = 1 / 255  # a step of a grey level is not alike at all
_STILL = 1e-6  # energy of steps, in squares of [0, 1]: of less, sharpness cannot be told
_USUAL_SHARPNESS = 1.2
_NOTHING = (0.0, 0.0, 0.0, 0.0, _USUAL_SHARPNESS, 0.0, 0.0)  # told of numbers that mean nothing
_OFF, _FAR = 0.01, 1e6  # by so much black and white may come back wrong, and by such factors


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleKernel:
    """What style is told from: one convolution of the pixels, at places `strides` apart, and sums over it.

    Its planes are luminance, red - green, green - blue, blue - red, as light in [0, 1]; of green the step to the right,
    the second difference there, and both downwards. `collect` says in numpy what is made of them. `learn.style_graph`
    writes the same into a model's graph, where it costs next to nothing: between two runs of a network each call of
    numpy finds its code gone from the processor's caches, and so few numbers took 0.2 ms.
    """

    weights: FloatArray  # (planes, 3, 3, 3) float32
    bias: FloatArray  # (planes,)
    strides: tuple[int, int]
    grid: tuple[int, int]  # rows and columns of places
    tile: int  # columns that a step is averaged over

    limit: ClassVar[float] = _ALIKE
    step_plane: ClassVar[int] = _STEP

    @property
    def count(self) -> int:
        """How many numbers `collect` gives."""
        rows, columns = self.grid
        return 2 * _PLANES + 1 + rows * (columns // self.tile)

    def collect(self, pixels: FloatArray) -> FloatArray:
        """(count,) of pixels (3, size, size): of each plane the sum of squares, then of each the mean; the mean of
        steps cut at `limit`; means of steps by tile.
        """
        (rows, columns), (down, right) = self.grid, self.strides
        patches = [
            pixels[:, y : y + down * (rows - 1) + 1 : down, x : x + right * (columns - 1) + 1 : right]
            for y in range(3)
            for x in range(3)
        ]
        weights = self.weights.reshape(_PLANES, 3, 9).transpose(0, 2, 1).reshape(_PLANES, -1)
        # not BLAS: its threads would run beside those that call
        planes = np.einsum("pi,in->pn", weights, np.concatenate(patches).reshape(27, -1)) + self.bias[:, np.newaxis]
        sizes = np.abs(planes[_STEP]).reshape(rows, columns)
        tiles = sizes[:, : columns // self.tile * self.tile].reshape(-1, self.tile).mean(axis=1)
        even = [np.minimum(sizes, self.limit).mean()]
        return np.concatenate([np.square(planes).sum(axis=1), planes.mean(axis=1), even, tiles]).astype(np.float32)

    def tell(self, collected: FloatArray, share: float) -> FloatArray:
        """(measures,) of what was collected, and the measure `side`.

        Without numpy, for that there are too few, and without a loop: met cold, each line costs what it touches.
        """
        rows, columns = self.grid
        n = rows * columns
        told: list[float] = collected.tolist()
        bright = told[_PLANES]
        contrast = math.sqrt(max(0.0, told[0] / n - bright * bright))
        still, usual = _STILL * n, _USUAL_SHARPNESS * _STILL * n
        across = (told[_STEP + 1] + usual) / (told[_STEP] + still)  # second differences over first
        down = (told[_STEP + 3] + usual) / (told[_STEP + 2] + still)
        tiles = told[2 * _PLANES + 1 :]
        tiles.sort()
        # within what bytes can give, whatever rounding did, or a stranger's network
        return np.array(
            [
                min(1.0, max(0.0, bright)),
                min(1.0, max(0.0, bright + 2 * contrast)),
                min(1.0, contrast),
                min(1.0, math.sqrt(max(0.0, told[1] + told[2] + told[3]) / (2 * n))),
                min(4.0, max(0.0, min(across, down))),
                min(1.0, max(0.0, 1 - told[2 * _PLANES] / self.limit)),
                min(1.0, max(0.0, tiles[len(tiles) // 10])),
                share,
            ],
            dtype=np.float32,
        )


def find_style_kernel(preprocess: Preprocess) -> StyleKernel | None:
    """That of these ops; None where it can tell nothing of what comes out of them."""
    light, size = _undo_arithmetic(preprocess), preprocess.size
    if light is None or size < 3:
        return None
    gain, shift = light
    weights = np.zeros((_PLANES, 3, 3, 3), dtype=np.float32)
    weights[:_STEP, :, 0, 0] = _LIGHTS * gain
    line = np.array([[-1, 1, 0], [1, -2, 1]], dtype=np.float32) * gain[1]
    weights[_STEP : _STEP + 2, 1, 0, :], weights[_STEP + 2 :, 1, :, 0] = line, line
    bias = np.concatenate([(_LIGHTS * shift).sum(axis=1), np.zeros(_PLANES - _STEP)]).astype(np.float32)
    strides = max(1, size // _ROWS), max(1, size // _COLUMNS)
    rows, columns = ((size - 3) // stride + 1 for stride in strides)
    return StyleKernel(weights=weights, bias=bias, strides=strides, grid=(rows, columns), tile=min(_TILE, columns))


class SizedPreprocess:
    """What `Preprocess` gives, bit for bit, and the measure `side` of the picture. For many pictures, many threads."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._min_side: int | None = preprocess.ops[0]["jpeg_min_side"]

    def from_bytes(self, data: bytes, *, name: str, limits: DecodeLimits) -> tuple[FloatArray, float]:
        """(pixels, side) of an encoded picture. Raises UnreadablePicture."""
        image = decode_picture(data, name=name, limits=limits, min_side=self._min_side)
        return self.preprocess.from_decoded(image), self._share(min(image.size))

    def from_image(self, image: Image.Image) -> tuple[FloatArray, float]:
        """(pixels, side) of a PIL picture; raises as `Preprocess.from_image`."""
        return self.preprocess.from_image(image), self._share(min(image.size))

    def from_array(self, pixels: PixelArray) -> tuple[FloatArray, float]:
        """(pixels, side) of uint8 (h, w, 3) or (h, w); raises as `Preprocess.from_array`."""
        return self.preprocess.from_array(pixels), self._share(min(pixels.shape[:2]))

    def _share(self, side: int) -> float:
        return min(1.0, side / self.preprocess.size)


class StyledPreprocess:
    """What `SizedPreprocess` gives, but for `side` the whole style: float32 in the order of STYLE_MEASURES."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._sized = SizedPreprocess(preprocess)
        self._kernel = find_style_kernel(preprocess)

    def from_bytes(self, data: bytes, *, name: str, limits: DecodeLimits) -> tuple[FloatArray, FloatArray]:
        """(pixels, style) of an encoded picture. Raises UnreadablePicture."""
        return self._measure(*self._sized.from_bytes(data, name=name, limits=limits))

    def from_image(self, image: Image.Image) -> tuple[FloatArray, FloatArray]:
        """(pixels, style) of a PIL picture; raises as `Preprocess.from_image`."""
        return self._measure(*self._sized.from_image(image))

    def from_array(self, pixels: PixelArray) -> tuple[FloatArray, FloatArray]:
        """(pixels, style) of uint8 (h, w, 3) or (h, w); raises as `Preprocess.from_array`."""
        return self._measure(*self._sized.from_array(pixels))

    def _measure(self, pixels: FloatArray, share: float) -> tuple[FloatArray, FloatArray]:
        if self._kernel is None:
            return pixels, np.array([*_NOTHING, share], dtype=np.float32)
        return pixels, self._kernel.tell(self._kernel.collect(pixels), share)


def follow_directions(styles: FloatArray) -> FloatArray:
    """(..., measures) -> (..., directions) float64, each rising as the style goes that way: before any scaling."""
    return np.asarray(_SIGN * np.log2(_SLOPE * styles[..., _AT] + _OFFSET))


def _undo_arithmetic(preprocess: Preprocess) -> tuple[FloatArray, FloatArray] | None:
    """gain and shift (3,) float32 that take the network's numbers back to light in [0, 1], black and white.

    Found by running the ops on one black and one white picture: there is one interpreter of them.

    None where black and white do not come back, or from afar: then a stranger's numbers mean nothing to us.
    """
    cut = [op["op"] for op in preprocess.ops].index("scale")
    squish: Op = {"op": "resize", "mode": "squish", "size": 1, "filter": "nearest", "antialias": False}
    numbers = Preprocess([{"op": "decode", "mode": "RGB", "jpeg_min_side": None}, squish, *preprocess.ops[cut:]])
    with np.errstate(all="ignore"):
        black, white = (
            numbers.from_array(np.full((1, 1, 3), byte, dtype=np.uint8)).reshape(3).astype(np.float64)
            for byte in (0, 255)
        )
        gain = (1 / (white - black)).astype(np.float32)
        shift = (-black * gain).astype(np.float32)
        back = np.array([black, white], dtype=np.float32) * gain + shift
        is_told = np.abs(back - [[0], [1]]) < _OFF, np.abs(gain) < _FAR, np.abs(gain) > 1 / _FAR
    if not all(one.all() for one in is_told):  # nor where they are not finite
        return None
    return gain, shift
