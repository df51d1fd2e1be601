"""What `certify` made, as text for a person at a terminal."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from drivetrain.cli.shared import escape_text
from drivetrain.cli.tables import open_console, show_notes

if TYPE_CHECKING:
    from drivetrain.flows.certify import CertifyResult

__all__ = ["show_certified"]

_MOST_LISTED = 20


def show_certified(result: CertifyResult) -> None:
    """The promise of before and the one of now, on stdout."""
    console = open_console()
    if result.unreadable:
        console.print(f"Could not be read and were left out, none deleted: {len(result.unreadable):,}", style="bold")
        for path, reason in result.unreadable[:_MOST_LISTED]:
            console.print(escape_text(f"  {path}: {reason}"), soft_wrap=True)
        console.print()
    console.print(f"before: {escape_text(result.before)}\n")
    console.print(f"now: {escape_text(result.statement)}\n", style="bold")
    show_notes(console, result.notes)
    for line in (
        f"rests on  {result.n:,} pictures",
        f"model     {result.bundle}   ({result.version}, from {result.parent})",
        f"next      drivetrain evaluate {shlex.quote(str(result.bundle))} OTHERS",
    ):
        console.print(escape_text(line), soft_wrap=True)
