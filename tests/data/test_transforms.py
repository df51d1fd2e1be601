"""Item transforms: shape and range for any picture, the bounds of what is random, and the form that is declared."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from drivetrain.data.transforms import (
    CropPad,
    FlipItem,
    ItemTransform,
    PadMode,
    RandomResizedCrop,
    Resize,
    ResizeMethod,
    find_min_side,
)
from drivetrain.errors import InvalidInput
from drivetrain.imaging.decode import DecodeLimits, decode_picture
from drivetrain.imaging.preprocess import PictureOps, Preprocess

DECODE = {"op": "decode", "mode": "RGB", "jpeg_min_side": None}
NUMBERS = [{"op": "scale", "by": 1.0}, {"op": "layout", "to": "NCHW"}]

calm = settings(deadline=None)  # a busy machine is no failure
sides = st.integers(1, 70)
pad_modes = st.sampled_from([*PadMode, "zeros", "border", "reflection"])
sized: st.SearchStrategy[Any] = st.one_of(
    st.builds(Resize, sides, st.sampled_from([*ResizeMethod, "squish", "crop", "pad"]), pad_modes),
    st.builds(RandomResizedCrop, sides, st.floats(0.01, 1), st.sampled_from([(3 / 4, 4 / 3), (1, 1), (1.5, 2)])),
    st.builds(CropPad, sides, pad_modes),
)
pictures = st.builds(
    lambda size, seed: noise(*size, seed), st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(0, 9)
)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(20, 230, (height, width, 3), dtype=np.uint8))


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


class Sheet:
    """Stands for a picture of a size; tells which box was asked of it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = self.size = width, height
        self.boxes: list[tuple[int, int, int, int]] = []

    def resize(self, size: tuple[int, int], filter_: object, *, box: tuple[int, int, int, int]) -> Image.Image:
        self.boxes.append(box)
        return Image.new("RGB", size)


def boxes(transform: ItemTransform, size: tuple[int, int], *, n: int = 1, seed: int = 0) -> np.ndarray:
    """(n, 4) left, top, right, bottom of n crops."""
    sheet, rng = Sheet(*size), drawn(seed)
    for _ in range(n):
        transform(sheet, rng)  # type: ignore[arg-type]
    return np.array(sheet.boxes)


def as_declared(transform: ItemTransform, image: Image.Image) -> np.ndarray:
    return pixels(PictureOps([DECODE, *transform.valid_ops()]).from_image(image))


# --- every one of them


@calm
@given(transform=sized, image=pictures, seed=st.integers(0, 5))
def test_a_square_comes_out_and_no_value_that_is_not_between_those_given(
    transform: Any, image: Image.Image, seed: int
) -> None:
    before = image.tobytes()
    for out in (transform(image, drawn(seed)), Image.fromarray(as_declared(transform, image))):
        assert (out.size, out.mode) == ((transform.size, transform.size), "RGB")
        low, high = pixels(image).min(), pixels(image).max()
        seen = pixels(out)
        # black is what zeros put beside the picture, and what a crop finds beyond the edge of a long strip
        assert ((seen == 0) | ((seen >= low) & (seen <= high))).all()
    assert image.tobytes() == before


@calm
@given(transform=sized, image=pictures)
def test_what_is_declared_is_what_production_runs(transform: Any, image: Image.Image) -> None:
    served = Preprocess([DECODE, *transform.valid_ops(), *NUMBERS])
    assert served.size == transform.size
    assert np.array_equal(served.from_image(image).transpose(1, 2, 0), as_declared(transform, image))


@calm
@given(
    transform=st.one_of(
        st.builds(Resize, sides, st.sampled_from(["squish", "pad"]), pad_modes), st.builds(CropPad, sides, pad_modes)
    ),
    image=pictures,
    seed=st.integers(0, 5),
)
def test_what_is_not_random_is_the_same_in_training(transform: Any, image: Image.Image, seed: int) -> None:
    assert np.array_equal(pixels(transform(image, drawn(seed))), as_declared(transform, image))


EXAMPLES: list[Any] = [Resize(32), Resize(32, "pad"), RandomResizedCrop(32), CropPad(32), FlipItem()]


@pytest.mark.parametrize("transform", EXAMPLES, ids=str)
def test_the_same_draw_gives_the_same_picture_and_values_make_equals(transform: Any) -> None:
    image = noise(80, 50)
    assert np.array_equal(pixels(transform(image, drawn(3))), pixels(transform(image, drawn(3))))
    again = pickle.loads(pickle.dumps(transform))
    assert (again, hash(again)) == (transform, hash(transform))
    assert isinstance(transform, ItemTransform)


