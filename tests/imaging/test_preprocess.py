"""The arithmetic of preprocessing, to the pixel; and what is no preprocessing is refused."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.errors import InvalidInput, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Fit, PictureOps, Preprocess, declare_preprocess

from .makers import TINY, encode, exif_block, jpeg_with_exif, smooth

LIMITS = DecodeLimits()
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Ops = list[dict[str, Any]]


def ops_of(*pictures: dict[str, Any], numbers: Ops | None = None, min_side: int | None = None) -> Ops:
    """These picture ops between a decode and a scale that leaves 0..255."""
    head = {"op": "decode", "mode": "RGB", "jpeg_min_side": min_side}
    return [head, *pictures, *(numbers or [{"op": "scale", "by": 1.0}]), {"op": "layout", "to": "NCHW"}]


def resize(mode: str, size: int, *, filter: str = "bilinear", antialias: bool = True) -> dict[str, Any]:  # noqa: A002
    return {"op": "resize", "mode": mode, "size": size, "filter": filter, "antialias": antialias}


def crop(size: int) -> dict[str, Any]:
    return {"op": "center_crop", "size": size}


def pad(size: int, fill: int = 0, *, mode: str = "constant") -> dict[str, Any]:
    return {"op": "pad", "size": size, "mode": mode, "fill": fill}


def run(pixels: np.ndarray, *pictures: dict[str, Any], numbers: Ops | None = None) -> np.ndarray:
    """What comes out, as (h, w, 3)."""
    return Preprocess(ops_of(*pictures, numbers=numbers)).from_array(pixels).transpose(1, 2, 0)


def ramp(width: int, height: int) -> np.ndarray:
    """(h, w, 3): red tells the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def columns(out: np.ndarray) -> list[float]:
    return out[0, :, 0].tolist()


def rows(out: np.ndarray) -> list[float]:
    return out[:, 0, 1].tolist()


# --- crop and pad


@pytest.mark.parametrize(
    ("size", "kept"),
    [((4, 4), [1, 2]), ((5, 4), [1, 2]), ((6, 4), [2, 3]), ((7, 5), [2, 3]), ((2, 2), [0, 1])],
)
def test_center_crop_keeps_the_middle_its_corner_rounded_down(size: tuple[int, int], kept: list[int]) -> None:
    assert columns(run(ramp(*size), crop(2))) == kept
    assert rows(run(ramp(*size).transpose(1, 0, 2)[..., [1, 0, 2]], crop(2))) == kept


def test_center_crop_of_a_smaller_picture_is_black_beyond_its_edge() -> None:
    out = run(np.full((1, 2, 3), 9, np.uint8), crop(5))
    expected = np.zeros((5, 5))
    expected[2, 2:4] = 9
    assert np.array_equal(out[..., 0], expected)


@pytest.mark.parametrize(("size", "at"), [((2, 2), (1, 1)), ((3, 2), (0, 1)), ((1, 3), (1, 0)), ((4, 4), (0, 0))])
def test_pad_centres_the_picture(size: tuple[int, int], at: tuple[int, int]) -> None:
    expected = np.full((4, 4), 7.0)
    expected[at[1] : at[1] + size[1], at[0] : at[0] + size[0]] = 200
    assert np.array_equal(run(np.full((size[1], size[0], 3), 200, np.uint8), pad(4, 7))[..., 2], expected)


