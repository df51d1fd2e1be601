"""Every kind of file comes out as the right pixels, or as an error that says why not."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.errors import UnreadablePicture
from drivetrain.imaging import decode
from drivetrain.imaging.decode import (
    FORMATS,
    SUFFIXES,
    DecodeLimits,
    apply_exif_turn,
    decode_picture,
    load_pixels,
    open_picture,
    to_rgb,
)
from drivetrain.imaging.headers import measure_gif, read_orientation

from .makers import TINY, encode, exif_block, jpeg_with_exif, png, png_chunk, smooth

LIMITS = DecodeLimits()
WHITE, BLACK = [255, 255, 255], [0, 0, 0]


def pixels_of(data: bytes, *, min_side: int | None = None) -> np.ndarray:
    image = decode_picture(data, name="x", limits=LIMITS, min_side=min_side)
    assert image.mode == "RGB"
    return np.asarray(image)


def reason_of(data: bytes, limits: DecodeLimits = LIMITS) -> str:
    with pytest.raises(UnreadablePicture) as caught:
        decode_picture(data, name="x", limits=limits)
    assert caught.value.field == "x"
    return caught.value.reason


def palette_picture(**info: object) -> Image.Image:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    image.putpalette([9, 8, 7, 60, 50, 40, 200, 201, 202])
    image.info.update(info)
    return image


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
    ],
)
def test_lossless_rgb_comes_out_to_the_bit(kind: str, options: dict[str, object]) -> None:
    assert np.array_equal(pixels_of(encode(TINY, kind, **options)), TINY)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_rgb_comes_out_nearly(kind: str) -> None:
    original = smooth(64, 48)
    options = {"quality": 95} if kind != "GIF" else {}
    difference = pixels_of(encode(original, kind, **options)).astype(int) - original
    assert np.abs(difference).mean() < (2 if kind != "GIF" else 12)  # GIF has 256 colours


GREY = np.array([[0, 100, 255]], dtype=np.uint8)
WIDE = np.array([[0, 257, 25_700, 65_535]], dtype=np.uint16)
ALPHA = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], dtype=np.uint8)
ON_WHITE = [[200, 100, 0], WHITE, [244, 224, 204]]  # 51 / 255 is a fifth of the colour
GREY_ALPHA = np.array([[[100, 255], [100, 0], [100, 51]]], dtype=np.uint8)
GREYS = [[100] * 3, WHITE, [224] * 3]
RGB_KEY = png_chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
WIDE_KEY = png_chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))


def grey_key(value: int) -> bytes:
    return png_chunk(b"tRNS", struct.pack(">H", value))


@pytest.mark.parametrize(
    ("data", "row"),
    [
        pytest.param(encode(GREY, "PNG"), [[0] * 3, [100] * 3, WHITE], id="grey PNG"),
        pytest.param(encode(GREY, "TIFF"), [[0] * 3, [100] * 3, WHITE], id="grey TIFF"),
        pytest.param(encode(GREY, "BMP"), [[0] * 3, [100] * 3, WHITE], id="grey BMP"),
        pytest.param(encode(GREY, "GIF"), [[0] * 3, [100] * 3, WHITE], id="grey GIF"),
        pytest.param(encode(GREY > 99, "PNG"), [BLACK, WHITE, WHITE], id="1-bit PNG"),
        pytest.param(encode(GREY > 99, "TIFF", compression="group4"), [BLACK, WHITE, WHITE], id="fax TIFF"),
        pytest.param(encode(GREY > 99, "BMP"), [BLACK, WHITE, WHITE], id="1-bit BMP"),
        pytest.param(encode(GREY_ALPHA, "PNG"), GREYS, id="grey + alpha PNG"),
        pytest.param(encode(Image.fromarray(GREY_ALPHA), "TIFF"), GREYS, id="grey + alpha TIFF"),
        pytest.param(encode(ALPHA, "PNG"), ON_WHITE, id="RGBA PNG"),
        pytest.param(encode(ALPHA, "WEBP", lossless=True, exact=True), ON_WHITE, id="RGBA WebP"),
        pytest.param(encode(ALPHA, "TIFF"), ON_WHITE, id="RGBA TIFF"),
        pytest.param(encode(WIDE, "PNG"), [[0] * 3, [1] * 3, [100] * 3, WHITE], id="16-bit grey PNG"),
        pytest.param(encode(WIDE, "TIFF"), [[0] * 3, [1] * 3, [100] * 3, WHITE], id="16-bit grey TIFF"),
        pytest.param(
            encode(Image.fromarray(WIDE.astype(">u2")), "TIFF"),
            [[0] * 3, [1] * 3, [100] * 3, WHITE],
            id="16-bit grey TIFF, big end first",
        ),
        pytest.param(
            encode(np.array([[-5, 0, 6, 255]], np.int32), "TIFF"),
            [BLACK, BLACK, [6] * 3, WHITE],
            id="32-bit TIFF of small values",
        ),
        pytest.param(
            encode(np.array([[-9, 25_700, 65_535]], np.int32), "TIFF"),
            [BLACK, [100] * 3, WHITE],
            id="32-bit TIFF of 16-bit values",
        ),
        pytest.param(
            encode(np.array([[0, 250_000, 1_000_000]], np.int32), "TIFF"),
            [BLACK, [64] * 3, WHITE],
            id="32-bit TIFF of large values",
        ),
        pytest.param(
            encode(np.array([[0, 0.2, 1, np.nan, np.inf]], np.float32), "TIFF"),
            [BLACK, [51] * 3, WHITE, BLACK, BLACK],
            id="float TIFF up to 1, with holes",
        ),
        pytest.param(
            encode(np.array([[-1, 0.2, 100, 255]], np.float32), "TIFF"),
            [BLACK, BLACK, [100] * 3, WHITE],
            id="float TIFF up to 255",
        ),
        pytest.param(encode(palette_picture(), "PNG"), [[9, 8, 7], [60, 50, 40], [200, 201, 202]], id="palette PNG"),
        pytest.param(encode(palette_picture(), "TIFF"), [[9, 8, 7], [60, 50, 40], [200, 201, 202]], id="palette TIFF"),
        pytest.param(encode(palette_picture(), "BMP"), [[9, 8, 7], [60, 50, 40], [200, 201, 202]], id="palette BMP"),
        pytest.param(encode(palette_picture(), "GIF"), [[9, 8, 7], [60, 50, 40], [200, 201, 202]], id="palette GIF"),
        pytest.param(
            encode(palette_picture(), "PNG", transparency=1),
            [[9, 8, 7], WHITE, [200, 201, 202]],
            id="palette PNG, one colour transparent",
        ),
        pytest.param(
            encode(palette_picture(), "PNG", transparency=bytes([255, 0, 51])),
            [[9, 8, 7], WHITE, [244, 244, 244]],
            id="palette PNG, an alpha per colour",
        ),
        pytest.param(
            encode(palette_picture(), "GIF", transparency=2),
            [[9, 8, 7], [60, 50, 40], WHITE],
            id="palette GIF, one colour transparent",
        ),
        pytest.param(
            png(2, 1, 16, 2, [struct.pack(">6H", 65_535, 0, 32_768, 257, 256, 255)]),
            [[255, 0, 128], [1, 1, 0]],
            id="16-bit RGB PNG",
        ),
        pytest.param(
            png(2, 1, 16, 6, [struct.pack(">8H", 65_535, 0, 0, 65_535, 9, 9, 9, 0)]),
            [[255, 0, 0], WHITE],
            id="16-bit RGBA PNG",
        ),
        pytest.param(png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], RGB_KEY), [WHITE, [4, 5, 6]], id="RGB PNG, keyed"),
        pytest.param(
            png(2, 1, 16, 2, [struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 257, 257, 257)], WIDE_KEY),
            [WHITE, [1, 1, 1]],
            id="16-bit RGB PNG, keyed",
        ),
        pytest.param(png(2, 1, 8, 0, [bytes([1, 2])], grey_key(1)), [WHITE, [2, 2, 2]], id="grey PNG, keyed"),
        pytest.param(png(2, 1, 4, 0, [bytes([0x12])], grey_key(1)), [WHITE, [34] * 3], id="4-bit grey PNG, keyed"),
        pytest.param(
            png(2, 1, 2, 0, [bytes([0b01100000])], grey_key(1)), [WHITE, [170] * 3], id="2-bit grey PNG, keyed"
        ),
        pytest.param(png(2, 1, 1, 0, [bytes([0b01000000])], grey_key(0)), [WHITE, WHITE], id="1-bit PNG, black keyed"),
        pytest.param(
            png(2, 1, 16, 0, [struct.pack(">2H", 257, 514)], grey_key(257)), [WHITE, [2] * 3], id="16-bit PNG, keyed"
        ),
    ],
)
def test_pixels(data: bytes, row: list[list[int]]) -> None:
    assert pixels_of(data).tolist() == [row]


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [("CMYK", "JPEG", {"quality": 98}), ("CMYK", "TIFF", {}), ("L", "JPEG", {}), ("LAB", "TIFF", {})],
)
def test_other_colour_spaces(mode: str, kind: str, options: dict[str, object]) -> None:
    """A CMYK JPEG by Pillow is inverted as Adobe's are: not turned back, it would be far off."""
    original = Image.fromarray(smooth(64, 48)).convert(mode)
    difference = pixels_of(encode(original, kind, **options)).astype(int) - np.asarray(original.convert("RGB"))
    assert np.abs(difference).mean() < 2


