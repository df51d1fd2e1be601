"""Open a picture that anyone may have sent, and bring it to 8-bit RGB."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from drivetrain.errors import UnreadablePicture

__all__ = ["FORMATS", "SUFFIXES", "DecodeLimits", "apply_exif_turn", "decode_picture", "open_picture", "to_rgb"]

# JPEG brings MPO with it: the JPEG with a second picture inside that many phones write.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
)

# What Pillow's decoders raise on damaged bytes; anything else is a fault of ours and must show itself.
_DECODER_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """What is refused before any pixel is decoded."""

    max_bytes: int = 50_000_000
    max_pixels: int = 80_000_000  # 10,000 x 8,000: above any phone; 240 MB once decoded


def open_picture(data: bytes, *, name: str, limits: DecodeLimits) -> Image.Image:
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
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_many_pixels(name, "far too many pixels", limits) from None
    except _DECODER_FAULTS:
        raise UnreadablePicture(name, reason=_what_instead(data)) from None
    width, height = image.size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(name, f"{width:,} x {height:,} pixels", limits)
    return image


def decode_picture(data: bytes, *, name: str, limits: DecodeLimits, min_side: int | None = None) -> Image.Image:
    """8-bit RGB pixels of `data`, its EXIF kept in `.getexif()` and not yet applied.

    With `min_side`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides keep at least that many
    pixels: the decoder then skips most of its work. Raises UnreadablePicture.
    """
    image = open_picture(data, name=name, limits=limits)
    try:
        if min_side is not None and image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            image.draft(image.mode, (min_side, min_side))
        image.load()
        return to_rgb(image)
    except _DECODER_FAULTS as exc:
        raise UnreadablePicture(name, reason=f"a damaged {image.format} picture ({_first_line(exc)})") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit and float greys scaled, palettes looked up, CMYK turned, transparency laid on white."""
    exif = image.info.get("exif")
    rgb = _to_rgb(image)
    if exif is not None and "exif" not in rgb.info:
        rgb.info["exif"] = exif
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _wide_grey_to_rgb(image)
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")


def _wide_grey_to_rgb(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey; Pillow's own conversion would clip all above 255 to white."""
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    if image.mode.startswith("I;16"):
        values = values / 257.0  # 65,535 -> 255
    elif image.mode == "F" and top <= 1.0:
        values = values * 255.0
    elif top > 255.0:  # 32-bit values have no agreed white: that of 16 bits, or the brightest pixel
        values = values * (255.0 / max(65535.0, top))
    return Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8)).convert("RGB")


def apply_exif_turn(image: Image.Image) -> Image.Image:
    """The picture as its camera held it; a damaged EXIF block leaves it as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except _DECODER_FAULTS:
        return image


def _too_many_pixels(name: str, what: str, limits: DecodeLimits) -> UnreadablePicture:
    return UnreadablePicture(
        name,
        reason=f"{what}, and at most {limits.max_pixels:,} are decoded",
        hint="Save it smaller, or raise image_max_pixels.",
    )


def _what_instead(data: bytes) -> str:
    """A short guess at what the bytes are, for the person who must find the file's fault."""
    head = data[:512]
    if head.startswith((b"<!DOCTYPE", b"<html", b"<HTML", b"<!doctype")):
        return "a web page, not a picture"
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheif"):
        return "a HEIC picture, which is not supported"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "an AVIF picture, which is not supported"
    if head.startswith(b"%PDF"):
        return "a PDF document, not a picture"
    if head.startswith((b"\xff\xd8", b"\x89PNG")) or head[:4] in (b"RIFF", b"GIF8", b"II*\x00", b"MM\x00*"):
        return "a damaged picture (its header cannot be read)"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return "text, not a picture"
    return f"{len(data):,} bytes that are no picture we know"


def _first_line(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return text[0][:80] if text else type(exc).__name__
