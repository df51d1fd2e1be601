"""A few measures of style so cheap that every picture gets them, in training and in service, beside its pixels.

`imaging.style` looks closely, for `check`, and names faults by fixed thresholds. These are taken from the very pixels
that a network reads, and say nothing by themselves: `flows.fit_shift` learns which of them are usual. Some rows are
looked at, by as few calls as will do: between two runs of a network each call finds its code and data gone from the
caches, and takes several times what it takes in a loop of its own.
"""

from __future__ import annotations

import math
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

STYLE_MEASURES_VERSION = 3  # of all below: neither a cache nor a bundle may mix two
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

_BANDS, _ROWS, _COLUMNS = 7, 4, 56  # the first rows of each band; of light and colour, about so many columns
_LUMA = (0.299, 0.587, 0.114)
_ALONE = 4_500  # so many pixels of bands at most, however large the input: more tell no more
_TILE = 32  # pixels along a row
_ONES = np.ones(_ALONE, dtype=np.float32)
_ALIKE = 1 / 255  # a step of a grey level is not alike at all
_STILL = 1e-6  # energy of steps, in squares of [0, 1]: of less, sharpness cannot be told
_USUAL_SHARPNESS = 1.2
_NOTHING = (0.0, 0.0, 0.0, 0.0, _USUAL_SHARPNESS, 0.0, 0.0)  # told of numbers that mean nothing
_OFF, _FAR = 0.01, 1e6  # by so much black and white may come back wrong, and by such factors
_LEAST = 4  # pixels, rows as columns: of fewer neither sharpness nor evenness can be told


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
        image = decode_picture(data, name=name, limits=limits, min_side=self._min_side)
        pixels = self.preprocess.from_decoded(image)
        return pixels, self.measure(pixels, side=min(image.size))

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
        count, band = self._bands
        bands = pixels[:, : count * band].reshape(3, count, band, size)[:, :, :_ROWS]
        few = bands[:, :, ::2, :: max(1, size // _COLUMNS)].reshape(3, -1)
        return np.array([*self._light.measure(few), *_measure_steps(bands[1], self._light.gain[1]), share], np.float32)


def follow_directions(styles: FloatArray) -> FloatArray:
    """(..., measures) -> (..., directions) float64, each rising as the style goes that way: before any scaling."""
    return np.asarray(_SIGN * np.log2(_SLOPE * styles[..., _AT] + _OFFSET))


def _measure_steps(green: FloatArray, gain: float) -> tuple[float, float, float]:
    """Sharpness, evenness and grain of (bands, rows, w); `gain` takes a difference to light.

    A blurred edge climbs evenly, so its second differences all but vanish; noise has three times what steps have.
    """
    bands, rows, width = green.shape
    if min(rows, width) < _LEAST:
        return _USUAL_SHARPNESS, 0.0, 0.0
    size = abs(gain)
    tile = min(_TILE, width - 1)
    across = green[:, ::2, : (width - 1) // tile * tile + 1].reshape(bands * (rows // 2), -1)
    steps = across[:, 1:] - across[:, :-1]
    bend_across = _bend(steps, steps[:, 1:] - steps[:, :-1], size)
    down = green[::2, 1:] - green[::2, :-1]
    bend_down = _bend(down, down[:, 1:] - down[:, :-1], size)
    sizes = np.abs(steps, out=steps)
    tiles = sorted(np.vecdot(sizes.reshape(-1, tile), _ONES[:tile]).tolist())
    np.minimum(sizes, _ALIKE / size, out=sizes)
    even = 1 - sum(np.vecdot(sizes, _ONES[: sizes.shape[1]]).tolist()) / sizes.size * size / _ALIKE
    return min(bend_across, bend_down), even, tiles[len(tiles) // 10] / tile * size


def _bend(steps: FloatArray, bends: FloatArray, size: float) -> float:
    still = _STILL / (size * size)
    bend: float = (_energy(bends) + _USUAL_SHARPNESS * still) / (_energy(steps) + still)
    return min(4.0, bend)


def _energy(steps: FloatArray) -> float:
    rows: list[float] = np.vecdot(steps, steps).ravel().tolist()
    return sum(rows) / steps.size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Light:
    """What takes the network's numbers back to light in [0, 1], black and white: by channel, times gain plus shift."""

    gain: tuple[float, float, float]
    shift: tuple[float, float, float]

    def measure(self, few: FloatArray) -> tuple[float, float, float, float]:
        """Brightness, highlights, contrast and colour of (3, n), from its moments: numpy's calls cost more than so few
        numbers."""
        n = few.shape[1]
        red, green, blue = few
        # of one row each: of a product of all, BLAS would wake threads beside those that call
        m_r, m_g, m_b = (np.vecdot(few, _ONES[:n]) / n).tolist()
        rr, gg, bb = (np.vecdot(few, few) / n).tolist()
        rg, gb, br = np.vecdot(red, green) / n, np.vecdot(green, blue) / n, np.vecdot(blue, red) / n
        (g_r, g_g, g_b), (s_r, s_g, s_b), (w_r, w_g, w_b) = self.gain, self.shift, _LUMA
        rr, gg, bb = (rr - m_r * m_r) * g_r * g_r, (gg - m_g * m_g) * g_g * g_g, (bb - m_b * m_b) * g_b * g_b
        rg = (float(rg) - m_r * m_g) * g_r * g_g
        gb = (float(gb) - m_g * m_b) * g_g * g_b
        br = (float(br) - m_b * m_r) * g_b * g_r
        m_r, m_g, m_b = m_r * g_r + s_r, m_g * g_g + s_g, m_b * g_b + s_b
        bright = w_r * m_r + w_g * m_g + w_b * m_b
        spread = (
            w_r * w_r * rr + w_g * w_g * gg + w_b * w_b * bb + 2 * (w_r * w_g * rg + w_g * w_b * gb + w_b * w_r * br)
        )
        deviation = math.sqrt(max(0.0, spread))
        apart = (m_r - m_g) ** 2 + (m_g - m_b) ** 2 + (m_b - m_r) ** 2 + 2 * (rr + gg + bb - rg - gb - br)
        return bright, min(1.0, bright + 2 * deviation), deviation, math.sqrt(max(0.0, apart) / 2)


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
    return _Light(gain=tuple(gain.tolist()), shift=tuple(shift.tolist()))
