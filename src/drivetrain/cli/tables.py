"""Results as text for a person at a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from drivetrain.cli.shared import escape_text, percent, show_number
from drivetrain.trust.evaluation import Evaluation
from drivetrain.trust.label_evaluation import MultiLabelEvaluation
from drivetrain.trust.value_evaluation import ValueEvaluation

if TYPE_CHECKING:  # `evaluate` must show its table where nothing that trains is installed
    from drivetrain.flows.train import TrainResult

__all__ = [
    "open_console",
    "show_headline",
    "show_notes",
    "show_outputs",
    "show_training",
    "show_unreadable",
    "tell_interval",
]

_MOST_LISTED = 20

_AnyEvaluation = Evaluation | MultiLabelEvaluation | ValueEvaluation


def show_training(result: TrainResult) -> None:
    """What `train` and `demo` print, on stdout."""
    console = open_console()
    show_unreadable(console, result.unreadable, where="all listed in the report")
    show_outputs(console, result.evaluation)
    show_headline(console, result.evaluation, "held-out pictures")
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


def open_console() -> Console:
    """Names of files and classes are shown as they are: no markup, no emoji codes."""
    return Console(highlight=False, markup=False, emoji=False)


def show_headline(console: Console, evaluation: _AnyEvaluation, what: str) -> None:
    """How good it is on `what`, in bold."""
    console.print(f"\n{_tell_headline(evaluation, what)}", style="bold")


def _tell_headline(evaluation: _AnyEvaluation, what: str) -> str:
    if isinstance(evaluation, ValueEvaluation):
        first = evaluation.per_value[0]
        name = f" in {escape_text(first.name)}" if len(evaluation.classes) > 1 else ""
        return (
            f"off by {show_number(first.mae)} on average{name}, on {evaluation.n:,} {what} "
            f"({tell_interval(first.mae_low, first.mae_high, show_number, begin='95 % interval ')})"
        )
    if isinstance(evaluation, MultiLabelEvaluation):
        return (
            f"every label right on {percent(evaluation.exact)} of {evaluation.n:,} {what} "
            f"(95 % interval {percent(evaluation.exact_low)} to {percent(evaluation.exact_high)}); "
            f"mean F1 {_score(evaluation.macro_f1)} "
            f"({tell_interval(evaluation.macro_f1_low, evaluation.macro_f1_high, '{:.2f}'.format)})"
        )
    return (
        f"accuracy {percent(evaluation.accuracy)} of {evaluation.n:,} {what} "
        f"(95 % interval {percent(evaluation.accuracy_low)} to {percent(evaluation.accuracy_high)})"
    )


def tell_interval(low: float | None, high: float | None, show: Callable[[float], str], *, begin: str = "") -> str:
    """Of what is drawn: of few pictures there is none."""
    if low is None or high is None:
        return "too few pictures for an interval"
    return f"{begin}{show(low)} to {show(high)}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def show_outputs(console: Console, evaluation: _AnyEvaluation) -> None:
    """A table of classes, labels or values."""
    if isinstance(evaluation, MultiLabelEvaluation):
        _show_labels(console, evaluation)
    elif isinstance(evaluation, ValueEvaluation):
        _show_values(console, evaluation)
    else:
        _show_classes(console, evaluation)


def _show_labels(console: Console, evaluation: MultiLabelEvaluation) -> None:
    table = Table("label", "pictures", "recall", "precision", "F1", "95 % interval", "AP", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in evaluation.per_label:
        table.add_row(
            escape_text(row.label),
            f"{row.n:,}",
            "-" if row.recall is None else percent(row.recall),
            "-" if row.precision is None else percent(row.precision),
            _score(row.f1),
            "-" if row.f1_low is None else f"{row.f1_low:.2f} to {row.f1_high:.2f}",
            _score(row.average_precision),
        )
    console.print(table)
    console.print("(recall: share of a label's pictures that is found; precision: share of the finds right)")


def _show_values(console: Console, evaluation: ValueEvaluation) -> None:
    table = Table("value", "MAE", "RMSE", "R2", "95 % interval", "bias", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in evaluation.per_value:
        table.add_row(
            escape_text(row.name),
            show_number(row.mae),
            show_number(row.rmse),
            "-" if row.r2 is None else f"{row.r2:.3f}",
            "-" if row.r2 is None or row.r2_low is None else f"{row.r2_low:.3f} to {row.r2_high:.3f}",
            show_number(row.bias),
        )
    console.print(table)
    console.print("(MAE: mean distance from the truth; RMSE: root of its mean square; R2: share of variance explained)")


def _show_classes(console: Console, evaluation: Evaluation) -> None:
    table = Table(
        "class", "pictures", "recall", "95 % interval", "precision", "95 % interval", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in evaluation.per_class:
        table.add_row(
            escape_text(row.label),
            f"{row.n:,}",
            "-" if row.recall is None else percent(row.recall),
            f"{percent(row.recall_low, digits=0)} to {percent(row.recall_high, digits=0)}",
            "-" if row.precision is None else percent(row.precision),
            f"{percent(row.precision_low, digits=0)} to {percent(row.precision_high, digits=0)}",
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


def show_unreadable(console: Console, unreadable: Sequence[tuple[str, str]], *, where: str) -> None:
    """What was left out, and where all of it stands."""
    if not unreadable:
        return
    console.print(f"Could not be read and were left out, none deleted: {len(unreadable):,}", style="bold")
    for path, reason in unreadable[:_MOST_LISTED]:
        console.print(escape_text(f"  {path}: {reason}"), soft_wrap=True)
    if len(unreadable) > _MOST_LISTED:
        console.print(f"  and {len(unreadable) - _MOST_LISTED:,} more, {where}")
    console.print()
