"""What `check` and `undo` found and did, as text for a person at a terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from drivetrain.cli.shared import escape_text, percent
from drivetrain.cli.tables import open_console, show_notes

if TYPE_CHECKING:  # `check` must show its table where nothing that trains is installed
    from drivetrain.flows.check import CheckResult
    from drivetrain.flows.undo import UndoResult
    from drivetrain.inspect.findings import Finding

__all__ = ["show_batches", "show_check", "show_undo"]

_COLOURS = {"error": "bold red", "warning": "bold yellow", "note": "bold"}
_MOST_EXAMPLES = 3
_MOST_LISTED = 20


def show_check(result: CheckResult) -> None:
    """What `check` prints, on stdout."""
    console = open_console()
    _show_classes(console, result)
    for finding in result.findings:
        _show_finding(console, finding)
    if not result.findings:
        console.print("\nNothing was found that would harm a model.", style="bold")
    _show_tally(console, result)
    show_notes(console, [*(f"Left out: {line}" for line in result.skipped), *result.notes])
    data = shlex.quote(str(result.root))
    lines = [] if result.page is None else [f"page    {result.page}"]
    n_harmful = len({path for finding in result.findings for path, _ in finding.quarantine})
    if result.edits:
        lines += [
            f"edits   {len(result.edits):,} left out, batch {result.edits[0].batch}",
            f"next    drivetrain undo {data} --batch {result.edits[0].batch}   (takes that back)",
        ]
    elif n_harmful and result.n_pictures:  # else it would leave out everything, which it refuses
        lines.append(f"next    drivetrain check {data} --quarantine   (leaves out {n_harmful:,}, to undo at will)")
    for line in lines:
        console.print(escape_text(line), soft_wrap=True)


def show_undo(result: UndoResult) -> None:
    """What `undo` prints, on stdout."""
    console = open_console()
    for edit in result.undone[:_MOST_LISTED]:
        console.print(
            escape_text(f"  {_describe(edit.change.action, edit.change.path, edit.change.old)}"), soft_wrap=True
        )
    if len(result.undone) > _MOST_LISTED:
        console.print(f"  and {len(result.undone) - _MOST_LISTED:,} more")
    console.print(f"Taken back: {_count(len(result.undone))}; still in force: {result.n_in_force:,}.", style="bold")
    redo = (
        f"next    drivetrain undo {shlex.quote(str(result.root))} --batch {result.written[0].batch}   (does them again)"
    )
    console.print(escape_text(redo), soft_wrap=True)


def show_batches(rows: Sequence[dict[str, Any]]) -> None:
    """What `undo --list` prints, on stdout."""
    console = open_console()
    if not rows:
        console.print("No edit was made here.")
        return
    table = Table("batch", "time", "by", "edits", "in force", box=None, pad_edge=False)
    table.columns[4].justify = "right"
    for row in rows:
        what = ", ".join(f"{n:,} {action}" for action, n in row["actions"].items())
        table.add_row(*map(escape_text, (row["batch"], row["time"], row["by"], what)), f"{row['n_in_force']:,}")
    console.print(table)


def _describe(action: str, path: str, old: str | None) -> str:
    words = {
        "quarantine": f"{path}: back in",
        "relabel": f"{path}: {old} again",
        "undo": f"{path}: what was taken back holds again",
    }
    return words[action]


def _count(n: int) -> str:
    return f"{n:,} edit" + ("" if n == 1 else "s")


def _show_classes(console: Console, result: CheckResult) -> None:
    parts = list(result.counts)
    flags = list(next(iter(result.styles.values()), {}))
    heads = [*(("pictures",) if parts == ["all"] else parts), *flags]
    kind = {"classification": "class", "multilabel": "label", "regression": "value"}[result.task]
    table = Table(kind, *heads, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for label in next(iter(result.counts.values()), {}):
        shares = result.styles.get(label, {})
        table.add_row(
            escape_text(label),
            *(f"{result.counts[part][label]:,}" for part in parts),
            *(percent(shares[flag], digits=0) if shares.get(flag) else "-" for flag in flags),
        )
    console.print(table)


def _show_finding(console: Console, finding: Finding) -> None:
    if finding.severity != "note":
        console.print()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=7, style=_COLOURS[finding.severity])
    grid.add_column()
    grid.add_row(finding.severity, escape_text(finding.what), style="bold")
    if finding.severity != "note":  # the page has the why of these too
        grid.add_row("why", escape_text(finding.why), style="none")
        grid.add_row("next", escape_text(finding.next_step))
    console.print(grid)
    between = " and " if finding.code == "group_leak" else " = "  # the others are copies of one picture
    for group in finding.groups[:_MOST_EXAMPLES]:
        console.print("         " + escape_text(between.join(group[:4])), soft_wrap=True, style="dim")
    if len(finding.groups) > _MOST_EXAMPLES:
        console.print(f"         and {len(finding.groups) - _MOST_EXAMPLES:,} more", style="dim")


def _show_tally(console: Console, result: CheckResult) -> None:
    counts = Counter(finding.severity for finding in result.findings)
    told = ", ".join(f"{counts[one]} {one}{'' if counts[one] == 1 else 's'}" for one in ("error", "warning", "note"))
    console.print(f"\n{result.n_pictures:,} readable pictures: {told}", style="bold")
    if result.open_questions:
        n = len(result.open_questions)
        console.print(f"datasheet.md: {n} question{'' if n == 1 else 's'} open ({', '.join(result.open_questions)})")
    console.print()
