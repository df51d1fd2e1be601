"""Proof that a form was made by a page of ours: what a site that only rides on the cookie cannot know."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable
from urllib.parse import parse_qs

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from .refusals import Forbidden

__all__ = ["CSRF_FIELD", "CSRF_HEADER", "csrf_for", "is_same", "read_form_fields", "require_csrf"]

CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf"
_FORM_MAX_BYTES = 65_536  # of a form without files
_FIRST_MAX_BYTES = 8_192  # of a form with files: the field must come first
_IDLE_S = 10.0


def csrf_for(token: str) -> str:
    """What belongs to a cookie; who knows it does not know the cookie."""
    return hashlib.sha256(b"csrf:" + token.encode("utf-8", "surrogateescape")).hexdigest()[:43]


def is_same(given: str, wanted: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))


async def require_csrf(headers: Headers, receive: Receive, wanted: str, *, idle_s: float = _IDLE_S) -> Receive:
    """Raises Forbidden without it; returns what gives the body from its beginning again."""
    given = headers.get(CSRF_HEADER)
    if given is None:
        given, receive = await _field(headers, receive, idle_s)
    if not given or not is_same(given, wanted):
        raise Forbidden(
            "csrf",
            got="no token, or another one",
            want="the one of your session, as the header X-CSRF-Token or the form's first field csrf",
            hint="Load the page again. Programs use a key instead.",
        )
    return receive


async def read_form_fields(headers: Headers, receive: Receive) -> dict[str, str]:
    """The fields of a small form without files; {} for anything else."""
    if _kind(headers) != "application/x-www-form-urlencoded":
        return {}
    body, _, _ = await _peek(receive, lambda _: False, _FORM_MAX_BYTES, _IDLE_S)
    return {name: values[0] for name, values in _parse(body).items()}


async def _field(headers: Headers, receive: Receive, idle_s: float) -> tuple[str | None, Receive]:
    kind = _kind(headers)
    if kind == "application/x-www-form-urlencoded":
        body, is_whole, again = await _peek(receive, lambda _: False, _FORM_MAX_BYTES, idle_s)
        return (_parse(body).get(CSRF_FIELD, [None])[0] if is_whole else None), again
    if kind == "multipart/form-data":
        _, options = parse_options_header(headers["content-type"])
        edge = b"--" + options.get(b"boundary", b"")
        body, _, again = await _peek(receive, lambda seen: seen.count(edge) > 1, _FIRST_MAX_BYTES, idle_s)
        return _first_part(body, edge), again
    return None, receive


def _first_part(body: bytes, edge: bytes) -> str | None:
    found = re.match(re.escape(edge) + rb"\r\n(.*?)\r\n\r\n(.*?)\r\n" + re.escape(edge), body, re.DOTALL)
    if found is None or len(edge) < 3:
        return None
    for line in found[1].split(b"\r\n"):
        name, _, value = line.partition(b":")
        _, options = parse_options_header(value.strip())
        if name.strip().lower() == b"content-disposition":
            return found[2].decode("utf-8", "replace") if options.get(b"name") == CSRF_FIELD.encode() else None
    return None


async def _peek(
    receive: Receive, is_enough: Callable[[bytes], bool], max_bytes: int, idle_s: float
) -> tuple[bytes, bool, Receive]:
    """The body's beginning, whether that is all, and a receive that begins anew."""
    kept: list[Message] = []
    body, is_whole = b"", False
    while not is_whole and len(body) <= max_bytes and not is_enough(body):
        try:
            async with asyncio.timeout(idle_s):
                message = await receive()
        except TimeoutError:
            break
        kept.append(message)
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        is_whole = not message.get("more_body", False)

    async def again() -> Message:
        return kept.pop(0) if kept else await receive()

    return body, is_whole and len(body) <= max_bytes, again


def _kind(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _parse(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50)
    except ValueError:  # more fields than any form of ours has
        return {}
