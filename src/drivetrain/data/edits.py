"""The edit journal: what people and `check` changed about the data, without touching a picture.

`drivetrain.edits.jsonl` stands beside the data, a JSON object a line, and is only ever added to. An `undo` is a line
too: it reverses an earlier one by its id, another undo included. What is in force follows from reading them in order.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivetrain.errors import InvalidInput, Unavailable

__all__ = ["ACTIONS", "JOURNAL_FILE", "Change", "Edit", "Journal", "append_edits", "read_journal", "undo_edits"]

JOURNAL_FILE = "drivetrain.edits.jsonl"
ACTIONS = ("quarantine", "relabel", "undo")
# Put behind a line that a killed writer left half-written, so that the next line begins on its own
_CUT_SHORT = b" <- cut short, ignored"
_TEXTS = ("id", "batch", "time", "by", "path", "action")
_MAYBE_TEXTS = ("from", "to", "reason", "undoes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An edit before it is written: what shall be done to the picture at `path`."""

    action: str  # one of ACTIONS
    path: str  # as in Item
    old: str | None = None  # the label before
    new: str | None = None  # the label after; None for quarantine
    reason: str = ""
    undoes: str | None = None  # the id that an undo reverses


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One line of the journal."""

    id: str
    batch: str  # edits made in one go share it
    time: str  # ISO 8601, UTC
    by: str
    change: Change

    def as_json(self) -> dict[str, Any]:
        """The line's fields, in the order they are written."""
        change = self.change
        line: dict[str, Any] = {"time": self.time, "by": self.by, "path": change.path, "action": change.action}
        line |= {"from": change.old, "to": change.new, "id": self.id, "batch": self.batch}
        if change.reason:
            line["reason"] = change.reason
        if change.undoes is not None:
            line["undoes"] = change.undoes
        return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """All edits of one data folder, the oldest first."""

    file: Path
    edits: tuple[Edit, ...] = ()
    cut_short: tuple[int, ...] = ()  # numbers of lines that a killed writer left unfinished; they hold no edit
    _active: frozenset[str] = field(default=frozenset(), repr=False)

    def is_active(self, edit: Edit) -> bool:
        """Whether no later undo, itself in force, reverses this edit."""
        return edit.id in self._active

    def in_force(self) -> tuple[Edit, ...]:
        """The quarantines and relabels that hold now, the oldest first."""
        return tuple(edit for edit in self.edits if edit.change.action != "undo" and self.is_active(edit))

    def quarantined(self) -> dict[str, Edit]:
        """path -> the edit that leaves the picture out (the latest, if several do)."""
        return {edit.change.path: edit for edit in self.in_force() if edit.change.action == "quarantine"}

    def relabelled(self) -> dict[str, Edit]:
        """path -> the edit that says its label."""
        return {edit.change.path: edit for edit in self.in_force() if edit.change.action == "relabel"}

    def batches(self) -> dict[str, tuple[Edit, ...]]:
        """batch -> its edits, the oldest batch first."""
        found: dict[str, list[Edit]] = {}
        for edit in self.edits:
            found.setdefault(edit.batch, []).append(edit)
        return {batch: tuple(edits) for batch, edits in found.items()}


def read_journal(root: Path) -> Journal:
    """The journal beside the data in `root`; an empty one where there is none.

    A half-written last line, and one that a later writer has closed, are named in `cut_short`. Raises InvalidInput,
    with file and line, for anything else that is no edit.
    """
    file = root / JOURNAL_FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return Journal(file=file)
    except OSError as exc:
        raise InvalidInput(str(file), got=exc.strerror or str(exc), want="a file that can be read") from None
    edits: dict[str, Edit] = {}
    cut_short: list[int] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        is_last = number == len(lines)
        if line.rstrip().endswith(_CUT_SHORT) or (is_last and not _is_object(line)):
            cut_short.append(number)
            continue
        edit = _parse_edit(line, where=f"{file} line {number}", known=edits)
        edits[edit.id] = edit
    return Journal(
        file=file, edits=tuple(edits.values()), cut_short=tuple(cut_short), _active=_find_active(tuple(edits.values()))
    )


