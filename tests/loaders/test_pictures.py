"""Recipes: what is the same every time is declared and kept, what is drawn is not; and when keeping pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.data.transforms import CropPad, FlipItem, RandomResizedCrop, Resize
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.learn.pictures import (
    PictureLoader,
    is_picture,
    is_worth_keeping,
    plan_training,
    plan_validation,
)

DRAW: Any = np.random.default_rng


def ops(recipe: Any) -> list[str]:
    return [op.get("mode", op["op"]) for op in recipe.steady.ops]


@pytest.mark.parametrize(
    ("tfms", "steady", "varied"),
    [
        ([], ["RGB", "exif_transpose"], []),
        ([Resize(16, "squish")], ["RGB", "exif_transpose", "squish"], []),
        ([Resize(16, "pad", "zeros")], ["RGB", "exif_transpose", "longest", "constant"], []),
        ([Resize(16)], ["RGB", "exif_transpose", "shortest"], ["Resize"]),
        (
            [Resize(32, "squish"), Resize(16), FlipItem()],
            ["RGB", "exif_transpose", "squish", "shortest"],
            ["Resize", "FlipItem"],
        ),
        ([RandomResizedCrop(16)], ["RGB", "exif_transpose"], ["RandomResizedCrop"]),
        ([FlipItem(), Resize(16)], ["RGB", "exif_transpose"], ["FlipItem", "Resize"]),
        ([CropPad(16), len], ["RGB", "exif_transpose", "constant"], ["len"]),
    ],
)
def test_training_begins_with_what_no_draw_touches(tfms: list[Any], steady: list[str], varied: list[str]) -> None:
    recipe = plan_training(tfms)
    assert ops(recipe) == steady
    assert [name for name, _ in recipe.vary] == varied


@pytest.mark.parametrize(
    ("tfms", "side"),
    [
        ([Resize(16)], 16),
        ([FlipItem(), Resize(16)], 16),
        ([Resize(460), RandomResizedCrop(224)], 460),
        ([RandomResizedCrop(100, min_scale=1.0, ratio=(1, 1))], 116),
        ([CropPad(16)], None),
        ([FlipItem()], None),
        ([lambda image: image, Resize(16)], None),  # it may want to see the whole
        ([RandomResizedCrop(2000)], None),  # beyond what an op may say
        ([], None),
    ],
)
def test_how_small_a_jpeg_is_decoded(tfms: list[Any], side: int | None) -> None:
    assert plan_training(tfms).steady.ops[0]["jpeg_min_side"] == side


def test_validation_decodes_for_its_own_resize() -> None:
    recipe = plan_validation([FlipItem(), RandomResizedCrop(100)])
    assert recipe.steady.ops[0]["jpeg_min_side"] == 116  # training, which may enlarge a part, needs more
    assert not recipe.vary
    assert plan_validation([CropPad(50), Resize(10)]).steady.ops[0]["jpeg_min_side"] is None


@pytest.mark.parametrize("size", [(37, 22), (20, 41), (300, 9)])
def test_a_transform_does_in_the_loader_what_it_does_alone(size: tuple[int, int]) -> None:
    """Symptom before: in the loader `Resize` resized and then cut, alone it cut and then resized."""
    picture = Image.fromarray(DRAW(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    for tfm in (Resize(10), Resize(10, "squish"), Resize(10, "pad"), RandomResizedCrop(10), CropPad(10), FlipItem()):
        loader = PictureLoader(plan_training([tfm]), limits=DecodeLimits())
        for seed in range(5):
            inside, alone = loader.open(picture, DRAW(seed), name="x"), tfm(picture, DRAW(seed))
            np.testing.assert_array_equal(np.asarray(inside), np.asarray(alone), err_msg=repr(tfm))


def test_planes_are_the_picture() -> None:
    pixels = DRAW(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    loader = PictureLoader(plan_training([]), limits=DecodeLimits())
    np.testing.assert_array_equal(loader.load(pixels, DRAW(0), name="x"), pixels.transpose(2, 0, 1))


def test_a_function_may_give_another_mode() -> None:
    loader = PictureLoader(plan_training([lambda image: image.convert("L")]), limits=DecodeLimits())
    planes = loader.load(Image.new("RGB", (4, 3), (10, 20, 30)), DRAW(0), name="x")
    assert planes.shape == (3, 3, 4)
    assert np.unique(planes).size == 1


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    loader = PictureLoader(plan_training([]), limits=DecodeLimits())
    assert loader.load(tmp_path / "turned.jpg", DRAW(0), name="x").shape == (3, 40, 20)


def test_when_keeping_pays() -> None:
    a_megabyte = 1_000_000
    assert is_worth_keeping(0.0009, a_megabyte)  # opening takes 0.4 ms
    assert not is_worth_keeping(0.0007, a_megabyte)
    assert not is_worth_keeping(0.0001, 100)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("a.jpg", True),
        (b"", True),
        (Image.new("L", (1, 1)), True),
        (np.zeros((2, 2, 3), dtype=np.uint8), True),
        (np.zeros((2, 2, 3)), False),
        (np.zeros(3, dtype=np.uint8), False),
        ({"path": "a.jpg"}, False),
        (None, False),
    ],
)
def test_what_can_be_opened(value: object, answer: bool) -> None:
    assert is_picture(value) is answer
