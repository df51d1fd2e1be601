"""The journal of edits beside a folder, applied to the items that a DataBlock finds in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivetrain.data.edits import JOURNAL_FILE, read_journal
from drivetrain.data.rows import is_frame, list_items
from drivetrain.errors import InvalidInput

__all__ = ["ItemEdits", "read_item_edits"]

_Getter = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class ItemEdits:
    """Which files are left out, and which bear another label; by absolute path."""

    left_out: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=dict)
    file_of: _Getter = lambda item: item  # what gives an item's file

    def keep(self, found: Any) -> Any:
        """The items, or the frame, without what is left out. Raises InvalidInput where nothing stays."""
        if not self.left_out:
            return found
        items = list_items(found)
        kept = [at for at, item in enumerate(items) if self._file(item) not in self.left_out]
        if not kept:
            raise InvalidInput(
                "source",
                got=f"{len(items):,} items, all left out by {JOURNAL_FILE}",
                want="items to work on",
                hint="`drivetrain undo` brings them back.",
            )
        if len(kept) == len(items):
            return found
        return found.iloc[kept] if is_frame(found) else [items[at] for at in kept]

    def relabel(self, getter: _Getter) -> _Getter:
        """A getter of labels that asks the journal first."""
        if not self.labels:
            return getter

        def label_of(item: Any) -> Any:
            label = self.labels.get(self._file(item))
            return getter(item) if label is None else label

        return label_of

    def _file(self, item: Any) -> str:
        with contextlib.suppress(Exception):  # a getter that fails is told where the item is read
            file = self.file_of(item)
            if isinstance(file, str | Path):
                return str(Path(file).absolute())
        return ""


def read_item_edits(source: Any, file_of: _Getter | None) -> ItemEdits:
    """What the journal in the folder `source` says; nothing for any other source. Raises InvalidInput."""
    if not isinstance(source, str | Path) or not Path(source).is_dir():
        return ItemEdits()
    journal = read_journal(Path(source))

    def place(path: str) -> str:
        return str((Path(source) / path).absolute())

    return ItemEdits(
        left_out=frozenset(place(path) for path in journal.quarantined()),
        labels={place(path): str(edit.change.new) for path, edit in journal.relabelled().items()},
        **({} if file_of is None else {"file_of": file_of}),
    )
