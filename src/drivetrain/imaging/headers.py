"""What a file's bytes say before any decoder has seen them."""

from __future__ import annotations

import struct

__all__ = ["count_jpeg_scans", "guess_what", "measure_gif", "read_orientation"]

_ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # TIFF type -> its struct code
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_GIF_EXTENSION, _GIF_FRAME = 0x21, 0x2C
_NO_PICTURE = (  # what the bytes begin with, white space left out -> what they are
    (b"<!doctype", "a web page, not a picture"),
    (b"<html", "a web page, not a picture"),
    (b"<svg", "an SVG drawing, which is not supported"),
    (b"%pdf", "a PDF document, not a picture"),
)
_OTHER_PICTURES = (  # brands of the ISO media container that cameras and browsers write
    ((b"heic", b"heix", b"mif1", b"msf1", b"heif", b"hevc", b"heim"), "a HEIC picture, which is not supported"),
    ((b"avif", b"avis"), "an AVIF picture, which is not supported"),
)


def read_orientation(exif: object) -> int:
    """EXIF orientation, 1 to 8, of an EXIF block; 1 (upright) where there is none or it is damaged.

    Pillow's own reader parses every tag (0.3 ms of a camera's block) and raises Python warnings on damaged ones.
    """
    if not isinstance(exif, bytes):
        return 1
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(f"{order}HHI", tiff, at)
            if tag == _ORIENTATION:
                if length != 1 or kind not in _INTEGERS:
                    return 1
                (value,) = struct.unpack_from(order + _INTEGERS[kind], tiff, at + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # it ends in the middle
        pass
    return 1


def count_jpeg_scans(data: bytes) -> int:
    """Scans of a JPEG, those of a thumbnail inside it too: in coded data 0xFF is always followed by 0."""
    return data.count(b"\xff\xda")


def measure_gif(data: bytes) -> tuple[int, int]:
    """Width and height of a GIF's canvas, or of its first frame where that reaches further; (0, 0) if cut short."""
    size = (0, 0)
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        size = (width, height)
        at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
        while data[at] == _GIF_EXTENSION:
            at += 2
            while data[at]:
                at += data[at] + 1
            at += 1
        if data[at] == _GIF_FRAME:
            left, top, frame_width, frame_height = struct.unpack_from("<4H", data, at + 1)
            size = (max(width, left + frame_width), max(height, top + frame_height))
    except (struct.error, IndexError):
        pass
    return size


def guess_what(data: bytes) -> str:
    """What bytes that no decoder takes seem to be, for the person who must find the file's fault."""
    head = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, what in _NO_PICTURE:
        if head[:16].lower().startswith(start):
            return what
    if data[4:8] == b"ftyp":
        for brands, what in _OTHER_PICTURES:
            if data[8:12] in brands:
                return what
    is_cut_short = data.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8")) or (data[:4] == b"RIFF" and len(data) < 12)
    if is_cut_short:
        return "a damaged picture (its header cannot be read)"
    if not any(data[:512]):
        return f"{len(data):,} bytes that begin with nothing but zeros"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return "text, not a picture"
    return f"{len(data):,} bytes that are no picture we know"
