"""HTTP on one connection: uvicorn's, with the time and the bytes of a request's head bounded, and its faults counted.

No middleware sees what is refused here: the request has no scope yet, or its answer is already out.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from http import HTTPStatus
from typing import Any

from drivetrain.serve.errors import error_item
from drivetrain.serve.metrics import Metrics
from drivetrain.serve.process.guard import GuardLimits, guarded
from drivetrain.serve.process.lifecycle import Lifecycle

__all__ = ["HEAD_MAX_BYTES", "HEAD_MAX_S", "LINGER_S", "UPLOAD_MAX_S", "make_protocol"]

HEAD_MAX_BYTES = 65_536  # request line and headers
HEAD_MAX_S = 10.0  # from the connection, or from the first byte of a later request, to the end of its headers
UPLOAD_MAX_S = 300.0  # for a whole body: `guard` bounds how slow it may be, not how long
LINGER_S = 2.0  # a body that goes on after its answer is read, and dropped, for so long: else the answer is lost


def make_protocol(
    metrics: Metrics,
    *,
    lifecycle: Lifecycle | None = None,
    limits: GuardLimits | None = None,
    head_max_s: float = HEAD_MAX_S,
    linger_s: float = LINGER_S,
    upload_max_s: float = UPLOAD_MAX_S,
) -> type[asyncio.Protocol]:
    """The class of a connection that counts there; `limits` are those of `guard`, which bounds bodies and answers.

    While `lifecycle` drains, every answer is the last of its connection.
    """
    limits = limits or GuardLimits()
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ModuleNotFoundError:
        return _make_plain_protocol(metrics, limits)
    base: Any = guarded(HttpToolsProtocol, limits)

    class Connection(base):  # type: ignore[misc]
        _head_bytes = 0
        _is_in_head = True
        _head_timer: asyncio.TimerHandle | None = None
        _linger_timer: asyncio.TimerHandle | None = None
        _upload_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if not transport.is_closing():
                self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timers()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_in_head and not self.transport.is_closing():
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_MAX_BYTES:
                    self._refuse(431, f"request: got more than {HEAD_MAX_BYTES} bytes of headers; want fewer.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._is_in_head, self._head_bytes = True, 0
            self._await_head()

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._stop_timers()
            super().on_headers_complete()
            self._upload_timer = self.loop.call_later(upload_max_s, self._upload_late)
            if lifecycle is not None and lifecycle.phase == "draining" and self.cycle is not None:
                self.cycle.keep_alive = False  # the client makes its next connection elsewhere

        def on_message_complete(self) -> None:
            self._stop_timers()  # of a body that came to its end after all
            super().on_message_complete()

        def on_response_complete(self) -> None:
            is_last = self.cycle.response_complete  # else the next request is here already, and its body may take time
            if is_last and self.cycle.more_body and not self.transport.is_closing():
                self._linger_timer = self.loop.call_later(linger_s, self.transport.close)
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "request: got bytes that are no HTTP/1.1; want a request.")

        def _turn_away(self, status: int, message: str) -> None:
            if self.cycle is None or self.cycle.response_complete:  # else the app is told, and it is counted there
                metrics.malformed(status)
            super()._turn_away(status, message)

        def _await_head(self) -> None:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(head_max_s, self._head_late)

        def _head_late(self) -> None:
            self._head_timer = None
            if not self._is_in_head or self.transport.is_closing():
                return
            if self._head_bytes:
                self._refuse(408, f"request: got no end of its headers in {head_max_s:.0f} s; want one.")
            else:  # it never said a word
                self.transport.close()

        def _upload_late(self) -> None:
            self._upload_timer = None
            if not self.cycle.response_complete and not self.transport.is_closing():
                self._turn_away(408, f"body: got no end of it in {upload_max_s:.0f} s; want it faster, or smaller.")

        def _stop_timers(self) -> None:
            for timer in (self._head_timer, self._linger_timer, self._upload_timer):
                if timer is not None:
                    timer.cancel()
            self._head_timer = self._linger_timer = self._upload_timer = None

        def _refuse(self, status: int, message: str) -> None:
            self._stop_timers()
            metrics.malformed(status)
            phrase, code = HTTPStatus(status).phrase, HTTPStatus(status).name.lower()
            item = error_item(code, message, "request") | {"request_id": secrets.token_hex(8)}
            body = json.dumps(item).encode()
            head = (
                f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

    made: type[asyncio.Protocol] = Connection
    return made


def _make_plain_protocol(metrics: Metrics, limits: GuardLimits) -> type[asyncio.Protocol]:
    """Where httptools is not installed: h11, which bounds the bytes of a head by itself."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    base: Any = guarded(H11Protocol, limits)

    class Connection(base):  # type: ignore[misc]
        def send_400_response(self, msg: str) -> None:
            metrics.malformed(400)
            super().send_400_response(msg)

    made: type[asyncio.Protocol] = Connection
    return made
