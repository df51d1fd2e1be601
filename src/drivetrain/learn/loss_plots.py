"""Figures of a training's course, readable at the width of a phone; no display is needed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from drivetrain.errors import InvalidConfig, InvalidInput

from .show import ShownFigure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .recorder import Recorder

__all__ = ["draw_loss", "draw_lr_find", "draw_metrics", "draw_schedule", "show_in_notebook"]

# Okabe and Ito's colours, which people who see fewer of them can tell apart
_TRAIN, _VALID, _BEST = "#0072B2", "#D55E00", "#009E73"
_MARKS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00")  # of suggested rates
_SHAPES = ("o", "s", "^", "D")
_INCHES = (6.4, 4.0)
_PANEL_INCHES = 2.3
_MOST_EPOCH_LINES = 40


def draw_loss(record: Recorder, *, skip_start: int = 5, with_valid: bool = True) -> ShownFigure:
    """The training loss of every batch, pale, and smoothed; that of the validation at the end of each epoch.

    Smoothed is the mean of the batches around, not `record.losses`, which lag behind a loss that falls. The first
    `skip_start` batches are left out where there are twice as many: their losses squeeze the others flat.
    """
    if skip_start < 0:
        raise InvalidConfig("plot_loss(skip_start)", got=skip_start, want="a whole number of at least 0")
    _check_record(record.raw_losses, "plot_loss")
    figure, (axes,) = _new_figure(1, _INCHES)
    first = skip_start if len(record.losses) > 2 * skip_start else 0
    steps = np.arange(first, len(record.losses)) + 1
    axes.plot(steps, record.raw_losses[first:], color=_TRAIN, alpha=0.22, linewidth=0.8)
    smooth = _average_around(_average_around(record.raw_losses))  # twice: no steps where a wild one comes and goes
    axes.plot(steps, smooth[first:], color=_TRAIN, linewidth=2, label="training, smoothed")
    limits = list(smooth[first:]) + list(np.percentile(_finite(record.raw_losses[first:]) or [0.0], [1, 98]))
    valid = record.column("valid_loss")
    if with_valid and _finite(valid):
        axes.plot(record.iters, valid, color=_VALID, linewidth=2, marker="o", markersize=5, label="validation")
        limits += valid
        _mark_best(axes, record.iters, valid)
    _limit(axes, limits)
    if 1 < len(record.iters) <= _MOST_EPOCH_LINES:
        for end in record.iters[:-1]:
            axes.axvline(end, color="0.85", linewidth=0.8, zorder=0)
    axes.set_xlabel("batch" + (" (grey lines: epochs)" if 1 < len(record.iters) <= _MOST_EPOCH_LINES else ""))
    axes.set_ylabel("loss")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.legend(frameon=False, loc="upper right")
    return figure


def draw_schedule(record: Recorder) -> ShownFigure:
    """Learning rate and momentum of every batch, a panel each; the momentum's is left out where there is none."""
    _check_record(record.lrs, "plot_sched")
    panels = [("learning rate", record.lrs), *([("momentum", record.moms)] if any(record.moms) else [])]
    figure, places = _new_figure(len(panels), (_INCHES[0], _PANEL_INCHES * len(panels) + 0.4))
    for axes, (name, numbers) in zip(places, panels, strict=True):
        axes.plot(np.arange(len(numbers)) + 1, numbers, color=_TRAIN, linewidth=2)
        axes.set_ylabel(name)
    places[0].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    _label_below(places, "batch")
    return figure


def draw_metrics(record: Recorder) -> ShownFigure:
    """Each metric by epoch, a panel each."""
    names = record.metric_names[2:]
    _check_record(names, "plot_metrics")
    _check_record(record.values, "plot_metrics")
    figure, places = _new_figure(len(names), (_INCHES[0], _PANEL_INCHES * len(names) + 0.4))
    for axes, name in zip(places, names, strict=True):
        numbers = record.column(name)
        axes.plot(np.arange(len(numbers)), numbers, color=_VALID, linewidth=2, marker="o", markersize=5)
        axes.set_ylabel(name)
    _label_below(places, "epoch")
    return figure


