"""What is to be gathered: addresses and files with their classes, from a CSV, a folder, or a search."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from drivetrain.data.items import LABELS_FILE, picture_files, read_items
from drivetrain.errors import InvalidInput, NotFound

from .addresses import host_name, parse_url
from .refusal import Refused

__all__ = ["Wanted", "check_class_name", "host_of", "list_folder", "read_url_list", "spell_url"]

_MAX_NAME_BYTES = 200  # most file systems take 255
_FORBIDDEN = frozenset('<>:"/\\|?*')  # in a name on Windows, and two of them anywhere
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789\u00b9\u00b2\u00b3")}
)
_SYSTEM_NAMES = frozenset({"__macosx", "@eadir"})  # no reader looks into them
# of files that stand beside the classes' folders, or may
_TAKEN_NAMES = frozenset({"check.html", "datasheet.md", LABELS_FILE, "refused.csv", "sources.csv"})
_CLASS_COLUMNS = ("class", "label")
_LICENCE_COLUMNS = ("licence", "license")
_HOW_TO_SAVE = "A spreadsheet saves this as 'CSV UTF-8 (comma delimited)'."


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One picture asked for: where it is, and what it is said to show."""

    url: str  # spelled one way where it is an address of the web; else as it was given
    label: str
    file: Path | None = None  # where it lies, if not on the web
    licence: str = ""
    source: str = ""  # the page or the collection it stands in
    found_by: str = ""  # "list bears.csv", "search: grizzly bear", "folder old"


def check_class_name(name: str, *, field: str) -> str:
    """The name, composed (NFC) and fit to be a folder's on every system. Raises InvalidInput, named `field`."""
    label = unicodedata.normalize("NFC", name.strip())
    problem = ""
    if not label:
        problem = "nothing"
    elif any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in label):
        problem = f"{label!r}, with a control character"
    elif found := sorted(_FORBIDDEN & set(label)):
        problem = f"{label!r}, with {' '.join(found)}"
    elif label.startswith(".") or label.endswith("."):
        problem = f"{label!r}, with a dot at an end"
    elif label.partition(".")[0].rstrip().lower() in _DEVICES or label.lower() in _SYSTEM_NAMES:
        problem = f"{label!r}, a name that systems keep for themselves"
    elif label.lower() in _TAKEN_NAMES:
        problem = f"{label!r}, the name of a file that stands beside the classes"
    elif len(label.encode()) > _MAX_NAME_BYTES:
        problem = f"{len(label.encode())} bytes"
    if problem:
        raise InvalidInput(
            field,
            got=problem,
            want="a class name that can be a folder's on every system",
            hint="Letters, digits, spaces, - and _ are always good.",
        )
    return label


def read_url_list(file: Path) -> tuple[list[Wanted], list[str]]:
    """The rows of a CSV with columns url and class, perhaps licence and source; and notes on what was not read.

    An address that is none is kept, to be refused by name. Raises NotFound or InvalidInput.
    """
    if not file.is_file():
        raise NotFound("--urls", got=str(file), want="a CSV file with columns url,class")
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error, OSError) as exc:
        raise InvalidInput(str(file), got=str(exc), want="UTF-8 text, comma-separated", hint=_HOW_TO_SAVE) from None
    header = [name.lower() for name in rows[0][1]] if rows else []
    class_column = next((name for name in _CLASS_COLUMNS if name in header), None)
    if "url" not in header or class_column is None or len(set(header)) != len(header):
        raise InvalidInput(
            f"{file} line 1",
            got=_printable(",".join(header)) or "nothing",
            want="columns url,class and, if you like, licence,source; each once, commas between them",
            hint=_HOW_TO_SAVE,
        )
    wanted = []
    for number, row in rows[1:]:
        if not any(row):
            continue
        where = f"{file} line {number}"
        if len(row) != len(header):
            raise InvalidInput(where, got=f"{len(row)} cells", want=f"{len(header)} cells: {','.join(header)}")
        cells = dict(zip(header, row, strict=True))
        if not cells["url"]:
            raise InvalidInput(
                f"{where}, url", got="nothing", want="an address", hint="Remove the row to leave it out."
            )
        wanted.append(
            Wanted(
                url=spell_url(cells["url"]),
                label=check_class_name(cells[class_column], field=f"{where}, {class_column}"),
                licence=next((cells[name] for name in _LICENCE_COLUMNS if cells.get(name)), ""),
                source=cells.get("source", ""),
                found_by=f"list {file.name}",
            )
        )
    if not wanted:
        raise InvalidInput(str(file), got="no row below the header", want="a row for each picture")
    unread = [name for name in header if name not in ("url", class_column, "source", *_LICENCE_COLUMNS)]
    notes = [f"Columns of {file.name} that were not read: {', '.join(map(repr, unread))}."] if unread else []
    return wanted, notes


def list_folder(folder: Path, classes: Sequence[str]) -> list[Wanted]:
    """The pictures of a local folder, labelled as `read_items` labels them; of `classes` only, where given.

    With one class and no folder of its name, every picture below `folder` is of that class. Raises
    NotFound or InvalidInput.
    """
    has_labels = (folder / LABELS_FILE).is_file()
    if not folder.is_dir():
        raise NotFound("--from", got=str(folder), want="a folder of pictures")
    if len(classes) == 1 and not has_labels and not (folder / classes[0]).is_dir():
        files = [(file, classes[0]) for file in picture_files(folder)]
        if not files:
            raise InvalidInput("--from", got=f"no picture in {folder}", want="one picture at least")
    else:
        items = read_items(folder)
        files = [(items.file(item), item.label) for item in items if not classes or item.label in classes]
    return [
        Wanted(
            url=file.resolve().as_uri(),
            label=check_class_name(label, field=f"--from {folder}, a class's name"),
            file=file,
            found_by=f"folder {folder.name}",
        )
        for file, label in files
    ]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def spell_url(text: str) -> str:
    """The one spelling of an address, so that it is known again; what is no address stays as it is."""
    try:
        return str(parse_url(text))
    except Refused:
        return _printable(text)


def host_of(wanted: Wanted) -> str:
    """Whose server is asked first; "" for a local file and for what is no address."""
    if wanted.file is not None:
        return ""
    try:
        return host_name(httpx.URL(wanted.url))
    except (httpx.InvalidURL, ValueError):
        return ""
