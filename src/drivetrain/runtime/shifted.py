"""Whether a picture's style is one that a model has seen: the right kind of thing, but darker, blurred, drawn, grey."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import BoolArray, FloatArray
from drivetrain.imaging.style_measures import (
    STYLE_DIRECTIONS,
    STYLE_MEASURES,
    STYLE_MEASURES_VERSION,
    follow_directions,
)
from drivetrain.trust.conformal import p_value, p_values

from .policy_values import WHERE, read_column, read_floats, read_list, read_number, refuse

__all__ = ["ShiftRule"]

_AT = tuple(STYLE_MEASURES.index(one.measure) for one in STYLE_DIRECTIONS)
_MOST = 100.0  # a direction's centre; no picture has one beyond 20
_WORDS_AT_MOST = 2  # more says less


class ShiftRule:
    """The style part of every policy: decision["style"] and the array `style_calibration`, as flows.fit_shift has it.

    A picture is as strange as the direction that it goes furthest in, in units of what is usual there. Raises
    BundleRefused unless the section is whole, of this version, and of numbers that fit.
    """

    def __init__(self, decision: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        section = decision.get("style")
        if not isinstance(section, Mapping):
            raise refuse(f"{WHERE}.style", section, "a section")
        version = read_number(decision, "style", "version", low=0, high=1e6)
        if version != STYLE_MEASURES_VERSION:
            raise refuse(f"{WHERE}.style.version", version, f"{STYLE_MEASURES_VERSION}, which this program measures")
        self.flag_at = read_number(decision, "style", "flag_at", low=0, high=1)
        rules = read_list(section, "directions", length=len(STYLE_DIRECTIONS))
        names = [rule.get("name") if isinstance(rule, Mapping) else None for rule in rules]
        if names != [one.name for one in STYLE_DIRECTIONS]:
            raise refuse(f"{WHERE}.style.directions", names, ", ".join(one.name for one in STYLE_DIRECTIONS))
        where = f"{WHERE}.style.directions"
        self.centres = read_column(rules, "centre", low=-_MOST, high=_MOST, where=where)
        self.spreads = read_column(rules, "spread", low=1e-3, high=_MOST, where=where)
        spreads, centres = self.spreads.tolist(), self.centres.tolist()
        self._terms: tuple[tuple[int, int, float, float, float], ...] = tuple(
            (at, one.slope, one.offset, one.sign / spread, centre / spread)
            for at, one, centre, spread in zip(_AT, STYLE_DIRECTIONS, centres, spreads, strict=True)
        )  # a step is gain * log2(slope * measure + offset) - lag
        reference = read_floats(arrays, "style_calibration")
        if reference.ndim != 1 or not bool(np.all(np.diff(reference) >= 0)):
            raise refuse("reference.npz/style_calibration", f"shape {reference.shape}", "scores in ascending order")
        self._reference = reference.astype(np.float64)

    def judge(self, style: FloatArray) -> tuple[float, bool, tuple[str, ...]]:
        """p-value, whether that is shifted, and if so in what way: style is (measures,) of StyledPreprocess.

        Words are comparatives, the most telling first: "darker", "blurrier".
        """
        if style.shape != (len(STYLE_MEASURES),):
            raise ValueError(f"style of shape {style.shape}, not ({len(STYLE_MEASURES)},)")
        p = p_value(self._reference, self._measure(style))
        if p > self.flag_at:
            return p, False, ()
        steps = self._step(style)
        is_telling = p_values(self._reference, steps) <= self.flag_at
        telling = [STYLE_DIRECTIONS[at] for at in np.argsort(-steps, kind="stable") if is_telling[at]]
        names = {one.name for one in telling}
        words = dict.fromkeys(one.words for one in telling if names.isdisjoint(one.implied_by))
        return p, True, tuple(words)[:_WORDS_AT_MOST]

    def _measure(self, style: FloatArray) -> float:
        """The furthest step of one style, as `_step` has it. Without numpy: its calls cost more than so few numbers."""
        measures: list[float] = style.tolist()
        return max(
            [gain * math.log2(slope * measures[at] + offset) - lag for at, slope, offset, gain, lag in self._terms]
        )

    def find_shifted(self, styles: FloatArray) -> BoolArray:
        """(n,) which of these styles (n, measures) `judge` calls shifted."""
        return np.asarray(p_values(self._reference, self._step(styles).max(axis=1)) <= self.flag_at)

    def _step(self, styles: FloatArray) -> FloatArray:
        """(..., measures) -> (..., directions), in units of what is usual."""
        return np.asarray((follow_directions(styles) - self.centres) / self.spreads)
