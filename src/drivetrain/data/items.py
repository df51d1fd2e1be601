"""Items: pictures and their labels, read from a folder of folders or from `labels.csv`."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivetrain.errors import InvalidInput, NotFound
from drivetrain.imaging.decode import SUFFIXES

__all__ = ["LABELS_FILE", "SPLITS", "Item", "Items", "picture_files", "read_items"]

LABELS_FILE = "labels.csv"
_COLUMNS = ("path", "label", "group", "split")
# a folder or a `split` cell of this name -> its part
SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture and its label."""

    path: str  # from the data's root, with forward slashes: the same on every machine
    label: str
    group: str | None = None  # pictures of one group must stay on one side of a split
    split: str | None = None  # "train", "valid" or "test" where the data says so itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """All items below `root`, ordered by path; `others` counts the files that are no pictures by their name."""

    root: Path
    items: tuple[Item, ...]
    others: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, sorted."""
        return tuple(sorted({item.label for item in self.items}))

    def file(self, item: Item) -> Path:
        """Where the picture lies."""
        return self.root / item.path

    def count_labels(self) -> Counter[str]:
        """Items per label."""
        return Counter(item.label for item in self.items)

    def keep(self, items: Sequence[Item]) -> Items:
        """The same data with these items only."""
        return Items(root=self.root, items=tuple(items), others=self.others)


def read_items(root: Path) -> Items:
    """The items of DATA: `labels.csv` where it stands, else a folder per class, else train/ and valid/ with those.

    Hidden files and folders are left out. Raises NotFound or InvalidInput; no picture is opened yet.
    """
    if not root.exists():
        raise NotFound("DATA", got=str(root), want="a folder with a folder of pictures per class, or with labels.csv")
    if not root.is_dir():
        raise InvalidInput("DATA", got=f"{root}, a file", want="a folder", hint="Give the folder that holds it.")
    items = _read_labels_file(root) if (root / LABELS_FILE).is_file() else _read_folders(root)
    if not items.items:
        raise InvalidInput(
            "DATA",
            got=f"no picture in {root}",
            want=f"a folder per class with pictures ({', '.join(sorted(SUFFIXES))}), or labels.csv",
            hint="Example: bears/grizzly/1.jpg, bears/black/2.jpg.",
        )
    return items


def picture_files(folder: Path) -> list[Path]:
    """Every picture by name below `folder`, hidden ones left out, in a fixed order."""
    return [file for file in _walk(folder) if file.suffix.lower() in SUFFIXES]


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(here) / name for name in sorted(files) if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _read_folders(root: Path) -> Items:
    tops = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not _is_hidden(entry.name))
    parts = {name: SPLITS.get(name.lower()) for name in tops}
    is_split = "train" in parts.values() and None not in parts.values()
    items: list[Item] = []
    loose: list[str] = []
    others = 0
    for file in _walk(root):
        steps = file.relative_to(root).parts
        if file.suffix.lower() not in SUFFIXES:
            others += 1
            continue
        if len(steps) < (3 if is_split else 2):
            loose.append("/".join(steps))
            continue
        # bears/grizzly/alaska/1.jpg is a grizzly: the class is the top folder, however deep the picture lies
        label, split = (steps[1], parts[steps[0]]) if is_split else (steps[0], None)
        items.append(Item(path="/".join(steps), label=label, split=split))
    if loose and not items:
        raise InvalidInput(
            "DATA",
            got=f"{len(loose)} pictures in {root} itself, such as {loose[0]}",
            want="a folder per class",
            hint=f"Put each into a folder named after its class, or write {LABELS_FILE} (columns path,label).",
        )
    return Items(root=root, items=tuple(items), others=others + len(loose))


def _read_labels_file(root: Path) -> Items:
    file = root / LABELS_FILE
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.reader(lines))
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InvalidInput(str(file), got=str(exc), want="UTF-8 text, comma-separated") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    unknown = [name for name in header if name not in _COLUMNS]
    if unknown or len(set(header)) != len(header) or not {"path", "label"} <= set(header):
        raise InvalidInput(
            f"{file} line 1", got=",".join(header), want="columns path,label and, if you like, group,split"
        )
    items: dict[str, Item] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        item = _read_row(f"{file} line {number}", root, header, row)
        if item.path in items:
            raise InvalidInput(f"{file} line {number}", got=f"{item.path} again", want="each path once")
        items[item.path] = item
    return Items(root=root, items=tuple(items[path] for path in sorted(items)))


def _read_row(where: str, root: Path, header: Sequence[str], row: Sequence[str]) -> Item:
    if len(row) != len(header):
        raise InvalidInput(where, got=f"{len(row)} cells", want=f"{len(header)} cells: {','.join(header)}")
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    path = Path(cells["path"].replace("\\", "/"))
    if not cells["path"] or path.is_absolute() or ".." in path.parts:
        raise InvalidInput(f"{where}, path", got=cells["path"], want=f"a path below {root}")
    if not (root / path).is_file():
        raise NotFound(f"{where}, path", got=cells["path"], want=f"a file below {root}")
    if not cells["label"]:
        raise InvalidInput(f"{where}, label", got="nothing", want="a label", hint="Remove the row to leave it out.")
    split = cells.get("split") or None
    if split is not None and split.lower() not in SPLITS:
        raise InvalidInput(f"{where}, split", got=split, want="train, valid, test or nothing")
    return Item(
        path=path.as_posix(),
        label=cells["label"],
        group=cells.get("group") or None,
        split=SPLITS[split.lower()] if split else None,
    )
