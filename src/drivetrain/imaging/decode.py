"""Open a picture that anyone may have sent, and bring it to 8-bit RGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from drivetrain.errors import UnreadablePicture

from .headers import count_jpeg_scans, guess_what, measure_gif, read_orientation

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "UNSUPPORTED_SUFFIXES",
    "DecodeLimits",
    "apply_exif_turn",
    "decode_picture",
    "load_pixels",
    "open_picture",
    "to_rgb",
]

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
)
# Phones write these; no reader of ours takes them, so they are named as unreadable instead of passed over in silence.
UNSUPPORTED_SUFFIXES = frozenset({".heic", ".heif", ".avif"})
_JPEG_MAX_SCANS = 100  # cameras and encoders write 1 to 20; each costs a pass over the whole picture


class _Jpeg(JpegImageFile):
    """A JPEG; of an MPO (the JPEG with a second picture inside that many phones write) the first picture.

    Pillow parses the whole EXIF block for a resolution that nobody asked for, and warns where the block is damaged.
    """

    def _read_dpi_from_exif(self) -> None:
        pass


# How a file begins -> its format. Pillow's `Image.open` would do the same, but warns or refuses by a limit that only a
# global can change; ours is DecodeLimits.
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"RIFF", "WEBP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
FORMATS = tuple(dict.fromkeys(format_ for _, format_ in _STARTS))
_PLUGINS = {"PNG": "Png", "WEBP": "WebP", "GIF": "Gif", "BMP": "Bmp", "TIFF": "Tiff"}  # loaded when the first one comes


@cache
def _reader_of(format_: str) -> type[ImageFile]:
    if format_ == "JPEG":
        return _Jpeg
    name = _PLUGINS[format_]
    reader: type[ImageFile] = getattr(import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")
    return reader


# What Pillow's readers raise on damaged bytes. Only calls into Pillow stand in reach of it, so that a mistake in a
# line of ours is never told as a damaged picture. `Warning` is for programs that turn warnings into errors.
_PILLOW_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Warning,
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """What is refused before any pixel is decoded."""

    max_bytes: int = 50_000_000
    max_pixels: int = 80_000_000  # 10,000 x 8,000: above any phone; 320 MB once decoded


def open_picture(data: bytes, *, name: str, limits: DecodeLimits) -> ImageFile:
    """The picture with its header read and no pixel decoded yet; the first frame of an animation.

    Raises UnreadablePicture, named `name`, if the bytes are too many, are no picture of FORMATS, or say they hold more
    pixels than allowed.
    """
    if not data:
        raise UnreadablePicture(name, reason="an empty file (0 bytes)")
    if len(data) > limits.max_bytes:
        raise UnreadablePicture(
            name,
            reason=f"{len(data):,} bytes, and at most {limits.max_bytes:,} are read",
            hint="Save it smaller, or raise image_max_bytes.",
        )
    format_ = next((format_ for start, format_ in _STARTS if data.startswith(start)), None)
    if format_ is None or (format_ == "WEBP" and data[8:12] != b"WEBP"):
        raise UnreadablePicture(name, reason=guess_what(data))
    if format_ == "GIF":  # Pillow reserves the first frame's memory while it opens
        _check_size(measure_gif(data), name, limits)
    reader = _reader_of(format_)
    with _telling(name, f"a damaged {format_} picture (its header cannot be read: "):
        image = reader(io.BytesIO(data))
    if format_ == "PNG":
        _scale_png_transparency(image, depth=data[24])
    _check_size(image.size, name, limits)
    if format_ == "JPEG" and count_jpeg_scans(data) > _JPEG_MAX_SCANS:
        raise UnreadablePicture(
            name, reason=f"a JPEG of {count_jpeg_scans(data):,} scans, and at most {_JPEG_MAX_SCANS} are decoded"
        )
    return image


def decode_picture(data: bytes, *, name: str, limits: DecodeLimits, min_side: int | None = None) -> Image.Image:
    """8-bit RGB pixels of `data`, its EXIF kept in `info["exif"]` and not yet applied.

    With `min_side`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides keep at least that many
    pixels: the decoder then skips most of its work. A TIFF comes out turned as its orientation tag says, which is a
    part of that format. Raises UnreadablePicture.
    """
    image = open_picture(data, name=name, limits=limits)
    if min_side is not None and isinstance(image, JpegImageFile):
        image.draft(image.mode, (min_side, min_side))
    load_pixels(image, name=name)
    return to_rgb(image)


def load_pixels(image: Image.Image, *, name: str) -> None:
    """Decode a picture that was opened but perhaps not read. Raises UnreadablePicture."""
    with _telling(name, f"a damaged {getattr(image, 'format', None) or ''} picture (".replace("  ", " ")):
        image.load()


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit and float greys scaled, palettes looked up, CMYK turned, transparency laid on white.

    Colour profiles are passed over. The picture itself is given back where it is 8-bit RGB already.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        rgb = _grey_16_to_rgb(image)
    elif image.mode in ("I", "F"):
        rgb = _wide_grey_to_rgb(image)
    elif image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, (255, 255, 255))
        rgb.paste(with_alpha, mask=with_alpha)
    else:
        rgb = image.convert("RGB")
    if "exif" in image.info:
        rgb.info["exif"] = image.info["exif"]
    return rgb


def apply_exif_turn(image: Image.Image) -> Image.Image:
    """The picture as its camera held it, and no longer marked as turned; a damaged EXIF block leaves it as it is."""
    turn = _TURNS.get(read_orientation(image.info.get("exif")))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info.pop("exif")  # or a second call would turn it again
    return turned


def _grey_16_to_rgb(image: Image.Image) -> Image.Image:
    """Pillow's own conversion would keep the low byte, or clip all above 255 to white."""
    table = (np.arange(65536) / 257).round().astype(np.uint8)  # 65,535 -> 255
    values = np.asarray(image)
    grey = table[values]
    if isinstance(clear := image.info.get("transparency"), int):  # a PNG may name one value that is transparent
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _wide_grey_to_rgb(image: Image.Image) -> Image.Image:
    """32-bit or float grey: no white is agreed on, so up to 1.0 (floats), 255, 65,535, or the brightest pixel."""
    values = np.asarray(image).astype(np.float32)  # 80 million pixels: 320 MB
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    if image.mode == "F" and top <= 1.0:
        values *= 255.0
    elif top > 255.0:
        values *= 255.0 / max(65535.0, top)
    return Image.fromarray(values.round(out=values).clip(0, 255, out=values).astype(np.uint8)).convert("RGB")


