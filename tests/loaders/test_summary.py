"""summary: each step with type, shape and range; where one fails, which, on what, why, and what to do."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from drivetrain.data.splitters import IndexSplitter
from drivetrain.data.transforms import FlipItem, Resize
from drivetrain.learn import summary
from drivetrain.learn.augment import aug_transforms
from drivetrain.learn.blocks import CategoryBlock, ImageBlock, MultiCategoryBlock, RegressionBlock, TransformBlock
from drivetrain.learn.summary import describe_value

from .makers import block_of, make_files


@pytest.fixture
def _whole_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of tests may have a long name."""
    monkeypatch.setattr(summary, "_TEXT_CHARS", 500)


def told(capsys: pytest.CaptureFixture[str], source: Any, **changes: Any) -> str:
    block_of(**changes).summary(source)
    return capsys.readouterr().out


def steps(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.usefixtures("_whole_paths")
def test_every_step_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = steps(told(capsys, folder, item_tfms=[FlipItem(), Resize(16)], batch_tfms=aug_transforms()))
    assert lines[:6] == [
        "Items",
        "get_items=get_image_files 12 items",
        "splitter=IndexSplitter 9 to train on, 3 held out",
        "blocks ImageBlock, CategoryBlock",
        "labels 2: ('cat', 'dog')",
        f"One item of training: path {folder}/cat/02.jpg",
    ]
    assert [line.split(" picture,")[0] for line in lines[7:10]] == [
        "open",
        "item transform FlipItem",
        "item transform Resize",
    ]
    assert "picture, 40 x 30 pixels, RGB, " in lines[7]
    assert "picture, 16 x 16 pixels, RGB, " in lines[9]
    assert lines[10:13] == ["get_y=parent_label str 'cat'", "type transform Categorize int64 0", "read back cat"]
    assert lines[13:15] == ["A batch of 4", "item transforms 4 pictures, 16 x 16 pixels"]
    assert lines[15].startswith("collate uint8 (4, 3, 16, 16), ")
    assert lines[16].startswith("to floats float32 (4, 3, 16, 16), 0")
    assert lines[17].startswith("batch transform Augment float32 (4, 3, 16, 16), ")
    assert lines[18:] == ["collate get_y int64 (4,), 0 to 0"]


def test_how_many_are_batched(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block_of().summary(folder, bs=3)
    assert "A batch of 3" in capsys.readouterr().out
    block_of().summary(folder, bs=99)
    assert "A batch of 9" in capsys.readouterr().out  # there are no more to train on


def test_the_batch_may_be_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(block_of().summary(folder, show_batch=True), Figure)
    assert block_of().summary(folder) is None
    assert block_of(get_y=lambda file: 1 / 0).summary(folder, show_batch=True) is None


def test_a_frame_and_other_blocks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pandas.DataFrame({"file": [f"cat/{n:02}.jpg" for n in (0, 2, 4)], "age": [1.0, 2.0, 3.0]})
    text = told(
        capsys,
        frame,
        blocks=(ImageBlock, RegressionBlock),
        get_items=None,
        get_x=lambda row: folder / row["file"],
        get_y=itemgetter("age"),
        splitter=IndexSplitter([0]),
    )
    assert "source                             3 items" in text
    assert "labels                             1 numbers" in text
    assert "read back                        2" in text
    several = told(
        capsys, folder, blocks=(ImageBlock, MultiCategoryBlock), get_y=lambda file: [file.parent.name, "pet"]
    )
    assert "float32 (3,), 0 to 1" in several
    assert "cat;pet" in several


def test_functions_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(
        capsys,
        folder,
        blocks=(TransformBlock([str, Image.open]), TransformBlock([len])),
        get_y=lambda file: file.name,
        batch_tfms=[lambda x: x * 2],
    )
    assert "type transform open" in text
    assert "type transform len                 int 6" in text
    assert "batch transform a lambda           float32 (4, 3, 16, 16), " in text
    assert "collate get_y                      int64 (4,), 6 to 6" in text


@pytest.mark.parametrize(
    ("changes", "step", "on", "why"),
    [
        ({"get_items": lambda source: []}, "get_items=a lambda", "the source", "got no items in"),
        ({"splitter": lambda items: ([], [1])}, "splitter=a lambda", "12 items", "want at least one item on each side"),
        ({"get_y": None}, "blocks", "the DataBlock", "DataBlock(get_y): got none"),
        ({"get_y": lambda file: file.nme}, "labels", "all items", "AttributeError"),
        ({"splitter": IndexSplitter([6, 7, 8, 9, 10, 11])}, "labels", "all items", "got the label 'dog'"),
        ({"get_x": lambda file: file / "no"}, "open", "cat/02.jpg", "cannot be opened: Not a directory"),
        ({"item_tfms": lambda image: 1 / 0}, "item transform a lambda", "cat/02.jpg", "ZeroDivisionError"),
        ({"item_tfms": []}, "collate", "4 pictures", "want pictures of one size"),
        ({"batch_tfms": [lambda x: 1 / 0]}, "batch transform a lambda", "the batch", "ZeroDivisionError"),
        ({"blocks": (ImageBlock, TransformBlock)}, "collate get_y", "4 items", "got a str; want a number"),
    ],
)
def test_where_it_fails(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], step: str, on: str, why: str
) -> None:
    if changes.get("item_tfms") == []:
        make_files(folder, count=1, size=(20, 50))
        changes = changes | {"splitter": IndexSplitter([6])}
    lines = told(capsys, folder, **changes).splitlines()
    failed = next(at for at, line in enumerate(lines) if line.endswith(" FAILED"))
    assert lines[failed].split("  ")[1] == step
    assert lines[failed + 2].startswith("    on    ")
    assert on in lines[failed + 2]
    assert lines[failed + 3].startswith("    why   ")
    assert why in lines[failed + 3]


def test_where_in_the_users_own_code_it_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = test_where_in_the_users_own_code_it_fails.__code__.co_firstlineno + 2
    text = told(capsys, folder, get_y=lambda file: file.nme)
    assert f"from  {__file__}, line {line}" in text
    assert "from " not in told(capsys, folder, item_tfms=[lambda image: 3])


def test_below_a_library_the_users_own_line_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Symptom before: `from .../PIL/Image.py`, for a mistake in a lambda that called it."""
    line = test_below_a_library_the_users_own_line_is_told.__code__.co_firstlineno + 3
    text = told(capsys, folder, item_tfms=[lambda image: image.resize("small")])
    assert f"from  {__file__}, line {line}" in text


@pytest.mark.usefixtures("_whole_paths")
def test_what_cannot_be_read_is_passed_over_as_by_the_loader(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Symptom before: `item transforms FAILED`, for a picture that training only leaves out."""
    for name in ("cat/02.jpg", "cat/06.jpg"):
        (folder / name).write_bytes(b"no picture")
    text = told(capsys, folder)
    assert "FAILED" not in text
    assert text.count("left out  ") == 2
    assert "cat/06.jpg: text, not a picture" in text
    assert "One item of training: path " + str(folder / "cat/04.jpg") in text
    assert "4 pictures, 16 x 16 pixels" in text


def test_where_nothing_can_be_read_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in folder.glob("*/*"):
        file.write_bytes(b"no picture")
    text = told(capsys, folder)
    assert "open                               FAILED" in text
    assert "cat/02.jpg" in text.split("why")[1]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Path("a/b.jpg"), "path a/b.jpg"),
        ("cat", "str 'cat'"),
        (np.int64(3), "int64 3"),
        (np.zeros((2, 3), dtype=np.uint8), "uint8 (2, 3), 0 to 0"),
        (torch.tensor([0.25, 1234.5]), "float32 (2,), 0.25 to 1.23e+03"),
        (np.zeros((0, 3)), "float64 (0, 3), ? to ?"),
        (np.array(["a"]), "<U1 (1,), ? to ?"),
        (Image.new("RGB", (4, 3), (1, 2, 3)), "picture, 4 x 3 pixels, RGB, 1 to 3"),
        ("x" * 200, "str '" + "x" * 85 + "..."),
    ],
)
def test_values_are_described(value: object, said: str) -> None:
    assert describe_value(value) == said


def test_a_category_block_that_is_not_called(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "blocks                             ImageBlock, CategoryBlock" in told(
        capsys, folder, blocks=(ImageBlock(), CategoryBlock)
    )


def test_a_long_list_of_labels_ends_in_dots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_files(tmp_path, count=40, classes=[f"a rather long label {at:02}" for at in range(10)])
    block_of(splitter=IndexSplitter([0, 6, 11])).summary(tmp_path)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("labels")]
    assert "10: ('a rather long label 00'" in line
    assert line.endswith("...")
