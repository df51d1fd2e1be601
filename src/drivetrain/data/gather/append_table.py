"""A CSV that grows a row at a time and survives being killed at any moment."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from drivetrain.errors import InvalidInput
from drivetrain.files import write_whole

__all__ = ["AppendTable"]

_ROWS_A_SYNC = 64  # a power cut may cost so many rows; a killed process costs none
_BREAKS = ("Cc", "Zl", "Zp")  # control characters, line and paragraph separators
_FORMULA_STARTS = ("=", "+", "-", "@", "'")  # a spreadsheet would compute what begins so


class AppendTable:
    """Rows of `columns` in `path`, each on a line of its own; a half line at the end is cut off when it is opened.

    A cell that a spreadsheet would take for a formula is written with a ' before it. Columns that a person has added
    are kept. Raises InvalidInput where the file is not such a table.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self._n_unsynced = 0
        self._file: io.FileIO | None = None
        self._header = list(columns)
        self.rows: list[dict[str, str]] = []  # those that were there when it was opened
        if path.exists():
            self._read(columns)

    def append(self, row: Mapping[str, str]) -> None:
        """Add a row; it is the system's when this returns, and the disk's after some more or `close`.

        Raises OSError where the disk is full; the row is then not there at all.
        """
        lines = _line([_guard(row.get(name, "")) for name in self._header])
        if self._file is None:
            is_new = not self._path.exists()
            self._file = self._path.open("ab", buffering=0)
            if is_new:
                lines = _line(self._header) + lines
        self._write(lines)
        self._n_unsynced += 1
        if self._n_unsynced >= _ROWS_A_SYNC:
            self._sync()

    def close(self) -> None:
        """Bring all rows to the disk."""
        if self._file is not None:
            try:
                self._sync()
            finally:
                self._file.close()
                self._file = None

    def _write(self, lines: bytes) -> None:
        assert self._file is not None
        begin = self._file.seek(0, os.SEEK_END)
        try:
            left = memoryview(lines)
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError as exc:
            self._file.truncate(begin)
            exc.filename = exc.filename or str(self._path)
            raise

    def _sync(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._n_unsynced = 0

    def _read(self, columns: Sequence[str]) -> None:
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        try:
            rows = list(csv.reader(io.StringIO(whole.decode("utf-8-sig"), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as exc:
            raise InvalidInput(str(self._path), got=str(exc), want="the table that `drivetrain gather` wrote") from None
        if rows and not set(columns) <= set(rows[0]):
            raise InvalidInput(
                str(self._path),
                got=f"columns {_one_line(','.join(rows[0]))}",
                want=f"columns {','.join(columns)}",
                hint="Move it away, or gather into another folder.",
            )
        if len(whole) < len(data) or (data and not rows):
            write_whole(self._path, whole)
        if not whole:
            self._path.unlink()  # killed in its very first line
            return
        self._header = rows[0]
        self.rows = [dict(zip(self._header, map(_unguard, row), strict=False)) for row in rows[1:] if row]


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _guard(cell: str) -> str:
    """One line, and no formula."""
    line = _one_line(cell)
    return f"'{line}" if line.startswith(_FORMULA_STARTS) else line


def _one_line(text: str) -> str:
    return "".join(" " if unicodedata.category(character) in _BREAKS else character for character in text)


def _unguard(cell: str) -> str:
    return cell.removeprefix("'")
