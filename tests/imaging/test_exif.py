from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from drivetrain.imaging.exif import Origin, read_origin


def block(tags: dict[int, object], taken: str | None = None) -> bytes:
    exif = Image.Exif()
    exif.update(tags)
    if taken is not None:
        exif.get_ifd(0x8769)[0x9003] = taken
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=exif)
    return bytes(Image.open(out).info["exif"])


@pytest.mark.parametrize(
    ("tags", "taken", "camera", "when"),
    [
        ({0x010F: "Canon", 0x0110: "EOS 5D"}, "2024:05:03 12:00:01", "Canon EOS 5D", "2024-05-03T12:00:01"),
        ({0x010F: "Canon", 0x0110: "Canon EOS 5D"}, None, "Canon EOS 5D", ""),
        ({0x0110: "Pixel 8", 0x0132: "2023:01:02 03:04:05"}, None, "Pixel 8", "2023-01-02T03:04:05"),
        ({0x0132: "2023:01:02 03:04:05"}, "2024:05:03 12:00:01", "", "2024-05-03T12:00:01"),
        ({0x0132: "0000:00:00 00:00:00"}, None, "", ""),
        ({0x0132: "2023:13:02 03:04:05"}, None, "", ""),
        ({0x0110: "A\tB\x1b[31m" + "c" * 90}, None, "A B [31m" + "c" * 56, ""),
        ({0x0132: "2023:01:02"}, "long ago", "", "2023-01-02"),
        ({0x0110: "X"}, None, "X", ""),
        ({}, None, "", ""),
    ],
)
def test_camera_and_time(tags: dict[int, object], taken: str | None, camera: str, when: str) -> None:
    found = read_origin(block(tags, taken)) if tags or taken else read_origin(b"Exif\0\0II*\0\x08\0\0\0\0\0")
    assert found == Origin(camera=camera, taken=when)


@pytest.mark.parametrize("exif", [None, "text", b"", b"Exif\0\0", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"\0" * 50])
def test_what_is_no_exif_tells_nothing(exif: object) -> None:
    assert read_origin(exif) == Origin()


def test_both_byte_orders() -> None:
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        entry = struct.pack(f"{order}HHI", 0x0110, 2, 2) + b"X\0\0\0"
        assert read_origin(mark + struct.pack(f"{order}IH", 8, 1) + entry).camera == "X"


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_damage_is_never_fatal(noise: bytes, at: int, value: int) -> None:
    good = bytearray(block({0x010F: "Canon", 0x0110: "EOS 5D"}, "2024:05:03 12:00:01"))
    if at < len(good):
        good[at] = value
    for exif in (bytes(good), bytes(good[:at]), b"Exif\0\0II*\0" + noise):
        found = read_origin(exif)
        assert len(found.camera) <= 129
