"""When and with what a photograph was taken: four tags of an EXIF block, and not a byte more is parsed."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Origin", "read_origin"]

_MAKE, _MODEL, _CHANGED, _SUBFOLDER, _TAKEN = 0x010F, 0x0110, 0x0132, 0x8769, 0x9003
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ASCII, _LONG = 2, 4
_MOST_TAGS = 512  # of one folder: cameras write some sixty
_MOST_CHARS = 64
_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d)(?: (\d\d:\d\d:\d\d))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a picture says it comes from; empty where it does not say."""

    camera: str = ""  # maker and model
    taken: str = ""  # "2024-05-03T12:00:00", or the day alone


def read_origin(exif: object) -> Origin:
    """Camera and time of an EXIF block; whatever is absent, damaged or no text is left empty. Never raises.

    Pillow's reader parses every tag and warns on damaged ones; this reads four, within bounds.
    """
    if not isinstance(exif, bytes):
        return Origin()
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return Origin()
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    except struct.error:
        return Origin()
    texts: dict[int, str] = {}
    for tag, kind, length, at in _entries(tiff, start, order):
        if tag in {_MAKE, _MODEL, _CHANGED}:
            texts[tag] = _read_text(tiff, kind, length, at, order)
        elif tag == _SUBFOLDER and kind == _LONG:
            (inner,) = struct.unpack_from(f"{order}I", tiff, at)
            for sub_tag, sub_kind, sub_length, sub_at in _entries(tiff, inner, order):
                if sub_tag == _TAKEN:
                    texts[_TAKEN] = _read_text(tiff, sub_kind, sub_length, sub_at, order)
    make, model = texts.get(_MAKE, ""), texts.get(_MODEL, "")
    camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    return Origin(camera=camera, taken=_date(texts.get(_TAKEN, "")) or _date(texts.get(_CHANGED, "")))


def _entries(tiff: bytes, start: int, order: str) -> Iterator[tuple[int, int, int, int]]:
    """(tag, type, length, place of the value) of each entry of the folder at `start`, as far as it goes."""
    try:
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * min(count, _MOST_TAGS), 12):
            tag, kind, length, _ = struct.unpack_from(f"{order}HHII", tiff, at)
            yield tag, kind, length, at + 8
    except struct.error:  # it ends in the middle
        return


def _read_text(tiff: bytes, kind: int, length: int, at: int, order: str) -> str:
    if kind != _ASCII:
        return ""
    if length > 4:
        (at,) = struct.unpack_from(f"{order}I", tiff, at)
    raw = tiff[at : at + min(length, _MOST_CHARS)].partition(b"\0")[0]
    text = raw.decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _date(text: str) -> str:
    """ "2024:05:03 12:00:00" -> "2024-05-03T12:00:00"; "" for what is no date: cameras without a clock write zeros."""
    found = _DATE.match(text)
    if found is None or found[1] == "0000" or not 1 <= int(found[2]) <= 12 or not 1 <= int(found[3]) <= 31:
        return ""
    day = f"{found[1]}-{found[2]}-{found[3]}"
    return f"{day}T{found[4]}" if found[4] else day
