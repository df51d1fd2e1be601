"""Results as text for a person at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from drivetrain.cli.shared import percent
from drivetrain.flows.evaluate import EvaluateResult
from drivetrain.flows.train import TrainResult
from drivetrain.trust.evaluation import Evaluation

__all__ = ["show_evaluation", "show_training"]

_MOST_LISTED = 20


def show_training(result: TrainResult) -> None:
    """The table after `train` and `demo`, on stdout."""
    console = Console(highlight=False)
    _show_unreadable(console, result.unreadable)
    _show_classes(console, result.evaluation)
    _show_headline(console, result.evaluation, "held-out pictures")
    console.print(f"{result.statement}\n", markup=False)
    table = Table("where the time went", "seconds", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, seconds in result.timings:
        table.add_row(name, f"{seconds:.1f}")
    table.add_row("all", f"{result.seconds:.1f}", style="bold")
    console.print(table)
    known = len(result.unreadable) + result.n_train + result.n_valid - result.n_computed
    console.print(f"({result.n_computed:,} pictures decoded and run, {known:,} from the cache)\n")
    for note in result.notes:
        console.print(f"note: {note}", markup=False)
    console.print(
        f"\nmodel   {result.bundle}   ({result.version})\nreport  {result.report}", markup=False, soft_wrap=True
    )


def show_evaluation(result: EvaluateResult) -> None:
    """The table after `evaluate`, on stdout."""
    console = Console(highlight=False)
    evaluation = result.evaluation
    _show_unreadable(console, result.unreadable)
    _show_classes(console, evaluation)
    _show_headline(console, evaluation, "pictures")
    deferral, ood = evaluation.deferral, evaluation.ood
    wrong = (
        f"{deferral.n_wrong} wrong"
        if deferral.error is None
        else (f"{percent(deferral.error)} wrong ({percent(deferral.error_low)} to {percent(deferral.error_high)})")
    )
    console.print(f"decided alone     {percent(deferral.coverage)} of them, {wrong}")
    console.print(f"taken for unknown {percent(ood.rate)}")
    console.print(
        f"calibration       ECE {evaluation.ece:.3f}, Brier {evaluation.brier:.3f}, log-loss {evaluation.log_loss:.3f}"
    )
    for note in result.notes:
        console.print(f"note: {note}", markup=False)


def _show_headline(console: Console, evaluation: Evaluation, what: str) -> None:
    console.print(
        f"\naccuracy {percent(evaluation.accuracy)} of {evaluation.n:,} {what} "
        f"(95 % interval {percent(evaluation.accuracy_low)} to {percent(evaluation.accuracy_high)})",
        style="bold",
    )


def _show_classes(console: Console, evaluation: Evaluation) -> None:
    table = Table("class", "pictures", "recall", "95 % interval", "precision", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in evaluation.per_class:
        table.add_row(
            row.label.replace("[", "\\["),
            f"{row.n:,}",
            "-" if row.recall is None else percent(row.recall),
            f"{percent(row.recall_low, digits=0)} to {percent(row.recall_high, digits=0)}",
            "-" if row.precision is None else percent(row.precision),
        )
    console.print(table)


def _show_unreadable(console: Console, unreadable: Sequence[tuple[str, str]]) -> None:
    if not unreadable:
        return
    console.print(f"{len(unreadable)} files could not be read and were left out (none was deleted):", style="bold")
    for path, reason in unreadable[:_MOST_LISTED]:
        console.print(f"  {path}: {reason}", markup=False)
    if len(unreadable) > _MOST_LISTED:
        console.print(f"  and {len(unreadable) - _MOST_LISTED} more, all listed in the report")
    console.print()