def test_pad_cuts_what_is_larger() -> None:
    assert columns(run(ramp(6, 2), pad(4))) == [0, 0, 0, 0]  # the row above the picture
    assert run(ramp(6, 2), pad(4))[1, :, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("width", "mode", "expected"),
    [
        (3, "constant", [7, 7, 0, 1, 2, 7, 7, 7]),
        (3, "border", [0, 0, 0, 1, 2, 2, 2, 2]),
        (3, "reflection", [2, 1, 0, 1, 2, 1, 0, 1]),
        (2, "reflection", [1, 0, 1, 0, 1, 0, 1, 0]),  # mirrored over and over
        (1, "reflection", [0, 0, 0, 0, 0, 0, 0, 0]),
        (10, "border", [1, 2, 3, 4, 5, 6, 7, 8]),
        (10, "reflection", [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_what_a_pad_puts_beside_the_picture(width: int, mode: str, expected: list[int]) -> None:
    out = run(ramp(width, 3), pad(8, 7, mode=mode))
    assert out[3, :, 0].tolist() == expected
    turned = run(ramp(3, width), pad(8, 7, mode=mode))
    assert turned[:, 3, 1].tolist() == expected


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 40), (7, 7), (60, 4)])
@pytest.mark.parametrize(("mode", "numpys"), [("border", "edge"), ("reflection", "reflect")])
def test_padding_is_that_of_numpy(size: tuple[int, int], mode: str, numpys: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    side = 61
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    widths = [(top, side - size[1] - top), (left, side - size[0] - left), (0, 0)]
    assert np.array_equal(run(pixels, pad(side, mode=mode)), np.pad(pixels, widths, mode=numpys))


# --- resize


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("shortest", (40, 20), (20, 10)),
        ("shortest", (20, 40), (10, 20)),
        ("shortest", (25, 20), (12, 10)),  # 12.5: halves to even
        ("shortest", (27, 20), (14, 10)),  # 13.5
        ("shortest", (5, 4), (12, 10)),  # smaller ones grow
        ("longest", (40, 20), (10, 5)),
        ("longest", (20, 40), (5, 10)),
        ("longest", (25, 20), (10, 8)),
        ("longest", (100, 1), (10, 1)),  # never less than a pixel
        ("longest", (2, 1), (10, 5)),
        ("squish", (40, 20), (10, 10)),
        ("squish", (3, 7), (10, 10)),
        ("crop", (40, 20), (10, 10)),
        ("crop", (3, 7), (10, 10)),
        ("crop", (1, 900), (10, 10)),
    ],
)
def test_size_after_resize(mode: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    """A white picture on a black canvas of 32 pixels shows its size."""
    out = run(np.full((size[1], size[0], 3), 255, np.uint8), resize(mode, 10), pad(32))[..., 0]
    width, height = (out.max(axis=0) > 0).sum(), (out.max(axis=1) > 0).sum()
    assert (width, height) == expected


@pytest.mark.parametrize(("size", "left"), [((4, 4), 0), ((5, 4), 0), ((6, 4), 1), ((7, 4), 1), ((900, 4), 448)])
def test_crop_keeps_the_largest_square_in_the_middle_its_corner_rounded_down(size: tuple[int, int], left: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    assert np.array_equal(run(pixels, resize("crop", 4)), pixels[:, left : left + 4])
    assert np.array_equal(
        run(pixels.transpose(1, 0, 2), resize("crop", 4)), pixels[:, left : left + 4].transpose(1, 0, 2)
    )


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 60), (60, 40), (41, 60), (90, 30), (20, 21)])
@pytest.mark.parametrize("side", [10, 24, 64])
def test_crop_is_the_resize_of_that_square_alone(size: tuple[int, int], side: int, name: str, antialias: bool) -> None:
    """Cut first, then squished: the same but for the pixels just outside, which weigh in at the border."""
    pixels = smooth(*size)
    short, long = min(size), max(size)
    at = (long - short) // 2
    middle = pixels[:, at : at + short] if size[0] > size[1] else pixels[at : at + short]
    out = run(pixels, resize("crop", side, filter=name, antialias=antialias))
    expected = run(np.ascontiguousarray(middle), resize("squish", side, filter=name, antialias=antialias))
    edge = 4 if side < 64 else 8
    assert np.abs(out - expected)[edge:-edge, edge:-edge].max(initial=0) <= 1
    assert out.shape == expected.shape


@pytest.mark.parametrize(("width", "height"), [(400, 532), (532, 400), (224, 300), (448, 1000), (100, 132)])
def test_crop_is_what_two_steps_give_where_no_side_is_rounded(width: int, height: int) -> None:
    """All of it resized, then the middle cut out: more work for the same pixels."""
    pixels = smooth(width, height)
    side = min(width, height) // 2
    assert np.array_equal(run(pixels, resize("crop", side)), run(pixels, resize("shortest", side), crop(side)))


