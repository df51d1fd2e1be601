"""Items: pictures and their labels, read from a folder of folders or from `labels.csv`."""

from __future__ import annotations

import csv
import difflib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from drivetrain.arrays import IntArray
from drivetrain.errors import InvalidInput, NotFound
from drivetrain.imaging.decode import SUFFIXES, UNSUPPORTED_SUFFIXES
from drivetrain.task import Task

from .datasheet import DATASHEET_FILE
from .edits import JOURNAL_FILE, Journal, read_journal
from .targets import (
    LABEL_COLUMNS,
    clean_label,
    compose_name,
    encode_targets,
    find_strata,
    name_outputs,
    split_labels,
    split_values,
)

__all__ = ["LABELS_FILE", "SPLITS", "Item", "Items", "picture_files", "read_items"]

LABELS_FILE = "labels.csv"
_MAX_LABEL_CHARS = 255
_COLUMNS = ("path", *LABEL_COLUMNS, "group", "split")
# a folder or a `split` cell of this name -> its part
SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}
# what systems, not people, put beside pictures; @eaDir holds a small copy of each, which no split may see twice
_SYSTEM_NAMES = frozenset({"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"})
# what drivetrain itself writes beside the pictures
_OWN_FILES = frozenset({JOURNAL_FILE, DATASHEET_FILE, LABELS_FILE, "check.html", "refused.csv", "sources.csv"})
_BAD_NAME = "its name is not UTF-8: rename it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture and its label."""

    path: str  # from the data's root, with forward slashes: the same on every machine
    label: str  # the class; or, as `data.targets` writes them, the labels or the values
    group: str | None = None  # pictures of one group must stay on one side of a split
    split: str | None = None  # "train", "valid" or "test" where the data says so itself
    more: Mapping[str, str] = field(default_factory=dict, compare=False)  # cells of further columns of labels.csv


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """All items below `root`, ordered by path, and what stands beside them."""

    root: Path
    items: tuple[Item, ...]
    task: Task = "classification"
    others: int = 0  # files that are no pictures by their name, stand in no class, or are not in labels.csv
    unusable: tuple[tuple[str, str], ...] = ()  # (path, reason) of pictures that cannot be items
    empty: tuple[str, ...] = ()  # folders in the place of a class, without a picture
    quarantined: tuple[tuple[str, str], ...] = ()  # (path, reason) of pictures that the edit journal leaves out
    relabelled: tuple[str, ...] = ()  # paths whose label the edit journal says
    edit_notes: tuple[str, ...] = ()  # what else the edit journal has to tell
    columns: tuple[str, ...] = ()  # further columns of labels.csv, such as site or camera: kept, learned from by nobody

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, sorted; of a regression the names of its values."""
        return name_outputs([item.label for item in self.items], task=self.task)

    def labels_of(self, item: Item) -> tuple[str, ...]:
        """Its labels: one where the task is to tell classes apart, none where it is to measure."""
        return split_labels(item.label, task=self.task)

    def targets(self, items: Sequence[Item] | None = None, *, classes: Sequence[str] | None = None) -> NDArray[Any]:
        """What these items shall get, all of ours where none are given; `classes` are those of ours, or a model's.

        classification: int64 (n,) in [0, k). multilabel: float32 (n, k) of 0 and 1. regression: float32 (n, m).
        """
        labels = [item.label for item in (self.items if items is None else items)]
        return encode_targets(labels, task=self.task, classes=self.classes if classes is None else classes)

    def strata(self, items: Sequence[Item] | None = None) -> IntArray:
        """(n,) what these items are dealt by: class, rarest label, or bin of the value."""
        return find_strata(self.targets(items), task=self.task)

    def file(self, item: Item) -> Path:
        """Where the picture lies."""
        return self.root / item.path

    def count_labels(self) -> Counter[str]:
        """Items per label; of a regression nothing."""
        return Counter(name for item in self.items for name in self.labels_of(item))

    def keep(self, items: Sequence[Item]) -> Items:
        """The same data with these items only."""
        return replace(self, items=tuple(items))

    def note_left_out(self) -> list[str]:
        """What no reader takes, for a person."""
        notes = []
        if self.others:
            notes.append(
                f"Left out, being no pictures by their name, or without a label: {_count(self.others, 'file')}."
            )
        if self.empty:
            notes.append(f"Folders without a picture, so no classes: {', '.join(map(repr, self.empty))}.")
        if self.quarantined:
            notes.append(
                f"Left out by edits of the journal: {_count(len(self.quarantined), 'picture')}. `drivetrain undo` "
                "brings them back."
            )
        if self.relabelled:
            notes.append(f"Relabelled by edits of the journal: {_count(len(self.relabelled), 'picture')}.")
        return [*notes, *self.edit_notes]


def read_items(root: Path) -> Items:
    """The items of DATA: `labels.csv` where it stands, else train/, valid/ and test/, else a folder per class.

    Hidden files and folders are left out, and the edit journal beside the data is applied. Raises NotFound or
    InvalidInput; no picture is opened yet.
    """
    if not root.exists():
        raise NotFound("DATA", got=str(root), want="a folder with a folder of pictures per class, or with labels.csv")
    if not root.is_dir():
        raise InvalidInput("DATA", got=f"{root}, a file", want="a folder", hint="Give the folder that holds it.")
    items = _read_labels_file(root) if (root / LABELS_FILE).is_file() else _read_folders(root)
    if not items.items:
        raise InvalidInput(
            "DATA",
            got=f"no picture in {root}"
            + (f", but {_count(items.others, 'other file')}" if items.others else "")
            + (f", and {_count(len(items.unusable), 'picture')} whose name is not UTF-8" if items.unusable else ""),
            want=f"a folder per class with pictures ({', '.join(sorted(SUFFIXES))}), or {LABELS_FILE}",
            hint="Example: bears/grizzly/1.jpg, bears/black/2.jpg.",
        )
    items = _apply_journal(items)
    _check_labels(items.classes)
    if items.task == "regression":
        _check_values(items)
    return items


def picture_files(folder: Path) -> list[Path]:
    """Every picture by name below `folder`, hidden ones left out, in a fixed order."""
    return [file for file in _walk(folder) if _is_picture(file)]


def _apply_journal(items: Items) -> Items:
    """The items as the edits in force make them; edits of pictures that are gone are tolerated and told."""
    journal = read_journal(items.root)
    if not journal.edits and not journal.cut_short:
        return items
    here: dict[str, str | None] = {item.path: item.label for item in items} | {path: None for path, _ in items.unusable}
    out, labels = journal.quarantined(), journal.relabelled()
    kept = [
        replace(item, label=_relabel(items, item, str(labels[item.path].change.new))) if item.path in labels else item
        for item in items
        if item.path not in out
    ]
    if not kept:
        raise InvalidInput(
            "DATA",
            got=f"{_count(len(items), 'picture')} in {items.root}, all left out by {JOURNAL_FILE}",
            want="pictures to work on",
            hint="`drivetrain undo DATA` brings them back.",
        )
    return replace(
        items,
        items=tuple(kept),
        quarantined=tuple((path, out[path].change.reason) for path in sorted(out) if path in here),
        relabelled=tuple(item.path for item in kept if item.path in labels),
        edit_notes=tuple(_note_edits(journal, here)),
        unusable=tuple(pair for pair in items.unusable if pair[0] not in out),
    )


def _relabel(items: Items, item: Item, new: str) -> str:
    return clean_label(new, task=items.task, where=f"{JOURNAL_FILE}, the new label of {item.path}")


def _note_edits(journal: Journal, here: Mapping[str, str | None]) -> list[str]:
    """What does not go without saying about the edits in force; `here` is path -> label in the data itself."""
    notes = [
        f"{JOURNAL_FILE} line {number} was cut short when a program was stopped; it holds no edit."
        for number in journal.cut_short
    ]
    if gone := sorted({edit.change.path for edit in journal.in_force()} - here.keys()):
        notes.append(
            f"The journal edits {_count(len(gone), 'picture')} no longer there or without a label, such as {gone[0]}."
        )
    seen: dict[str, set[str | None]] = defaultdict(set)  # path -> the labels that the journal knows of
    for edit in journal.edits:
        seen[edit.change.path] |= {edit.change.old, edit.change.new}
    if changed := sorted(path for path in journal.relabelled() if path in here and here[path] not in seen[path]):
        notes.append(
            f"The data itself has since given {_count(len(changed), 'relabelled picture')} another label, such as "
            f"{changed[0]}; the journal goes first. `drivetrain undo DATA --path PATH` takes its word back."
        )
    return notes


def _walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Every file below `folder`; links to folders are followed, but never back up to one that we are in."""
    real = folder.resolve()
    if real in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir()) for entry in found if not _is_hidden(entry.name))
    except OSError as exc:  # left out in silence, its class would be gone
        raise InvalidInput("DATA", got=f"{folder}: {exc.strerror}", want="a folder that can be read") from None
    for name, is_folder in entries:
        if is_folder:
            yield from _walk(folder / name, (*above, real))
        else:
            yield folder / name


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_NAMES


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES | UNSUPPORTED_SUFFIXES


