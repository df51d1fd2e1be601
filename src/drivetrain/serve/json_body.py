"""Read JSON from strangers: bounded in bytes, depth and number of values before Python builds anything of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Never

from drivetrain.errors import InvalidInput

from .errors import TooLarge

__all__ = ["JsonLimits", "kind_of", "parse_json", "parse_json_aside", "plain_text"]

_ASIDE_BYTES = 100_000  # parsing more than this would hold up the event loop for a millisecond and longer


class JsonLimits:
    """Of one body: `values` in lists and objects, `brackets` that open a list or an object."""

    __slots__ = ("brackets", "values")

    def __init__(self, *, values: int, brackets: int) -> None:
        self.values = values
        self.brackets = brackets


async def parse_json_aside(body: bytes, limits: JsonLimits) -> Any:
    """`parse_json`, in a thread where it takes long."""
    if len(body) < _ASIDE_BYTES:
        return parse_json(body, limits)
    return await asyncio.to_thread(parse_json, body, limits)


def parse_json(body: bytes, limits: JsonLimits) -> Any:
    """The value; InvalidInput for what is not JSON in UTF-8, TooLarge for what would fill the memory.

    A list of small lists takes twenty times its text in memory: what is counted here stands in strings, too, so a text
    with very many commas is refused with the rest.
    """
    for what, count, most in (
        ("values", body.count(b",") + 1, limits.values),
        ("lists and objects", body.count(b"[") + body.count(b"{"), limits.brackets),
    ):
        if count > most:
            raise TooLarge("body", got=f"JSON with about {count} {what}", want=f"at most {most}")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidInput("body", got="bytes that are not UTF-8", want="JSON") from None
    except json.JSONDecodeError as exc:
        raise InvalidInput("body", got=f"no JSON (at character {exc.pos})", want="JSON") from None
    except RecursionError:
        raise InvalidInput("body", got="JSON that is nested too deep", want="a flatter one") from None
    except InvalidInput:
        raise
    except ValueError:  # an integer of more digits than Python reads
        raise InvalidInput("body", got="a number that is too long", want="JSON with shorter numbers") from None


def plain_text(value: object, field: str, *, max_chars: int) -> str:
    """A string that can be written as UTF-8 again; JSON can hold half a character."""
    if not isinstance(value, str):
        raise InvalidInput(field, got=kind_of(value), want="a string")
    if len(value) > max_chars:
        raise InvalidInput(field, got=f"{len(value)} characters", want=f"at most {max_chars}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(field, got="half a surrogate pair", want="text") from None
    return value


def kind_of(value: object) -> str:
    """A JSON value's kind, for a message."""
    kinds = {bool: "true or false", str: "a string", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), "a number")


def _refuse_constant(name: str) -> Never:
    raise InvalidInput("body", got=name, want="JSON, which has no such number")
