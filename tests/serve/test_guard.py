"""What a connection may cost, with real sockets: slow bodies, slow readers, endless framing, too many at once."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from drivetrain.serve.metrics import Metrics
from drivetrain.serve.process.guard import GuardLimits, guarded
from drivetrain.serve.process.protocol import make_protocol

from .fakes import WAIT_S, settings

FAST = GuardLimits(
    connections=6, head_s=1.0, bytes_per_s=1_000.0, grace_s=0.3, look_every_s=0.05, framing_bytes=300_000
)
ANSWER_BYTES = 4_000_000


class App:
    """Reads bodies whole and counts them; /large answers more than any buffer holds; /wait waits."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.left = threading.Event()
        self.held = threading.Semaphore(0)
        self.go = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        self.read.append(size)
        if scope["path"] == "/wait":
            self.held.release()
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        body = b"x" * (ANSWER_BYTES if scope["path"] == "/large" else 2)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        if scope["path"] == "/large":
            self.left.set()


@contextmanager
def serving(app: App, base: Base, limits: GuardLimits = FAST, **options: Any) -> Iterator[tuple[str, int]]:
    config = uvicorn.Config(app, http=base(limits), lifespan="off", log_config=None, ws="none", **options)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield listener.getsockname()
    finally:
        app.go.set()
        server.should_exit = server.force_exit = True
        thread.join(WAIT_S)
        listener.close()
    assert not thread.is_alive()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


Base = Callable[[GuardLimits], type[Any]]


def on_httptools(limits: GuardLimits) -> type[Any]:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    return guarded(HttpToolsProtocol, limits)


def on_h11(limits: GuardLimits) -> type[Any]:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return guarded(H11Protocol, limits)


def as_served(limits: GuardLimits) -> type[Any]:
    return make_protocol(Metrics(), limits=limits, head_max_s=limits.head_s)


@pytest.fixture(params=[on_httptools, on_h11, as_served], ids=["httptools", "h11", "served"])
def base(request: pytest.FixtureRequest) -> Base:
    return request.param  # type: ignore[no-any-return]


def open_to(address: tuple[str, int], start: bytes = b"") -> socket.socket:
    client = socket.create_connection(address, timeout=30)
    client.sendall(start)
    return client


def read_all(client: socket.socket) -> bytes:
    """Until the server closes."""
    parts = []
    try:
        while part := client.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def drip(client: socket.socket, piece: bytes, *, every_s: float = 0.01) -> bytes:
    """Send the piece over and over until the server has had enough; what it said."""
    deadline = time.monotonic() + 30
    client.settimeout(every_s)
    while time.monotonic() < deadline:
        try:
            client.sendall(piece)
            if said := client.recv(65_536):
                client.settimeout(30)
                return said + read_all(client)
            return b""
        except TimeoutError:
            continue
        except OSError:
            return b""
    raise AssertionError("it never had enough")


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
def test_headers_that_drip_are_ended(base: Base, start: bytes) -> None:
    """Slow loris: a header line now and then, and never the empty one that ends them."""
    app = App()
    with serving(app, base) as address, open_to(address, start) as client:
        if start:
            assert client.recv(1_000).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET / HTTP/1.1\r\n")
        said = drip(client, b"X-A: b\r\n", every_s=0.03)
        assert b" 408 Request Timeout\r\n" in said
    assert len(app.read) == bool(start)


def test_a_connection_that_says_nothing_is_ended(base: Base) -> None:
    with serving(App(), base) as address, open_to(address) as client:
        read_all(client)


