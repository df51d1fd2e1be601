"""Each measure goes its way with its fault, the pixels are those of Preprocess, and nothing hostile gets through."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from drivetrain.errors import InvalidInput, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.imaging.style_measures import (
    STYLE_DIRECTIONS,
    STYLE_MEASURES,
    SizedPreprocess,
    StyledPreprocess,
    find_style_kernel,
    follow_directions,
)

from .makers import encode, smooth
from .test_style import photograph

SIDE = 224
AT = {name: at for at, name in enumerate(STYLE_MEASURES)}
MOST = [1, 1, 1, 1, 4, 1, 1, 1]  # of each measure
TOWARDS = {one.name: at for at, one in enumerate(STYLE_DIRECTIONS)}


def styled(size: int = SIDE, *, mean: float = 0.5, std: float = 0.5) -> StyledPreprocess:
    return StyledPreprocess(Preprocess(declare_preprocess(size, mean=[mean] * 3, std=[std] * 3)))


def style(image: Image.Image, **given: float) -> np.ndarray:
    return styled(**given).from_image(image)[1]  # type: ignore[arg-type]


def darken(image: Image.Image, by: float) -> Image.Image:
    return image.point(lambda value: int(value * (1 - by)))


def wash(image: Image.Image, by: float) -> Image.Image:
    return image.point(lambda value: int(value + (255 - value) * by))


def blur(image: Image.Image, by: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(4 * by))


def shrink(image: Image.Image, by: float) -> Image.Image:
    return image.resize([round(side * (1 - by)) for side in image.size])


def grey(image: Image.Image, by: float) -> Image.Image:
    return Image.blend(image, image.convert("L").convert("RGB"), by)


def fade(image: Image.Image, by: float) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, (120, 120, 120)), by)


def flatten(image: Image.Image, by: float) -> Image.Image:
    return ImageOps.posterize(image.filter(ImageFilter.MedianFilter(5)), round(8 - 6 * by)) if by else image


def add_noise(image: Image.Image, by: float) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 60 * by, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


FAULTS = {
    "dark": darken, "dim": darken, "bright": wash, "flat": fade, "grey": grey, "blurred": blur, "small": shrink,
    "drawn": flatten, "sharp": add_noise, "grainy": add_noise,
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_more_of_a_fault_goes_further_its_way(name: str) -> None:
    for seed in range(4):
        steps = [0.0, 0.6, 0.75, 0.9] if name == "small" else [0.0, 0.3, 0.6, 0.9]
        told = [follow_directions(style(FAULTS[name](photograph(seed), by)))[TOWARDS[name]] for by in steps]
        assert told == sorted(told)
        assert told[-1] > told[0] + 2 * STYLE_DIRECTIONS[TOWARDS[name]].least


def test_colour_goes_its_way() -> None:
    pale = photograph(1)
    vivid = Image.fromarray(np.asarray(pale) // np.array([1, 3, 6], dtype=np.uint8))
    at = TOWARDS["colourful"]
    assert follow_directions(style(vivid))[at] > follow_directions(style(grey(pale, 0.5)))[at] + 0.3


def test_every_direction_was_tried_and_none_reads_beyond_the_measures() -> None:
    assert {*FAULTS, "colourful"} == {one.name for one in STYLE_DIRECTIONS}
    assert len({one.name for one in STYLE_DIRECTIONS}) == len(STYLE_DIRECTIONS)
    implying = {name for one in STYLE_DIRECTIONS for name in one.implied_by}
    assert implying <= {one.name for one in STYLE_DIRECTIONS}
    ends = np.array([[0.0] * 8, MOST], dtype=np.float32)
    ends[0, AT["side"]] = 1 / 4096  # one pixel for the largest network
    told = follow_directions(ends)
    assert told.shape == (2, len(STYLE_DIRECTIONS))
    assert np.isfinite(told).all()
    assert np.abs(told).max() < 20


def test_known_pictures_give_known_measures() -> None:
    white = style(Image.new("RGB", (300, 300), "white"))
    assert white[AT["brightness"]] == pytest.approx(1, abs=1e-4)
    assert white[[AT["contrast"], AT["colour"]]] == pytest.approx([0, 0], abs=2e-3)
    assert white[[AT["even"], AT["side"]]] == pytest.approx([1, 1])
    assert white[AT["sharpness"]] == pytest.approx(1.2, abs=0.01)  # nothing to judge by is no fault
    red = style(Image.new("RGB", (300, 300), "red"))
    assert red[[AT["brightness"], AT["colour"]]] == pytest.approx([0.299, 1], abs=1e-4)
    board = np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 255
    sharpest = style(Image.fromarray(np.repeat(board[..., None], 3, axis=2).astype(np.uint8)))
    assert sharpest[[AT["sharpness"], AT["even"], AT["grain"]]] == pytest.approx([4, 0, 1], abs=1e-3)
    assert style(Image.fromarray(smooth(SIDE, SIDE)))[AT["sharpness"]] < 1.3
    assert style(photograph(0).resize((400, 112)))[AT["side"]] == pytest.approx(0.5)


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_measures_are_those_of_a_slow_direct_computation(noise: float) -> None:
    image = add_noise(photograph(3, size=(SIDE, SIDE)), noise)
    pixels = np.asarray(image).astype(float) / 255
    at = [(y, x) for y in range(0, SIDE - 2, 16) for x in range(0, SIDE - 2, 4)]
    assert len(at) == 14 * 56
    green = pixels[..., 1]
    told = style(image)
    ratios = []
    for along in ((0, 1), (1, 0)):
        three = np.array([[green[y + k * along[0], x + k * along[1]] for k in range(3)] for y, x in at])
        ratios.append(np.square(np.diff(three, n=2)).mean() / np.square(np.diff(three[:, :2])).mean())
    assert told[AT["sharpness"]] == pytest.approx(min(ratios), rel=1e-3)
    sizes = np.array([abs(green[y, x + 1] - green[y, x]) for y, x in at])
    assert told[AT["even"]] == pytest.approx(1 - np.minimum(255 * sizes, 1).mean(), abs=1e-3)
    tiles = np.sort(sizes.reshape(-1, 14).mean(axis=1))
    assert told[AT["grain"]] == pytest.approx(tiles[len(tiles) // 10], abs=1e-4)
    few = np.array([pixels[y, x] for y, x in at])
    luma = few @ [0.299, 0.587, 0.114]
    assert told[AT["brightness"]] == pytest.approx(luma.mean(), abs=1e-5)
    assert told[AT["contrast"]] == pytest.approx(luma.std(), abs=1e-4)
    assert told[AT["highlights"]] == pytest.approx(min(1, luma.mean() + 2 * luma.std()), abs=1e-4)
    apart = np.square(few - np.roll(few, 1, axis=1)).sum(axis=1) / 2
    assert told[AT["colour"]] == pytest.approx(np.sqrt(apart.mean()), abs=1e-4)


def test_the_numbers_of_a_network_do_not_matter() -> None:
    """Nor does the range it reads: the ops are undone."""
    for seed in range(3):
        image = photograph(seed)
        np.testing.assert_allclose(style(image), style(image, mean=0.0, std=1.0), atol=2e-3)
        np.testing.assert_allclose(style(image), style(image, mean=0.45, std=0.22), atol=2e-3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "palette", "clear", "turned", "large"])
def test_pixels_are_those_of_the_preprocessing(kind: str) -> None:
    image = photograph(2, size=(1200, 900) if kind == "large" else (300, 260))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = {
        "palette": lambda: encode(image.quantize(32), "PNG"),
        "clear": lambda: encode(np.dstack([np.asarray(image), np.full((260, 300), 90, dtype=np.uint8)]), "PNG"),
        "turned": lambda: encode(image, "JPEG", exif=exif),
        "large": lambda: encode(image, "JPEG"),
    }.get(kind, lambda: encode(image, kind))()
    both = styled()
    pixels, found = both.from_bytes(data, name="x", limits=DecodeLimits())
    np.testing.assert_array_equal(pixels, both.preprocess.from_bytes(data, name="x", limits=DecodeLimits()))
    assert found.dtype == np.float32
    assert found[AT["side"]] == 1  # decoded at a quarter, a large JPEG is no small one
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(both.from_image(opened)[0], both.preprocess.from_image(opened))
    array = np.asarray(image)
    np.testing.assert_array_equal(both.from_array(array)[0], both.preprocess.from_array(array))
    np.testing.assert_array_equal(both.from_array(array)[1], both.from_image(image)[1])


def test_what_preprocess_refuses_is_refused() -> None:
    with pytest.raises(UnreadablePicture, match="x: got"):
        styled().from_bytes(b"no picture", name="x", limits=DecodeLimits())
    with pytest.raises(UnreadablePicture, match="at most 10 are read"):
        styled().from_bytes(encode(photograph(0), "PNG"), name="x", limits=DecodeLimits(max_bytes=10))
    with pytest.raises(InvalidInput, match="uint8 of shape"):
        styled().from_array(np.zeros((0, 4, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 15, 16, 17, 33])
def test_networks_of_any_size(size: int) -> None:
    found = style(photograph(1), size=size)
    assert np.isfinite(found).all()
    assert (found >= -1e-5).all()


@pytest.mark.parametrize(("mean", "std"), [(0.5, 1e-30), (0.5, 1e30), (1e30, 1e20), (-1e37, 1e3)])
def test_a_stranger_may_declare_any_numbers(mean: float, std: float) -> None:
    """They must neither warn nor end in anything but numbers in range."""
    found = style(photograph(1), mean=mean, std=std)
    assert np.isfinite(found).all()
    assert ((found >= -1e-5) & (found <= np.array(MOST) + 1e-5)).all()
    assert found[AT["side"]] == 1
    assert found[AT["brightness"]] == found[AT["contrast"]] == 0  # nothing can be told of such numbers


@pytest.mark.parametrize("bad", [0.0, -1e15, 9e14])
def test_whatever_a_strangers_network_says_is_told_within_range(bad: float) -> None:
    kernel = find_style_kernel(styled().preprocess)
    assert kernel is not None
    told = kernel.tell(np.full(kernel.count, bad, dtype=np.float32), 1.0)
    assert ((told >= 0) & (told <= MOST)).all()


def test_sized_pixels_are_the_same_and_side_is_the_styles_own() -> None:
    image = photograph(4, size=(120, 100))
    sized = SizedPreprocess(styled().preprocess)
    for of, given in (("from_image", image), ("from_array", np.asarray(image))):
        pixels, side = getattr(sized, of)(given)
        both, told = getattr(styled(), of)(given)
        np.testing.assert_array_equal(pixels, both)
        assert told[AT["side"]] == pytest.approx(side)
        assert side == pytest.approx(100 / SIDE)


def test_the_same_picture_has_the_same_style_on_any_thread() -> None:
    both, image = styled(), photograph(5)
    np.testing.assert_array_equal(both.from_image(image)[1], both.from_image(image)[1])
    np.testing.assert_array_equal(both.from_image(image)[1], styled().from_image(image)[1])