def _is_text(name: str) -> bool:
    """Whether a file's name can be written down: one in another encoding than UTF-8 cannot, anywhere."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_labels(labels: Sequence[str]) -> None:
    """What a model's manifest can hold as a class; better told now than after the training."""
    for label in labels:
        if len(label) > _MAX_LABEL_CHARS or any(unicodedata.category(character) == "Cc" for character in label):
            want = f"at most {_MAX_LABEL_CHARS} characters, none of them a control character"
            raise InvalidInput("a class's name", got=repr(label), want=want, hint="Rename the folder or the label.")


def _check_values(items: Items) -> None:
    """As many values for every picture: a model has as many outputs."""
    counts = [len(split_values(item.label)) for item in items]
    odd = next((item for item, count in zip(items, counts, strict=True) if count != counts[0]), None)
    if odd is not None:
        raise InvalidInput(
            f"{LABELS_FILE}, value of {odd.path}",
            got=odd.label,
            want=f"{_count(counts[0], 'value')}, as {items.items[0].path} has",
        )


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _read_folders(root: Path) -> Items:
    pictures: dict[str, list[str]] = defaultdict(list)  # top folder ("" for none) -> paths
    others = 0
    for file in _walk(root):
        steps = file.relative_to(root).parts
        if _is_picture(file):
            pictures[steps[0] if len(steps) > 1 else ""].append("/".join(steps))
        elif len(steps) > 1 or steps[0] not in _OWN_FILES:
            others += 1
    loose = pictures.pop("", [])
    parts = _find_parts(root, pictures)
    items: list[Item] = []
    unusable: list[tuple[str, str]] = []
    for top, paths in pictures.items():
        for path in paths:
            steps = tuple(path.split("/"))
            if top in parts and len(steps) < 3:
                loose.append(path)
            elif not _is_text(path):
                unusable.append((path.encode("utf-8", "backslashreplace").decode(), _BAD_NAME))
            else:
                # bears/grizzly/alaska/1.jpg is a grizzly: the class is the top folder, however deep the picture lies
                label = steps[1] if top in parts else steps[0]
                items.append(Item(path=path, label=compose_name(label), split=parts.get(top)))
    if loose and not items:
        raise InvalidInput(
            "DATA",
            got=f"{_count(len(loose), 'picture')} in no folder of a class, such as {loose[0]}",
            want="a folder per class",
            hint=f"Put each into a folder named after its class, or write {LABELS_FILE} (columns path,label).",
        )
    return Items(
        root=root,
        items=tuple(sorted(items, key=lambda item: item.path)),
        others=others + len(loose),
        unusable=tuple(sorted(unusable)),
        empty=_find_empty(root, parts, {item.label for item in items}),
    )


