"""A table that may be killed in the middle of any byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drivetrain.data.gather.append_table import AppendTable
from drivetrain.errors import InvalidInput

COLUMNS = ("path", "note")
ROWS = [
    {"path": "a/1.jpg", "note": 'says "hello", and\r\nmore'},
    {"path": "=1+1", "note": "+49 30"},
    {"path": "'quoted", "note": "\u00e4 \u718a a\u2028b"},
    {"path": "-x", "note": "@you\x00\x1b[31m"},
]
READ = [
    {"path": "a/1.jpg", "note": 'says "hello", and  more'},
    {"path": "=1+1", "note": "+49 30"},
    {"path": "'quoted", "note": "\u00e4 \u718a a b"},
    {"path": "-x", "note": "@you  [31m"},
]


def write(path: Path) -> bytes:
    table = AppendTable(path, COLUMNS)
    for row in ROWS:
        table.append(row)
    table.close()
    return path.read_bytes()


def test_rows_come_back_each_on_one_line(tmp_path: Path) -> None:
    data = write(tmp_path / "t.csv")
    assert data.count(b"\n") == 1 + len(ROWS)
    assert data.startswith(b"path,note\n")
    assert AppendTable(tmp_path / "t.csv", COLUMNS).rows == READ


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    lines = write(tmp_path / "t.csv").decode().splitlines()
    assert lines[2:] == ["'=1+1,'+49 30", "''quoted,\u00e4 \u718a a b", "'-x,'@you  [31m"]


def test_nothing_is_made_before_the_first_row(tmp_path: Path) -> None:
    AppendTable(tmp_path / "t.csv", COLUMNS).close()
    assert list(tmp_path.iterdir()) == []


def test_cut_anywhere_it_goes_on_with_the_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    data = write(path)
    for end in range(len(data)):
        path.write_bytes(data[:end])
        table = AppendTable(path, COLUMNS)
        n_whole = max(0, data[:end].count(b"\n") - 1)
        assert table.rows == READ[:n_whole], end
        table.append({"path": "new", "note": ""})
        table.close()
        assert AppendTable(path, COLUMNS).rows == [*READ[:n_whole], {"path": "new", "note": ""}], end


def test_a_row_is_the_systems_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    table = AppendTable(tmp_path / "t.csv", COLUMNS)
    for number in range(130):  # over two syncs
        table.append({"path": str(number), "note": ""})
        assert (tmp_path / "t.csv").read_text().endswith(f"\n{number},\n")
    table.close()


def test_columns_of_a_persons_own_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeffmine,note,path\r\nyes,n,p\r\n", encoding="utf-8", newline="")
    table = AppendTable(path, COLUMNS)
    assert table.rows == [{"mine": "yes", "note": "n", "path": "p"}]
    table.append({"path": "q", "note": "m"})
    table.close()
    assert path.read_text("utf-8").splitlines()[-1] == ",m,q"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a,b\n1,2\n", "got columns a,b; want columns path,note"),
        (b"path,note\n\xff\n", "can't decode byte"),
        (b'path,note\n"x"y,z\n', "expected after"),
    ],
)
def test_another_file_is_not_touched(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InvalidInput, match=told):
        AppendTable(tmp_path / "t.csv", COLUMNS)
    assert (tmp_path / "t.csv").read_bytes() == data


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's size")
def test_a_row_that_finds_no_room_is_not_there_at_all(tmp_path: Path) -> None:
    """A half one would be completed later, and speak of a picture that was never kept."""
    code = f"""
import resource
from pathlib import Path
from drivetrain.data.gather.append_table import AppendTable
table = AppendTable(Path({str(tmp_path / "t.csv")!r}), {COLUMNS!r})
table.append({{"path": "whole"}})
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    table.append({{"path": "x" * 200}})
except OSError as exc:
    print(exc)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
table.append({{"path": "later"}})
table.close()
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert "File too large" in done.stdout
    assert "t.csv" in done.stdout
    assert [row["path"] for row in AppendTable(tmp_path / "t.csv", COLUMNS).rows] == ["whole", "later"]


def test_the_header_of_another_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a\x1b[2J,b\n")
    with pytest.raises(InvalidInput, match=r"got columns a \[2J,b; want"):
        AppendTable(tmp_path / "t.csv", COLUMNS)
