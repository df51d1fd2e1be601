"""What every verb needs: settings from its flags, progress fit for who is watching, the shared options."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from drivetrain.imaging.decode import DecodeLimits
from drivetrain.progress import Progress, SilentProgress, TerminalProgress
from drivetrain.settings import Settings, load_settings

__all__ = [
    "CacheDirOption",
    "JsonFlag",
    "ThreadsOption",
    "escape_text",
    "limits_of",
    "open_progress",
    "open_settings",
    "percent",
    "print_json",
    "show_number",
]

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON alone on stdout; progress and messages go to stderr.")]
CacheDirOption = Annotated[
    Path | None, typer.Option("--cache-dir", help="Where features and pixels are kept; default: ~/.cache/drivetrain.")
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="Pictures at once; default: every core.")]


def open_settings(**flags: object) -> Settings:
    """Default < drivetrain.toml < environment < these flags."""
    return load_settings(flags=flags)


def limits_of(settings: Settings) -> DecodeLimits:
    """The decoding limits of these settings."""
    return DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels)


def open_progress(*, as_json: bool) -> Progress:
    """Bars for a person at a terminal, silence for a pipe."""
    return SilentProgress() if as_json and not sys.stderr.isatty() else TerminalProgress()


def print_json(value: Any, *, indent: int | None = 1) -> None:
    """One JSON value on stdout."""
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def percent(share: float, *, digits: int = 1) -> str:
    """0.903 -> 90.3 %; what is less than all never reads as 100 %, nor what is more than nothing as 0 %."""
    step = 10.0**-digits
    shown = f"{100 * share:.{digits}f}"
    if share < 1 and float(shown) >= 100:
        return f"> {100 - step:.{digits}f} %"
    if share > 0 and float(shown) == 0:
        return f"< {step:.{digits}f} %"
    return f"{shown} %"


def show_number(value: float) -> str:
    """A measured value, four digits that count: 1234.5 -> 1,234; 0.012345 -> 0.01235."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def escape_text(text: str) -> str:
    """Text of other people's making (a file's name, a class) on one line, unable to steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
