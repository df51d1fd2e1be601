"""What the report's template draws of a model that measures."""

from __future__ import annotations

from typing import Any

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.trust.value_evaluation import OutputEvaluation, ValueEvaluation

from .interpretation import ValueInterpretation
from .report_labels import ImageOf

__all__ = ["number", "p_value", "view_values"]

_TOP_LOSSES = 24
_PLOT = 400  # units of a plot's sides
_MOST_DOTS = 2_000
_MOST_PLOTS = 6


def number(value: float | None) -> str:
    """1234.5678 -> "1,235", 0.012345 -> "0.01235": four digits that count."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def p_value(value: float) -> str:
    """0.0312 -> "0.03", 0.0031 -> "0.003"; what is below a thousandth is told so, and nothing reads as 0."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.01 else f"{value:.2f}"


def view_values(evaluation: ValueEvaluation, interpretation: ValueInterpretation, image_of: ImageOf) -> dict[str, Any]:
    """All that the template needs beside the report itself."""
    return {
        "plots": [_plot(row, at, interpretation) for at, row in enumerate(evaluation.per_value[:_MOST_PLOTS])],
        "n_more_plots": max(0, len(evaluation.per_value) - _MOST_PLOTS),
        "top_losses": [
            {"picture": picture, "image": image_of(picture.path)} for picture in interpretation.top_losses(_TOP_LOSSES)
        ],
    }


def _plot(row: OutputEvaluation, at: int, interpretation: ValueInterpretation) -> dict[str, Any]:
    """Places of truth against answer: both axes over the same range, y downwards; the band is the interval."""
    said = np.asarray(interpretation.values, dtype=np.float64)[:, at]
    true = np.asarray(interpretation.targets, dtype=np.float64)[:, at]
    low, high = float(min(said.min(), true.min())), float(max(said.max(), true.max()))
    room = 0.03 * (high - low) or 1.0
    low, high = low - room, high + room

    def place(value: float) -> float:
        return round(float((value - low) / (high - low) * _PLOT), 1)

    dots = range(len(said)) if len(said) <= _MOST_DOTS else np.linspace(0, len(said) - 1, _MOST_DOTS).astype(int)
    half = None if row.interval_width is None else row.interval_width / 2 / (high - low) * _PLOT
    return {
        "name": row.name,
        "side": _PLOT,
        "ticks": [(place(tick), number(tick)) for tick in _ticks(low, high)],
        "band": None if half is None else round(half, 1),
        "dots": [
            {
                "x": place(said[i]),
                "y": round(_PLOT - place(true[i]), 1),
                "title": f"{interpretation.paths[i]}: said {number(float(said[i]))}, in truth {number(float(true[i]))}",
            }
            for i in dots
        ],
        "n_left_out": len(said) - len(dots),
    }


def _ticks(low: float, high: float) -> FloatArray:
    """Round numbers between low and high, four to eight of them."""
    step = 10.0 ** np.floor(np.log10((high - low) / 4))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= 8:
            step *= factor
            break
    first = np.ceil(low / step)
    ticks: FloatArray = np.arange(first, np.floor(high / step) + 1) * step
    return ticks
