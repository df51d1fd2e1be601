"""The style rule of a bundle: what is usual among its pictures, and how unusual one must be to be flagged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.imaging.style_measures import (
    STYLE_DIRECTIONS,
    STYLE_MEASURES,
    STYLE_MEASURES_VERSION,
    follow_directions,
)
from drivetrain.runtime.shifted import ShiftRule

__all__ = ["Shift", "fit_shift"]

_USUAL = 0.99  # share of pictures within one spread of the centre, in each direction
_AMPLE = 2  # times the pictures that a flag takes: from there on, those held out are enough by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """The style rule, and which held-out pictures it flags, (n,)."""

    section: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    is_shifted: BoolArray
    notes: tuple[str, ...] = ()


def fit_shift(
    styles: FloatArray | Sequence[FloatArray],
    fit: IntArray,
    *,
    alpha: float,
    train: FloatArray | Sequence[FloatArray] | None = None,
    before: ShiftRule | None = None,
) -> Shift:
    """Fit to the held-out rows `fit` and the training pictures; judge all held-out pictures.

    styles is (n, measures) of the held-out pictures, train the same of those trained on, each in an order that says
    nothing. Training pictures give each direction its centre and spread; held-out ones, compared with nothing so far,
    are what a score is ranked among. Where these are few, half of the training pictures are ranked with them and only
    the other half gives centres and spreads: no network is asked here, so none of them is better known than another.
    Without `train`, half of the rows `fit` stands in for it; or a rule fitted `before` gives its centres and spreads.
    """
    judged = _stack(styles)
    held = follow_directions(judged)
    known = None if train is None or not len(train) else follow_directions(_stack(train))
    if before is not None:
        ranked, centres, spreads = held[fit], before.centres, before.spreads
    else:
        scale, ranked = _divide(held[fit], known, alpha=alpha)
        centres, spreads = _measure_usual(scale)
    reference = np.sort(((ranked - centres) / spreads).max(axis=1, initial=-np.inf)).astype(np.float64)
    section = {
        "method": "furthest direction, in units of what is usual",
        "version": STYLE_MEASURES_VERSION,
        "flag_at": alpha,
        "n_calibration": len(reference),
        "directions": [
            {"name": one.name, "centre": float(centre), "spread": float(spread)}
            for one, centre, spread in zip(STYLE_DIRECTIONS, centres, spreads, strict=True)
        ],
    }
    arrays = {"style_calibration": reference}
    rule = ShiftRule({"style": section}, arrays)
    needed = math.ceil(1 / alpha) - 1
    notes: tuple[str, ...] = ()
    if len(reference) < needed:
        notes = (
            f"Only {len(reference)} pictures to tell a new style by: none can be flagged as shifted yet "
            f"(it takes {needed}).",
        )
    return Shift(section=section, arrays=arrays, is_shifted=rule.find_shifted(judged), notes=notes)


def _stack(styles: FloatArray | Sequence[FloatArray]) -> FloatArray:
    """(n, measures)."""
    return np.asarray(styles, dtype=np.float32).reshape(-1, len(STYLE_MEASURES))


def _divide(held: FloatArray, known: FloatArray | None, *, alpha: float) -> tuple[FloatArray, FloatArray]:
    """(rows that say what is usual, rows to rank a score among); no row is in both."""
    if known is None:
        half = len(held) // 2
        return held[:half], held[half:]
    if len(held) + 1 >= _AMPLE / alpha:
        return known, held
    half = (len(known) + 1) // 2
    return known[:half], np.concatenate((held, known[half:]))


def _measure_usual(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Median and distance from it to the far quantile, of each direction; at least a step that is worth telling."""
    least = np.array([one.least for one in STYLE_DIRECTIONS])
    if not len(rows):
        return np.zeros(len(least)), least
    centres = np.median(rows, axis=0)
    return centres, np.maximum(np.quantile(rows, _USUAL, axis=0) - centres, least)
