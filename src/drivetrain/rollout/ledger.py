"""The append-only record of what happened to a deployment, each entry bound to the one before by its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from drivetrain.errors import InvalidInput

__all__ = ["FIRST", "LedgerEntry", "find_break", "seal"]

FIRST = "0" * 64  # what the first entry follows


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One event; `digest` covers all the rest, `previous` included."""

    deployment: str
    number: int  # 1, 2, 3 within a deployment
    at: str  # ISO 8601, UTC
    by: str  # a person's name, or "drivetrain" for what it did by itself
    action: str
    before: str  # in words
    after: str
    reason: str
    evidence: Mapping[str, Any]  # plain JSON
    previous: str
    digest: str = ""

    def compute_digest(self) -> str:
        """sha256 of everything but the digest itself. Raises InvalidInput where the evidence is no JSON."""
        fields = asdict(self)
        del fields["digest"]
        try:
            text = json.dumps(fields, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as exc:
            raise InvalidInput("evidence", got=str(exc), want="finite numbers, text, lists and objects") from None
        return hashlib.sha256(text.encode()).hexdigest()


def seal(entry: LedgerEntry) -> LedgerEntry:
    """The entry with its digest."""
    return LedgerEntry(**(asdict(entry) | {"digest": entry.compute_digest()}))


def find_break(entries: Iterable[LedgerEntry]) -> str | None:
    """None where the chain is whole; else, in words, the first place where it is not.

    It shows that nothing within was changed, taken out or put in. That the end was cut off only a digest that is kept
    elsewhere can show.
    """
    previous = FIRST
    for number, entry in enumerate(entries, start=1):
        if entry.number != number:
            return f"entry {number} is missing: entry {entry.number} stands in its place"
        if entry.previous != previous:
            return f"entry {number} does not follow the one before it"
        if entry.digest != entry.compute_digest():
            return f"entry {number} was changed after it was written"
        previous = entry.digest
    return None