def _scale_png_transparency(image: ImageFile, *, depth: int) -> None:
    """A PNG names its transparent value in its own depth; Pillow gives that unchanged beside 8-bit pixels."""
    clear = image.info.get("transparency")
    if image.mode == "L" and isinstance(clear, int) and depth < 8:
        image.info["transparency"] = clear * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(clear, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _check_size(size: tuple[int, int], name: str, limits: DecodeLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise UnreadablePicture(
            name,
            reason=f"{width:,} x {height:,} pixels, and at most {limits.max_pixels:,} are decoded",
            hint="Save it smaller, or raise image_max_pixels.",
        )


@contextmanager
def _telling(name: str, what: str) -> Iterator[None]:
    """Turn what Pillow raises into the error of this picture; `what` is an open bracket that the cause closes."""
    try:
        yield
    except MemoryError:
        raise UnreadablePicture(
            name, reason="a picture that needs more memory than there is", hint="Save it smaller."
        ) from None
    except Image.DecompressionBombError:  # of a WebP, or of a part of a TIFF or GIF: a limit of Pillow's own
        raise UnreadablePicture(name, reason="more pixels than the decoder takes", hint="Save it smaller.") from None
    except _PILLOW_FAULTS as exc:
        raise UnreadablePicture(name, reason=f"{what}{_first_line(exc)})") from None


def _first_line(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return text[0][:80] if text else type(exc).__name__
