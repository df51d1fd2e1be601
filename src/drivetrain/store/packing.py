"""How objects and text are kept in columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from drivetrain.errors import InvalidInput

__all__ = ["clean_text", "pack", "require_text", "unpack"]


def pack(given: Mapping[str, Any]) -> str:
    """JSON, all ASCII: no database refuses it. Raises InvalidInput for what would not come back as it was."""
    try:
        text = json.dumps(dict(given), allow_nan=False, separators=(",", ":"))
        is_same = json.dumps(json.loads(text), sort_keys=True) == json.dumps(dict(given), sort_keys=True)
    except (TypeError, ValueError) as exc:
        raise InvalidInput("json", got=str(exc), want="finite numbers, text, lists and objects") from None
    if not is_same:  # {10: ..., 9: ...} is sorted by number before, and by letter after: digests would differ
        raise InvalidInput("json", got="an object whose names are not text", want="text as names")
    return text


def unpack(text: str) -> dict[str, Any]:
    """What `pack` was given."""
    found: dict[str, Any] = json.loads(text)
    return found


def clean_text(text: str) -> str:
    """PostgreSQL's text holds no NUL, and no text holds half a character."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def require_text(field: str, text: str, *, most: int) -> str:
    """The text without spaces around it. Raises InvalidInput where it is empty, longer than `most` or not text."""
    text = text.strip()
    if not 1 <= len(text) <= most or clean_text(text) != text:
        raise InvalidInput(field, got=f"{len(text)} characters", want=f"text of 1 to {most:,} characters")
    return text
