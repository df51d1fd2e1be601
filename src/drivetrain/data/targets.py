"""What a picture shall get, as text and as numbers: one class, any number of labels, or measured values.

An item's `label` is a canonical text, so that one digest of texts serves all tasks: the class; the labels, sorted, as
"cat;dog", empty where there is none; the values, each as short as it can be written, as "1.5;20".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.task import Task

__all__ = [
    "LABEL_COLUMNS",
    "SEPARATOR",
    "clean_label",
    "compose_name",
    "encode_targets",
    "find_strata",
    "name_outputs",
    "split_labels",
    "split_values",
]

SEPARATOR = ";"
# the column of labels.csv that says it -> the task
LABEL_COLUMNS: dict[str, Task] = {"label": "classification", "labels": "multilabel", "value": "regression"}
# what float() takes besides ("nan", "inf", "1_000") is no measured value
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_MOST_VALUES = 100
_MOST_BINS, _LEAST_IN_BIN = 10, 5


def compose_name(label: str) -> str:
    """One spelling for one name: a Mac writes an umlaut as two characters where others write one."""
    return unicodedata.normalize("NFC", label)


def clean_label(text: str, *, task: Task, where: str) -> str:
    """The canonical text of what stands in a cell, or in an edit. Raises InvalidInput, naming `where`."""
    if task == "multilabel":
        names = {compose_name(name.strip()) for name in text.split(SEPARATOR)} - {""}
        return SEPARATOR.join(sorted(names))
    if task == "regression":
        return SEPARATOR.join(_write_value(_read_value(part, where)) for part in _parts(text, where))
    return compose_name(text)


def split_labels(label: str, *, task: Task) -> tuple[str, ...]:
    """The labels in a canonical text: one of a class, none to many of labels, none of values."""
    if task == "multilabel":
        return tuple(label.split(SEPARATOR)) if label else ()
    return () if task == "regression" else (label,)


def split_values(label: str) -> tuple[float, ...]:
    """The values in a canonical text."""
    return tuple(float(part) for part in label.split(SEPARATOR))


def name_outputs(labels: Sequence[str], *, task: Task) -> tuple[str, ...]:
    """What the outputs of a model of these canonical texts are called, in their order."""
    if task == "regression":
        count = max((len(split_values(label)) for label in labels), default=1)
        return ("value",) if count == 1 else tuple(f"value {number}" for number in range(1, count + 1))
    return tuple(sorted({name for label in labels for name in split_labels(label, task=task)}))


def encode_targets(labels: Sequence[str], *, task: Task, classes: Sequence[str]) -> NDArray[Any]:
    """Canonical texts as numbers, the outputs in the order of `classes`.

    classification: int64 (n,) in [0, k). multilabel: float32 (n, k) of 0 and 1. regression: float32 (n, m).
    Raises InvalidInput for a label that `classes` lack, or another count of values.
    """
    if task == "regression":
        rows = [split_values(label) for label in labels]
        odd = next((row for row in rows if len(row) != len(classes)), None)
        if odd is not None:
            raise InvalidInput("values", got=f"{len(odd)} for a picture", want=f"{len(classes)}: {', '.join(classes)}")
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(classes))
    index_of = {name: at for at, name in enumerate(classes)}
    unknown = sorted({name for label in labels for name in split_labels(label, task=task)} - index_of.keys())
    if unknown:
        raise InvalidInput("labels", got=", ".join(map(repr, unknown)), want="labels among " + ", ".join(classes))
    if task == "classification":
        return np.array([index_of[label] for label in labels], dtype=np.int64)
    targets = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, label in enumerate(labels):
        targets[row, [index_of[name] for name in split_labels(label, task=task)]] = 1.0
    return targets


def find_strata(targets: IntArray | FloatArray, *, task: Task) -> IntArray:
    """(n,) a stratum for each item, to deal alike: by it, whatever the order given.

    classification (n,): the class. multilabel (n, k): the rarest of an item's labels (of equals the first), k where it
    has none. regression (n, m): at most ten bins of as many items each, by the mean rank of the values; equal values
    share a bin.
    """
    if task == "classification":
        return np.asarray(targets, dtype=np.int64)
    if task == "multilabel":
        has = np.asarray(targets) > 0.5
        cost = np.where(has, has.sum(axis=0), len(has) + 1)
        rarest: IntArray = np.where(has.any(axis=1), cost.argmin(axis=1), has.shape[1]).astype(np.int64)
        return rarest
    score = np.mean([_middle_ranks(column) for column in np.asarray(targets, dtype=np.float64).T], axis=0)
    bins = min(_MOST_BINS, max(1, len(score) // _LEAST_IN_BIN))
    return (_middle_ranks(score) * bins / max(1, len(score))).astype(np.int64)


def _middle_ranks(values: FloatArray) -> FloatArray:
    """(n,) places in the ascending order, in (0, n); those of equal values are all their middle."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(sizes) - sizes / 2)[place]
    return ranks


def _parts(text: str, where: str) -> list[str]:
    parts = [part.strip() for part in text.split(SEPARATOR)]
    if len(parts) > _MOST_VALUES:
        raise InvalidInput(where, got=f"{len(parts)} values", want=f"at most {_MOST_VALUES}")
    return parts


def _read_value(text: str, where: str) -> float:
    hint = "A point before decimals, no unit; several numbers are separated by ';'."
    if not text:
        raise InvalidInput(where, got="nothing", want="a number", hint="Remove the row to leave it out.")
    value = float(text) if _NUMBER.fullmatch(text) else float("nan")
    with np.errstate(over="ignore"):
        is_finite = bool(np.isfinite(np.float32(value)))  # models compute in float32
    if not is_finite:
        raise InvalidInput(where, got=text, want="a finite number, such as 12.5", hint=hint)
    return value


def _write_value(value: float) -> str:
    return repr(value + 0.0).removesuffix(".0")  # -0.0 is 0