def test_resize_to_the_same_size_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    for name in ("nearest", "box", "bilinear", "bicubic", "lanczos"):
        assert np.array_equal(run(pixels, resize("squish", 8, filter=name)), pixels)


EIGHT = np.tile(np.array([0, 0, 0, 0, 80, 80, 80, 160], np.uint8)[None, :, None], (8, 1, 3))


@pytest.mark.parametrize(
    ("name", "antialias", "expected"),
    [
        ("box", True, [0, 0, 80, 120]),  # the mean of each two
        ("nearest", True, [0, 0, 80, 160]),  # always one pixel, the right of the two in the middle
        ("nearest", False, [0, 0, 80, 160]),
        ("bilinear", False, [0, 0, 80, 120]),  # between the two in the middle
        ("bilinear", True, [0, 10, 70, 114]),  # a triangle over four: 1/8 3/8 3/8 1/8, cut at the edge
        ("bicubic", False, [0, 0, 90, 120]),  # -1/8 5/8 5/8 -1/8; below 0 is 0
        ("bicubic", True, [0, 5, 72, 118]),  # Catmull-Rom over eight
        ("lanczos", True, [0, 5, 71, 119]),
    ],
)
def test_filters_on_known_pixels(name: str, antialias: bool, expected: list[int]) -> None:
    got = columns(run(EIGHT, resize("squish", 4, filter=name, antialias=antialias)))
    assert got == pytest.approx(expected, abs=1)


def test_every_filter_gives_its_own_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    kinds = [(name, True) for name in ("nearest", "box", "bilinear", "bicubic", "lanczos")]
    kinds += [("bilinear", False), ("bicubic", False)]
    made = {run(pixels, resize("squish", 13, filter=name, antialias=aa)).tobytes() for name, aa in kinds}
    assert len(made) == len(kinds)


def test_bilinear_without_antialias_is_the_textbook_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (37, 23, 3), dtype=np.uint8)
    size = 10

    def taps(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = (np.arange(size) + 0.5) * length / size - 0.5
        low = np.floor(at)
        return np.clip(low, 0, length - 1).astype(int), np.clip(low + 1, 0, length - 1).astype(int), at - low

    top, bottom, wy = taps(37)
    left, right, wx = taps(23)
    wy, wx = wy[:, None, None], wx[None, :, None]
    source = pixels.astype(float)
    expected = (source[top][:, left] * (1 - wx) + source[top][:, right] * wx) * (1 - wy)
    expected += (source[bottom][:, left] * (1 - wx) + source[bottom][:, right] * wx) * wy
    got = run(pixels, resize("squish", size, antialias=False))
    assert np.abs(got - expected).max() <= 1


def test_without_antialias_points_are_sampled() -> None:
    """One white line in ten: averaged it is grey everywhere, sampled it is there or not."""
    lines = np.zeros((100, 100, 3), np.uint8)
    lines[::10] = 255
    assert run(lines, resize("squish", 10)).max() < 60
    sampled = run(lines, resize("squish", 10, filter="nearest", antialias=False))
    assert set(np.unique(sampled)) <= {0.0, 255.0}
    lines[5::10] = 255  # the centres of the ten rows, between 4 and 5
    assert run(lines, resize("squish", 10, antialias=False)).min() >= 127


@pytest.mark.parametrize("method", ["crop", "pad", "squish"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3_000), (3_000, 1), (1, 60_000), (60_000, 1), (9, 80)])
def test_any_shape_comes_out_square_in_little_memory(
    method: Fit, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 x 60,000 pixels in proportion would be 32 x 1,920,000; Pillow's memory is seen by no Python tool."""
    made: list[tuple[int, int]] = []
    plain = Image.Image.resize

    def resize_seen(image: Image.Image, target: tuple[int, int], *rest: Any, **named: Any) -> Image.Image:
        made.append(target)
        return plain(image, target, *rest, **named)

    monkeypatch.setattr(Image.Image, "resize", resize_seen)
    preprocess = Preprocess(declare_preprocess(32, method=method, mean=[0.5] * 3, std=[0.5] * 3))
    out = preprocess.from_image(Image.new("RGB", size, (255, 255, 255)))
    assert out.shape == (3, 32, 32)
    assert all(width * height <= 8 * 32 * 32 for width, height in made)
    assert (out[:, 15:17, 15:17].max(axis=(1, 2)) == 1).all()
    assert out.min() == (-1 if method == "pad" and size != (1, 1) else 1)  # nothing of the picture is lost


@pytest.mark.parametrize("turn", [False, True])
def test_of_a_strip_the_middle_is_kept(turn: bool) -> None:
    strip = np.zeros((2, 1_000, 3), np.uint8)
    strip[:, 496:504] = 255
    out = run(strip.transpose(1, 0, 2) if turn else strip, resize("shortest", 8), crop(8))
    assert (out == 255).all()
    strip[:, 496:504] = 0
    strip[:, 450:490] = strip[:, 510:550] = 255
    assert (run(strip.transpose(1, 0, 2) if turn else strip, resize("shortest", 8), crop(8)) == 0).all()


def test_strip_is_cut_only_beyond_eight_to_one() -> None:
    """At 8:1 nothing is cut: a wide crop after it still sees both ends."""
    pixels = np.full((4, 32, 3), 255, np.uint8)
    out = run(pixels, resize("shortest", 4), crop(32))
    assert (out[14:18] == 255).all()
    longer = run(np.full((4, 36, 3), 255, np.uint8), resize("shortest", 4), crop(32))
    assert (longer[14:18] == 255).all()


# --- decode and EXIF


def test_jpeg_min_side_sets_the_scale_of_decoding() -> None:
    data = encode(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8), "JPEG")
    made = {}
    for min_side in (None, 480, 240, 60):
        preprocess = Preprocess(ops_of(resize("squish", 60), min_side=min_side))
        made[min_side] = preprocess.from_bytes(data, name="x", limits=LIMITS)
    assert np.array_equal(made[None], made[480])
    assert not np.array_equal(made[480], made[240])
    assert not np.array_equal(made[240], made[60])


