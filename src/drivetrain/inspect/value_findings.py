"""What is wrong with data of measured values: too few, all alike, far from the others, beyond what is learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.data.items import Item
from drivetrain.data.targets import split_values

from .findings import Finding, Picture, Severity, count_of

__all__ = ["ValueGap", "find_value_faults"]

_LEAST, _FEW, _ENOUGH = 10, 50, 200  # pictures: `train` refuses, hardly enough, a beginning
_TOO_FAR = 6.0  # robust standard deviations
_SHOWN = 40
_DIFFERENT = 0.1  # of the values' spread: copies whose values differ by more contradict each other


class ValueGap:
    """Whether two items bear values that contradict each other: measured twice, a value differs a little."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        spread = _values(pictures).std(axis=0) if pictures else np.ones(1)
        self._most = _DIFFERENT * spread

    def __call__(self, one: Item, other: Item) -> bool:
        gap = np.abs(np.subtract(split_values(one.label), split_values(other.label)))
        return bool((gap > self._most).any())


def find_value_faults(pictures: Sequence[Picture], names: Sequence[str]) -> list[Finding]:
    """Too few pictures, a value that never changes, odd ones, and ones beyond those trained on."""
    learned = [picture for picture in pictures if picture.item.split != "test"]
    if not learned:
        return [
            Finding(
                code="few_pictures",
                severity="error",
                what="No readable picture to learn from.",
                why=f"Below {_LEAST} `train` refuses.",
                next_step="Add pictures with their values.",
                count=0,
            )
        ]
    found = [_find_few(len(learned)), *_find_constant(learned, names), *_find_odd(pictures, names)]
    return [one for one in [*found, *_find_beyond(pictures, names)] if one is not None]


def _values(pictures: Sequence[Picture]) -> FloatArray:
    """(n, m)."""
    return np.array([split_values(picture.item.label) for picture in pictures], dtype=np.float64)


def _find_few(n: int) -> Finding | None:
    if n >= _ENOUGH:
        return None
    severity: Severity = "error" if n < _LEAST else "warning" if n < _FEW else "note"
    return Finding(
        code="few_pictures",
        severity=severity,
        what=f"{count_of(n, 'picture')} to learn from.",
        why=f"Below {_LEAST} `train` refuses; below {_ENOUGH} an interval of the answers is wide.",
        next_step="Gather more, above all where values are rare.",
        count=n,
    )


def _find_constant(learned: Sequence[Picture], names: Sequence[str]) -> list[Finding]:
    constant = [name for name, column in zip(names, _values(learned).T, strict=True) if np.ptp(column) == 0]
    if not constant or len(learned) < 2:
        return []
    return [
        Finding(
            code="one_value",
            severity="error",
            what=f"{', '.join(constant)}: the same for all {len(learned):,} pictures to learn from.",
            why="There is nothing to learn.",
            next_step="Add pictures with other values, or take it out.",
            count=len(constant),
        )
    ]


def _find_odd(pictures: Sequence[Picture], names: Sequence[str]) -> list[Finding]:
    found = []
    for name, column in zip(names, _values(pictures).T, strict=True):
        middle = float(np.median(column))
        far = np.abs(column - middle)
        spread = 1.4826 * float(np.median(far))
        odd = np.flatnonzero(far > _TOO_FAR * spread) if spread > 0 else np.array([], dtype=np.int64)
        if not 0 < len(odd) <= 0.05 * len(pictures):  # more are no outliers but a long tail
            continue
        ranked = [pictures[row] for row in odd[np.argsort(-far[odd], kind="stable")]]
        found.append(
            Finding(
                code="odd_value",
                severity="warning",
                what=f"{count_of(len(ranked), 'picture has', 'pictures have')} a {name} far from the others, whose "
                f"median is {middle:.4g}.",
                why="A slip of the pen, or another unit, weighs more than many right values.",
                next_step="Look at them and mend what was noted wrongly.",
                count=len(ranked),
                groups=tuple((picture.item.path,) for picture in ranked),
                details=tuple(f"{picture.item.path}: {picture.item.label}" for picture in ranked[:_SHOWN]),
            )
        )
    return found


def _find_beyond(pictures: Sequence[Picture], names: Sequence[str]) -> list[Finding]:
    """Values of valid and test that no picture of train comes near."""
    trained = [picture for picture in pictures if picture.item.split in {"train", None}]
    others = [picture for picture in pictures if picture.item.split in {"valid", "test"}]
    if not trained or not others:
        return []
    low, high = _values(trained).min(axis=0), _values(trained).max(axis=0)
    beyond = [
        picture
        for picture, row in zip(others, _values(others), strict=True)
        if bool(((row < low) | (row > high)).any())
    ]
    if not beyond:
        return []
    ranges = ", ".join(f"{name} {a:.4g} to {b:.4g}" for name, a, b in zip(names, low, high, strict=True))
    return [
        Finding(
            code="value_beyond",
            severity="note" if len(beyond) < 0.05 * len(others) else "warning",
            what=f"{count_of(len(beyond), 'picture')} of valid and test with values beyond those of train ({ranges}).",
            why="What a model has not seen it does not measure: its answers are drawn towards what it knows.",
            next_step="Move some of them into train.",
            count=len(beyond),
            groups=tuple((picture.item.path,) for picture in beyond),
            details=tuple(f"{picture.item.path}: {picture.item.label}" for picture in beyond[:_SHOWN]),
        )
    ]
