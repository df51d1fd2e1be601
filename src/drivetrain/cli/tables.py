"""Results as text for a person at a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from drivetrain.cli.shared import escape_text, percent
from drivetrain.trust.evaluation import Evaluation

if TYPE_CHECKING:  # `evaluate` must show its table where nothing that trains is installed
    from drivetrain.flows.evaluate import EvaluateResult
    from drivetrain.flows.train import TrainResult

__all__ = ["open_console", "show_evaluation", "show_notes", "show_training"]

_MOST_LISTED = 20


def show_training(result: TrainResult) -> None:
    """What `train` and `demo` print, on stdout."""
    console = open_console()
    _show_unreadable(console, result.unreadable, where="all listed in the report")
    _show_classes(console, result.evaluation)
    _show_headline(console, result.evaluation, "held-out pictures")
    console.print(f"\n{result.statement}\n")
    show_notes(console, result.notes)
    table = Table("where the time went", "seconds", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, seconds in result.timings:
        table.add_row(name, f"{seconds:.1f}")
    table.add_row("all", f"{result.seconds:.1f}", style="bold")
    console.print(table)
    known = result.n_train + result.n_valid - result.n_computed
    console.print(f"({result.n_computed:,} pictures decoded and run, {known:,} taken from the cache)\n")
    model = shlex.quote(str(result.bundle))
    for line in (
        f"model   {result.bundle}   ({result.version})",
        f"report  {result.report}",
        f"next    drivetrain predict {model} PICTURE",
        f"        drivetrain serve {model}",
    ):
        console.print(escape_text(line), soft_wrap=True)


def show_evaluation(result: EvaluateResult) -> None:
    """What `evaluate` prints, on stdout."""
    console = open_console()
    evaluation = result.evaluation
    _show_unreadable(console, result.unreadable, where="all listed with --json")
    _show_classes(console, evaluation)
    _show_headline(console, evaluation, "pictures")
    deferral, ood = evaluation.deferral, evaluation.ood
    wrong = ""
    if deferral.error is not None:
        interval = f"95 % interval {percent(deferral.error_low)} to {percent(deferral.error_high)}"
        wrong = f", {percent(deferral.error)} of these wrong ({interval})"
    rows = Table.grid(padding=(0, 2))
    rows.add_row("decided alone", f"{percent(deferral.coverage)}{wrong}")
    rows.add_row("left to a person", f"{percent(1 - deferral.coverage)}; unlike what it knows: {percent(ood.rate)}")
    rows.add_row(
        "probabilities",
        f"off by {evaluation.ece:.3f} (ECE); Brier {evaluation.brier:.3f}, log-loss {evaluation.log_loss:.3f}",
    )
    console.print(rows)
    console.print()
    show_notes(console, result.notes)
    console.print(f"model {result.version}", soft_wrap=True)


def open_console() -> Console:
    """Names of files and classes are shown as they are: no markup, no emoji codes."""
    return Console(highlight=False, markup=False, emoji=False)


def _show_headline(console: Console, evaluation: Evaluation, what: str) -> None:
    console.print(
        f"\naccuracy {percent(evaluation.accuracy)} of {evaluation.n:,} {what} "
        f"(95 % interval {percent(evaluation.accuracy_low)} to {percent(evaluation.accuracy_high)})",
        style="bold",
    )


def _show_classes(console: Console, evaluation: Evaluation) -> None:
    table = Table("class", "pictures", "recall", "95 % interval", "precision", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in evaluation.per_class:
        table.add_row(
            escape_text(row.label),
            f"{row.n:,}",
            "-" if row.recall is None else percent(row.recall),
            f"{percent(row.recall_low, digits=0)} to {percent(row.recall_high, digits=0)}",
            "-" if row.precision is None else percent(row.precision),
        )
    console.print(table)
    console.print("(recall: share of a class that is found; precision: share of the finds right)")


def show_notes(console: Console, notes: Sequence[str]) -> None:
    """A line for each note, and an empty one."""
    if not notes:
        return
    rows = Table.grid(padding=(0, 2))
    for note in notes:
        rows.add_row("note", escape_text(note))
    console.print(rows)
    console.print()


def _show_unreadable(console: Console, unreadable: Sequence[tuple[str, str]], *, where: str) -> None:
    if not unreadable:
        return
    console.print(f"Could not be read and were left out, none deleted: {len(unreadable):,}", style="bold")
    for path, reason in unreadable[:_MOST_LISTED]:
        console.print(escape_text(f"  {path}: {reason}"), soft_wrap=True)
    if len(unreadable) > _MOST_LISTED:
        console.print(f"  and {len(unreadable) - _MOST_LISTED:,} more, {where}")
    console.print()