def test_exif_is_applied_where_it_is_declared_and_only_there() -> None:
    data = jpeg_with_exif(encode(smooth(64, 48), "JPEG", quality=95), exif_block(6))
    turn = {"op": "exif_transpose"}
    without = Preprocess(ops_of(resize("squish", 8))).from_bytes(data, name="x", limits=LIMITS)
    once = Preprocess(ops_of(turn, resize("squish", 8))).from_bytes(data, name="x", limits=LIMITS)
    twice = Preprocess(ops_of(turn, turn, resize("squish", 8))).from_bytes(data, name="x", limits=LIMITS)
    late = Preprocess(ops_of(resize("squish", 8), turn)).from_bytes(data, name="x", limits=LIMITS)
    assert np.abs(once - np.rot90(without, -1, axes=(1, 2))).max() <= 1
    assert np.array_equal(once, twice)
    assert np.abs(late - once).max() <= 1
    assert np.abs(without - once).max() > 50


def test_limits_are_handed_on() -> None:
    preprocess = Preprocess(declare_preprocess(8, mean=MEAN, std=STD))
    with pytest.raises(UnreadablePicture, match=r"^a\.png: got 3 x 2 pixels, and at most 5 are decoded"):
        preprocess.from_bytes(encode(TINY, "PNG"), name="a.png", limits=DecodeLimits(max_pixels=5))


# --- scale, normalize, layout