def _find_parts(root: Path, pictures: dict[str, list[str]]) -> dict[str, str]:
    """top folder -> part, where the folders with pictures are train/, valid/ and test/; else nothing.

    Raises InvalidInput where they are and others stand beside them: "train" would be learned as a class.
    """
    parts = {top: SPLITS[top.lower()] for top in pictures if top.lower() in SPLITS}
    beside = sorted(set(pictures) - set(parts))
    if not beside:
        return parts
    is_nested = any(path.count("/") > 1 for top in parts for path in pictures[top])
    if not is_nested or len(set(parts.values())) < 2:  # classes that happen to be called so, a train for one
        return {}
    raise InvalidInput(
        "DATA",
        got=f"{', '.join(sorted(parts))} and beside them {', '.join(map(repr, beside[:5]))} with pictures, in {root}",
        want="either a folder per class, or train, valid and test with a folder per class in each",
        hint="Move the others away.",
    )


def _find_empty(root: Path, parts: dict[str, str], labels: set[str]) -> tuple[str, ...]:
    """Folders where a class is looked for, none of whose pictures became an item."""
    homes = [root / top for top in parts] or [root]
    names = {entry.name for home in homes for entry in home.iterdir() if entry.is_dir() and not _is_hidden(entry.name)}
    return tuple(sorted({compose_name(name) for name in names if _is_text(name)} - labels - set(parts)))


