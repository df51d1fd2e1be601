"""What a manifest claims, as its card shows it: a few facts, a row for each class, and what is promised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drivetrain.serve.page.words import decimal, numbers_of, share
from drivetrain.task import Task

__all__ = ["Table", "list_facts", "list_limits", "list_promise", "tell_each"]

_MAX_ROWS = 2_000
_DASH = "–"
_PROMISED = {
    (True, True): "both",
    (True, False): "that it is there",
    (False, True): "that it is not",
    (False, False): "neither",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under heads; the first cell names its row."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def list_facts(told: object, task: Task) -> list[tuple[str, str, str]]:
    """(what, number, its interval or meaning); a manifest is somebody else's, so what is no number is left out."""
    found: list[tuple[str, str, str]] = []

    def add(of: object, what: str, name: str, show: Callable[[float], str], *, meaning: str = "") -> None:
        numbers, ends = numbers_of(of, name), numbers_of(of, f"{name}_low", f"{name}_high")
        if numbers is not None:
            between = f"{show(ends[0])} to {show(ends[1])}" if ends else meaning
            found.append((what, show(numbers[0]), between))

    if n := numbers_of(told, "n"):
        found.append(("Pictures", f"{n[0]:,.0f}", "held out of its training"))
    if task == "classification":
        add(told, "Right", "accuracy", share)
        add(told, "Right, all classes counting alike", "balanced_accuracy", share, meaning="mean recall")
        add(told, "F1", "macro_f1", _score, meaning="mean over classes, of 1")
        add(told, "Log loss", "log_loss", _score)
    elif task == "multilabel":
        add(told, "Every label right", "exact", share)
        add(told, "F1", "macro_f1", _score)
        add(told, "Average precision", "macro_average_precision", _score)
    elif len(values := _rows(told, "per_value", "name")) == 1:
        add(values[0], "Off by, on average", "mae", decimal)
        add(values[0], "R²", "r2", _fine_score)
    add(told, "Calibration error", "ece", share)
    if task != "classification":  # there, the promise tells it
        what = "Leaves no label open" if task == "multilabel" else "Answers by itself"
        add(told.get("deferral") if isinstance(told, Mapping) else None, what, "coverage", share)
    return found


def tell_each(told: object, task: Task) -> tuple[str, Table | None]:
    """A title, and a row for each class, label or value; one value alone stands among the facts."""
    if task == "regression":
        rows = _rows(told, "per_value", "name")
        heads = ["Value", "Off by, on average", "95 % interval", "R²", "Bias"]
        return "Each value", _table(rows, "name", heads, _value_cells) if len(rows) > 1 else None
    if task == "multilabel":
        heads = ["Label", "Pictures", "Found", "Right when found", "F1"]
        return "Each label", _table(_rows(told, "per_label", "label"), "label", heads, _class_cells)
    heads = ["Class", "Pictures", "Found", "Right when named", "F1"]
    return "Each class", _table(_rows(told, "per_class", "label"), "label", heads, _class_cells)


def list_promise(policy: Mapping[str, object], told: object, task: Task) -> list[tuple[str, str]]:
    """(what, words) of what it promises as a whole."""
    if task == "regression":
        return _promise_of_values(policy, told)
    promise = policy.get("promise")
    found = []
    if (most := numbers_of(promise, "max_error", "confidence")) is not None:
        found.append(("Wrong among those it decides, at most", f"{_round(most[0])}, with confidence {_round(most[1])}"))
    if (seen := numbers_of(promise, "n_calibration", "n_accepted", "n_wrong")) is not None:
        pictures, decided, wrong = (f"{number:,.0f}" for number in seen)
        found.append(("Shown on", f"{pictures} pictures kept apart: {decided} decided, {wrong} of them wrong"))
    if (covers := numbers_of(promise, "coverage", "coverage_low", "coverage_high")) is not None:
        found.append(("Decides by itself", f"{share(covers[0])} ({share(covers[1])} to {share(covers[2])})"))
    if (coverage := numbers_of(policy.get("label_set"), "coverage")) is not None:
        found.append(("Its label set holds the right one in", _round(coverage[0])))
    return found