def test_fused_arithmetic_is_the_naive_formula() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    numbers = [{"op": "scale", "by": 1 / 255}, {"op": "normalize", "mean": MEAN, "std": STD}]
    out = Preprocess(ops_of(crop(16), numbers=numbers)).from_array(values)
    naive = (values.astype(np.float64) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert (out.dtype, out.shape, out.flags.c_contiguous) == (np.float32, (3, 16, 16), True)
    assert np.abs(out - naive).max() < 1e-6


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([{"op": "scale", "by": 1.0}], [10, 20, 30]),
        ([{"op": "scale", "by": 2}], [20, 40, 60]),  # a whole number, as JSON of other languages has it
        ([{"op": "scale", "by": 0.5}], [5, 10, 15]),
        ([{"op": "scale", "by": 1.0}, {"op": "normalize", "mean": [1, 2, 3], "std": [1, 2, 3]}], [9, 9, 9]),
        ([{"op": "scale", "by": 0.1}, {"op": "normalize", "mean": [1, 1, 1], "std": [0.5, 0.5, 2]}], [0, 2, 1]),
        ([{"op": "scale", "by": 1.0}] + 2 * [{"op": "normalize", "mean": [2, 2, 2], "std": [2, 2, 2]}], [1, 3.5, 6]),
    ],
)
def test_scale_and_normalize(numbers: Ops, expected: list[float]) -> None:
    pixel = np.array([[[10, 20, 30]]], np.uint8)
    assert run(pixel, crop(1), numbers=numbers)[0, 0] == pytest.approx(expected, abs=1e-5)


def test_layout_is_channels_first_in_rgb_order() -> None:
    out = Preprocess(ops_of(crop(2))).from_array(TINY[:, :2])
    assert out.tolist() == TINY[:, :2].transpose(2, 0, 1).tolist()


# --- three ways in, one answer


@pytest.mark.parametrize("method", ["crop", "pad", "squish"])
@pytest.mark.parametrize("seed", range(12))
def test_bytes_image_and_array_agree_to_the_bit(method: Fit, seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(1, 90, 2))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    preprocess = Preprocess(declare_preprocess(int(rng.integers(1, 64)), method=method, mean=MEAN, std=STD))
    from_array = preprocess.from_array(pixels)
    from_image = preprocess.from_image(Image.fromarray(pixels))
    assert from_array.shape == (3, preprocess.size, preprocess.size)
    assert np.array_equal(from_array, from_image)
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        data = encode(pixels, kind, **options)
        assert np.array_equal(preprocess.from_bytes(data, name="x", limits=LIMITS), from_array), kind
        with Image.open(io.BytesIO(data)) as lazy:
            assert np.array_equal(preprocess.from_image(lazy), from_array), kind
    grey = pixels[..., 0]
    assert np.array_equal(preprocess.from_array(grey), preprocess.from_array(np.stack([grey] * 3, axis=-1)))
    assert np.array_equal(preprocess.from_array(grey), preprocess.from_array(grey[..., None]))
    assert np.array_equal(preprocess.from_array(pixels[:, ::-1]), preprocess.from_array(pixels[:, ::-1].copy()))


def test_image_is_not_changed() -> None:
    image = Image.fromarray(smooth(40, 30)).convert("RGBA")
    image.info["exif"] = exif_block(6)
    before = image.tobytes(), image.size, dict(image.info)
    Preprocess(declare_preprocess(8, mean=MEAN, std=STD)).from_image(image)
    assert (image.tobytes(), image.size, image.info) == before


def test_image_that_turns_out_damaged_is_unreadable() -> None:
    data = encode(smooth(64, 48), "JPEG")
    with (
        Image.open(io.BytesIO(data[:-100])) as lazy,
        pytest.raises(UnreadablePicture, match=r"^picture: got a damaged JPEG picture \(image file is truncated"),
    ):
        Preprocess(ops_of(crop(2))).from_image(lazy)


def test_image_without_a_pixel_is_refused() -> None:
    with pytest.raises(InvalidInput, match="picture: got 0 x 5 pixels; want at least one pixel"):
        Preprocess(ops_of(crop(2))).from_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_array_of_another_kind_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match=r"picture array: got .* want uint8 of shape \(height, width, 3\)") as caught:
        Preprocess(ops_of(crop(2))).from_array(pixels)
    assert str(pixels.dtype) in caught.value.got
    assert str(pixels.shape) in caught.value.got


# --- what is declared


def test_declared_ops() -> None:
    assert declare_preprocess(224, mean=MEAN, std=STD) == [
        {"op": "decode", "mode": "RGB", "jpeg_min_side": 224},
        {"op": "exif_transpose"},
        {"op": "resize", "mode": "crop", "size": 224, "filter": "bilinear", "antialias": True},
        {"op": "scale", "by": 1 / 255},
        {"op": "normalize", "mean": MEAN, "std": STD},
        {"op": "layout", "to": "NCHW"},
    ]
    assert declare_preprocess(9, method="pad", mean=MEAN, std=STD)[2:4] == [resize("longest", 9), pad(9)]
    assert declare_preprocess(9, method="squish", mean=MEAN, std=STD)[2:3] == [resize("squish", 9)]


