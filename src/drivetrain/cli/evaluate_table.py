"""What `evaluate` found, as text for a person at a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from drivetrain.cli.shared import escape_text, percent, show_number
from drivetrain.cli.tables import open_console, show_headline, show_notes, show_outputs, show_unreadable, tell_interval
from drivetrain.imaging.corrupt import CORRUPTIONS, STRENGTHS
from drivetrain.inspect.report_values import p_value
from drivetrain.trust.evaluation import Evaluation
from drivetrain.trust.groups import GroupComparison, GroupMeasure
from drivetrain.trust.label_evaluation import MultiLabelEvaluation
from drivetrain.trust.value_evaluation import OutputEvaluation, ValueEvaluation

if TYPE_CHECKING:
    from drivetrain.flows.evaluate import EvaluateResult
    from drivetrain.flows.evaluate_against import AgainstResult
    from drivetrain.flows.evaluate_corrupted import CorruptionResult
    from drivetrain.flows.evaluate_foreign import ForeignResult

__all__ = ["show_evaluation"]

_MOST_GROUPS = 30
_MOST_MISTAKEN = 10
_MEASURES = {"accuracy": "accuracy", "deferred": "to a person", "flagged": "flagged", "error": "off by"}
_SCORES = {"ece": "calibration (ECE)", "brier": "Brier score", "log_loss": "log-loss"}
_RATES = {
    "accuracy": "right",
    "silent": "wrong, and decided by itself",
    "deferred": "left to a person",
    "flagged": "called unknown or shifted",
}

_AnyEvaluation = Evaluation | MultiLabelEvaluation | ValueEvaluation


def show_evaluation(result: EvaluateResult, *, page: Path | None = None) -> None:
    """What `evaluate` prints, on stdout."""
    console = open_console()
    evaluation = result.evaluation
    show_unreadable(console, result.unreadable, where="all listed with --json")
    show_outputs(console, evaluation)
    show_headline(console, evaluation, f"pictures{result.suffix}")
    rows = Table.grid(padding=(0, 2))
    for what, told in _tell_trust(evaluation):
        rows.add_row(what, told)
    if result.promise is not None:
        rows.add_row("promise", result.promise.sentence, style="bold" if result.promise.verdict == "broken" else None)
    for of in result.part_promises:
        rows.add_row(of.kind, escape_text(of.sentence), style="bold" if of.is_broken else None)
    console.print(rows)
    console.print()
    if result.groups is not None:
        _show_groups(console, result.groups)
    if result.foreign is not None:
        _show_foreign(console, result.foreign)
    if result.corruptions is not None:
        _show_corruptions(console, result.corruptions)
    if result.against is not None:
        _show_against(console, result.against, result)
    show_notes(console, result.notes)
    console.print(f"model {result.version}", soft_wrap=True)
    if page is not None:
        console.print(escape_text(f"page  {page}"), soft_wrap=True)


def _tell_trust(evaluation: _AnyEvaluation) -> list[tuple[str, str]]:
    """(what, in words): what it decides alone, and how far its probabilities or intervals hold."""
    deferral, ood = evaluation.deferral, evaluation.ood
    left = f"{percent(1 - deferral.coverage)}; unknown to it: {percent(ood.rate)}"
    left += f"; in a strange style: {percent(evaluation.shifted.rate)}"
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
    scores = [(_SCORES[name], _tell_score(evaluation, name)) for name in _SCORES if hasattr(evaluation, name)]
    return [
        ("decided wholly alone" if is_labels else "decided alone", f"{percent(alone.coverage)}{wrong}"),
        ("a label left to a person" if is_labels else "left to a person", left),
        *scores,
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


def _tell_score(evaluation: _AnyEvaluation, name: str) -> str:
    value, low, high = (getattr(evaluation, f"{name}{end}", None) for end in ("", "_low", "_high"))
    if not hasattr(evaluation, f"{name}_low"):  # ECE of labels
        return f"{value:.3f}"
    return f"{value:.3f} ({tell_interval(low, high, '{:.3f}'.format, begin='95 % interval ')})"


def _show_groups(console: Console, told: GroupComparison) -> None:
    shown = [group for group in told.groups if group.measures][:_MOST_GROUPS]
    if not shown or not told.n_comparisons:  # a note says so
        return
    names = [_MEASURES[row.name] for row in shown[0].measures]
    table = Table(
        escape_text(told.by), "pictures", *(cell for name in names for cell in (name, "+/-")), box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for group in shown:
        cells = [cell for row in group.measures for cell in _tell_measure(row)]
        table.add_row(escape_text(group.name), f"{group.n:,}", *cells)
    console.print(table)
    console.print(
        "(+/-: points more or less than all other pictures; ! where the 95 % interval of all of these together leaves "
        "out 0; the intervals stand in --json and in the page)\n"
    )


def _tell_measure(row: GroupMeasure) -> tuple[str, str]:
    value = show_number(row.value) if row.name == "error" else percent(row.value)
    if row.difference is None:
        return value, "-"
    gap = f"{row.difference:+.3g}" if row.name == "error" else f"{100 * row.difference:+.1f}"
    return value, gap + (" !" if row.verdict in {"worse", "better"} else "  ")


def _show_foreign(console: Console, told: ForeignResult) -> None:
    found = told.detection
    console.print(escape_text(f"against {found.n_foreign:,} pictures of {told.folder}"), style="bold", soft_wrap=True)
    rows = Table.grid(padding=(0, 2))
    rates = (
        ("called unknown", told.unknown),
        ("called shifted", told.shifted),
        ("left to a person", told.deferred),
        ("own kind unknown", told.known_unknown),
    )
    for what, rate in rates:
        share = "-" if rate.share is None else percent(rate.share)
        rows.add_row(what, f"{share} (95 % interval {percent(rate.low)} to {percent(rate.high)})")
    for what, value, low, high, words in (
        ("AUROC", found.auroc, found.auroc_low, found.auroc_high, "a foreign one looks stranger than an own one"),
        ("FPR95", found.fpr95, found.fpr95_low, found.fpr95_high, "foreign accepted where 95 % of its own are"),
        ("AUPR", found.aupr_foreign, found.aupr_foreign_low, found.aupr_foreign_high, "of finding the foreign"),
    ):
        rows.add_row(what, f"{value:.3f} ({tell_interval(low, high, '{:.3f}'.format)}): {words}")
    console.print(rows)
    console.print(told.tell_mistaken())
    console.print("looked least strange:")
    for path, answer in told.mistaken[:_MOST_MISTAKEN]:
        alone = ", decided by itself" if answer.decision == "accept" else ""
        console.print(escape_text(f"  {path}: p-value {p_value(answer.ood_p_value)}{alone}"), soft_wrap=True)
    if told.unreadable:
        console.print(f"could not be read: {len(told.unreadable):,}, all listed with --json")
    console.print()


def _show_corruptions(console: Console, told: CorruptionResult) -> None:
    console.print(f"{told.n:,} pictures made worse; per cent by strength, 0 as they were", style="bold")
    for name, words in _RATES.items():
        table = Table(words, *map(str, range(STRENGTHS + 1)), box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for kind in CORRUPTIONS:
            shares = [getattr(row, name).share for row in told.of_kind(kind)]
            table.add_row(kind.replace("_", " "), *(f"{100 * share:.0f}" for share in shares))
        table.columns[0].min_width = 30
        console.print(table)
    worst = max(told.conditions, key=lambda row: (row.silent.share, -row.strength))
    if worst.strength and worst.silent.share:
        console.print(
            f"Most to fear: {worst.kind.replace('_', ' ')} at {worst.strength}: it decides by itself and is wrong "
            f"on {percent(worst.silent.share)} of all pictures (95 % interval {percent(worst.silent.low)} to "
            f"{percent(worst.silent.high)})."
        )
    console.print()


def _show_against(console: Console, told: AgainstResult, result: EvaluateResult) -> None:
    compared = told.comparison
    console.print(escape_text(f"{result.version} against {told.version}"), style="bold", soft_wrap=True)
    console.print(escape_text(f"{compared.sentence[0].upper()}{compared.sentence[1:]}."))
    if isinstance(result.evaluation, Evaluation):
        console.print(f"It alone is right on {compared.n_better:,}, the other alone on {compared.n_worse:,}.")
    console.print(compared.p_value_words)
    if told.belief is not None:
        console.print(f"\n{told.belief.sentence} This is as good as the prior; no other number here depends on it.")
    console.print()