def _read_labels_file(root: Path) -> Items:
    file = root / LABELS_FILE
    rows: list[tuple[int, list[str]]] = []  # with the number of the line they end on
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            rows.extend((reader.line_num, row) for row in reader)
    except (UnicodeDecodeError, csv.Error, OSError) as exc:
        raise InvalidInput(str(file), got=str(exc), want="UTF-8 text, comma-separated") from None
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    further = [name for name in header if name not in _COLUMNS]
    columns = [name for name in header if name in LABEL_COLUMNS]
    if "" in header or len(set(header)) != len(header) or "path" not in header or len(columns) != 1:
        raise InvalidInput(
            f"{file} line 1",
            got=",".join(header) or "nothing",
            want="columns path,label and, if you like, group,split or others; commas between them",
            hint="Instead of label: `labels` for any number of them, such as cat;dog, or `value` for a number.",
        )
    for name in further:  # a group or a split that is passed over would be a leak that nobody sees
        if near := difflib.get_close_matches(name, ("group", "split"), n=1, cutoff=0.75):
            want = f"`{near[0]}`, or a name further from it"
            raise InvalidInput(f"{file} line 1", got=f"a column `{name}`", want=want)
    items: dict[str, Item] = {}
    for number, row in rows[1:]:
        if not any(cell.strip() for cell in row):
            continue
        item = _read_row(f"{file} line {number}", root, header, row)
        if item.path in items:
            raise InvalidInput(f"{file} line {number}", got=f"{item.path} again", want="each path once")
        items[item.path] = item
    if not items:
        raise InvalidInput(str(file), got="no row below the header", want="a row for each picture")
    return Items(
        root=root,
        items=tuple(items[path] for path in sorted(items)),
        task=LABEL_COLUMNS[columns[0]],
        others=sum(path.relative_to(root).as_posix() not in items for path in picture_files(root)),
        columns=tuple(further),
    )


def _read_row(where: str, root: Path, header: Sequence[str], row: Sequence[str]) -> Item:
    if len(row) != len(header):
        raise InvalidInput(where, got=f"{len(row)} cells", want=f"{len(header)} cells: {','.join(header)}")
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    path = Path(cells["path"].replace("\\", "/"))
    if not cells["path"] or path.is_absolute() or ".." in path.parts:
        raise InvalidInput(f"{where}, path", got=cells["path"], want=f"a path below {root}")
    if not (root / path).is_file():
        raise NotFound(f"{where}, path", got=cells["path"], want=f"a file below {root}")
    column = next(name for name in header if name in LABEL_COLUMNS)
    if column == "label" and not cells["label"]:
        raise InvalidInput(f"{where}, label", got="nothing", want="a label", hint="Remove the row to leave it out.")
    split = cells.get("split") or None
    if split is not None and split.lower() not in SPLITS:
        raise InvalidInput(f"{where}, split", got=split, want="train, valid, test or nothing")
    return Item(
        path=path.as_posix(),
        label=clean_label(cells[column], task=LABEL_COLUMNS[column], where=f"{where}, {column}"),
        group=cells.get("group") or None,
        split=SPLITS[split.lower()] if split else None,
        more={name: cell for name, cell in cells.items() if name not in _COLUMNS},
    )
