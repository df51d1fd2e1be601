"""Rows of a table: from a CSV file or a pandas frame, and one cell of a row of any kind.

pandas is never imported: a frame is known by its shape, so that whoever has none pays nothing.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drivetrain.errors import InvalidInput, NotFound

from .items import LABELS_FILE

__all__ = ["Row", "is_empty", "is_frame", "is_row", "list_items", "name_cells", "read_cell", "read_rows"]


class Row(dict[str, Any]):
    """A row, {column: cell}; `row.label` is `row["label"]`, as of a row of a pandas frame."""

    def __getattr__(self, column: str) -> Any:
        if column in self:
            return self[column]
        raise AttributeError(f"no column {column!r}; the row has {', '.join(self)}")


def read_rows(source: Any, *, delimiter: str = ",") -> list[Row]:
    """The rows of a CSV file (UTF-8, with a header; all cells are text) or of a pandas frame, each {column: cell}.

    For a folder, its `labels.csv`. Fits `DataBlock(get_items=read_rows, ...)`. Raises NotFound, or InvalidInput where a
    line has more or fewer cells than the header, or the header names a column twice.
    """
    if is_frame(source):
        names = [str(name) for name in source.columns]
        _check_header("the frame's columns", names)
        return [Row(zip(names, row.values(), strict=True)) for row in source.to_dict("records")]
    if not isinstance(source, str | Path):
        raise InvalidInput("read_rows", got=type(source).__name__, want="the path of a CSV file, or a pandas frame")
    file = Path(source)
    if file.is_dir():
        file /= LABELS_FILE
    if not file.is_file():
        raise NotFound("read_rows", got=str(file), want="a CSV file that is there")
    lines: list[tuple[int, list[str]]] = []  # with the number of the line they end on
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True, delimiter=delimiter)
            lines.extend((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
    except (UnicodeDecodeError, csv.Error, OSError) as exc:
        raise InvalidInput(str(file), got=str(exc), want="UTF-8 text, its cells apart by " + repr(delimiter)) from None
    if not lines:
        raise InvalidInput(str(file), got="an empty file", want="a header and a row for each picture")
    header = [cell.strip() for cell in lines[0][1]]
    _check_header(f"{file} line {lines[0][0]}", header)
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            want = f"{len(header)} cells: {','.join(header)}"
            raise InvalidInput(f"{file} line {number}", got=f"{len(cells)} cells", want=want)
        rows.append(Row((name, cell.strip()) for name, cell in zip(header, cells, strict=True)))
    return rows


def read_cell(row: Any, column: str | int) -> Any:
    """The cell of a row: a dict, a row of a pandas frame, a tuple, or anything with attributes; by name or position.

    Raises NotFound, with the nearest name, where there is no such column.
    """
    cells = name_cells(row)
    if isinstance(column, int) and column not in cells:
        values = list(cells.values()) or (list(row) if isinstance(row, Sequence) and not isinstance(row, str) else [])
        if not -len(values) <= column < len(values):
            raise NotFound("column", got=column, want=f"a position in a row of {len(values)} cells")
        return values[column]
    if column in cells:
        return cells[column]
    if not cells and isinstance(column, str) and not column.startswith("_") and hasattr(row, column):
        return getattr(row, column)
    names = [str(name) for name in cells]
    near = difflib.get_close_matches(str(column), names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else ""
    want = "one of " + ", ".join(names) if names else f"a row with columns, not {type(row).__name__} {str(row)[:60]!r}"
    raise NotFound("column", got=column, want=want, hint=hint)


def is_frame(source: object) -> bool:
    """Whether it has the shape of a pandas frame."""
    return all(hasattr(source, name) for name in ("columns", "iloc", "to_dict"))


def is_empty(cell: object) -> bool:
    """None, a NaN, or text without a letter: what tables hold where nothing was filled in."""
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())  # noqa: PLR0124 - a NaN


def list_items(items: Any) -> list[Any]:
    """Items as a list; a frame's are its rows."""
    if is_frame(items):
        return list(read_rows(items))
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InvalidInput("items", got=type(items).__name__, want="a list of paths or rows, or a pandas frame")
    return list(items)


def is_row(item: object) -> bool:
    """Whether its cells have names."""
    return bool(name_cells(item))


def name_cells(row: Any) -> Mapping[Any, Any]:
    """{column: cell} of a dict, a row of a pandas frame or a named tuple; of anything else nothing."""
    if isinstance(row, Mapping):
        return row
    if hasattr(row, "iloc") and hasattr(row, "index") and hasattr(row, "tolist"):  # a pandas series
        return dict(zip(row.index, row.tolist(), strict=True))
    if isinstance(row, tuple) and hasattr(row, "_fields"):
        return dict(zip(row._fields, row, strict=True))
    return {}


def _check_header(where: str, names: Sequence[str]) -> None:
    if not all(names) or len(set(names)) != len(names):
        raise InvalidInput(where, got=",".join(names), want="a name for each column, and each name once")
