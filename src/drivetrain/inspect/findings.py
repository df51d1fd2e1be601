"""A finding: one thing about the data that may harm the model, with its pictures and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from drivetrain.data.items import Item
from drivetrain.runtime.survey import PictureFacts

__all__ = ["SEVERITIES", "Finding", "Picture", "Severity", "count_of", "join_names", "share_of"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One readable picture: what the data says of it, and what it shows by itself."""

    item: Item
    facts: PictureFacts
    digest: bytes  # sha256 of its file


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of what `check` tells."""

    code: str  # stable, for machines; docs/check.md has them all
    severity: Severity
    what: str  # one sentence with its number
    why: str  # why it matters
    next_step: str
    count: int  # pictures (or classes, where it is about those)
    groups: tuple[tuple[str, ...], ...] = ()  # paths; those of one group belong together
    details: tuple[str, ...] = ()  # a line each, such as one a class
    quarantine: tuple[tuple[str, str], ...] = field(default=())  # (path, reason): what `--quarantine` leaves out

    @property
    def paths(self) -> tuple[str, ...]:
        """All its pictures, each once."""
        return tuple(dict.fromkeys(path for group in self.groups for path in group))

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "code": self.code,
            "severity": self.severity,
            "what": self.what,
            "why": self.why,
            "next": self.next_step,
            "count": self.count,
            "groups": [list(group) for group in self.groups],
            "details": list(self.details),
            "quarantine": [path for path, _ in self.quarantine],
        }


def count_of(n: int, what: str, plural: str = "") -> str:
    """1 picture, 2 pictures, 1,000 pictures."""
    return f"{n:,} {what if n == 1 else plural or what + 's'}"


def share_of(part: int, whole: int) -> str:
    """3 of 4 -> "75 %"; what is not all or nothing never reads so."""
    if part == 0 or whole == 0:
        return "none"
    if part == whole:
        return "all"
    percent = round(100 * part / whole)
    return "< 1 %" if percent == 0 else "> 99 %" if percent == 100 else f"{percent} %"


def join_names(names: Sequence[str], *, most: int = 6) -> str:
    """'a', 'b' and 3 more."""
    shown = [repr(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
