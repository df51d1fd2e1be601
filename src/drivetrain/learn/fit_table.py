"""The table that grows by a row an epoch, as fastai prints it."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["format_header", "format_row", "format_time"]

_LEAST = 10  # characters a column


def format_header(metric_names: Sequence[str]) -> str:
    """epoch, the losses and metrics, time."""
    return "  ".join(f"{name:<{_LEAST}}" for name in ("epoch", *metric_names, "time")).rstrip()


def format_row(epoch: int, values: Sequence[float], metric_names: Sequence[str], seconds: float) -> str:
    """Below the header: the epoch's number from 0, six decimals, minutes and seconds."""
    told = [str(epoch), *(f"{value:.6f}" for value in values), format_time(seconds)]
    widths = [max(_LEAST, len(name)) for name in ("epoch", *metric_names, "time")]
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(told, widths, strict=True)).rstrip()


def format_time(seconds: float) -> str:
    """mm:ss, from an hour on h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
