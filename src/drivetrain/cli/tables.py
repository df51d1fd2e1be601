"""Results as text for a person at a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from drivetrain.cli.shared import escape_text, percent, show_number
from drivetrain.trust.evaluation import Evaluation
from drivetrain.trust.label_evaluation import MultiLabelEvaluation
from drivetrain.trust.value_evaluation import OutputEvaluation, ValueEvaluation

if TYPE_CHECKING:  # `evaluate` must show its table where nothing that trains is installed
    from drivetrain.flows.evaluate import EvaluateResult
    from drivetrain.flows.train import TrainResult

__all__ = ["open_console", "show_evaluation", "show_notes", "show_training"]

_MOST_LISTED = 20

_AnyEvaluation = Evaluation | MultiLabelEvaluation | ValueEvaluation


def show_training(result: TrainResult) -> None:
    """What `train` and `demo` print, on stdout."""
    console = open_console()
    _show_unreadable(console, result.unreadable, where="all listed in the report")
    _show_outputs(console, result.evaluation)
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
    _show_outputs(console, evaluation)
    _show_headline(console, evaluation, "pictures")
    rows = Table.grid(padding=(0, 2))
    for what, told in _tell_trust(evaluation):
        rows.add_row(what, told)
    console.print(rows)
    console.print()
    show_notes(console, result.notes)
    console.print(f"model {result.version}", soft_wrap=True)


def open_console() -> Console:
    """Names of files and classes are shown as they are: no markup, no emoji codes."""
    return Console(highlight=False, markup=False, emoji=False)


def _tell_trust(evaluation: _AnyEvaluation) -> list[tuple[str, str]]:
    """(what, in words): what it decides alone, and how far its probabilities or intervals hold."""
    deferral, ood = evaluation.deferral, evaluation.ood
    left = f"{percent(1 - deferral.coverage)}; unlike what it knows: {percent(ood.rate)}"
    if isinstance(evaluation, ValueEvaluation):
        return [
            ("decided alone", percent(deferral.coverage)),
            ("left to a person", left),
            *(("interval", _tell_covered(row, len(evaluation.classes) > 1)) for row in evaluation.per_value),
        ]
    alone, wrong = evaluation.deferral, ""
    is_labels = not isinstance(evaluation, Evaluation)
    if alone.error is not None:
        interval = f"95 % interval {percent(alone.error_low)} to {percent(alone.error_high)}"
        wrong = f", {percent(alone.error)} of these {'with a label ' if is_labels else ''}wrong ({interval})"
    scores = f"off by {evaluation.ece:.3f} (ECE); Brier {evaluation.brier:.3f}"
    if isinstance(evaluation, Evaluation):
        scores += f", log-loss {evaluation.log_loss:.3f}"
    return [
        ("decided wholly alone" if is_labels else "decided alone", f"{percent(alone.coverage)}{wrong}"),
        ("a label left to a person" if is_labels else "left to a person", left),
        ("probabilities", scores),
    ]


def _tell_covered(row: OutputEvaluation, is_named: bool) -> str:
    name = f"{escape_text(row.name)}: " if is_named else ""
    if row.covered is None or row.interval_width is None:
        return f"{name}none, too few pictures were held out"
    low, high = percent(row.covered_low), percent(row.covered_high)
    return (
        f"{name}holds the truth for {percent(row.covered)} (95 % interval {low} to {high}), "
        f"{show_number(row.interval_width)} wide"
    )


def _show_headline(console: Console, evaluation: _AnyEvaluation, what: str) -> None:
    console.print(f"\n{_tell_headline(evaluation, what)}", style="bold")


def _tell_headline(evaluation: _AnyEvaluation, what: str) -> str:
    if isinstance(evaluation, ValueEvaluation):
        first = evaluation.per_value[0]
        name = f" in {escape_text(first.name)}" if len(evaluation.classes) > 1 else ""
        return (
            f"off by {show_number(first.mae)} on average{name}, on {evaluation.n:,} {what} "
            f"(95 % interval {show_number(first.mae_low)} to {show_number(first.mae_high)})"
        )
    if isinstance(evaluation, MultiLabelEvaluation):
        return (
            f"every label right on {percent(evaluation.exact)} of {evaluation.n:,} {what} "
            f"(95 % interval {percent(evaluation.exact_low)} to {percent(evaluation.exact_high)}); "
            f"mean F1 {_score(evaluation.macro_f1)} ({evaluation.macro_f1_low:.2f} to {evaluation.macro_f1_high:.2f})"
        )
    return (
        f"accuracy {percent(evaluation.accuracy)} of {evaluation.n:,} {what} "
        f"(95 % interval {percent(evaluation.accuracy_low)} to {percent(evaluation.accuracy_high)})"
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _show_outputs(console: Console, evaluation: _AnyEvaluation) -> None:
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
            f"{row.f1_low:.2f} to {row.f1_high:.2f}",
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
            "-" if row.r2 is None else f"{row.r2_low:.3f} to {row.r2_high:.3f}",
            show_number(row.bias),
        )
    console.print(table)
    console.print("(MAE: mean distance from the truth; RMSE: root of its mean square; R2: share of variance explained)")


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
