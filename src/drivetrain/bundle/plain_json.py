"""JSON from a stranger: plain values only, so that nothing that is done with them later can go wrong."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from drivetrain.errors import BundleRefused

__all__ = ["read_json"]

_MAX_DEPTH = 32
_MAX_INTEGER = 2**53  # beyond it, readers disagree


def read_json(data: bytes, *, where: str, code: str) -> Any:
    """The value of UTF-8 JSON. Raises BundleRefused with `code`.

    Refused besides what is no JSON: NaN and Infinity (1e999 too), whole numbers beyond 2**53, a key twice in one
    object, text that is no Unicode (half of a surrogate pair), and more than 32 levels.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_read_object, parse_constant=_refuse_constant)
        _check(value, 0)
    except (ValueError, RecursionError) as exc:
        raise BundleRefused(code, where, got=str(exc), want="plain UTF-8 JSON") from None
    return value


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the number {name}")


def _check(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check(key, depth + 1)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
    elif isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8")  # UnicodeEncodeError, a ValueError, on half of a pair
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number beyond all bounds")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise ValueError(f"a whole number beyond {_MAX_INTEGER}")
