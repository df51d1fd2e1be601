"""The outermost layer of safety: a request id and safe headers on every response, and the last catch.

Plain ASGI: Starlette's BaseHTTPMiddleware costs a task and two streams a request, and hides disconnects.
"""

from __future__ import annotations

import random
import re

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drivetrain.errors import InvalidConfig

from .errors import ErrorResponse, error_item, internal_response

__all__ = ["HEADERS_MAX", "HEAD_MAX_BYTES", "Edge", "content_security_policy"]

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ORIGIN = re.compile(r"https?://(\*\.)?[a-z0-9.-]+(:[0-9]{1,5})?")
HEADERS_MAX = 100
HEAD_MAX_BYTES = 32_768  # path, query and headers
_YEAR_S = 31_536_000
_SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-permitted-cross-domain-policies", b"none"),
]


def content_security_policy(embed_from: str = "none") -> str:
    """Only what came from this server runs, and only from files: no script or style within a page.

    `embed_from` are the origins, with commas, that may show a page in a frame.
    """
    origins = [] if embed_from == "none" else [origin.strip() for origin in embed_from.lower().split(",")]
    wrong = [origin for origin in origins if not _ORIGIN.fullmatch(origin)]
    if wrong:
        raise InvalidConfig("embed_from", got=", ".join(wrong), want="none, or origins such as https://example.org")
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; manifest-src 'self'; object-src 'none'; "
        f"base-uri 'none'; form-action 'self'; frame-ancestors {' '.join(origins) or chr(39) + 'none' + chr(39)}"
    )


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, *, embed_from: str = "none") -> None:
        self._app = app
        self._headers = [(b"content-security-policy", content_security_policy(embed_from).encode()), *_SAFE_HEADERS]
        self._names = frozenset({b"x-request-id", b"strict-transport-security", *(name for name, _ in self._headers)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        extra = [(b"x-request-id", request_id.encode()), *self._headers]
        if scope.get("scheme") == "https":  # over plain http a browser must not believe it
            extra.append((b"strict-transport-security", b"max-age=%d" % _YEAR_S))
        is_started = False
        refused = _refusal(scope, request_id)

        async def send_with_headers(message: Message) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                own = {name.lower() for name, _ in message["headers"]}
                given = extra if own.isdisjoint(self._names) else [pair for pair in extra if pair[0] not in own]
                message["headers"] = [*message["headers"], *given]
                if b"cache-control" not in own:  # what did not say that it may be kept is for one caller alone
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            await (refused or self._app)(scope, receive, send_with_headers)
        except Exception as exc:
            if is_started:  # half an answer is out: only a broken connection tells the client
                raise
            await internal_response(exc, request_id)(scope, receive, send_with_headers)


def _refusal(scope: Scope, request_id: str) -> Response | None:
    """For a head that no client of ours needs; the connection bounds its bytes only where they come in pieces."""
    size = len(scope["path"]) + len(scope["query_string"])
    for name, value in scope["headers"]:
        size += len(name) + len(value)
    if len(scope["headers"]) <= HEADERS_MAX and size <= HEAD_MAX_BYTES:
        return None
    message = f"headers: got {len(scope['headers'])} of {size} bytes; want at most {HEADERS_MAX} of {HEAD_MAX_BYTES}."
    return ErrorResponse(431, error_item("request_header_fields_too_large", message, "headers"), request_id)


def _request_id(scope: Scope) -> str:
    for key, value in scope["headers"]:
        if key == b"x-request-id" and _SANE_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return f"{random.getrandbits(64):016x}"