def test_methods_differ_on_a_picture_that_is_not_square() -> None:
    pixels = ramp(40, 20)
    made = {
        method: Preprocess(declare_preprocess(10, method=method, mean=[0.5] * 3, std=[1 / 255] * 3)).from_array(pixels)
        for method in ("crop", "pad", "squish")
    }
    columns_seen = {method: (out[0, 5] + 127.5).round().tolist() for method, out in made.items()}
    assert columns_seen["crop"][0] == pytest.approx(10.5, abs=0.6)
    assert columns_seen["crop"][-1] == pytest.approx(28.5, abs=0.6)
    assert columns_seen["squish"] == columns_seen["pad"]
    assert (made["pad"][:, 0] == made["pad"][:, 1]).all()  # the black bar
    assert made["squish"][1, 0, 0] < made["squish"][1, 1, 0]


def test_digest_names_the_ops_whatever_the_order_of_their_fields() -> None:
    ops = declare_preprocess(32, mean=MEAN, std=STD)
    turned = [dict(reversed(op.items())) for op in ops]
    again = json.loads(json.dumps(ops))
    digest = Preprocess(ops).digest
    assert Preprocess(turned).digest == Preprocess(again).digest == digest
    assert len(digest) == 64
    changed = copy.deepcopy(ops)
    changed[0]["jpeg_min_side"] = None
    assert Preprocess(changed).digest != digest


def test_ops_given_are_copied() -> None:
    ops = declare_preprocess(32, mean=MEAN, std=STD)
    preprocess = Preprocess(ops)
    ops[2]["size"] = 5
    assert preprocess.ops[2]["size"] == preprocess.size == 32


def in_two_steps(size: int) -> Ops:
    """All of the picture resized, then the middle cut out."""
    ops = declare_preprocess(size, mean=MEAN, std=STD)
    return [*ops[:2], resize("shortest", size), crop(size), *ops[3:]]


