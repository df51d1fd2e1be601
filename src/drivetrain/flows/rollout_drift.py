"""Whether the pictures, and what the candidate makes of them, change over time. Needs no label; shown, never a gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from drivetrain.trust.estimate import wilson_interval
from drivetrain.trust.sequential import rate_interval

from .rollout_evidence import Row

__all__ = ["FIRST_PART", "measure_drift"]

FIRST_PART = 200  # requests; fixed before any is seen, so that looking again later is no second chance
_MOST_WINDOWS = 16
_LEAST_WINDOW = 25  # requests
_MOST_CLASSES = 6
_ALPHA = 0.05  # the chance that anything is ever said to have changed that did not

_Test = Callable[[dict[str, Any]], bool]


def measure_drift(rows: Iterable[Row]) -> dict[str, Any]:
    """Shares over time, and of each whether it changed since the first requests; plain values.

    Over time: with Wilson's 95 % interval for each window by itself. Changed: the confidence sequences of the first
    part and of all that came since lie apart, each at its part of `alpha`, so this may be looked at any time
    (after Podkopaev and Ramdas 2022).
    """
    seen = [(row.outcome.at, dict(row.routed.candidate)) for row in rows if row.routed.candidate is not None]
    answers = [answer for _, answer in seen]
    named = _series(answers)
    edges = _edges(len(answers))
    series: list[dict[str, Any]] = []
    for name, test in named if answers else ():
        marks = [test(answer) for answer in answers]
        series.append(
            {
                "name": name,
                "is_class": name.startswith("decided as "),
                "windows": [_window(marks[low:high]) for low, high in edges],
                "compared": _compare(marks, n_series=len(named)),
            }
        )
    return {
        "n": len(answers),
        "first": FIRST_PART,
        "alpha": _ALPHA,
        "windows": [_span([at for at, _ in seen[low:high]]) for low, high in edges],
        "series": series,
        "changed": [one["name"] for one in series if one["compared"] and one["compared"]["is_changed"]],
    }


def _series(answers: Sequence[dict[str, Any]]) -> list[tuple[str, _Test]]:
    """What is followed: why it was unsure, what was left to people, and which classes it names.

    The classes are those of the first part, so that the list is fixed when the comparison begins.
    """
    found: list[tuple[str, _Test]] = [
        ("unknown", lambda answer: "unknown" in answer.get("reasons", ())),
        ("shifted", lambda answer: "shifted" in answer.get("reasons", ())),
        ("left to people", lambda answer: answer.get("decision") != "accept"),
    ]
    first = Counter(str(answer.get("label")) for answer in answers[:FIRST_PART])
    labels = sorted(first, key=lambda one: (-first[one], one))[:_MOST_CLASSES]
    return found + [(f"decided as {label}", _names(label)) for label in labels]


def _names(label: str) -> _Test:
    return lambda answer: bool(answer.get("label") == label)


def _edges(n: int) -> list[tuple[int, int]]:
    """Windows of as many requests each, in the order of arrival."""
    count = min(_MOST_WINDOWS, max(1, n // _LEAST_WINDOW)) if n else 0
    return [(n * k // count, n * (k + 1) // count) for k in range(count)]


def _window(marks: Sequence[bool]) -> dict[str, Any]:
    hits, n = sum(marks), len(marks)
    low, high = wilson_interval(hits, n)
    return {"n": n, "share": hits / n, "low": low, "high": high}


def _compare(marks: Sequence[bool], *, n_series: int) -> dict[str, Any] | None:
    """First part and since; None while nothing came since."""
    first, since = marks[:FIRST_PART], marks[FIRST_PART:]
    if not since:
        return None
    each = _ALPHA / (2 * n_series)  # two sequences for each thing that is followed
    told: dict[str, Any] = {}
    for name, part in (("first", first), ("since", since)):
        low, high = rate_interval(sum(part), len(part), alpha=each)
        told[name] = {"n": len(part), "share": sum(part) / len(part), "low": low, "high": high}
    is_changed = told["first"]["high"] < told["since"]["low"] or told["since"]["high"] < told["first"]["low"]
    return told | {"is_changed": is_changed}


def _span(times: Sequence[datetime]) -> dict[str, str]:
    return {"from": times[0].isoformat(timespec="minutes"), "to": times[-1].isoformat(timespec="minutes")}
