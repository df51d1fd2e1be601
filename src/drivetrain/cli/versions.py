"""`drivetrain versions`.

Register models, say where each is live, compare two.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetrain.cli.shared import JsonFlag, escape_text, percent, print_json, show_number
from drivetrain.cli.store import DbOption, opened_store, show_time, who

if TYPE_CHECKING:
    from drivetrain.flows.versions import Comparison, Measure, VersionState

__all__ = ["COMMANDS"]

_AnyVersion = Annotated[str, typer.Argument(help="A version, its first digits, a model's name or a .dt file.")]
_HEADLINES = {"accuracy": "accuracy", "exact": "every label right"}
_NOT_SHARES = ("log_loss", "brier", "ece", "mae", "rmse", "r2", "bias", "f1", "average_precision")


def list_them(
    model: Annotated[str | None, typer.Option(help="Of this model alone.")] = None,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is registered, the newest last, and where it is live."""
    from drivetrain.flows.versions import list_versions

    with opened_store(db) as store:
        states = list_versions(store, model=model)
    if as_json:
        print_json({"versions": [_fields(state) for state in states]})
        return
    for state in states:
        sys.stdout.write(_summary(state) + "\n")
    if not states:
        sys.stderr.write("No versions yet. Register one: drivetrain versions register NAME.dt\n")


def register(
    bundle: Annotated[Path, typer.Argument(help="A model: NAME.dt.")], db: DbOption = None, as_json: JsonFlag = False
) -> None:
    """Keep what a bundle says of itself, and where it is. The same one again changes nothing but where it is."""
    from drivetrain.flows.versions import list_versions, register_version

    with opened_store(db) as store:
        before = {one.version for one in store.versions.list()}
        made = register_version(store, bundle, at=time.time(), by=who())
        if made.version not in before:
            store.audit("version.register", by=who(), subject=made.version, detail={"path": made.path})
        [state] = [one for one in list_versions(store, model=made.model) if one.version == made]
    if as_json:
        print_json({"is_new": made.version not in before, **_fields(state)})
        return
    if made.version in before:
        sys.stderr.write("It was registered before.\n")
    sys.stdout.write(_summary(state) + "\n")


def compare(first: _AnyVersion, second: _AnyVersion, db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Lay what two bundles say of themselves side by side."""
    from drivetrain.flows.versions import compare_versions, find_version

    with opened_store(db) as store:
        compared = compare_versions(find_version(store, first), find_version(store, second))
    if as_json:
        rows = [{**asdict(row), "difference": row.difference} for row in compared.rows]
        print_json(
            {
                "first": compared.first.version,
                "second": compared.second.version,
                "is_same_pictures": compared.is_same_pictures,
                "measures": rows,
                "notes": list(compared.notes),
            }
        )
        return
    _show(compared)


COMMANDS = {"list": list_them, "register": register, "compare": compare}


def _fields(state: VersionState) -> dict[str, Any]:
    found = asdict(state)
    version = found.pop("version")
    return {**version, **found}


def _summary(state: VersionState) -> str:
    version = state.version
    facts, evaluation = version.facts, version.facts.get("evaluation", {})
    told = [escape_text(version.version), f"registered {show_time(version.registered_at)}"]
    if facts.get("n_train") is not None:
        told.append(f"{facts['n_train']:,} pictures")
    told += [f"{words} {percent(evaluation[name])}" for name, words in _HEADLINES.items() if evaluation.get(name)]
    if version.parent is not None:
        told.append(f"from {escape_text(version.parent[:12])}")
    if state.is_live:
        told.append("live" if state.live_since is None else f"live since {show_time(state.live_since)}")
    if state.rollout is not None:
        told.append(f"in roll-out {state.rollout}: {str(state.stage).replace('_', ' ')}")
    return "  ".join([*told, escape_text(version.path)])


def _show(compared: Comparison) -> None:
    from rich.table import Table

    from drivetrain.cli.tables import open_console

    console = open_console()
    names = (escape_text(compared.first.version), escape_text(compared.second.version))
    table = Table("", *names, "difference", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in compared.rows:
        is_share = not row.name.partition(":")[0].rpartition(".")[2].endswith(_NOT_SHARES)
        gap = "-" if row.difference is None else _gap(row.difference, is_share=is_share)
        cells = [_tell(measure, is_share=is_share) for measure in (row.first, row.second)]
        table.add_row(escape_text(row.name.replace("_", " ")), *cells, gap)
    console.print(table)
    console.print("(shares in per cent; in brackets: 95 % intervals, each version by itself)")
    for version in (compared.first, compared.second):
        if version.facts.get("promise"):
            console.print(escape_text(f"{version.version}: {version.facts['promise']}"), soft_wrap=True)
    for note in compared.notes:
        console.print(escape_text(note), soft_wrap=True)


def _gap(difference: float, *, is_share: bool) -> str:
    return f"{100 * difference:+.1f}" if is_share else f"{difference:+.3g}"


def _tell(measure: Measure | None, *, is_share: bool) -> str:
    if measure is None or measure.value is None:
        return "-"
    if is_share:
        return f"{100 * measure.value:.1f} ({100 * measure.low:.1f} to {100 * measure.high:.1f})"
    return f"{show_number(measure.value)} ({show_number(measure.low)} to {show_number(measure.high)})"