def changed(at: int, **fields: Any) -> Callable[[Ops], object]:
    return lambda ops: ops[at].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ops: ops.clear(), r"preprocess: got 0 ops; want 1 to 32 ops"),
        (lambda ops: ops.extend(ops * 5), r"preprocess: got 42 ops; want 1 to 32"),
        (lambda ops: ops.insert(1, "resize"), r"preprocess\[1\]: got resize; want an op, such as"),
        (lambda ops: ops.insert(1, {"op": "blur"}), r"preprocess\[1\]\.op: got blur; want one of decode, exif_"),
        (lambda ops: ops.insert(1, {"op": ["decode"]}), r"preprocess\[1\]\.op: got \['decode'\]; want one of"),
        (lambda ops: ops.insert(1, {"size": 3}), r"preprocess\[1\]\.op: got None; want one of"),
        (
            changed(3, op="pad"),
            r"preprocess\[3\] \(pad\): got \['size'\]; want exactly the fields \['fill', 'mode', 'size'\]",
        ),
        (
            changed(3, op="pad", mode="zeros", fill=0),
            r"preprocess\[3\]\.mode: got zeros; want one of constant, border, reflection",
        ),
        (changed(3, fill=0), r"\(center_crop\): got \['fill', 'size'\]; want exactly the fields \['size'\]"),
        (lambda ops: ops[3].update({7: 1}), r"\(center_crop\): got \['7', 'size'\]; want exactly"),
        (lambda ops: ops[1].update(angle=9), r"\(exif_transpose\): got \['angle'\]; want exactly the fields \[\]"),
        (changed(0, mode="BGR"), r"preprocess\[0\]\.mode: got BGR; want one of RGB"),
        (changed(0, mode=None), r"preprocess\[0\]\.mode: got None; want text"),
        (changed(0, jpeg_min_side=0), r"jpeg_min_side: got 0; want 1 to 4096 pixels"),
        (changed(0, jpeg_min_side=True), r"jpeg_min_side: got True; want a whole number or null"),
        (changed(0, jpeg_min_side=2.0), r"jpeg_min_side: got 2\.0; want a whole number or null"),
        (changed(2, mode="fit"), r"preprocess\[2\]\.mode: got fit; want one of shortest, longest, squish, crop"),
        (changed(2, filter="hamming"), r"filter: got hamming; want one of nearest, box, bilinear, bicubic, lanczos"),
        (changed(2, antialias=1), r"antialias: got 1; want true or false"),
        (changed(2, antialias=None), r"antialias: got None; want true or false"),
        (changed(2, antialias=False, filter="box"), r"antialias: got false with box; want true, or nearest, bili"),
        (changed(2, antialias=False, filter="lanczos"), r"antialias: got false with lanczos; want true"),
        (changed(2, size=0), r"preprocess\[2\]\.size: got 0; want 1 to 4096 pixels"),
        (changed(2, size=4097), r"size: got 4097; want 1 to 4096 pixels"),
        (changed(2, size=-3), r"size: got -3; want 1 to 4096 pixels"),
        (changed(2, size="224"), r"size: got 224; want a whole number"),
        (changed(2, size=224.0), r"size: got 224\.0; want a whole number"),
        (changed(3, size=True), r"preprocess\[3\]\.size: got True; want a whole number"),
        (changed(4, by=math.nan), r"preprocess\[4\]\.by: got nan; want a finite number above 0"),
        (changed(4, by=math.inf), r"by: got inf; want a finite number above 0"),
        (changed(4, by=0), r"by: got 0; want a finite number above 0"),
        (changed(4, by=-1.0), r"by: got -1\.0; want a finite number above 0"),
        (changed(4, by=True), r"by: got True; want a number"),
        (changed(4, by="1"), r"by: got 1; want a number"),
        (changed(4, by=10**400), r"by: got 1000.* want a finite number above 0"),
        (changed(4, by=1e300), r"preprocess: got a scale and a normalize beyond 32-bit floats"),
        (changed(5, mean=[0.5, 0.5]), r"preprocess\[5\]\.mean: got \[0\.5, 0\.5\]; want three finite numbers\."),
        (changed(5, mean=[0.5, 0.5, math.nan]), r"mean: got .*nan\]; want three finite numbers"),
        (changed(5, mean=[0.5, 0.5, True]), r"mean: got .*True\]; want three finite numbers"),
        (changed(5, mean=[0.5, 0.5, 10**400]), r"mean: got .*; want three finite numbers"),
        (changed(5, mean=(0.5, 0.5, 0.5)), r"mean: got \(0\.5, 0\.5, 0\.5\); want a list"),
        (changed(5, std=[1, 1, 0]), r"preprocess\[5\]\.std: got \[1, 1, 0\]; want three finite numbers above 0"),
        (changed(5, std=[1, 1, "1"]), r"std: got \[1, 1, '1'\]; want three finite numbers above 0"),
        (changed(5, std=[1, 1, 5e-324]), r"preprocess: got a scale and a normalize beyond 32-bit floats"),
        (changed(6, to="NHWC"), r"preprocess\[6\]\.to: got NHWC; want one of NCHW"),
        (lambda ops: ops.pop(0), r"want one decode, first"),
        (lambda ops: ops.insert(1, dict(ops[0])), r"want one decode, first"),
        (lambda ops: ops.insert(0, ops.pop(1)), r"want one decode, first"),
        (lambda ops: ops.pop(), r"want one scale, and one layout at the end"),
        (lambda ops: ops.pop(4), r"want one scale, and one layout at the end"),
        (lambda ops: ops.insert(4, dict(ops[4])), r"want one scale, and one layout at the end"),
        (lambda ops: ops.append({"op": "exif_transpose"}), r"want one scale, and one layout at the end"),
        (lambda ops: ops.insert(4, ops.pop(5)), r"want normalize on the other side of scale"),
        (lambda ops: ops.insert(4, ops.pop(3)), r"want center_crop on the other side of scale"),
        (lambda ops: ops.pop(3), r"want a center_crop, a pad or a resize by crop or squish: a square"),
        (lambda ops: (ops.pop(3), ops.pop(2)), r"want a center_crop, a pad or a resize by crop or squish: a square"),
        (changed(3, size=8 * 32 + 1), r"preprocess: got a size of 257; want at most 8 times the 32 of the resize"),
    ],
)
def test_what_is_no_preprocessing_is_refused(change: Callable[[Ops], object], message: str) -> None:
    ops = in_two_steps(32)
    change(ops)
    with pytest.raises(InvalidInput, match=message):
        Preprocess(ops)