def test_cmyk_jpeg_holds_adobe_marker() -> None:
    data = encode(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG")
    assert b"Adobe" in data
    assert pixels_of(data).min() >= 253  # no ink is white


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert (pixels_of(data) == [250, 0, 0]).all()


def test_mpo_gives_its_first_picture() -> None:
    second = Image.new("RGB", (64, 48))
    data = encode(smooth(64, 48), "MPO", save_all=True, append_images=[second])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
    assert np.abs(pixels_of(data).astype(int) - smooth(64, 48)).mean() < 3


def test_tiff_of_several_pages_gives_the_first() -> None:
    data = encode(TINY, "TIFF", save_all=True, append_images=[Image.new("RGB", (5, 5))])
    assert np.array_equal(pixels_of(data), TINY)


def test_gif_frame_smaller_than_its_canvas_lies_on_white() -> None:
    """8 x 8 canvas, one 2 x 2 frame at (3, 3); what the frame leaves open is transparent."""
    data = bytearray(encode(palette_picture().resize((2, 2)), "GIF", transparency=2))
    data[6:10] = struct.pack("<2H", 8, 8)
    at = data.index(b"\x2c", 13)
    data[at + 1 : at + 5] = struct.pack("<2H", 3, 3)
    pixels = pixels_of(bytes(data))
    assert pixels.shape == (8, 8, 3)
    assert pixels[0, 0].tolist() == WHITE
    assert pixels[3, 3].tolist() == [9, 8, 7]


def test_every_suffix_we_take_is_of_a_format_we_read() -> None:
    known = Image.registered_extensions()
    assert FORMATS == ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    assert {known[suffix].replace("MPO", "JPEG").replace("DIB", "BMP") for suffix in SUFFIXES} == set(FORMATS)


# --- scaled decoding of JPEGs


@pytest.mark.parametrize(
    ("size", "min_side", "expected"),
    [
        ((640, 480), None, (640, 480)),
        ((640, 480), 480, (640, 480)),
        ((640, 480), 241, (640, 480)),
        ((640, 480), 240, (320, 240)),
        ((640, 480), 120, (160, 120)),
        ((640, 480), 61, (160, 120)),
        ((640, 480), 60, (80, 60)),
        ((640, 480), 1, (80, 60)),
        ((481, 641), 240, (241, 321)),  # halves are rounded up
        ((100, 100), 224, (100, 100)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_scaled_but_never_below_what_is_needed(
    size: tuple[int, int], min_side: int | None, expected: tuple[int, int], mode: str
) -> None:
    data = encode(Image.fromarray(smooth(*size)).convert(mode), "JPEG")
    image = decode_picture(data, name="x", limits=LIMITS, min_side=min_side)
    assert (image.mode, image.size) == ("RGB", expected)


def test_mpo_and_turned_jpeg_are_scaled_too() -> None:
    mpo = encode(smooth(640, 480), "MPO", save_all=True, append_images=[Image.new("RGB", (640, 480))])
    assert pixels_of(mpo, min_side=100).shape == (120, 160, 3)
    turned = jpeg_with_exif(encode(smooth(640, 480), "JPEG"), exif_block(6))
    image = apply_exif_turn(decode_picture(turned, name="x", limits=LIMITS, min_side=100))
    assert image.size == (120, 160)


def test_other_formats_are_never_scaled() -> None:
    assert pixels_of(encode(smooth(64, 48), "PNG"), min_side=1).shape == (48, 64, 3)
    assert pixels_of(encode(smooth(64, 48), "TIFF", compression="jpeg"), min_side=1).shape == (48, 64, 3)


# --- EXIF

TURNED = {
    1: TINY,
    2: TINY[:, ::-1],
    3: TINY[::-1, ::-1],
    4: TINY[::-1],
    5: TINY.transpose(1, 0, 2),
    6: TINY[::-1].transpose(1, 0, 2),
    7: TINY[::-1, ::-1].transpose(1, 0, 2),
    8: TINY[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "LZW"])
def test_picture_is_turned_once(kind: str, orientation: int) -> None:
    options = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "LZW": {"compression": "tiff_lzw"}}[kind]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(TINY, "TIFF" if kind == "LZW" else kind, exif=exif, **options)
    once = apply_exif_turn(decode_picture(data, name="x", limits=LIMITS))
    assert np.array_equal(np.asarray(once), TURNED[orientation])
    assert np.array_equal(np.asarray(apply_exif_turn(once)), TURNED[orientation])


@pytest.mark.parametrize("orientation", TURNED)
def test_jpeg_is_turned_as_pillow_turns_it(orientation: int) -> None:
    data = jpeg_with_exif(encode(smooth(64, 48), "JPEG"), exif_block(orientation))
    ours = apply_exif_turn(decode_picture(data, name="x", limits=LIMITS))
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[0x0112] == orientation
    assert ours.size == ((64, 48) if orientation < 5 else (48, 64))
    upright = pixels_of(encode(smooth(64, 48), "JPEG"))
    turn = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright, -1), 8: np.rot90(upright)}.get(orientation)
    assert turn is None or np.array_equal(np.asarray(ours), turn)


@pytest.mark.parametrize(
    "pixels",
    [GREY, GREY_ALPHA, ALPHA, WIDE, GREY > 99, palette_picture(), palette_picture(transparency=1)],
    ids=["L", "LA", "RGBA", "I;16", "1", "P", "P with transparency"],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_turn_survives_the_way_to_rgb(pixels: np.ndarray | Image.Image, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = apply_exif_turn(decode_picture(encode(pixels, kind, exif=exif), name="x", limits=LIMITS))
    plain = pixels_of(encode(pixels, kind))
    assert np.array_equal(np.asarray(turned), plain[:, ::-1])
    assert not np.array_equal(np.asarray(turned), plain)


def test_picture_without_turn_is_not_copied_and_a_turned_one_not_changed() -> None:
    image = Image.fromarray(TINY)
    assert to_rgb(image) is image
    assert apply_exif_turn(image) is image
    image.info["exif"] = exif_block(6)
    assert apply_exif_turn(image).size == (2, 3)
    assert (image.size, image.info["exif"]) == ((3, 2), exif_block(6))


@pytest.mark.parametrize(
    ("block", "orientation"),
    [
        (exif_block(6), 6),
        (exif_block(6, order=">"), 6),
        (exif_block(6, kind=4), 6),
        (exif_block(6, kind=1), 6),
        (exif_block(6)[6:], 6),  # without "Exif", as some readers hand it on
        (exif_block(0), 1),
        (exif_block(9), 1),
        (exif_block(6, kind=7), 1),
        (exif_block(6, count=2), 1),
        (exif_block(6)[:30], 1),  # ends in the middle of the tag
        (exif_block(6)[:9], 1),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", 1),  # points beyond its end
        (b"Exif\0\0garbage", 1),
        (b"", 1),
        (None, 1),
        ("text", 1),
    ],
)
def test_orientation(block: object, orientation: int) -> None:
    assert read_orientation(block) == orientation


@pytest.mark.parametrize("block", [exif_block(6)[:30], exif_block(6)[:36], b"Exif\0\0nonsense", b"Exif\0\0"])
def test_jpeg_with_damaged_exif_is_read_without_a_warning(block: bytes) -> None:
    """Pillow warns while it opens such a JPEG; with warnings as errors, it fails."""
    data = jpeg_with_exif(encode(smooth(64, 48), "JPEG"), block)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = apply_exif_turn(decode_picture(data, name="x", limits=LIMITS))
    assert image.size[0] * image.size[1] == 64 * 48


# --- limits


def huge(kind: str, width: int, height: int) -> bytes:
    """A small file whose header claims so many pixels."""
    if kind == "PNG":
        return png(width, height, 8, 2, [b"\0" * 9])
    small = bytearray(encode(TINY, kind))
    if kind == "BMP":
        small[18:26] = struct.pack("<2i", width, height)
    elif kind == "GIF":
        small[6:10] = struct.pack("<2H", width, height)
    elif kind == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = small.index(struct.pack("<HH", tag, 4)) if struct.pack("<HH", tag, 4) in small else -1
            at = at if at >= 0 else small.index(struct.pack("<HH", tag, 3))
            small[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    elif kind == "JPEG":
        at = small.index(b"\xff\xc0")
        small[at + 5 : at + 9] = struct.pack(">2H", height, width)
    elif kind == "WEBP":  # of an animation, whose frames may be smaller than the canvas
        small = bytearray(encode(TINY, kind, save_all=True, append_images=[Image.new("RGB", (3, 2))]))
        small[24:30] = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return bytes(small)


@pytest.mark.parametrize("kind", FORMATS)
def test_claim_of_too_many_pixels_is_refused_before_decoding(kind: str) -> None:
    side = 12_000 if kind == "WEBP" else 50_000  # WebP ends at 16,383
    reason = reason_of(huge(kind, side, side))
    assert reason == f"{side:,} x {side:,} pixels, and at most 80,000,000 are decoded"


def test_webp_beyond_what_its_decoder_takes_is_refused() -> None:
    ours = "16,000 x 16,000 pixels, and at most 80,000,000 are decoded"
    assert reason_of(huge("WEBP", 16_000, 16_000)) in ("more pixels than the decoder takes", ours)  # by Pillow's age


def test_gif_whose_first_frame_is_larger_than_its_canvas_is_measured_by_the_frame() -> None:
    data = bytearray(encode(palette_picture(), "GIF", transparency=2, disposal=2))
    at = data.index(b"\x2c", 13)
    data[at + 5 : at + 9] = struct.pack("<2H", 10_000, 9_500)  # between Pillow's warning and its error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason_of(bytes(data)).startswith("10,000 x 9,500 pixels")


@pytest.mark.parametrize("length", [0, 6, 12, 13, 14, 20])
def test_measuring_a_gif_that_is_cut_short(length: int) -> None:
    data = encode(TINY, "GIF", comment=b"hello")
    assert measure_gif(data) == (3, 2)
    assert measure_gif(data[:length]) == ((3, 2) if length > 10 else (0, 0))


def test_pixel_limit_is_exact() -> None:
    data = encode(TINY, "PNG")  # 6 pixels
    assert open_picture(data, name="x", limits=DecodeLimits(max_pixels=6)).size == (3, 2)
    assert reason_of(data, DecodeLimits(max_pixels=5)) == "3 x 2 pixels, and at most 5 are decoded"


def test_byte_limit_is_exact() -> None:
    data = encode(TINY, "PNG")
    assert open_picture(data, name="x", limits=DecodeLimits(max_bytes=len(data))).size == (3, 2)
    small = DecodeLimits(max_bytes=len(data) - 1)
    assert reason_of(data, small) == f"{len(data)} bytes, and at most {len(data) - 1} are read"


def test_limit_may_be_raised_above_that_of_pillow_without_a_warning() -> None:
    """`Image.open` warns above 89 million pixels and refuses above 179 million, whatever image_max_pixels says."""
    limits = DecodeLimits(max_pixels=250_000_000)
    for width, height in ((10_000, 10_000), (15_000, 15_000)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert open_picture(huge("PNG", width, height), name="x", limits=limits).size == (width, height)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485  # not patched by us


def test_picture_at_the_size_that_pillow_warns_of_is_decoded_in_silence() -> None:
    data = encode(Image.new("1", (10_000, 9_000), 1), "PNG")  # 90 million pixels in 14 kB
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = open_picture(data, name="x", limits=DecodeLimits(max_pixels=100_000_000))
        load_pixels(image, name="x")
    assert image.size == (10_000, 9_000)


def test_progressive_jpeg_of_too_many_scans_is_refused() -> None:
    """Each scan costs a pass over all pixels: 500 kB of them would hold a thread for hours."""
    data = encode(smooth(64, 48), "JPEG", progressive=True)
    assert 1 < data.count(b"\xff\xda") < 20
    assert pixels_of(data).shape == (48, 64, 3)
    at = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[at:-2] * 200 + data[-2:]
    assert reason_of(bomb).endswith("scans, and at most 100 are decoded")


def test_text_bomb_in_a_png_is_refused() -> None:
    bomb = zlib.compress(b"A" * 20_000_000)
    for kind, head in ((b"zTXt", b"note\0\0"), (b"iTXt", b"note\0\1\0\0\0")):
        tracemalloc.start()
        try:
            reason = reason_of(png(1, 1, 8, 0, [b"\7"], png_chunk(kind, head + bomb)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert reason.startswith("a damaged PNG picture")
        assert peak < 10_000_000


def test_pixel_bomb_behind_a_small_png_header_costs_nothing() -> None:
    content = zlib.compress(bytes(50_000_000))
    data = png(2, 1, 8, 0, [b"\7\7"]).replace(zlib.compress(b"\0\7\7"), content)
    at = data.index(b"IDAT")
    data = data[: at - 4] + png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")
    assert pixels_of(data).tolist() == [[BLACK, BLACK]]


# --- what is no picture, or a damaged one


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file (0 bytes)"),
        (b"hello, world\r\n", "text, not a picture"),
        (b"  <!DOCTYPE html><html>", "a web page, not a picture"),
        (b"\xef\xbb\xbf<HTML lang='en'>", "a web page, not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing, which is not supported"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document, not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture, which is not supported"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture, which is not supported"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "16 bytes that are no picture we know"),
        (bytes(2_000), "2,000 bytes that begin with nothing but zeros"),
        (b"\x8f\x1c\x02" * 700, "2,100 bytes that are no picture we know"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "16 bytes that are no picture we know"),
        (b"RIFF", "a damaged picture (its header cannot be read)"),
        (b"\xff\xd8", "a damaged picture (its header cannot be read)"),
        (b"\x89PNG", "a damaged picture (its header cannot be read)"),
        (b"GIF8", "a damaged picture (its header cannot be read)"),
    ],
)
def test_reason_for_what_is_no_picture(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


CUT = {
    "JPEG": (3, 20, 200, 0.5, -200, -3),
    "PNG": (8, 20, 30, 0.5, -30),
    "WEBP": (12, 20, 40, 0.5, -2),
    "GIF": (10, 20, 0.5, -20),
    "BMP": (2, 10, 30, 60, 0.5, -3),
    "TIFF": (4, 9, 50, 0.5, -1),
}


@pytest.mark.parametrize(("kind", "cut"), [(kind, cut) for kind, cuts in CUT.items() for cut in cuts])
@pytest.mark.parametrize("is_error", [True, False], ids=["warnings are errors", "warnings pass"])
def test_truncated_file_is_named_as_damaged(kind: str, cut: float, is_error: bool) -> None:
    rng = np.random.default_rng(0)
    data = encode(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8), kind)
    end = int(len(data) * cut) if isinstance(cut, float) else cut
    with warnings.catch_warnings():
        warnings.simplefilter("error" if is_error else "ignore")
        assert reason_of(data[:end]).startswith(f"a damaged {kind} picture (")


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bytes_give_a_picture_or_the_one_error(kind: str) -> None:
    rng = np.random.default_rng(1)
    good = encode(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8), kind)
    outcomes: set[str] = set()
    for seed in range(150):
        flip = np.random.default_rng([seed, len(good)])
        data = bytearray(good)
        for at in flip.integers(2, min(len(data), 400 if seed % 2 else len(data)), 3):
            data[at] = flip.integers(0, 256)
        try:
            outcomes.add(decode_picture(bytes(data), name="x", limits=DecodeLimits(max_pixels=100_000)).mode)
        except UnreadablePicture:
            outcomes.add("refused")
    assert "refused" in outcomes <= {"refused", "RGB"}


def test_reason_holds_one_short_line() -> None:
    assert "\n" not in reason_of(encode(TINY, "PNG")[:40])


def test_mistake_of_ours_is_not_told_as_a_damaged_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyError in our own lines was once reported as the picture's fault, for every picture."""

    def broken(image: Image.Image) -> Image.Image:
        raise KeyError("ours")

    monkeypatch.setattr(decode, "_grey_16_to_rgb", broken)
    with pytest.raises(KeyError, match="ours"):
        decode_picture(encode(WIDE, "PNG"), name="x", limits=LIMITS)


def test_want_of_memory_is_told_as_such() -> None:
    class Greedy(Image.Image):
        def load(self) -> None:
            raise MemoryError

    with pytest.raises(UnreadablePicture, match="needs more memory than there is"):
        load_pixels(Greedy(), name="x")


def test_wrong_extension_or_garbage_at_the_end_does_no_harm() -> None:
    assert np.array_equal(pixels_of(encode(TINY, "PNG") + b"garbage" * 99), TINY)
    jpeg = encode(smooth(64, 48), "JPEG")
    assert np.array_equal(pixels_of(jpeg + b"\0garbage" * 99), pixels_of(jpeg))


def test_threads_do_not_disturb_each_other() -> None:
    """Damaged and sound pictures at once: answers stay right, and Python's warning filters as they were."""
    sound: dict[str, bytes] = {kind: encode(smooth(200, 150), kind) for kind in FORMATS}
    expected = {kind: pixels_of(data) for kind, data in sound.items()}
    before, wrong = list(warnings.filters), []

    def work() -> None:
        for _ in range(8):
            for kind, data in sound.items():
                if not np.array_equal(pixels_of(data), expected[kind]):
                    wrong.append(kind)
                with pytest.raises(UnreadablePicture):
                    decode_picture(data[: len(data) // 2], name="x", limits=LIMITS)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert list(warnings.filters) == before


def test_importing_leaves_pillow_and_warnings_alone(tmp_path: Path) -> None:
    code = (
        "import warnings, numpy; from PIL import Image, ImageFile;"
        "before = list(warnings.filters), Image.MAX_IMAGE_PIXELS;"
        "import drivetrain.imaging.preprocess;"
        "assert (list(warnings.filters), Image.MAX_IMAGE_PIXELS) == before;"
        "assert not ImageFile.LOAD_TRUNCATED_IMAGES"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=60)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), (1, 1)),
        (lambda: encode(Image.new("RGB", (1, 3_000), (1, 2, 3)), "PNG"), (1, 3_000)),
        (lambda: encode(Image.new("RGB", (60_000, 1), (1, 2, 3)), "PNG"), (60_000, 1)),
        (lambda: encode(Image.new("L", (1, 1), 9), "JPEG"), (1, 1)),
    ],
)
def test_odd_shapes(make: Callable[[], bytes], size: tuple[int, int]) -> None:
    assert decode_picture(make(), name="x", limits=LIMITS, min_side=224).size == size
