"""What the pages say, in plain words; `web/static/words.js` says the same of an answer, and a test compares the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.serve.model import ServedModel
from drivetrain.task import Task

__all__ = [
    "accuracy_in_words",
    "decimal",
    "doubt",
    "error_sentence",
    "guess_in_words",
    "guessed",
    "knows_in_words",
    "numbers_of",
    "percent",
    "reach",
    "reason_sentences",
    "share",
    "sureness",
]

_UNKNOWN = "This does not look like anything I was trained on."
_SHIFTED = "This is the right kind of thing, in a style I have not seen"
_SO_PERHAPS = "If it shows something I should know, that may be why."
_NAMED_AT_MOST = 3
_SPACE = "\N{NO-BREAK SPACE}"
_ERRORS = {
    "unreadable_picture": (
        "I cannot read this file as a picture. Open it in a viewer and save it again, or leave it out."
    ),
    "too_large": "This file is larger than this server takes.",
    "overloaded": "The server is too busy right now.",
    "deadline_passed": "The server took too long over this picture.",
    "internal": "Something broke in the server, not in your picture.",
}


def accuracy_in_words(evaluation: object, task: Task = "classification") -> str:
    """One sentence on held-out pictures; a bundle's manifest is not trusted to hold numbers."""
    if task == "multilabel":
        return _labels_in_words(evaluation)
    if task == "regression":
        return _values_in_words(evaluation)
    numbers = numbers_of(evaluation, "accuracy", "accuracy_low", "accuracy_high", "n")
    if numbers is None:
        return "Nobody has measured it on held-out pictures yet, so nobody knows how often it is right."
    accuracy, low, high, n = numbers
    return (
        f"Right on {share(accuracy)} of {n:,.0f} pictures held out of its training; "
        f"its true accuracy is likely between {share(low)} and {share(high)}."
    )


def _labels_in_words(evaluation: object) -> str:
    numbers = numbers_of(evaluation, "exact", "exact_low", "exact_high", "n")
    if numbers is None:
        return "Nobody has measured it on held-out pictures yet, so nobody knows how often its labels are right."
    exact, low, high, n = numbers
    scores = numbers_of(evaluation, "macro_f1")
    more = f" Its mean F1 is {scores[0]:.2f}, of 1." if scores else ""
    return (
        f"Every label right on {share(exact)} of {n:,.0f} pictures held out of its training; "
        f"likely between {share(low)} and {share(high)}.{more}"
    )


def _values_in_words(evaluation: object) -> str:
    rows = evaluation.get("per_value") if isinstance(evaluation, Mapping) else None
    first = rows[0] if isinstance(rows, list | tuple) and rows else None
    mae, ends, n = numbers_of(first, "mae"), numbers_of(first, "mae_low", "mae_high"), numbers_of(evaluation, "n")
    if mae is None or n is None:
        return "Nobody has measured it on held-out pictures yet, so nobody knows how far off it is."
    likely = f"likely between {ends[0]:.4g} and {ends[1]:.4g}" if ends else "too few to say how far that may be off"
    what = first.get("name") if isinstance(first, Mapping) and len(rows or ()) > 1 else None
    return (
        f"Off by {mae[0]:.4g} on average{f' in {what}' if isinstance(what, str) else ''}, on {n[0]:,.0f} pictures held "
        f"out of its training; {likely}."
    )


def numbers_of(section: object, *names: str) -> list[float] | None:
    """Those of a section, or None unless all are there and are numbers."""
    found = [section.get(name) for name in names] if isinstance(section, Mapping) else []
    numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
    return numbers if len(numbers) == len(names) and all(map(math.isfinite, numbers)) else None


def knows_in_words(model: ServedModel) -> str:
    """What its labels are."""
    n = len(model.classes)
    if model.task == "multilabel":
        return f"It looks for {n} {'label' if n == 1 else 'labels'}"
    if model.task == "regression":
        return f"It measures {n} {'value' if n == 1 else 'values'}"
    return f"It knows {n} {'kind' if n == 1 else 'kinds'} of picture"


def share(of: float) -> str:
    """With a digit behind the point."""
    return f"{100 * of:.1f}{_SPACE}%"


