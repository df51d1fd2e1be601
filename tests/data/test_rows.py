"""Rows of CSV files and of pandas frames, and one cell of any kind of row."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from drivetrain.data.items import Item
from drivetrain.data.rows import list_items, read_cell, read_rows
from drivetrain.errors import InvalidInput, NotFound


class Named(NamedTuple):
    path: str
    label: str


FRAME = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "label": ["x", "y"], "age": [1, 2], "is_valid": [True, False]})


def write(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    file = folder / "table.csv"
    file.write_text(text, encoding=encoding)
    return file


# --- read_rows


def test_rows_of_a_csv_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'path, label\n"a,1.jpg",  grizzly \n\nb.jpg,bär\n')
    rows = [{"path": "a,1.jpg", "label": "grizzly"}, {"path": "b.jpg", "label": "bär"}]
    assert read_rows(file) == read_rows(str(file)) == rows
    assert read_rows(write(tmp_path, "path,label\na,b\n", encoding="utf-8-sig")) == [{"path": "a", "label": "b"}]
    assert read_rows(write(tmp_path, "path;label\na;b\n"), delimiter=";") == [{"path": "a", "label": "b"}]


def test_of_a_folder_its_labels_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\na.jpg,x\n")
    assert read_rows(tmp_path) == [{"path": "a.jpg", "label": "x"}]


def test_rows_of_a_frame() -> None:
    rows = read_rows(FRAME)
    assert rows[0] == {"path": "a.jpg", "label": "x", "age": 1, "is_valid": True}
    assert len(rows) == 2
    assert list_items(FRAME) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"got an empty file; want a header and a row for each picture"),
        ("path,label\na\n", r"table\.csv line 2: got 1 cells; want 2 cells: path,label"),
        ("path,label\na,b\n\nc,d,e\n", r"line 4: got 3 cells"),
        ("path,path\na,b\n", r"line 1: got path,path; want a name for each column, and each name once"),
        ("path,\na,b\n", r"line 1: got path,; want a name for each column"),
        ('path,label\n"a,b\n', r"want UTF-8 text, its cells apart by ','"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_rows(write(tmp_path, text))


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="want UTF-8 text"):
        read_rows(write(tmp_path, "path,label\na,bär\n", encoding="latin-1"))


def test_what_is_not_there_or_of_no_kind(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"read_rows: got .*none\.csv; want a CSV file that is there"):
        read_rows(tmp_path / "none.csv")
    with pytest.raises(NotFound, match=r"labels\.csv; want a CSV file"):
        read_rows(tmp_path)
    with pytest.raises(InvalidInput, match="got list; want the path of a CSV file, or a pandas frame"):
        read_rows([1])
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(InvalidInput, match="the frame's columns: got a,a"):
        read_rows(twice)


@pytest.mark.parametrize("items", ["a.jpg", b"a", 3])
def test_items_are_a_list(items: Any) -> None:
    with pytest.raises(InvalidInput, match=r"items: got .*; want a list of paths or rows, or a pandas frame"):
        list_items(items)


# --- read_cell

ROWS: list[Any] = [
    {"path": "a.jpg", "label": "x"},
    FRAME.iloc[0],
    next(FRAME.itertuples(index=False)),
    Named("a.jpg", "x"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_cell_by_name_and_by_position(row: Any) -> None:
    assert read_cell(row, "label") == read_cell(row, 1) == "x"
    assert read_cell(row, 0) == "a.jpg"
    with pytest.raises(NotFound, match=r"column: got labels; want one of path, label.* Did you mean 'label'\?"):
        read_cell(row, "labels")
    with pytest.raises(NotFound, match=r"column: got 9; want a position in a row of [24] cells"):
        read_cell(row, 9)


def test_cells_of_what_has_no_columns() -> None:
    assert read_cell(["a", "b"], 1) == read_cell(("a", "b"), -1) == "b"
    assert read_cell(Item(path="p", label="l", group="g"), "group") == "g"
    with pytest.raises(NotFound, match="want a row with columns, not list"):
        read_cell(["a", "b"], "label")
    with pytest.raises(NotFound, match=r"got label; want a row with columns, not str 'a\.jpg'"):
        read_cell("a.jpg", "label")
    with pytest.raises(NotFound, match="want a position in a row of 0 cells"):
        read_cell("a.jpg", 0)


def test_a_column_may_be_named_by_a_number() -> None:
    assert read_cell(pd.DataFrame({5: ["x"], 0: ["y"]}).iloc[0], 0) == "y"


def test_a_cell_is_an_attribute_too(tmp_path: Path) -> None:
    """`lambda row: row.label`, as people write it of a pandas row; symptom before: 'dict' object has no attribute."""
    for row in (read_rows(FRAME)[1], read_rows(write(tmp_path, "path,label\nb.jpg,y\n"))[0]):
        assert (row.label, row["label"]) == ("y", "y")
        assert pickle.loads(pickle.dumps(row)) == copy.deepcopy(row) == row
        with pytest.raises(AttributeError, match="no column 'lable'; the row has path, label"):
            _ = row.lable
