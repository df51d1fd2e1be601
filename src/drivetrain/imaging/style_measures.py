"""A few measures of style so cheap that every picture gets them, in training and in service, beside its pixels.

`imaging.style` looks closely, for `check`, and names faults by fixed thresholds. These are taken from the very pixels
that a network reads, and say nothing by themselves: `flows.fit_shift` learns which of them are usual. Some rows are
looked at, by as few calls as will do: between two runs of a network each call finds its code and data gone from the
caches, and takes several times what it takes in a loop of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray, PixelArray
from drivetrain.errors import InvalidInput

from .decode import DecodeLimits, decode_picture
from .preprocess import Op, Preprocess

__all__ = [
    "STYLE_DIRECTIONS",
    "STYLE_MEASURES",
    "STYLE_MEASURES_VERSION",
    "StyleDirection",
    "StyledPreprocess",
    "follow_directions",
]

STYLE_MEASURES_VERSION = 2  # of all below: neither a cache nor a bundle may mix two
STYLE_MEASURES = (
    "brightness",  # mean luminance
    "highlights",  # its 95th percentile
    "contrast",  # 5th to 95th percentile of it
    "colour",  # 98th percentile of the spread between red, green and blue
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

_BANDS, _ROWS, _COLUMNS = 7, 4, 56  # the first rows of each band; of light and colour, about so many columns
_LUMA = (0.299, 0.587, 0.114)
_ALONE = 4_500  # so many pixels, twice, make a sum that BLAS wakes no threads for, beside those that call
_ONES = np.ones(2 * _ALONE, dtype=np.float32)
_TILE = 16  # pixels along a row
_SHARES = [np.full(tile, 1 / max(1, tile), dtype=np.float32) for tile in range(_TILE + 1)]  # to take a mean with
_ALIKE = 1 / 255  # a step of a grey level is not alike at all
_STILL = 1e-6  # energy of steps, in squares of [0, 1]: of less, sharpness cannot be told
_USUAL_SHARPNESS = 1.2
_NOTHING = (0.0, 0.0, 0.0, 0.0, _USUAL_SHARPNESS, 0.0, 0.0)  # told of numbers that mean nothing
_OFF, _FAR = 0.01, 1e6  # by so much black and white may come back wrong, and by such factors
_LEAST_SIDE = 8  # pixels: of a smaller input neither sharpness nor evenness can be told


class StyledPreprocess:
    """What `Preprocess` gives, and the style of the picture beside it: float32 in the order of STYLE_MEASURES.

    Its pixels are those of `preprocess`, bit for bit. Ready to run on many pictures from many threads.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._min_side: int | None = preprocess.ops[0]["jpeg_min_side"]
        self._size = preprocess.size
        # of a low picture all there is in one band
        count = max(1, min(_BANDS, self._size // _ROWS, _ALONE // self._size))
        self._bands = count, self._size // count
        self._light = _undo_arithmetic(preprocess)

    def from_bytes(self, data: bytes, *, name: str, limits: DecodeLimits) -> tuple[FloatArray, FloatArray]:
        """(pixels, style) of an encoded picture. Raises UnreadablePicture."""
        return self.from_image(decode_picture(data, name=name, limits=limits, min_side=self._min_side))

    def from_image(self, image: Image.Image) -> tuple[FloatArray, FloatArray]:
        """(pixels, style) of a PIL picture; raises as `Preprocess.from_image`."""
        pixels = self.preprocess.from_image(image)
        return pixels, self.measure(pixels, side=min(image.size))

    def from_array(self, pixels: PixelArray) -> tuple[FloatArray, FloatArray]:
        """(pixels, style) of uint8 (h, w, 3) or (h, w); raises as `Preprocess.from_array`."""
        read = self.preprocess.from_array(pixels)
        return read, self.measure(read, side=min(pixels.shape[:2]))

    def measure(self, pixels: FloatArray, *, side: int) -> FloatArray:
        """The style of pixels (3, size, size) as the network reads them; `side` is the picture's shorter one before."""
        size = self._size
        if pixels.shape != (3, size, size):
            raise InvalidInput("pixels", got=f"shape {pixels.shape}", want=f"{(3, size, size)}")
        share = min(1.0, side / size)
        if self._light is None:
            return np.array([*_NOTHING, share], dtype=np.float32)
        light = self._light
        count, band = self._bands
        bands = pixels[:, : count * band].reshape(3, count, band, size)[:, :, :_ROWS]
        step = max(1, size // _COLUMNS)
        few = bands[:, :, ::2, ::step] * light.gain
        few += light.shift
        red, green, blue = few.reshape(3, -1)
        luma = _LUMA[0] * red
        luma += _LUMA[1] * green
        luma += _LUMA[2] * blue
        luma.sort()
        spread = np.maximum(np.maximum(red, green), blue)
        spread -= np.minimum(np.minimum(red, green), blue)
        spread.sort()
        low, high = _pick(luma, 0.05), _pick(luma, 0.95)
        found = (
            _mean(luma),
            high,
            high - low,
            _pick(spread, 0.98),
            *_measure_steps(bands[1], gain=light.green),
            share,
        )
        return np.array(found, dtype=np.float32)


def follow_directions(styles: FloatArray) -> FloatArray:
    """(..., measures) -> (..., directions) float64, each rising as the style goes that way: before any scaling."""
    return np.asarray(_SIGN * np.log2(_SLOPE * styles[..., _AT] + _OFFSET))


def _pick(ordered: FloatArray, share: float) -> float:
    """The value below which `share` of these ascending ones (n,) lie."""
    return float(ordered.item(int(share * (len(ordered) - 1))))


def _mean(values: FloatArray) -> float:
    """Of (n,), few enough for BLAS to do it alone."""
    return float(np.dot(values, _ONES[: len(values)])) / len(values)


def _measure_steps(green: FloatArray, *, gain: float) -> tuple[float, float, float]:
    """Sharpness, evenness and grain of (bands, rows, w); `gain` takes a difference to light.

    Second differences follow from steps of one pixel and of two: (c - 2b + a)^2 is on average 4 of the one squared less
    1 of the other. A blurred edge climbs evenly, so they all but vanish; noise has three times what steps have.
    """
    if min(green.shape[1:]) < _ROWS or green.shape[2] < _LEAST_SIDE:
        return _USUAL_SHARPNESS, 0.0, 0.0
    size = abs(gain)
    width = (green.shape[2] - 1) // _TILE * _TILE + 1  # a step less is whole tiles
    across, down = green[:, ::2, :width] if width > 1 else green[:, ::2], green[::2]
    one_across = across[:, :, 1:] - across[:, :, :-1]
    bend_across = _bend(one_across, across[:, :, 2:] - across[:, :, :-2], gain)
    bend_down = _bend(down[:, 1:] - down[:, :-1], down[:, 2:] - down[:, :-2], gain)
    sizes = np.abs(one_across, out=one_across)
    even = 1 - _mean(np.minimum(sizes, _ALIKE / size).ravel()) * size / _ALIKE
    tile = min(_TILE, sizes.shape[2])
    tiles = np.vecdot(sizes.reshape(-1, tile), _SHARES[tile])
    tiles.sort()
    return min(bend_across, bend_down), even, _pick(tiles, 0.1) * size


def _bend(one: FloatArray, two: FloatArray, gain: float) -> float:
    first, second = _energy(one) * gain * gain, _energy(two) * gain * gain
    # sums of not quite the same steps: of few, they may miss each other
    return min(4.0, max(0.0, (4 * first - second + _USUAL_SHARPNESS * _STILL) / (first + _STILL)))


def _energy(steps: FloatArray) -> float:
    flat = steps.ravel()
    return float(np.dot(flat, flat)) / len(flat)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Light:
    """What takes the network's numbers back to light in [0, 1], black and white; arrays float32."""

    gain: FloatArray  # (3, 1, 1, 1)
    shift: FloatArray  # (3, 1, 1, 1)
    green: float  # its gain


def _undo_arithmetic(preprocess: Preprocess) -> _Light | None:
    """Found by running the ops on one black and one white picture: there is one interpreter of them.

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
    return _Light(
        gain=gain.reshape(3, 1, 1, 1),
        shift=shift.reshape(3, 1, 1, 1),
        green=float(gain[1]),
    )
