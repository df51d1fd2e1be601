"""A few measures of style so cheap that every picture gets them, in training and in service, beside its pixels.

`imaging.style` looks closely, for `check`, and names faults by fixed thresholds. These are taken from the very pixels
that a network reads, and say nothing by themselves: `flows.fit_shift` learns which of them are usual. Four rows in
sixteen are looked at: 0.1 ms a picture of 224 pixels, where `measure_style` takes 1.4 ms and the network 8.
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

STYLE_MEASURES_VERSION = 1  # of all below: neither a cache nor a bundle may mix two
STYLE_MEASURES = (
    "brightness",  # mean luminance
    "highlights",  # its 95th percentile
    "contrast",  # 5th to 95th percentile of it
    "colour",  # 98th percentile of the spread between red, green and blue
    "sharpness",  # energy of its second differences over that of the first, [0, 4]; the lesser of across and down
    "even",  # share of neighbours that are alike
    "grain",  # mean step from pixel to pixel where the picture is calmest, in the lowest tenth of its tiles
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

_BAND, _ROWS = 16, 4  # of every sixteen rows, the first four
_LUMA = (0.299, 0.587, 0.114)
_TILE = 16  # pixels along a row
_ALIKE = 0.5 / 255  # a step of luminance below half a grey level
_STILL = 1e-6  # energy of steps, in squares of [0, 1]: of less, sharpness cannot be told
_USUAL_SHARPNESS = 1.2
_MOST = np.array([1, 1, 1, 1, 4, 1, 1, 1], dtype=np.float32)  # of each measure
_LEAST_SIDE = 8  # pixels: of a smaller input neither sharpness nor evenness can be told


class StyledPreprocess:
    """What `Preprocess` gives, and the style of the picture beside it: float32 in the order of STYLE_MEASURES.

    Its pixels are those of `preprocess`, bit for bit. Ready to run on many pictures from many threads.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._min_side: int | None = preprocess.ops[0]["jpeg_min_side"]
        self._gain, self._shift = _undo_arithmetic(preprocess)

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
        size = self.preprocess.size
        if pixels.shape != (3, size, size):
            raise InvalidInput("pixels", got=f"shape {pixels.shape}", want=f"{(3, size, size)}")
        bands = _take_bands(pixels)
        with np.errstate(all="ignore"):  # a stranger's scale and normalize may overflow on the way back
            gain, shift = self._gain, self._shift
            luma = bands[0] * np.float32(_LUMA[0] * gain[0])  # (bands, rows, w)
            for channel in (1, 2):
                luma += bands[channel] * np.float32(_LUMA[channel] * gain[channel])
            luma += np.float32(np.dot(_LUMA, shift))
            red, green, blue = bands[:, :, 0, ::4] * gain[:, None, None] + shift[:, None, None]
            spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
            few = luma[:, ::2, ::4].ravel()
            low, high = _percentiles(few, 0.05, 0.95)
            (colour,) = _percentiles(spread, 0.98)
            sharpness, even, grain = _measure_steps(luma)
            share = min(1.0, side / size)
            found = (few.mean(), high, high - low, colour, sharpness, even, grain, share)
            # within what bytes can give: finite, whatever came in
            return np.nan_to_num(np.array(found, dtype=np.float32), posinf=1.0, neginf=0.0).clip(0, _MOST)


def follow_directions(styles: FloatArray) -> FloatArray:
    """(..., measures) -> (..., directions) float64, each rising as the style goes that way: before any scaling."""
    return np.asarray(_SIGN * np.log2(_SLOPE * styles[..., _AT] + _OFFSET))


def _take_bands(pixels: FloatArray) -> FloatArray:
    """(3, bands, rows, w), a view: of a low picture all there is in one band."""
    height = pixels.shape[1]
    if height < _BAND:
        return pixels[:, np.newaxis]
    count = height // _BAND
    return pixels[:, : count * _BAND].reshape(3, count, _BAND, -1)[:, :, :_ROWS]


def _percentiles(values: FloatArray, *shares: float) -> tuple[float, ...]:
    ordered = np.sort(values, axis=None)
    return tuple(float(ordered[int(share * (len(ordered) - 1))]) for share in shares)


def _measure_steps(luma: FloatArray) -> tuple[float, float, float]:
    """Sharpness, evenness and grain of (bands, rows, w) luminance.

    Second differences follow from steps of one pixel and of two: (c - 2b + a)^2 is on average 4 of the one squared less
    1 of the other. A blurred edge climbs evenly, so they all but vanish; noise has three times what steps have.
    """
    if min(luma.shape[1:]) < _ROWS or luma.shape[2] < _LEAST_SIDE:
        return _USUAL_SHARPNESS, 0.0, 0.0
    across, down = luma[:, ::2], luma[::2]
    one_across, one_down = across[:, :, 1:] - across[:, :, :-1], down[:, 1:] - down[:, :-1]
    two_across, two_down = across[:, :, 2:] - across[:, :, :-2], down[:, 2:] - down[:, :-2]
    sharpness = min(_bend(one_across, two_across), _bend(one_down, two_down))
    sizes = np.abs(one_across)
    still = np.count_nonzero(sizes < _ALIKE) + np.count_nonzero(np.abs(one_down) < _ALIKE)
    return sharpness, still / (one_across.size + one_down.size), _find_calm(sizes)


def _find_calm(sizes: FloatArray) -> float:
    bands, rows, width = sizes.shape
    count = max(1, width // _TILE)
    tiles = sizes[:, :, : count * _TILE].reshape(bands, rows, count, -1)
    (calm,) = _percentiles(tiles.mean(axis=(1, 3)), 0.1)
    return calm


def _bend(one: FloatArray, two: FloatArray) -> float:
    first = _energy(one)
    return (4 * first - _energy(two) + _USUAL_SHARPNESS * _STILL) / (first + _STILL)


def _energy(steps: FloatArray) -> float:
    flat = steps.ravel()
    return float(np.einsum("i,i->", flat, flat)) / flat.size  # no BLAS: its threads would run beside those that call


def _undo_arithmetic(preprocess: Preprocess) -> tuple[FloatArray, FloatArray]:
    """gain and shift (3,) float32 that take the network's numbers back to [0, 1], black and white.

    Found by running the ops on one black and one white picture: there is one interpreter of them.
    """
    cut = [op["op"] for op in preprocess.ops].index("scale")
    squish: Op = {"op": "resize", "mode": "squish", "size": 1, "filter": "nearest", "antialias": False}
    numbers = Preprocess([{"op": "decode", "mode": "RGB", "jpeg_min_side": None}, squish, *preprocess.ops[cut:]])
    black, white = (
        numbers.from_array(np.full((1, 1, 3), byte, dtype=np.uint8)).reshape(3).astype(np.float64) for byte in (0, 255)
    )
    with np.errstate(all="ignore"):  # a stranger's numbers may not come back: then they mean nothing, and stay finite
        gain = 1 / (white - black)
        shift = -black * gain
        return np.nan_to_num(gain.astype(np.float32)), np.nan_to_num(shift.astype(np.float32))