def list_limits(policy: Mapping[str, object], classes: Sequence[str]) -> Table | None:
    """Of each label, when the model says by itself that it is there, or that it is not; None of any other task."""
    limits = policy.get("labels")
    if not isinstance(limits, list | tuple) or len(limits) != len(classes):
        return None
    rows = []
    for label, one in zip(classes[:_MAX_ROWS], limits, strict=False):
        ends = numbers_of(one, "present_above", "absent_below")
        if ends is None:
            return None
        present, absent = (_is_certified(one.get(side)) for side in ("present", "absent"))
        rows.append([label[:200], _round(ends[0]), _round(ends[1]), _PROMISED[present, absent]])
    return Table(heads=["Label", "There, above", "Not there, below", "Promised"], rows=rows)


def _promise_of_values(policy: Mapping[str, object], told: object) -> list[tuple[str, str]]:
    interval = policy.get("interval")
    coverage, rows = numbers_of(interval, "coverage"), _rows(told, "per_value", "name")
    widths = interval.get("half_widths") if isinstance(interval, Mapping) else None
    if coverage is None or not isinstance(widths, list | tuple) or len(widths) != len(rows):
        return []
    found = []
    for row, width in zip(rows, widths, strict=True):
        name = "The true value lies" if len(rows) == 1 else str(row["name"])[:200]
        if isinstance(width, int | float) and math.isfinite(width):
            found.append((name, f"within {decimal(width)} of its answer, in {_round(coverage[0])}"))
        if (held := numbers_of(row, "covered", "covered_low", "covered_high")) is not None:
            words = f"{share(held[0])} of the pictures held out ({share(held[1])} to {share(held[2])})"
            found.append(("It did in", words))
    return found


def _rows(told: object, key: str, name: str) -> list[Mapping[str, object]]:
    rows = told.get(key) if isinstance(told, Mapping) else None
    given = rows[:_MAX_ROWS] if isinstance(rows, list | tuple) else ()
    return [row for row in given if isinstance(row, Mapping) and isinstance(row.get(name), str)]


def _table(
    rows: Sequence[Mapping[str, object]],
    name: str,
    heads: list[str],
    cells: Callable[[Mapping[str, object]], list[str]],
) -> Table | None:
    made = [[str(row[name])[:200], *cells(row)] for row in rows]
    return Table(heads=heads, rows=made) if made else None


def _class_cells(row: Mapping[str, object]) -> list[str]:
    count = numbers_of(row, "n")
    f1 = numbers_of(row, "f1")
    return [
        f"{count[0]:,.0f}" if count else _DASH,
        _with_interval(row, "recall"),
        _with_interval(row, "precision"),
        _score(f1[0]) if f1 else _DASH,
    ]


def _value_cells(row: Mapping[str, object]) -> list[str]:
    mae, ends = numbers_of(row, "mae"), numbers_of(row, "mae_low", "mae_high")
    r2, bias = numbers_of(row, "r2"), numbers_of(row, "bias")
    return [
        decimal(mae[0]) if mae else _DASH,
        f"{decimal(ends[0])} to {decimal(ends[1])}" if ends else _DASH,
        _fine_score(r2[0]) if r2 else _DASH,
        _beside(bias[0], mae[0]) if bias and mae else _DASH,
    ]


def _with_interval(row: Mapping[str, object], name: str) -> str:
    of, ends = numbers_of(row, name), numbers_of(row, f"{name}_low", f"{name}_high")
    if of is None:
        return _DASH
    return share(of[0]) + (f" ({100 * ends[0]:.0f} to {100 * ends[1]:.0f})" if ends else "")


def _is_certified(side: object) -> bool:
    return isinstance(side, Mapping) and side.get("is_certified") is True


def _score(of: float) -> str:
    return f"{of:.2f}"


def _fine_score(of: float) -> str:
    """0.998 is not 1.00."""
    return f"{of:.3f}"


def _beside(of: float, size: float) -> str:
    """With as many digits behind the point as `size` has."""
    return f"{of:,.{len(decimal(size).partition('.')[2])}f}"


def _round(of: float) -> str:
    """What somebody asked for: 5 %, not 5.0 %."""
    return f"{100 * of:.4g}\N{NO-BREAK SPACE}%"