def test_one_spelling_for_one_transform() -> None:
    assert Resize(9, "squish", "border") == Resize(9, ResizeMethod.Squish, PadMode.Border)
    assert hash(RandomResizedCrop(9, ratio=[1, 2])) == hash(RandomResizedCrop(9, ratio=(1, 2)))  # type: ignore[arg-type]
    assert len({Resize(9), Resize(9, "crop"), Resize(9, ResizeMethod.Crop, "reflection")}) == 1


def test_the_order_of_arguments_is_that_of_fastai() -> None:
    assert Resize(9, "pad", "zeros") == Resize(size=9, method="pad", pad_mode="zeros")
    assert RandomResizedCrop(9, 0.3, (1, 2)) == RandomResizedCrop(size=9, min_scale=0.3, ratio=(1, 2))
    assert CropPad(9, "border") == CropPad(size=9, pad_mode="border")
    assert (Resize(9).method, Resize(9).pad_mode) == (ResizeMethod.Crop, PadMode.Reflection)
    assert (CropPad(9).pad_mode, FlipItem().p) == (PadMode.Zeros, 0.5)
    crop = RandomResizedCrop(9)
    assert (crop.min_scale, crop.ratio, crop.max_scale, crop.val_xtra) == (0.08, (3 / 4, 4 / 3), 1.0, 0.14)


# --- Resize


def test_crop_stands_anywhere_in_training_and_in_the_middle_on_validation() -> None:
    image, rng = noise(300, 100), drawn()
    whole = pixels(image.resize((30, 10), Image.Resampling.BILINEAR))
    places = {whole[:, left : left + 10].tobytes(): left for left in range(21)}
    seen = {places[pixels(Resize(10)(image, rng)).tobytes()] for _ in range(400)}
    assert seen == set(range(21))  # every place, first and last too
    assert Resize(10).valid_ops() == [
        {"op": "resize", "mode": "crop", "size": 10, "filter": "bilinear", "antialias": True},
    ]


def test_crop_in_the_middle_is_the_picture_of_validation() -> None:
    class Middle:
        def integers(self, high: int, *, endpoint: bool) -> int:
            return high // 2

    y, x = np.mgrid[:120, :240]
    image = Image.fromarray(np.stack([x, y * 2, 120 + 100 * np.sin(x / 9)], axis=-1).astype(np.uint8))
    for size in (30, 60, 120, 200):
        out = pixels(Resize(size)(image, Middle()))  # type: ignore[arg-type]
        assert np.array_equal(out, as_declared(Resize(size), image))


def test_squish_and_pad_keep_the_whole_picture() -> None:
    image = Image.new("RGB", (40, 20), (200, 0, 0))
    assert as_declared(Resize(20, "squish"), image)[..., 0].min() == 200
    padded = as_declared(Resize(20, "pad", "zeros"), image)[..., 0]
    assert (padded[5:15] == 200).all()
    assert (padded[:5] == 0).all()
    assert (padded[15:] == 0).all()


@pytest.mark.parametrize(
    ("mode", "rows"),
    [
        ("zeros", [0, 0, 10, 20, 30, 0, 0, 0]),
        ("border", [10, 10, 10, 20, 30, 30, 30, 30]),
        ("reflection", [30, 20, 10, 20, 30, 20, 10, 20]),
    ],
)
@pytest.mark.parametrize("make", [lambda mode: Resize(8, "pad", mode), lambda mode: CropPad(8, mode)])
def test_pad_modes(make: Callable[[str], Any], mode: str, rows: list[int]) -> None:
    """Three rows in a square of eight: a mirror image that is larger than the picture."""
    image = Image.fromarray(np.repeat(np.array([10, 20, 30], np.uint8)[:, None, None], 8, axis=1).repeat(3, axis=2))
    assert as_declared(make(mode), image)[:, 0, 0].tolist() == rows


# --- RandomResizedCrop


@calm
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    ratio=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)).map(sorted),
    seed=st.integers(0, 50),
)
def test_areas_and_ratios_lie_within_their_bounds(
    width: int, height: int, scale: list[float], ratio: list[float], seed: int
) -> None:
    crop = RandomResizedCrop(8, scale[0], (ratio[0], ratio[1]), max_scale=scale[1])
    for left, top, right, bottom in boxes(crop, (width, height), n=5, seed=seed):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        w, h = right - left, bottom - top
        # a side is rounded to a pixel, and a side below one is one
        assert (w - 1) / (h + 1) <= ratio[1]
        assert (w + 1) / (h - 1) >= ratio[0] if h > 1 else True
        is_middle = abs(left - (width - right)) <= 1 and abs(top - (height - bottom)) <= 1
        assert (w - 0.5) * (h - 0.5) <= scale[1] * width * height or is_middle or min(w, h) == 1
        assert (w + 0.5) * (h + 0.5) >= scale[0] * width * height or is_middle