def percent(p: float) -> str:
    """A whole number; what is nearly certain is not called so."""
    if 0.99 < p < 1:
        return f">{_SPACE}99{_SPACE}%"
    if 0 < p < 0.01:
        return f"<{_SPACE}1{_SPACE}%"
    return f"{math.floor(100 * p + 0.5)}{_SPACE}%"


def decimal(value: float) -> str:
    """Four significant digits, in full."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    text = f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    if abs(value) >= 10_000:
        text = f"{float(f'{value:.4g}'):,.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def doubt(answer: Answer) -> str:
    """The headline of what a person should look at."""
    if answer.reasons == ("shifted",):
        return "I may be wrong"
    is_partly = isinstance(answer, MultiLabelPrediction) and "unknown" not in answer.reasons
    if is_partly and any(one != "defer" for one in answer.decisions.values()):  # type: ignore[union-attr]
        return "I know some of it"
    return "I don’t know"


def guess_in_words(answer: Answer) -> str:
    """What stands before a guess that decides nothing; of something unknown its numbers are no measure of anything."""
    return "What I would say if I had to:" if "unknown" in answer.reasons else "If I had to guess:"


def guessed(answer: Answer) -> str:
    """What it takes the picture for, whether or not it decides that by itself."""
    if isinstance(answer, Prediction):
        return answer.label
    if isinstance(answer, MultiLabelPrediction):
        return ", ".join(answer.labels) if answer.labels else "none of its labels"
    if len(answer.values) == 1:
        return decimal(answer.value)
    return ", ".join(f"{name}: {decimal(value)}" for name, value in answer.values.items())


def reach(answer: ValuePrediction, name: str) -> str:
    """Between which numbers one of its values lies."""
    ends = answer.intervals.get(name)
    return f"{decimal(ends[0])} to {decimal(ends[1])}" if ends else "how far off is not known"


def sureness(answer: Answer) -> str:
    """How sure it is, behind its answer."""
    if isinstance(answer, MultiLabelPrediction):
        return "sure of every label"
    if isinstance(answer, Prediction):
        return f"{percent(answer.probability)} sure"
    of = "{} " if len(answer.values) > 1 else ""
    told = [
        f"{of.format(name)}between {decimal(ends[0])} and {decimal(ends[1])}"
        for name, ends in answer.intervals.items()
        if ends is not None
    ]
    return f"likely {', '.join(told)}" if told else "how far off is not known"


def reason_sentences(answer: Answer) -> list[str]:
    """Why a person should look at it."""
    words = answer.shifted_by
    style = f"It is {_all(words)} than the pictures I know" if words else ""
    # Of something unknown, "it may be A or B" says nothing. Its style may be why it is unknown, or beside the point.
    if "unknown" in answer.reasons:
        return [_UNKNOWN, f"{style}. {_SO_PERHAPS}"] if style else [_UNKNOWN]
    said = [_reason(reason, answer, style) for reason in answer.reasons]
    return said or ["A person should look at this one."]


def _reason(reason: str, answer: Answer, style: str) -> str:
    if reason == "shifted":
        return f"{_SHIFTED}. {style}." if style else f"{_SHIFTED}."
    if isinstance(answer, MultiLabelPrediction):
        return f"I am not sure about {_all(answer.open_labels)}."
    if not isinstance(answer, ValuePrediction) and len(answer.label_set) > 1:
        return f"I am not sure enough: it may be {_one_of(answer.label_set)}."
    return "I am not sure enough to decide this by myself."


def error_sentence(code: str, message: str) -> str:
    """An error of one picture, for who sent it."""
    return _ERRORS.get(code, message)


def _all(labels: Sequence[str]) -> str:
    if len(labels) <= 1:
        return "".join(labels)
    if len(labels) <= _NAMED_AT_MOST:
        return f"{', '.join(labels[:-1])} and {labels[-1]}"
    others = len(labels) - _NAMED_AT_MOST
    return f"{', '.join(labels[:_NAMED_AT_MOST])} and {others} {'other' if others == 1 else 'others'}"


def _one_of(labels: Sequence[str]) -> str:
    if len(labels) <= _NAMED_AT_MOST:
        return f"{', '.join(labels[:-1])} or {labels[-1]}"
    others = len(labels) - _NAMED_AT_MOST
    return f"{', '.join(labels[:_NAMED_AT_MOST])} or one of {others} {'other' if others == 1 else 'others'}"
