"""Where items come from and what they are called: picture files of a folder, labels from paths, names and columns."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetrain.errors import InvalidInput, NotFound
from drivetrain.imaging.decode import SUFFIXES, UNSUPPORTED_SUFFIXES, DecodeLimits

from .glimpse import glimpse_pictures
from .items import picture_files
from .rows import is_empty, read_cell

__all__ = [
    "ColReader",
    "FileGetter",
    "RegexLabeller",
    "get_image_files",
    "parent_label",
    "using_attr",
    "verify_images",
]

_GLIMPSE_SIDE = 8  # pixels: nobody looks at these


def get_image_files(path: str | Path, recurse: bool = True, folders: Iterable[str] | None = None) -> list[Path]:
    """Every picture by its name below `path`, hidden ones left out, in an order that is the same on every machine.

    `recurse=False` takes those directly in `path` only. `folders` names the folders directly below `path` to look into,
    "." for `path` itself. Raises NotFound for a folder that is not there, InvalidInput where `path` is none.
    """
    root = Path(path)
    if not root.exists():
        raise NotFound("get_image_files(path)", got=str(root), want="a folder")
    if not root.is_dir():
        raise InvalidInput("get_image_files(path)", got=f"{root}, a file", want="a folder")
    if folders is None:
        return _pictures_in(root, recurse=recurse)
    wanted = list(dict.fromkeys([folders] if isinstance(folders, str) else folders))
    there = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    for name in wanted:
        if name != "." and name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            want = f"folders of {root}: {', '.join(there)}"
            raise NotFound("folders", got=name, want=want, hint=f"Did you mean {near[0]!r}?" if near else "")
    found = [file for name in wanted for file in _pictures_in(root / name, recurse=recurse and name != ".")]
    return sorted(found)


def _pictures_in(folder: Path, *, recurse: bool) -> list[Path]:
    return sorted(file for file in picture_files(folder) if recurse or file.parent == folder)


@dataclass(frozen=True, slots=True)
class FileGetter:
    """`get_image_files` with its choices made beforehand: `FileGetter(folders=["train", "valid"])(path)`.

    `suf` is a folder below the path given; `extensions`, such as [".jpg"], keeps pictures of these kinds only.
    """

    suf: str = ""
    extensions: Sequence[str] | None = None
    recurse: bool = True
    folders: Sequence[str] | None = None

    def __post_init__(self) -> None:
        known = SUFFIXES | UNSUPPORTED_SUFFIXES
        for suffix in _spell(self.extensions or ()):
            if suffix not in known:
                want = "suffixes of pictures: " + ", ".join(sorted(known))
                raise InvalidInput("FileGetter(extensions)", got=suffix, want=want)

    def __call__(self, path: str | Path) -> list[Path]:
        files = get_image_files(Path(path) / self.suf, self.recurse, self.folders)
        kept = None if self.extensions is None else _spell(self.extensions)
        return [file for file in files if kept is None or file.suffix.lower() in kept]


def _spell(suffixes: Sequence[str]) -> list[str]:
    return [suffix.lower() for suffix in ([suffixes] if isinstance(suffixes, str) else suffixes)]


def parent_label(path: str | Path) -> str:
    """The name of the folder a picture lies in: its label. Raises InvalidInput where the path names no folder."""
    name = Path(path).parent.name
    if not name or name == "..":
        hint = "Give the path with its folder, such as bears/grizzly/1.jpg."
        raise InvalidInput("parent_label", got=str(path), want="a path in a folder named after its class", hint=hint)
    return unicodedata.normalize("NFC", name)  # a Mac writes an umlaut as two characters where others write one


@dataclass(frozen=True, slots=True)
class RegexLabeller:
    """The label is what the first group of `pat` finds in the path, written with forward slashes.

    It is searched for anywhere, or with `match=True` from the path's first character on. Raises InvalidInput for a
    pattern that is none or has no group, and for a path in which it finds nothing.
    """

    pat: str | re.Pattern[str]
    match: bool = False

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pat).groups
        except (re.error, TypeError) as exc:
            raise InvalidInput("RegexLabeller(pat)", got=f"{self.pat!r} ({exc})", want="a regular expression") from None
        if not groups:
            want = "a pattern with a group, such as r'(\\w+)_\\d+\\.jpg$'"
            raise InvalidInput("RegexLabeller(pat)", got=self._shown, want=want)

    def __call__(self, path: str | Path) -> str:
        text = str(path).replace(os.sep, "/")
        pattern = re.compile(self.pat)
        found = pattern.match(text) if self.match else pattern.search(text)
        if found is None or found.group(1) is None:
            want = f"a path in which {self._shown!r} finds a label" + (" from its start on" if self.match else "")
            raise InvalidInput("RegexLabeller", got=text, want=want)
        return unicodedata.normalize("NFC", found.group(1))

    @property
    def _shown(self) -> str:
        return self.pat if isinstance(self.pat, str) else self.pat.pattern


def using_attr(f: Callable[[Any], Any], attr: str) -> Callable[[Any], Any]:
    """`f` of an attribute of the item: with "name", of the last part of a path."""

    def read(item: Any) -> Any:
        return f(getattr(item, attr))

    name = getattr(f, "__name__", type(f).__name__)
    read.__name__ = f"{name} of .{attr}"  # as messages call it
    return read


@dataclass(frozen=True, slots=True)
class ColReader:
    """Cells of a row: of a CSV file (`read_rows`), a pandas frame, a tuple; columns by name or by position.

    One column gives its cell, several a list. `pref` and `suff` go before and after a cell's text (a `pref` that is a
    Path, as a folder); with `label_delim` a cell becomes the list of labels in it, empty where the cell is.
    Raises NotFound for a column that the row does not have.
    """

    cols: str | int | Sequence[str | int]
    pref: str | Path = ""
    suff: str = ""
    label_delim: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.cols, str | int) and not self.cols:
            raise InvalidInput("ColReader(cols)", got=self.cols, want="a column's name or position, or several")

    def __call__(self, row: Any) -> Any:
        if isinstance(self.cols, str | int):
            return self._read(row, self.cols)
        cells = [self._read(row, column) for column in self.cols]
        return cells[0] if len(cells) == 1 else cells

    def _read(self, row: Any, column: str | int) -> Any:
        cell = read_cell(row, column)
        if self.label_delim is not None:
            parts = [] if is_empty(cell) else str(cell).split(self.label_delim)
            return [part.strip() for part in parts if part.strip()]
        pref = f"{self.pref}{os.sep}" if isinstance(self.pref, Path) else self.pref
        return f"{pref}{cell}{self.suff}" if pref or self.suff else cell


def verify_images(files: Iterable[str | Path], *, limits: DecodeLimits | None = None) -> list[Path]:
    """Those of the files that cannot be read as pictures, in the order given; nothing is moved or deleted.

    Each is decoded to its end, as small as its format allows, on all cores.
    """
    paths = [Path(file) for file in files]
    seen = glimpse_pictures(paths, lambda picture: True, side=_GLIMPSE_SIDE, limits=limits)
    return [file for file, is_read in zip(paths, seen, strict=True) if not is_read]