def test_areas_and_ratios_cover_their_bounds_evenly() -> None:
    crop = RandomResizedCrop(8, 0.1, (0.5, 2.0), max_scale=0.45)  # 0.45 x 2 < 1: each draw fits
    left, top, right, bottom = boxes(crop, (2_000, 2_000), n=4_000).T
    areas = (right - left) * (bottom - top) / 2_000**2
    logs = np.log((right - left) / (bottom - top))
    assert stats.kstest(areas, stats.uniform(0.1, 0.35).cdf).pvalue > 0.01
    assert stats.kstest(logs, stats.uniform(-math.log(2), 2 * math.log(2)).cdf).pvalue > 0.01
    free = 2_000 - (right - left)
    assert stats.kstest(left / free, stats.uniform.cdf).pvalue > 0.01
    assert stats.kstest(top / (2_000 - (bottom - top)), stats.uniform.cdf).pvalue > 0.01
    assert (left == 0).any() or (left / free).min() < 0.001


@pytest.mark.parametrize(("size", "expected"), [((1_000, 10), (493, 0, 506, 10)), ((10, 1_000), (0, 493, 10, 506))])
def test_where_no_draw_fits_the_middle_is_taken(size: tuple[int, int], expected: tuple[int, ...]) -> None:
    (box,) = boxes(RandomResizedCrop(8, min_scale=1.0), size)
    assert tuple(box) == expected  # 4 / 3 as long as wide
    whole = boxes(RandomResizedCrop(8, min_scale=1.0, ratio=(0.5, 2)), (100, 90), n=20, seed=1)
    assert whole[:, 2:].max(axis=0).tolist() == [100, 90]


def test_crop_and_resize_are_one_resampling() -> None:
    """Through a crop first, the same picture but for the pixels just outside, which weigh in at the crop's border."""
    image = noise(97, 61)
    out = pixels(RandomResizedCrop(16)(image, drawn(5)))
    (left, top, right, bottom) = boxes(RandomResizedCrop(16), (97, 61), seed=5)[0]
    expected = pixels(image.crop((left, top, right, bottom)).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(out[3:-3, 3:-3].astype(int) - expected[3:-3, 3:-3]).max() <= 1


@pytest.mark.parametrize(
    ("size", "val_xtra", "side"), [(128, 0.14, 152), (224, 0.14, 256), (100, 0.0, 100), (100, 0.5, 156), (8, 1.0, 16)]
)
def test_validation_cuts_the_border_off(size: int, val_xtra: float, side: int) -> None:
    assert RandomResizedCrop(size, val_xtra=val_xtra).valid_ops() == [
        {"op": "resize", "mode": "shortest", "size": side, "filter": "bilinear", "antialias": True},
        {"op": "center_crop", "size": size},
    ]


# --- CropPad and FlipItem


def test_crop_pad_keeps_the_scale() -> None:
    y, x = np.mgrid[:6, :30]
    image = Image.fromarray(np.stack([x + 1, y + 1, y], axis=-1).astype(np.uint8))
    out = as_declared(CropPad(10), image)
    assert out[4, :, 0].tolist() == list(range(11, 21))
    assert out[:, 4, 1].tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 0, 0]


@pytest.mark.parametrize(("p", "low", "high"), [(0.0, 0, 0), (0.25, 200, 300), (0.5, 450, 550), (1.0, 1000, 1000)])
def test_flip_happens_as_often_as_asked(p: float, low: int, high: int) -> None:
    image, rng = noise(5, 3), drawn()
    mirrored = pixels(image)[:, ::-1]
    flips = 0
    for _ in range(1000):
        out = pixels(FlipItem(p)(image, rng))
        is_flipped = np.array_equal(out, mirrored)
        assert is_flipped or np.array_equal(out, pixels(image))
        flips += is_flipped
    assert low <= flips <= high
    assert FlipItem(p).valid_ops() == []


# --- the scaled decode


@calm
@given(
    size=st.integers(1, 64),
    min_scale=st.floats(0.02, 1),
    ratio=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)).map(sorted),
    extra=st.tuples(st.integers(0, 30), st.integers(0, 300)),
    seed=st.integers(0, 50),
)
def test_no_crop_of_a_picture_of_min_side_is_enlarged(
    size: int, min_scale: float, ratio: list[float], extra: tuple[int, int], seed: int
) -> None:
    crop = RandomResizedCrop(size, min_scale, (ratio[0], ratio[1]))
    side = crop.min_side()
    assert side is not None
    for shape in ((side + extra[0], side + extra[1]), (side + extra[1], side)):
        for left, top, right, bottom in boxes(crop, shape, n=10, seed=seed):
            assert min(right - left, bottom - top) >= size
    resized = crop.valid_ops()[0]
    assert resized["size"] <= side


