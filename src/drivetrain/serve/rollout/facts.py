"""What a request says of itself: whose it is, and where it comes from."""

from __future__ import annotations

import re
from datetime import datetime

from fastapi import Request

from drivetrain.errors import InvalidInput
from drivetrain.rollout.scope import Facts
from drivetrain.serve.answers import caller_id_of

__all__ = ["facts_of", "read_wait_s"]

_KEY = b"x-drivetrain-key"
_ATTRIBUTE = b"x-drivetrain-attr-"
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,39}")
_CHARS_MAX, _ATTRIBUTES_MAX = 255, 32
_WAIT_MAX_S = 30.0


def facts_of(request: Request, *, at: float) -> Facts:
    """Key: `X-Drivetrain-Key`, else the caller. Attributes: `X-Drivetrain-Attr-NAME`, with NAME in small letters.

    Raises InvalidInput where one of them will not do.
    """
    key, attributes = caller_id_of(request), {}
    for name, value in request.scope["headers"]:
        if name == _KEY:
            key = _text("X-Drivetrain-Key", value)
        elif name.startswith(_ATTRIBUTE):
            attribute = name[len(_ATTRIBUTE) :].decode("latin-1")
            if not _NAME.fullmatch(attribute):
                raise InvalidInput(
                    "X-Drivetrain-Attr", got=attribute, want="a letter, then at most 39 letters, digits, . _ -"
                )
            attributes[attribute] = _text(f"X-Drivetrain-Attr-{attribute}", value)
    if len(attributes) > _ATTRIBUTES_MAX:
        raise InvalidInput("X-Drivetrain-Attr", got=f"{len(attributes)} of them", want=f"at most {_ATTRIBUTES_MAX}")
    return Facts(key=key, at=datetime.fromtimestamp(at).astimezone(), attributes=attributes)


def read_wait_s(request: Request) -> float:
    """`?wait_s=`, how long to wait for a label; 0 where it is not given. Raises InvalidInput."""
    given = request.query_params.get("wait_s")
    if given is None:
        return 0.0
    try:
        wait_s = float(given)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= _WAIT_MAX_S:
        raise InvalidInput("wait_s", got=given, want=f"0 to {_WAIT_MAX_S:.0f} seconds")
    return wait_s


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode().strip()
    except UnicodeDecodeError:
        text = value.decode("latin-1").strip()
    if not 1 <= len(text) <= _CHARS_MAX or not text.isprintable():
        raise InvalidInput(name, got=f"{len(text)} characters", want=f"1 to {_CHARS_MAX} that can be printed")
    return text
