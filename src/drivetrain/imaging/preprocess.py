"""The one interpreter of the declared preprocessing: training, `predict` and the server all call this.

A preprocessing is a list of ops, kept in the bundle and hashed:

    [{"op": "decode", "mode": "RGB", "jpeg_min_side": 224},
     {"op": "exif_transpose"},
     {"op": "resize", "mode": "crop", "size": 224, "filter": "bilinear", "antialias": true},
     {"op": "scale", "by": 0.00392156862745098},
     {"op": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
     {"op": "layout", "to": "NCHW"}]

Ops run in the order given. Those before `scale` turn a picture into a picture; `scale` gives numbers; `layout` ends.

* decode: the first frame as 8-bit RGB, transparency on white, colour profiles passed over; a JPEG may be decoded at
  1/2, 1/4 or 1/8 of its size while both sides keep `jpeg_min_side` pixels (null: never).
* exif_transpose: turned as EXIF says (a TIFF, whose orientation is a part of the format, is turned by `decode`).
* resize: `shortest` or `longest` side to `size`, the other in proportion and rounded (halves to even); `squish`: both;
  `crop`: the largest square in the middle, its corner rounded down, and nothing beside it. Without antialias each
  pixel is sampled at its centre, by nearest, bilinear or bicubic. Of a picture longer than 8:1, `shortest` keeps the
  middle 8:1.
* center_crop: the middle, its corner rounded down; black beyond the edge.
* pad: centred on a square; around it the grey `fill` (`constant`), the nearest pixel (`border`), or the picture
  mirrored as often as it takes (`reflection`).

The arithmetic itself stands in `imaging.resize`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray, PixelArray
from drivetrain.errors import InvalidInput

from .decode import DecodeLimits, apply_exif_turn, decode_picture, load_pixels, to_rgb
from .resize import (
    FILTERS,
    MAX_STRIP,
    PAD_MODES,
    POINT_FILTERS,
    RESIZE_MODES,
    crop_centre,
    pad_square,
    resize_picture,
)

__all__ = ["MAX_SIZE", "Fit", "Op", "PictureOps", "Preprocess", "declare_preprocess"]

Op = Mapping[str, Any]
Fit = Literal["crop", "pad", "squish"]
_Step = Callable[[Image.Image], Image.Image]

# kind of a field -> what it takes; a bool is never a number
_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "a whole number": (int,),
    "a whole number or null": (int, type(None)),
    "a number": (int, float),
    "true or false": (bool,),
    "a list": (list,),
}
# op -> its fields; every field must be given, and no other may be: nothing is guessed, nothing is ignored
_FIELDS: dict[str, dict[str, str]] = {
    "decode": {"mode": "text", "jpeg_min_side": "a whole number or null"},
    "exif_transpose": {},
    "resize": {"mode": "text", "size": "a whole number", "filter": "text", "antialias": "true or false"},
    "center_crop": {"size": "a whole number"},
    "pad": {"size": "a whole number", "mode": "text", "fill": "a whole number"},
    "scale": {"by": "a number"},
    "normalize": {"mean": "a list", "std": "a list"},
    "layout": {"to": "text"},
}
_CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("decode", "mode"): ("RGB",),
    ("resize", "mode"): RESIZE_MODES,
    ("resize", "filter"): tuple(FILTERS),
    ("pad", "mode"): PAD_MODES,
    ("layout", "to"): ("NCHW",),
}
_NUMBER_OPS = ("scale", "normalize", "layout")
MAX_SIZE = 4096  # a side; a larger one in a stranger's bundle is an attack on memory
_MAX_OPS = 32


def declare_preprocess(
    size: int, *, method: Fit = "crop", mean: Sequence[float], std: Sequence[float], filter_: str = "bilinear"
) -> list[dict[str, Any]]:
    """The ops for a square input of `size` pixels; mean and std are per channel, of values in [0, 1].

    filter_ is that of the resize, which the backbone was trained with.
    """
    resize = {"op": "resize", "size": size, "filter": filter_, "antialias": True}
    fit: dict[Fit, list[dict[str, Any]]] = {
        "crop": [{**resize, "mode": "crop"}],
        "pad": [{**resize, "mode": "longest"}, {"op": "pad", "size": size, "mode": "constant", "fill": 0}],
        "squish": [{**resize, "mode": "squish"}],
    }
    return [
        {"op": "decode", "mode": "RGB", "jpeg_min_side": size},
        {"op": "exif_transpose"},
        *fit[method],
        {"op": "scale", "by": 1 / 255},
        {"op": "normalize", "mean": list(mean), "std": list(std)},
        {"op": "layout", "to": "NCHW"},
    ]


class PictureOps:
    """The ops that turn a picture into a picture, from `decode` to before `scale`: 8-bit RGB comes out.

    `size` is the side of the square that comes out, None where the shape depends on the picture. Ready to run on many
    pictures from many threads. Raises InvalidInput where an op is unknown, misplaced or off.
    """

    def __init__(self, ops: Sequence[Op]) -> None:
        _check_ops(ops)
        names = [op["op"] for op in ops]
        if wrong := [name for name in names if name in _NUMBER_OPS]:
            raise InvalidInput("preprocess", got=names, want=f"ops of pictures only, without {wrong[0]}")
        _check_decode(names)
        _check_growth(ops)
        self.ops: tuple[dict[str, Any], ...] = tuple(dict(op) for op in ops)
        self.digest = _digest(self.ops)
        self.size: int | None = [op["size"] for op in self.ops if "size" in op][-1] if _is_square(ops) else None
        self._min_side: int | None = self.ops[0]["jpeg_min_side"]
        self._steps = [_compile(op) for op in self.ops[1:]]

    def from_bytes(self, data: bytes, *, name: str, limits: DecodeLimits) -> Image.Image:
        """An encoded picture after the ops. Raises UnreadablePicture."""
        return self.run(decode_picture(data, name=name, limits=limits, min_side=self._min_side))

    def from_image(self, image: Image.Image) -> Image.Image:
        """A PIL picture after the ops; it may be the same object, but its pixels are never changed in place.

        Raises InvalidInput, or UnreadablePicture where its file was opened but turns out damaged when read.
        """
        if 0 in image.size:
            raise InvalidInput("picture", got=f"{image.width} x {image.height} pixels", want="at least one pixel")
        load_pixels(image, name="picture")
        return self.run(to_rgb(image))

    def run(self, image: Image.Image) -> Image.Image:
        """What `decode_picture` gave, after the ops."""
        for step in self._steps:
            image = step(image)
        return image


class Preprocess:
    """A list of ops, checked once and ready to run on many pictures from many threads."""

    def __init__(self, ops: Sequence[Op]) -> None:
        _check_ops(ops)
        names = [op["op"] for op in ops]
        _check_order(names)
        if not _is_square(ops):
            want = "a center_crop, a pad or a resize by crop or squish: a square"
            raise InvalidInput("preprocess", got=names, want=want)
        cut = names.index("scale")
        self._pictures = PictureOps(ops[:cut])
        self.ops: tuple[dict[str, Any], ...] = tuple(dict(op) for op in ops)
        self.digest = _digest(self.ops)
        self.size: int = [op["size"] for op in self.ops if "size" in op][-1]  # side of the square that comes out
        self._gain, self._shift = _fuse_arithmetic(self.ops[cut:])

    def from_bytes(self, data: bytes, *, name: str, limits: DecodeLimits) -> FloatArray:
        """An encoded picture as float32 (3, size, size). Raises UnreadablePicture."""
        return self._to_numbers(self._pictures.from_bytes(data, name=name, limits=limits))

    def from_decoded(self, image: Image.Image) -> FloatArray:
        """What `decode_picture` gave, as float32 (3, size, size)."""
        return self._to_numbers(self._pictures.run(image))

    def from_image(self, image: Image.Image) -> FloatArray:
        """A PIL picture as float32 (3, size, size), decoded at full size; its pixels are never changed in place.

        Raises InvalidInput, or UnreadablePicture where its file was opened but turns out damaged when read.
        """
        return self._to_numbers(self._pictures.from_image(image))

    def from_array(self, pixels: PixelArray) -> FloatArray:
        """uint8 (h, w, 3) RGB, (h, w, 1) or (h, w) grey, as float32 (3, size, size). Raises InvalidInput."""
        if (
            pixels.dtype != np.uint8
            or pixels.ndim not in (2, 3)
            or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3))
            or 0 in pixels.shape
        ):
            raise InvalidInput(
                "picture array",
                got=f"{pixels.dtype} of shape {pixels.shape}",
                want="uint8 of shape (height, width, 3) in RGB order, or (height, width) grey, and at least one pixel",
                hint="For floats in [0, 1]: (x * 255).round().astype('uint8').",
            )
        grey = pixels.ndim == 3 and pixels.shape[2] == 1
        return self.from_image(Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels)))

    def _to_numbers(self, image: Image.Image) -> FloatArray:
        pixels = np.asarray(image).transpose(2, 0, 1)  # (h, w, 3) uint8 -> (3, h, w) view
        out = np.empty(pixels.shape, dtype=np.float32)
        np.multiply(pixels, self._gain, out=out, dtype=np.float32)
        out += self._shift
        return out


def _digest(ops: Sequence[Op]) -> str:
    canonical = json.dumps(ops, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _compile(op: Op) -> _Step:
    match op["op"]:
        case "exif_transpose":
            return apply_exif_turn
        case "resize":
            how = {"filter_": op["filter"], "antialias": op["antialias"]}
            return lambda image: resize_picture(image, op["mode"], op["size"], **how)
        case "center_crop":
            return lambda image: crop_centre(image, op["size"])
        case "pad":
            return lambda image: pad_square(image, op["size"], mode=op["mode"], fill=op["fill"])
    raise AssertionError(op)  # _check_ops let through what cannot run


def _fuse_arithmetic(ops: Sequence[Op]) -> tuple[FloatArray, FloatArray]:
    """scale and normalize as one multiply and one add per channel: gain and shift, each float32 (3, 1, 1)."""
    gain, shift = np.ones(3), np.zeros(3)
    with np.errstate(over="ignore", invalid="ignore"):  # told below, as an error
        for op in ops:
            if op["op"] == "scale":
                gain, shift = gain * op["by"], shift * op["by"]
            elif op["op"] == "normalize":
                std = np.asarray(op["std"], dtype=np.float64)
                gain, shift = gain / std, (shift - np.asarray(op["mean"], dtype=np.float64)) / std
        fused = gain.astype(np.float32).reshape(3, 1, 1), shift.astype(np.float32).reshape(3, 1, 1)
        if not np.isfinite(255 * fused[0] + fused[1]).all():
            raise InvalidInput(
                "preprocess", got="a scale and a normalize beyond 32-bit floats", want="numbers nearer to 1"
            )
    return fused


def _check_ops(ops: Sequence[Op]) -> None:
    """Raise InvalidInput on the first op that is unknown, misplaced, or has a field missing, left over or off."""
    if not 1 <= len(ops) <= _MAX_OPS:
        raise InvalidInput("preprocess", got=f"{len(ops)} ops", want=f"1 to {_MAX_OPS} ops")
    for at, op in enumerate(ops):
        where = f"preprocess[{at}]"
        if not isinstance(op, Mapping):
            raise InvalidInput(where, got=op, want="an op, such as {'op': 'exif_transpose'}")
        name = op.get("op")
        if not isinstance(name, str) or name not in _FIELDS:
            raise InvalidInput(f"{where}.op", got=name, want="one of " + ", ".join(_FIELDS))
        wanted = _FIELDS[name]
        if op.keys() - {"op"} != wanted.keys():
            got, want = ([str(key) for key in keys if key != "op"] for keys in (op, wanted))
            raise InvalidInput(f"{where} ({name})", got=sorted(got), want=f"exactly the fields {sorted(want)}")
        for field, kind in wanted.items():
            if not _is_kind(op[field], kind):
                raise InvalidInput(f"{where}.{field}", got=op[field], want=kind)
            _check_value(f"{where}.{field}", name, field, op[field])
        if name == "resize" and not op["antialias"] and op["filter"] not in POINT_FILTERS:
            raise InvalidInput(
                f"{where}.antialias", got=f"false with {op['filter']}", want="true, or " + ", ".join(POINT_FILTERS)
            )


def _is_kind(value: object, kind: str) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "true or false" or not isinstance(value, bool))


def _check_value(where: str, op: str, field: str, value: Any) -> None:
    choices = _CHOICES.get((op, field))
    if choices and value not in choices:
        raise InvalidInput(where, got=value, want="one of " + ", ".join(choices))
    if field in ("size", "jpeg_min_side") and value is not None and not 1 <= value <= MAX_SIZE:
        raise InvalidInput(where, got=value, want=f"1 to {MAX_SIZE} pixels")
    if field == "fill" and not 0 <= value <= 255:
        raise InvalidInput(where, got=value, want="0 to 255")
    if field in ("mean", "std"):
        is_fit = len(value) == 3 and all(map(_is_finite, value)) and (field == "mean" or min(value) > 0)
        if not is_fit:
            raise InvalidInput(where, got=value, want="three finite numbers" + (" above 0" if field == "std" else ""))
    if field == "by" and not (_is_finite(value) and value > 0):
        raise InvalidInput(where, got=value, want="a finite number above 0")


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float; JSON knows no limit
        return False


def _check_decode(names: Sequence[str]) -> None:
    if names[0] != "decode" or names.count("decode") != 1:
        raise InvalidInput("preprocess", got=list(names), want="one decode, first")


def _check_order(names: Sequence[str]) -> None:
    _check_decode(names)
    if names[-1] != "layout" or names.count("layout") != 1 or names.count("scale") != 1:
        raise InvalidInput("preprocess", got=list(names), want="one scale, and one layout at the end")
    cut = names.index("scale")
    pictures, numbers = names[1:cut], names[cut + 1 : -1]
    late = [n for n in numbers if n != "normalize"] + [n for n in pictures if n == "normalize"]
    if late:
        raise InvalidInput("preprocess", got=list(names), want=f"{late[0]} on the other side of scale")


def _is_square(ops: Sequence[Op]) -> bool:
    """Whether a square comes out, whatever goes in: once square, no later op undoes it."""
    return any(op["op"] in ("center_crop", "pad") or op.get("mode") in ("crop", "squish") for op in ops)


def _check_growth(ops: Sequence[Op]) -> None:
    """A strip is cut to 8:1 by a resize to its shortest side, so no later op may need more of it."""
    sized = [op for op in ops if "size" in op]
    for at, op in enumerate(sized):
        rest = max((later["size"] for later in sized[at + 1 :]), default=0)
        if op.get("mode") == "shortest" and rest > MAX_STRIP * op["size"]:
            want = f"at most {MAX_STRIP} times the {op['size']} of the resize before it"
            raise InvalidInput("preprocess", got=f"a size of {rest}", want=want)
