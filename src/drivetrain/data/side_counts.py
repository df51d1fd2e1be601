"""How many pictures stand on each side of a split, and what they bear: for the datasheet and the model card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.task import Task

if TYPE_CHECKING:  # items.py imports the datasheet, which imports us
    from .items import Item, Items

__all__ = ["SideCounts", "ValueRange", "count_sides"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRange:
    """The values of one side, in the labels' unit."""

    low: float
    median: float
    high: float
    spread: float  # standard deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCounts:
    """side ("train", "valid") -> what stands there."""

    pictures: Mapping[str, int]
    labels: Mapping[str, Mapping[str, int]]  # side -> class or label -> pictures; of a regression empty
    task: Task = "classification"
    values: Mapping[str, Mapping[str, ValueRange]] = field(default_factory=dict)  # side -> name -> its values

    @classmethod
    def of(cls, counts: Mapping[str, Mapping[str, int]] | SideCounts) -> SideCounts:
        """Counts of classes, side -> class -> pictures, as they are; where each picture has one class."""
        if isinstance(counts, SideCounts):
            return counts
        return cls(pictures={side: sum(of.values()) for side, of in counts.items()}, labels=counts)


def count_sides(items: Items, sides: Mapping[str, Sequence[Item]]) -> SideCounts:
    """Count the items of each side; `items` says which task and which classes."""
    pictures = {side: len(of) for side, of in sides.items()}
    classes = items.classes
    if items.task == "regression":
        values = {side: _measure(items.targets(of), classes) for side, of in sides.items() if of}
        return SideCounts(pictures=pictures, labels={side: {} for side in sides}, task=items.task, values=values)
    counts = {side: Counter(name for item in of for name in items.labels_of(item)) for side, of in sides.items()}
    labels = {side: {name: counts[side][name] for name in classes} for side in sides}
    return SideCounts(pictures=pictures, labels=labels, task=items.task)


def _measure(targets: NDArray[Any], classes: Sequence[str]) -> dict[str, ValueRange]:
    values = np.asarray(targets, dtype=np.float64)
    return {
        name: ValueRange(
            low=float(column.min()),
            median=float(np.median(column)),
            high=float(column.max()),
            spread=float(column.std()),
        )
        for name, column in zip(classes, values.T, strict=True)
    }
