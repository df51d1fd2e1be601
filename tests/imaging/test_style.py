"""Each flag on pictures made to have it, and none of them on the same pictures as they were."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from drivetrain.errors import InvalidInput
from drivetrain.imaging.style import STYLE_FLAGS, Style, measure_style

Change = Callable[[Image.Image], Image.Image]


def photograph(seed: int, *, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Like a photograph to these measures: hard edges and soft shading, colour, light of many levels, noise."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width] / max(size)
    shade = 0.8 + 0.25 * np.sin(6 * x + rng.uniform(0, 6)) * np.cos(5 * y + rng.uniform(0, 6))
    picture = np.full((height, width, 3), rng.uniform(110, 190, 3))
    for _ in range(25):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, height / width), rng.uniform(0.02, 0.2)
        picture[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = rng.uniform(20, 250, 3)
    picture = picture * shade[..., None] + rng.normal(0, 6, picture.shape)
    return Image.fromarray(picture.clip(0, 250).astype(np.uint8))


def as_jpeg(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return Image.open(out).convert("RGB")


def draw_areas(image: Image.Image) -> Image.Image:
    drawn = Image.new("RGB", image.size, "teal")
    pen = ImageDraw.Draw(drawn)
    pen.ellipse((40, 40, 200, 180), fill="gold", outline="black", width=4)
    pen.rectangle((220, 100, 360, 260), fill="firebrick")
    return drawn


def draw_lines(image: Image.Image) -> Image.Image:
    drawn = Image.new("RGB", image.size, "white")
    pen = ImageDraw.Draw(drawn)
    for at in range(20, 280, 60):
        pen.ellipse((at, at // 2, at + 100, at + 90), outline="navy", width=3)
    return drawn


CHANGES: dict[str, list[Change]] = {
    "dark": [lambda image: image.point(lambda value: int(value * 0.22))],
    "bright": [lambda image: image.point(lambda value: min(255, int(value * 0.6 + 150)))],
    "flat": [lambda image: image.point(lambda value: int(value * 0.1 + 120))],
    "blurred": [
        lambda image: image.filter(ImageFilter.GaussianBlur(4)),
        lambda image: image.resize((80, 60)).resize(image.size, Image.Resampling.BICUBIC),
    ],
    "small": [lambda image: image.resize((120, 90))],
    "grey": [lambda image: image.convert("L").convert("RGB")],
    "drawn": [draw_areas, draw_lines],
}


@pytest.mark.parametrize("seed", range(8))
def test_a_photograph_has_no_flag(seed: int) -> None:
    assert measure_style(as_jpeg(photograph(seed))).flags == frozenset()
    assert measure_style(as_jpeg(photograph(seed, size=(300, 900)))).flags == frozenset()


@pytest.mark.parametrize(("flag", "change"), [(flag, one) for flag, some in CHANGES.items() for one in some])
def test_a_flag_comes_with_its_fault_alone(flag: str, change: Change) -> None:
    found = [measure_style(as_jpeg(change(photograph(seed)))).flags for seed in range(8)]
    assert sum(flag in flags for flags in found) >= 7
    others = [one for flags in found for one in flags - {flag}]
    assert not set(others) - {"grey" if flag in {"dark", "flat"} else "blurred" if flag == "bright" else ""}


def test_every_flag_was_tried() -> None:
    assert list(CHANGES) == list(STYLE_FLAGS)


def test_a_product_on_white_is_neither_drawn_nor_overexposed() -> None:
    mask = Image.new("L", (400, 300), 0)
    ImageDraw.Draw(mask).ellipse((90, 40, 310, 260), fill=255)
    for seed in range(6):
        cut = Image.new("RGB", (400, 300), "white")
        cut.paste(photograph(seed), mask=mask)
        assert not measure_style(as_jpeg(cut)).flags


def test_sharpness_does_not_depend_on_the_size_of_the_file() -> None:
    for seed in range(4):
        large = photograph(seed, size=(1600, 1200))
        sharp = [measure_style(large.resize((side * 4 // 3, side))).sharpness for side in (1200, 600, 300)]
        soft = measure_style(large.filter(ImageFilter.GaussianBlur(14))).sharpness
        assert min(sharp) > 0.45 > soft
        assert max(sharp) < 2.5 * min(sharp)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 2), (23, 23), (5000, 40)])
def test_odd_sizes_are_measured_too(size: tuple[int, int]) -> None:
    style = measure_style(Image.new("RGB", size, "teal"))
    assert (style.width, style.height) == size
    assert "blurred" not in style.flags
    assert style == measure_style(Image.new("RGB", size, "teal"))


def test_the_stored_size_is_told_of_a_smaller_decode() -> None:
    style = measure_style(photograph(0, size=(100, 75)), size=(800, 600))
    assert (style.width, style.height) == (800, 600)
    assert "small" not in style.flags


def test_plain_values_give_the_same_style_again() -> None:
    style = measure_style(photograph(1))
    assert Style(**style.as_json()) == style


@pytest.mark.parametrize("image", [Image.new("L", (9, 9)), Image.new("RGB", (0, 4))])
def test_another_mode_or_nothing_at_all_is_refused(image: Image.Image) -> None:
    with pytest.raises(InvalidInput, match="want an RGB picture of one pixel at least"):
        measure_style(image)
