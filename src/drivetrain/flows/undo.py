"""Undo: take back edits of the data, by adding to their journal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from drivetrain.data.edits import Edit, Journal, read_journal, undo_edits
from drivetrain.errors import InvalidConfig, NotFound

__all__ = ["UndoResult", "describe_batches", "undo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoResult:
    """What was taken back."""

    root: Path
    undone: tuple[Edit, ...]  # the edits that hold no more
    written: tuple[Edit, ...]  # what the journal was given for it
    n_in_force: int  # quarantines and relabels that still hold

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "data": str(self.root),
            "undone": [edit.as_json() for edit in self.undone],
            "batch": self.written[0].batch if self.written else None,
            "in_force": self.n_in_force,
        }


def undo(
    data: Path, *, batch: str | None = None, path: str | None = None, everything: bool = False, by: str | None = None
) -> UndoResult:
    """Take back the last batch of edits that holds, or that called `batch`, all of one picture, or all.

    `batch` may name an undo: what that took back holds again. Raises NotFound where there is nothing of the kind.
    """
    if sum([batch is not None, path is not None, everything]) > 1:
        raise InvalidConfig("undo", got="several of --batch, --path and --all", want="at most one of them")
    _check_root(data)
    chosen = _choose(read_journal(data), batch=batch, path=path, everything=everything)
    written = undo_edits(data, chosen, by=by)
    return UndoResult(root=data, undone=chosen, written=written, n_in_force=len(read_journal(data).in_force()))


def describe_batches(data: Path) -> list[dict[str, Any]]:
    """A row a batch, the oldest first: batch, time, by, actions (action -> count), n and n_in_force."""
    _check_root(data)
    journal = read_journal(data)
    return [
        {
            "batch": batch,
            "time": edits[0].time,
            "by": edits[0].by,
            "actions": dict(Counter(edit.change.action for edit in edits)),
            "n": len(edits),
            "n_in_force": sum(journal.is_active(edit) for edit in edits),
        }
        for batch, edits in journal.batches().items()
    ]


def _check_root(data: Path) -> None:
    if not data.is_dir():
        raise NotFound("DATA", got=str(data), want="a folder of pictures")


def _choose(journal: Journal, *, batch: str | None, path: str | None, everything: bool) -> tuple[Edit, ...]:
    holding = journal.in_force()
    if batch is not None:
        if batch not in journal.batches():
            raise NotFound("--batch", got=batch, want=f"a batch of {journal.file}", hint="--list shows them all.")
        chosen = tuple(edit for edit in journal.batches()[batch] if journal.is_active(edit))
        nothing = f"an edit of batch {batch} that still holds"
    elif path is not None:
        spellings = {path, PurePath(path).as_posix()}  # ./a/1.jpg, and on Windows a\1.jpg, are a/1.jpg
        chosen = tuple(edit for edit in holding if edit.change.path in spellings)
        nothing = f"an edit of {path} that holds; paths start from DATA"
    elif everything:
        chosen, nothing = holding, "an edit that holds"
    else:
        chosen = tuple(edit for edit in holding if edit.batch == holding[-1].batch)
        nothing = "an edit that holds"
    if not chosen:
        raise NotFound("undo", got=f"none in {journal.file}", want=nothing, hint="--list shows what was edited.")
    return chosen