@pytest.mark.parametrize("fill", [-1, 256, True, 1.0, None])
def test_fill_of_pad(fill: object) -> None:
    with pytest.raises(InvalidInput, match=r"preprocess\[1\]\.fill: got .*; want (0 to 255|a whole number)"):
        Preprocess(ops_of(pad(4, fill)))  # type: ignore[arg-type]


def test_message_of_a_hostile_value_is_short() -> None:
    with pytest.raises(InvalidInput) as caught:
        Preprocess(ops_of(crop(2), {"op": "x" * 100_000}))
    assert len(caught.value.message) < 500


# --- the part before the numbers


@pytest.mark.parametrize("method", ["crop", "pad", "squish"])
def test_picture_ops_are_the_part_that_preprocess_runs(method: Fit) -> None:
    whole = declare_preprocess(24, method=method, mean=[0.0] * 3, std=[1.0] * 3)
    ops = whole[: [op["op"] for op in whole].index("scale")]
    data = jpeg_with_exif(encode(smooth(90, 60), "JPEG"), exif_block(6))
    preprocess, pictures = Preprocess(whole), PictureOps(ops)
    image = pictures.from_bytes(data, name="x", limits=LIMITS)
    assert (image.mode, image.size, pictures.size) == ("RGB", (24, 24), 24)
    expected = preprocess.from_bytes(data, name="x", limits=LIMITS)
    np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1) * np.float32(1 / 255), expected)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(
        np.asarray(pictures.from_image(opened)).transpose(2, 0, 1) * np.float32(1 / 255), preprocess.from_image(opened)
    )
    assert pictures.ops == tuple(ops)
    assert pictures.digest == PictureOps(copy.deepcopy(ops)).digest != PictureOps(ops[:-1]).digest


HEAD = {"op": "decode", "mode": "RGB", "jpeg_min_side": None}


@pytest.mark.parametrize(
    ("ops", "size"),
    [
        ([], None),
        ([resize("shortest", 8)], None),
        ([crop(8)], 8),
        ([resize("squish", 8), resize("longest", 4)], 4),
        ([resize("crop", 8)], 8),
        ([pad(9), crop(5)], 5),
    ],
)
def test_a_shape_that_hangs_on_the_picture_has_no_size(ops: Ops, size: int | None) -> None:
    pictures = PictureOps([HEAD, *ops])
    assert pictures.size == size
    if size:
        assert pictures.from_image(Image.new("RGB", (30, 20))).size == (size, size)


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ([], r"preprocess: got 0 ops"),
        ([crop(8)], r"want one decode, first"),
        ([HEAD, crop(8), {"op": "scale", "by": 1.0}], r"want ops of pictures only, without scale"),
        ([HEAD, {"op": "layout", "to": "NCHW"}], r"want ops of pictures only, without layout"),
        ([HEAD, resize("shortest", 8), crop(65)], r"got a size of 65; want at most 8 times the 8"),
        ([HEAD, crop(0)], r"preprocess\[1\]\.size: got 0"),
    ],
)
def test_what_are_no_picture_ops_is_refused(ops: Ops, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        PictureOps(ops)


def test_picture_ops_refuse_what_is_no_picture() -> None:
    with pytest.raises(InvalidInput, match="picture: got 0 x 3 pixels; want at least one pixel"):
        PictureOps([HEAD]).from_image(Image.new("RGB", (0, 3)))
    with pytest.raises(UnreadablePicture, match=r"x\.jpg"):
        PictureOps([HEAD]).from_bytes(b"no picture", name="x.jpg", limits=LIMITS)
