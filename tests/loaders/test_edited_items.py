"""What the journal beside the pictures says holds for a DataBlock as it does for `drivetrain train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from drivetrain.data.edits import Change, append_edits, read_journal, undo_edits
from drivetrain.data.getters import RegexLabeller, parent_label
from drivetrain.data.items import read_items
from drivetrain.data.splitters import IndexSplitter
from drivetrain.errors import InvalidInput
from drivetrain.learn.data_block import DataBlock

from .makers import block_of


@pytest.fixture
def bears(tmp_path: Path) -> Path:
    for label in ("black", "grizzly"):
        for number in range(4):
            file = tmp_path / label / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            Image.new("RGB", (16, 16), (number * 40, 90, 40)).save(file)
    return tmp_path


def quarantine(path: str) -> Change:
    return Change(path=path, action="quarantine", old="black", new=None, reason="blurred")


def relabel(path: str) -> Change:
    return Change(path=path, action="relabel", old="black", new="grizzly", reason="wrong")


def block(**given: Any) -> DataBlock:
    return block_of(splitter=IndexSplitter([0, 5]), item_tfms=None, **given)


def labels_of(made: DataBlock, source: Path) -> dict[str, str]:
    sides = made.datasets(source)
    return {
        Path(item).relative_to(source).as_posix(): side.decode([side.value(at, 1)])
        for side in (sides.train, sides.valid)
        for at, item in enumerate(side.items)
    }


@pytest.mark.parametrize("get_y", [parent_label, RegexLabeller(r"(\w+)/\d\.png$"), lambda file: file.parent.name])
def test_edits_hold_whatever_the_getter(get_y: object, bears: Path) -> None:
    append_edits(bears, [quarantine("black/1.png"), relabel("black/2.png")], by="me")
    assert labels_of(block(get_y=get_y), bears) == {item.path: item.label for item in read_items(bears)}
    assert "black/1.png" not in labels_of(block(get_y=get_y), bears)
    assert labels_of(block(get_y=get_y), bears)["black/2.png"] == "grizzly"


def test_what_was_undone_holds_no_more(bears: Path) -> None:
    before = labels_of(block(), bears)
    edits = append_edits(bears, [quarantine("black/1.png"), relabel("black/2.png")], by="me")
    undo_edits(bears, edits, by="me")
    assert read_journal(bears).in_force() == ()
    assert labels_of(block(), bears) == before


def test_a_table_whose_rows_name_their_file(bears: Path) -> None:
    append_edits(bears, [quarantine("black/1.png"), relabel("black/2.png")], by="me")
    names = [f"{label}/{number}.png" for label in ("black", "grizzly") for number in range(4)]
    frame = pd.DataFrame({"name": names, "label": [name.split("/", maxsplit=1)[0] for name in names]})
    made = block(get_items=lambda folder: frame, get_x=lambda row: bears / row["name"], get_y=lambda row: row["label"])
    sides = made.datasets(bears)
    assert len(sides) == 7
    told = [side.decode([side.value(at, 1)]) for side in (sides.train, sides.valid) for at in range(len(side))]
    assert sorted(told) == ["black"] * 2 + ["grizzly"] * 5


def test_all_left_out(bears: Path) -> None:
    paths = [item.path for item in read_items(bears)]
    append_edits(bears, [quarantine(path) for path in paths], by="me")
    with pytest.raises(InvalidInput, match=r"8 items, all left out by drivetrain\.edits\.jsonl"):
        block().datasets(bears)


def test_summary_sees_them_too(bears: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_edits(bears, [quarantine("black/0.png"), relabel("black/1.png"), relabel("black/2.png")], by="me")
    block().summary(bears, bs=2)  # the first to train on is black/2.png
    out = capsys.readouterr().out
    assert "7 items" in out
    assert "black/2.png" in out
    assert "read back                        grizzly" in out
