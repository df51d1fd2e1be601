"""Encoded pictures with known pixels, some of them made by hand because no encoder would."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

# (2, 3, 3): no two pixels alike, so that every turn, swap of channels and slip by one shows itself
TINY = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [200, 150, 100], [255, 255, 255]]], dtype=np.uint8
)


def encode(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def smooth(width: int, height: int) -> np.ndarray:
    """(h, w, 3): slopes that survive JPEG nearly unchanged."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, np.full(x.shape, 128)], axis=-1).astype(np.uint8)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *extra: bytes) -> bytes:
    """`colour` is 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA; `extra` chunks stand before the pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    content = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + content + png_chunk(b"IEND", b"")


def exif_block(orientation: int, *, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """An EXIF block: a maker's note, the orientation, and nothing else."""
    code = {1: "B3x", 3: "H2x", 4: "I"}.get(kind, "I")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    note = struct.pack(f"{order}HHI4s", 0x010F, 2, 4, b"cam\0")
    turn = struct.pack(f"{order}HHI{code}", 0x0112, kind, count, orientation)
    return b"Exif\0\0" + head + struct.pack(f"{order}H", 2) + note + turn + bytes(4)


def jpeg_with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """The JPEG with this EXIF block in place of its JFIF header, as cameras write it."""
    (length,) = struct.unpack(">H", jpeg[4:6])
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[4 + length :]
