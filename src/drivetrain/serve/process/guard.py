"""What a connection may cost: how slowly a request may come, how slowly an answer be read, how many may be open.

uvicorn bounds none of these: its only clock runs between two requests. A client that sends or reads a byte a second
would hold its connection for ever; a chunked body may be all framing; and who opens connections without using them
would keep everyone else out.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from drivetrain.serve.errors import error_item
from drivetrain.settings import Settings

__all__ = ["GuardLimits", "guarded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """Bytes a second, and the patience before they are asked for."""

    connections: int = 1000
    head_s: float = 10.0  # for the headers of a request, whole
    bytes_per_s: float = 500.0  # of a body that comes, or an answer that is read: as slow as a modem
    grace_s: float = 20.0
    look_every_s: float = 5.0
    framing_bytes: int = 524_288  # of chunk sizes, extensions and trailers, before their share counts
    framing_share: float = 8.0  # times the body's own bytes: chunks of one byte need six

    @classmethod
    def of(cls, settings: Settings) -> GuardLimits:
        return cls(connections=settings.connections_max, head_s=settings.header_timeout_s)


def guarded(base: type[Any], limits: GuardLimits) -> type[Any]:
    """`base`, one of uvicorn's HTTP protocols or made of one, with these limits."""

    turns = itertools.count()

    class Guarded(base):  # type: ignore[misc]
        _turn = 0  # the lower, the longer it has been idle
        _cycle_seen: object = None
        _body_s = 0.0  # for so long a body has been coming
        _raw_bytes = 0  # of this request, framing included
        _body_bytes = 0
        _unread_s = 0.0  # for so long an answer has been waiting to be read
        _unread_bytes = 0
        _look: asyncio.TimerHandle | None = None
        _looked_at = 0.0
        _head_since: float | None = None  # since then the headers of a request have been coming

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._turn = next(turns)
            self._head_since = self.loop.time()
            self._look_soon()
            if len(self.connections) > limits.connections and not _make_room(self):
                self._turn_away(503, "connections: got too many at once; want fewer. Send it again in a moment.")

        def connection_lost(self, exc: Exception | None) -> None:
            if self._look is not None:
                self._look.cancel()
                self._look = None
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.is_closing():
                return
            if self.is_idle() and self._head_since is None:
                self._head_since = self.loop.time()
                self._look_soon()
            elif not self.is_idle():
                self._head_since = None
            if not self._is_in_body():
                return
            if self.cycle is not self._cycle_seen:  # another request of the same connection
                self._cycle_seen = self.cycle
                self._body_s, self._raw_bytes, self._body_bytes = 0.0, 0, min(self._body_bytes, len(data))
            self._raw_bytes += len(data)
            counts_framing = hasattr(base, "on_body")  # h11 bounds what it does not understand yet by itself
            if (
                counts_framing
                and self._raw_bytes > limits.framing_bytes + (1 + limits.framing_share) * self._body_bytes
            ):
                self._turn_away(400, "body: got more framing than picture; want larger chunks.")
            self._look_soon()

        def on_body(self, body: bytes) -> None:
            self._body_bytes += len(body)
            super().on_body(body)

        def on_response_complete(self) -> None:
            self._turn = next(turns)
            super().on_response_complete()
            if self.transport.get_write_buffer_size():
                self._look_soon()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._look_soon()

        def is_idle(self) -> bool:
            """Whether nobody waits for an answer here."""
            return self.cycle is None or bool(self.cycle.response_complete)

        def _is_in_body(self) -> bool:
            return self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete

        def _look_soon(self) -> None:
            if self._look is None:
                self._looked_at = self.loop.time()
                self._look = self.loop.call_later(limits.look_every_s, self._look_now)

        def _look_now(self) -> None:
            self._look = None
            passed_s = self.loop.time() - self._looked_at
            unread = self.transport.get_write_buffer_size()
            if self._is_in_body() and not self.transport.is_closing():
                if not self.flow.read_paused:  # else it is we who are slow
                    self._body_s += passed_s
                if self._raw_bytes < (self._body_s - limits.grace_s) * limits.bytes_per_s:
                    self._turn_away(408, "body: got it too slowly; want it faster, or smaller.")
                    return
                self._look_soon()
            if self._head_since is not None and not self.transport.is_closing():
                if self.loop.time() - self._head_since >= limits.head_s:
                    self._turn_away(408, "request: got no end of its headers in time; want one.")
                    return
                self._look_soon()
            if unread:
                is_read = self._unread_bytes - unread >= limits.bytes_per_s * passed_s
                self._unread_s = 0.0 if is_read or not self._unread_bytes else self._unread_s + passed_s
                if self._unread_s >= limits.grace_s:
                    self.transport.abort()
                    return
                self._look_soon()
            self._unread_bytes = unread

        def _turn_away(self, status: int, message: str) -> None:
            if self.is_idle() or not self.cycle.response_started:
                self.transport.write(_raw_answer(status, message))
            self.transport.close()

    return Guarded


def _make_room(new: Any) -> bool:
    """Close whichever connection has been idle longest; False where all are at work."""
    idle = [one for one in new.connections if one is not new and one.is_idle() and not one.transport.is_closing()]
    if not idle:
        return False
    min(idle, key=lambda one: one._turn).transport.close()  # noqa: SLF001 - one of the same class
    return True


def _raw_answer(status: int, message: str) -> bytes:
    """An error where no request was understood yet, in the body that all errors have."""
    phrase, code = HTTPStatus(status).phrase, HTTPStatus(status).name.lower()
    code = {"service_unavailable": "unavailable", "request_timeout": "upload_stalled"}.get(code, code)
    body = json.dumps(error_item(code, message, message.partition(":")[0]) | {"request_id": secrets.token_hex(8)})
    return (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nRetry-After: 1\r\nConnection: close\r\n\r\n{body}"
    ).encode()