def test_a_body_that_drips_is_ended(base: Base) -> None:
    """A byte in ten milliseconds never lies idle, and would hold its connection for ever."""
    app = App()
    with (
        serving(app, base) as address,
        open_to(address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n") as client,
    ):
        said = drip(client, b"x")
        assert b" 408 Request Timeout\r\n" in said
        assert b'"code": "upload_stalled"' in said
        assert app.left.wait(30)
    assert app.read == []


def test_a_chunked_body_that_drips_is_ended(base: Base) -> None:
    app = App()
    start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(app, base) as address, open_to(address, start) as client:
        assert b" 408 " in drip(client, b"1\r\nx\r\n", every_s=0.03)


def test_a_body_that_is_slow_but_fast_enough_arrives(base: Base) -> None:
    """Well past the grace, at twice the rate that is asked for, and by the clock of the slowest machine."""
    app = App()
    limits = GuardLimits(bytes_per_s=100.0, grace_s=0.3, look_every_s=0.05)
    with (
        serving(app, base, limits) as address,
        open_to(address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n") as client,
    ):
        for _ in range(60):
            client.sendall(b"x" * 1_000)
            time.sleep(0.02)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert app.read == [60_000]


def test_each_request_of_a_connection_has_a_clock_of_its_own(base: Base) -> None:
    app = App()
    with serving(app, base) as address, open_to(address) as client:
        for _ in range(4):
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
            time.sleep(0.15)  # four of these are twice the grace
            client.sendall(b"cd")
            assert client.recv(1_000).startswith(b"HTTP/1.1 200")
    assert app.read == [4, 4, 4, 4]


def test_an_answer_that_nobody_reads_is_dropped(base: Base) -> None:
    app = App()
    with serving(app, base) as address:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(30)
        client.connect(address)
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(10)
        # Not reading: once the limits are over, what is left of the answer is thrown away.
        time.sleep(FAST.grace_s + 10 * FAST.look_every_s)
        got = 10
        try:
            while part := client.recv(65_536):
                got += len(part)
        except ConnectionResetError:
            pass
        assert got < ANSWER_BYTES
        client.close()


def test_an_answer_that_is_read_arrives_whole(base: Base) -> None:
    with (
        serving(App(), base) as address,
        open_to(address, b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as client,
    ):
        head, _, body = read_all(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert len(body) == ANSWER_BYTES


def test_a_body_that_is_all_framing_is_ended() -> None:
    """Trailers without end: no byte of them ever reaches the limit on bodies."""
    app = App()
    start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    for base in (on_httptools, as_served):
        with serving(app, base) as address, open_to(address, start) as client:
            said = drip(client, b"X-Trailer: " + b"x" * 50_000 + b"\r\n", every_s=0.001)
            assert b" 400 Bad Request\r\n" in said
        assert app.read == []


def test_small_chunks_are_allowed(base: Base) -> None:
    app = App()
    start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    limits = GuardLimits(framing_bytes=1_000)
    with serving(app, base, limits) as address, open_to(address, start + body) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert app.read == [100_000]


def test_idle_connections_make_room_for_new_ones(base: Base) -> None:
    """Slow loris: whoever holds connections without asking anything loses the oldest of them."""
    app = App()
    with serving(app, base, timeout_keep_alive=60) as address:
        idle = [open_to(address, b"GET / HTTP/1.1\r\nHo") for _ in range(FAST.connections)]
        for client in idle:
            client.settimeout(30)
        with open_to(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as client:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert idle[0].recv(100) == b""  # the oldest was closed
        idle[1].sendall(b"st: x\r\n\r\n")
        assert idle[1].recv(100).startswith(b"HTTP/1.1 200")
        for client in idle:
            client.close()


def test_connections_at_work_are_not_closed_for_new_ones(base: Base) -> None:
    app = App()
    with serving(app, base) as address:
        busy = [open_to(address, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(FAST.connections)]
        for _ in busy:
            assert app.held.acquire(timeout=30)
        with open_to(address) as client:
            said = read_all(client)
            assert said.startswith(b"HTTP/1.1 503 Service Unavailable")
            assert b'"code": "unavailable"' in said
            assert b"Retry-After: 1" in said
        app.go.set()
        for client in busy:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            client.close()


def test_the_settings_are_the_limits() -> None:
    limits = GuardLimits.of(settings(connections_max=17, header_timeout_s=3))
    assert (limits.connections, limits.head_s) == (17, 3)