def test_min_side_asks_for_no_more_than_it_takes() -> None:
    assert RandomResizedCrop(224).min_side() == 915  # 224 / sqrt(0.08 * 3 / 4)
    assert RandomResizedCrop(224, 0.5).min_side() == 366
    assert RandomResizedCrop(224, 1.0, (1, 1)).min_side() == 256  # what validation needs
    assert RandomResizedCrop(224, 1.0, (1, 1), val_xtra=0).min_side() == 224
    assert RandomResizedCrop(2_000).min_side() is None  # more than any decoder is asked for
    assert [Resize(9, method).min_side() for method in ResizeMethod] == [9, 9, 9]
    assert CropPad(9).min_side() is None


def test_a_large_jpeg_is_decoded_smaller_for_a_crop() -> None:
    file = io.BytesIO()
    noise(1_200, 900).resize((2_400, 1_800)).save(file, "JPEG")
    side = RandomResizedCrop(64, 0.5).min_side()
    decoded = decode_picture(file.getvalue(), name="x", limits=DecodeLimits(), min_side=side)
    assert decoded.size == (300, 225)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([], None),
        ([FlipItem()], None),
        ([FlipItem(), Resize(50)], 50),
        ([Resize(100), CropPad(80)], 100),
        ([CropPad(80), Resize(50)], None),
        ([RandomResizedCrop(224, 0.5), Resize(900)], 366),
    ],
)
def test_min_side_of_a_chain_is_that_of_the_first_that_cares(chain: list[Any], expected: int | None) -> None:
    assert find_min_side(chain) == expected


# --- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(0), r"Resize\(size\): got 0; want a whole number of pixels, 1 to 4096\."),
        (lambda: Resize(4097), r"Resize\(size\): got 4097"),
        (lambda: Resize(True), r"Resize\(size\): got True"),
        (lambda: Resize("128"), r"Resize\(size\): got '128'; want a whole number"),  # type: ignore[arg-type]
        (lambda: Resize(1.5), r"Resize\(size\): got 1\.5"),  # type: ignore[arg-type]
        (lambda: Resize((128, 96)), r"got \(128, 96\); .* A square comes out, so one number is enough"),  # type: ignore[arg-type]
        (lambda: Resize(9, "Crops"), r"method\): got Crops; want one of squish, crop, pad\. Did you mean 'crop'\?"),
        (lambda: Resize(9, 3), r"method\): got 3; want one of squish, crop, pad\.$"),  # type: ignore[arg-type]
        (lambda: Resize(9, "pad", "reflect"), r"pad_mode\): got reflect; .* Did you mean 'reflection'\?"),
        (lambda: CropPad(0), r"CropPad\(size\): got 0"),
        (lambda: CropPad(9, "black"), r"CropPad\(pad_mode\): got black; want one of zeros, border, reflection"),
        (lambda: RandomResizedCrop("9"), r"RandomResizedCrop\(size\): got '9'"),  # type: ignore[arg-type]
        (lambda: RandomResizedCrop(9, 0), r"got 0 and 1\.0; want shares .* 0 < min_scale <= max_scale <= 1"),
        (lambda: RandomResizedCrop(9, 0.5, max_scale=0.4), r"got 0\.5 and 0\.4; want shares"),
        (lambda: RandomResizedCrop(9, max_scale=1.1), r"got 0\.08 and 1\.1; want shares"),
        (lambda: RandomResizedCrop(9, math.nan), r"got nan and 1\.0; want shares"),
        (lambda: RandomResizedCrop(9, ratio=(2, 1)), r"ratio\): got \(2, 1\); want two numbers above 0, the smaller"),
        (lambda: RandomResizedCrop(9, ratio=(0, 1)), r"ratio\): got \(0, 1\)"),
        (lambda: RandomResizedCrop(9, ratio=1), r"ratio\): got 1; want two numbers"),  # type: ignore[arg-type]
        (lambda: RandomResizedCrop(9, val_xtra=-0.1), r"val_xtra\): got -0\.1; want a share of the size, 0 to 1"),
        (lambda: RandomResizedCrop(4_000), r"size\): got 4000; want at most 4096 pixels with val_xtra"),
        (lambda: FlipItem(1.5), r"FlipItem\(p\): got 1\.5; want a probability, 0 to 1"),
    ],
)
def test_what_makes_no_transform_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()
