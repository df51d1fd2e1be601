"""A request that comes twice with one `Idempotency-Key` is done once, and answered twice alike.

The same key and body: the first answer again, with `Idempotency-Replayed: true`. Another body: 409. While the first is
at work, the second waits for its answer, as long as a request may take, then 409. Kept for 24 hours, for each caller
by itself. An error that may pass (408, 409, 429, 5xx) is not kept: the next request with the key is a new one.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from fastapi import Request, Response

from drivetrain.errors import Conflict, InvalidInput, Unavailable

from .answers import caller_id_of

if TYPE_CHECKING:
    from drivetrain.store.store import Store

__all__ = ["body_digest", "key_of", "once"]

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("content-type", "inference-header-content-length", "location", "retry-after")
_PASSING = frozenset({408, 409, 429, 499})
_POLL_S = (0.02, 0.05, 0.1, 0.25)  # the last one repeats


def key_of(request: Request, store: Store | None) -> str | None:
    """The header's value; None where there is none. Raises InvalidInput, or Unavailable on a server without memory."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    if not _KEY.fullmatch(given):
        raise InvalidInput("Idempotency-Key", got=given, want="1 to 255 visible ASCII characters")
    if store is None:
        hint = "Leave the header out, or start the server with --db."
        raise Unavailable("Idempotency-Key", got="a server without memory", want="one that can keep answers", hint=hint)
    return given


def body_digest(parts: Iterable[str | bytes]) -> str:
    """One digest of many parts, each with its length: moving a byte from one to the next changes it."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()


async def once(
    request: Request,
    store: Store,
    key: str,
    digest: str,
    do: Callable[[], Awaitable[Response]],
    *,
    wait_s: float,
) -> Response:
    """The answer of `do`, or the one that it gave before."""
    caller = caller_id_of(request)
    deadline, tries = time.monotonic() + wait_s, 0
    while (found := await asyncio.to_thread(store.idempotency.begin, caller, key, digest)) == "running":
        if time.monotonic() >= deadline:
            raise Conflict(
                "Idempotency-Key",
                got="one whose first request is still at work",
                want="its answer",
                hint="Send it again in a moment.",
            )
        await asyncio.sleep(_POLL_S[min(tries, len(_POLL_S) - 1)])
        tries += 1
    if found != "new":
        headers = {**dict(found.headers), "Idempotency-Replayed": "true"}
        return Response(found.body, found.status, headers)
    is_kept = False
    try:
        response = await do()
        if response.status_code < 500 and response.status_code not in _PASSING:
            await asyncio.to_thread(
                store.idempotency.finish,
                caller,
                key,
                status=response.status_code,
                headers=[(name, response.headers[name]) for name in _KEPT_HEADERS if name in response.headers],
                body=bytes(response.body),
            )
            is_kept = True
        return response
    finally:
        if not is_kept:
            await asyncio.shield(asyncio.to_thread(store.idempotency.forget, caller, key))
