"""The learning curve as a section of the report: dots that were measured, a curve through them, and where it leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from drivetrain.trust.learning_curve import CurvePoint, LearningCurve

__all__ = ["render_learning_curve"]

_WIDTH, _HEIGHT = 400, 280  # units of the plot's sides
_STEPS = (1, 2, 2.5, 5, 10)  # times a power of ten, between ticks
_MOST_CLASSES = 60


def render_learning_curve(curve: LearningCurve) -> Markup:
    """A `<section>` for the page of `inspect.report`, whose style it uses. Class names are escaped."""
    loader = PackageLoader("drivetrain.inspect", "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    show = _choose_words(curve)
    rows = sorted(curve.classes, key=lambda row: (-row.low, -row.gain))
    html = page.get_template("learning_curve.html").render(
        curve=curve,
        plot=_plot(curve, show),
        show=show,
        interval=lambda point: f"{show(point.low)} to {show(point.high)}",
        gain=_show_gain,
        classes=[row for row in rows if row.n][:_MOST_CLASSES],
    )
    return Markup(html)  # noqa: S704  made by a template that escapes


def _choose_words(curve: LearningCurve) -> Callable[[float], str]:
    if curve.is_share:
        return lambda value: f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
    widest = max(point.high - point.low for point in curve.curve) or 1.0
    digits = max(0, 1 - int(np.floor(np.log10(widest))))
    return lambda value: f"{value:.{digits}f}"


def _show_gain(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-0.0", "+0.0")


def _plot(curve: LearningCurve, show: Callable[[float], str]) -> dict[str, Any]:
    """Places: x from no pictures to 2 n, y downwards from the highest score to the lowest."""
    unit = 100 if curve.is_share else 1
    seen = [*curve.points, *curve.curve]
    low, high = unit * min(point.low for point in seen), unit * max(point.high for point in seen)
    y_step = _choose_step((high - low) or 1.0, most=6)
    y_ticks = np.arange(np.floor(low / y_step), np.ceil(high / y_step) + 1.5) * y_step
    y_ticks = y_ticks[: int(np.searchsorted(y_ticks, high - 1e-9 * y_step)) + 1]
    if len(y_ticks) < 2:
        y_ticks = np.array([y_ticks[0] - y_step, y_ticks[0]])
    bottom, top, widest = float(y_ticks[0]), float(y_ticks[-1]), curve.twice.n
    x_step = _choose_step(widest, most=5)

    def x(n: float) -> float:
        return round(n / widest * _WIDTH, 1)

    def y(score: float) -> float:
        return round((top - unit * score) / (top - bottom) * _HEIGHT, 1)

    def mark(point: CurvePoint) -> dict[str, Any]:
        title = f"{point.n:,} pictures: {show(point.score)}, 95 % interval {show(point.low)} to {show(point.high)}"
        return {"x": x(point.n), "y": y(point.score), "top": y(point.high), "bottom": y(point.low), "title": title}

    known = [point for point in curve.curve if point.n <= curve.n]
    beyond = [point for point in curve.curve if point.n >= curve.n]
    digits = max(0, -int(np.floor(np.log10(y_step))))
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "x_ticks": [(x(n), f"{round(n):,}") for n in np.arange(0, widest + 1e-9, x_step)],
        "y_ticks": [(y(tick / unit), f"{tick:.{digits}f}") for tick in y_ticks],
        "y_axis": f"{curve.score}{', %' if curve.is_share else ''}",
        "bands": [_band(part, x, y) for part in (known, beyond)],
        "lines": [" ".join(f"{x(p.n)},{y(p.score)}" for p in part) for part in (known, beyond)],
        "points": [mark(point) for point in curve.points],
        "twice": mark(curve.twice),
        "now": x(curve.n),
    }


def _band(points: list[CurvePoint], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """Corners of the strip between the ends of the intervals."""
    there = [f"{x(point.n)},{y(point.high)}" for point in points]
    back = [f"{x(point.n)},{y(point.low)}" for point in reversed(points)]
    return " ".join(there + back)


def _choose_step(width: float, *, most: int) -> float:
    """The smallest round step that needs at most `most` steps for the width."""
    scale = 10.0 ** np.floor(np.log10(width / most))
    return float(next(step * scale for step in _STEPS if step * scale * most >= width * (1 - 1e-9)))