def append_edits(
    root: Path,
    changes: Sequence[Change],
    *,
    by: str | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> tuple[Edit, ...]:
    """Add one batch of edits to the journal of `root`; on disk when this returns. No change, no line.

    `by` is the system's user when not given. Raises Unavailable if the folder cannot be written.
    """
    if not changes:
        return ()
    batch = secrets.token_hex(4)
    time = clock().isoformat(timespec="seconds")
    name = by or _user_name()
    edits = tuple(
        Edit(id=f"{batch}-{number}", batch=batch, time=time, by=name, change=change)
        for number, change in enumerate(changes, start=1)
    )
    lines = b"".join(json.dumps(edit.as_json(), ensure_ascii=False).encode() + b"\n" for edit in edits)
    file = root / JOURNAL_FILE
    try:
        _append(file, lines)
    except OSError as exc:
        raise Unavailable(
            str(file), got=exc.strerror or str(exc), want="a folder that can be written", hint="No edit was made."
        ) from None
    return edits


def undo_edits(root: Path, edits: Sequence[Edit], *, by: str | None = None) -> tuple[Edit, ...]:
    """Reverse these edits of the journal of `root`, the latest first, by adding to it."""
    undone = [
        Change(action="undo", path=edit.change.path, old=edit.change.new, new=edit.change.old, undoes=edit.id)
        for edit in reversed(edits)
    ]
    return append_edits(root, undone, by=by)


def _find_active(edits: Sequence[Edit]) -> frozenset[str]:
    """From the last line to the first: an edit holds unless an undo behind it that holds itself reverses it."""
    active, reversed_ids = set(), set()
    for edit in reversed(edits):
        if edit.id in reversed_ids:
            continue
        active.add(edit.id)
        if edit.change.undoes is not None:
            reversed_ids.add(edit.change.undoes)
    return frozenset(active)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        return False


def _parse_edit(line: bytes, *, where: str, known: dict[str, Edit]) -> Edit:
    hint = f"Mend or remove the line; {JOURNAL_FILE} holds a JSON object a line."
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(where, got=line[:80].decode("utf-8", "backslashreplace"), want="a JSON object", hint=hint)
    for names, kinds in ((_TEXTS, str), (_MAYBE_TEXTS, (str, type(None)))):
        for name in names:
            if not isinstance(found.get(name), kinds):
                raise InvalidInput(f"{where}, {name}", got=found.get(name), want="text", hint=hint)
    change = Change(
        action=found["action"],
        path=found["path"],
        old=found.get("from"),
        new=found.get("to"),
        reason=found.get("reason") or "",
        undoes=found.get("undoes"),
    )
    _check_change(change, where=where, known=known)
    if found["id"] in known:
        raise InvalidInput(f"{where}, id", got=f"{found['id']} again", want="each id once", hint=hint)
    return Edit(id=found["id"], batch=found["batch"], time=found["time"], by=found["by"], change=change)


def _check_change(change: Change, *, where: str, known: dict[str, Edit]) -> None:
    if change.action not in ACTIONS:
        hint = "A newer drivetrain may have written it."
        raise InvalidInput(f"{where}, action", got=change.action, want="one of " + ", ".join(ACTIONS), hint=hint)
    if (change.action == "undo") != (change.undoes is not None):
        raise InvalidInput(f"{where}, undoes", got=change.undoes, want="the id of an edit for undo, nothing else")
    if change.undoes is not None and change.undoes not in known:
        raise InvalidInput(f"{where}, undoes", got=change.undoes, want="the id of an edit on an earlier line")
    if change.action == "relabel" and not (change.new or "").strip():
        raise InvalidInput(f"{where}, to", got=change.new, want="a label")


def _append(file: Path, lines: bytes) -> None:
    """One write, at the end, with no other writer of ours beside it; then to the disk."""
    is_new = not file.exists()
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    try:
        with _locked(handle):
            left = memoryview(_close_last_line(handle) + lines)
            while left:  # a disk may take less than all at once
                left = left[os.write(handle, left) :]
            os.fsync(handle)
    finally:
        os.close(handle)
    if is_new and os.name == "posix":
        _sync_folder(file.parent)


def _close_last_line(handle: int) -> bytes:
    """What must stand before new lines: nothing, or the end of a last line that has none."""
    size = os.lseek(handle, 0, os.SEEK_END)
    if size == 0:
        return b""
    os.lseek(handle, 0, os.SEEK_SET)
    data = b""
    while chunk := os.read(handle, 1 << 20):
        data += chunk
    last = data.rpartition(b"\n")[2]
    if not last.strip():
        return b"" if not last else b"\n"
    return b"\n" if _is_object(last) else _CUT_SHORT + b"\n"


@contextmanager
def _locked(handle: int) -> Iterator[None]:
    """Wait for the other writers; where the system has no such lock, one appending write is all there is."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        yield
        return
    fcntl.flock(handle, fcntl.LOCK_EX)  # let go of when the file is closed, by a killed process too
    yield


def _sync_folder(folder: Path) -> None:
    """Else a new file's name may be lost with the power, whatever was synced into it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run as a number without a name
        return "unknown"