def draw_lr_find(
    lrs: Sequence[float],
    losses: Sequence[float],
    *,
    points: Iterable[tuple[str, float, float]] = (),
    skip_end: int = 5,
) -> ShownFigure:
    """Loss by learning rate, on a logarithmic axis, without the last `skip_end`; each of `points` (name, rate, loss)
    is marked and told in the legend.
    """
    if skip_end < 0:
        raise InvalidConfig("plot_lr_find(skip_end)", got=skip_end, want="a whole number of at least 0")
    _check_record(lrs, "plot_lr_find")
    end = len(lrs) - skip_end if len(lrs) > 2 * skip_end else len(lrs)
    figure, (axes,) = _new_figure(1, _INCHES)
    axes.plot(lrs[:end], losses[:end], color=_TRAIN, linewidth=2)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate, logarithmic")
    axes.set_ylabel("loss, smoothed")
    shown = list(points)
    _limit(axes, [*_finite(losses[:end]), *(loss for _, _, loss in shown)])
    for number, (name, lr, loss) in enumerate(shown):
        colour, shape = _MARKS[number % len(_MARKS)], _SHAPES[number % len(_SHAPES)]
        axes.axvline(lr, color=colour, linewidth=1, linestyle=":")
        axes.plot([lr], [loss], shape, color=colour, markersize=9, label=f"{name}: {lr:.1e}", zorder=3)
    if shown:
        axes.legend(frameon=False)
    return figure


def show_in_notebook(draw: Callable[[], Figure], handle: Any = None) -> Any:
    """Show a figure below the cell that runs, or in the place of that which gave `handle`; gives a handle.

    Nothing, not even the drawing, happens outside of a notebook.
    """
    ipython: Any = sys.modules.get("IPython")  # who sits at a notebook has it loaded
    if ipython is None or getattr(ipython.get_ipython(), "kernel", None) is None:
        return None
    if handle is None:
        return ipython.display.display(draw(), display_id=True)
    handle.update(draw())
    return handle


def _average_around(losses: Sequence[float]) -> list[float]:
    """The mean of a thirtieth of all batches around each, three at least; what is not finite is left out."""
    reach = max(1, len(losses) // 60)
    known = [math.isfinite(loss) for loss in losses]
    sums = np.cumsum([0.0, *(loss if ok else 0.0 for loss, ok in zip(losses, known, strict=True))])
    counts = np.cumsum([0, *known])
    ends = [(max(0, at - reach), min(len(losses), at + reach + 1)) for at in range(len(losses))]
    return [
        float((sums[end] - sums[start]) / (counts[end] - counts[start])) if counts[end] > counts[start] else math.nan
        for start, end in ends
    ]


def _new_figure(rows: int, inches: tuple[float, float]) -> tuple[ShownFigure, list[Axes]]:
    figure = ShownFigure(figsize=inches, layout="constrained")
    places: Any = figure.subplots(rows, 1, squeeze=False, sharex=True)
    for axes in places.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.92")
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=11)
        axes.xaxis.label.set_size(12)
        axes.yaxis.label.set_size(12)
    return figure, list(places.flat)


def _label_below(places: Sequence[Axes], label: str) -> None:
    places[-1].set_xlabel(label)
    places[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def _mark_best(axes: Axes, iters: Sequence[int], valid: Sequence[float]) -> None:
    best = int(np.nanargmin([value if math.isfinite(value) else math.nan for value in valid]))
    label = f"best: {valid[best]:.3g}, after {iters[best]:,} batches"
    axes.plot([iters[best]], [valid[best]], "o", color=_BEST, markersize=10, zorder=3, label=label)


def _limit(axes: Axes, shown: Sequence[float]) -> None:
    """Let the axis hold these numbers: a single wild one of those drawn pale must not set the scale."""
    numbers = _finite(shown)
    if numbers and max(numbers) > min(numbers):
        margin = 0.06 * (max(numbers) - min(numbers))
        axes.set_ylim(min(numbers) - margin, max(numbers) + margin)


def _finite(numbers: Iterable[float]) -> list[float]:
    return [number for number in numbers if math.isfinite(number)]


def _check_record(numbers: Sequence[object], what: str) -> None:
    if not len(numbers):
        raise InvalidInput(what, got="nothing recorded", want="a training, with metrics for plot_metrics")
