"""A web of our own on 127.0.0.1: honest servers, and the ones that a gathering must survive."""

from __future__ import annotations

import contextlib
import io
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
CA_FILE, SERVER_FILE = HERE / "ca.pem", HERE / "server.pem"  # of these tests alone; good until 2120
DEADLINE_S = 30.0

Page = Callable[["Handler"], None]


def picture(number: int = 0, *, size: tuple[int, int] = (96, 80), kind: str = "JPEG") -> bytes:
    """A noisy picture, another for each number."""
    rng = np.random.default_rng(number)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(out, kind)
    return out.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_GET(self) -> None:
        web = self.server
        path = self.path.partition("?")[0]
        with web.lock:
            web.asked[path] += 1
            web.times.append((time.monotonic(), path))
            web.headers_seen.append(dict(self.headers.items()))
            web.active += 1
            web.most_active = max(web.most_active, web.active)
        self.is_active = True
        try:
            page = web.pages.get(path)
            if page is None:
                self.answer(404, b"no such page", kind="text/plain")
            else:
                page(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.leave()

    def leave(self) -> None:
        """Not at work any more; told before the answer, as the client asks on as soon as it has that."""
        with self.server.lock:
            self.server.active -= self.is_active
            self.is_active = False

    def answer(self, status: int, body: bytes = b"", *, kind: str | None = "image/jpeg", **fields: str) -> None:
        self.send_response(status)
        if kind is not None:
            self.send_header("Content-Type", kind)
        sized = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in fields.items()}
        for name, value in sized.items():
            self.send_header(name, value)
        self.end_headers()
        self.leave()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Web(ThreadingHTTPServer):
    """One server; `pages` are its answers, and it counts who asked for what."""

    daemon_threads = True
    request_queue_size = 128  # or a client that opens many connections at once waits a second for some

    def __init__(self, pages: Mapping[str, Page] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page] = dict(pages or {})
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.times: list[tuple[float, str]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.active = self.most_active = 0
        self.bytes_sent = 0
        self.closing = threading.Event()  # lets go of handlers that hang or never end
        self.scheme = "http"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def serve_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(SERVER_FILE)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is what many of these tests are about."""


@contextlib.contextmanager
def serving(web: Web) -> Iterator[Web]:
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.closing.set()
        web.shutdown()
        web.server_close()
        thread.join()


def gives(body: bytes, *, kind: str | None = "image/jpeg", status: int = 200, **fields: str) -> Page:
    return lambda handler: handler.answer(status, body, kind=kind, **fields)


def redirects(to: str, status: int = 302) -> Page:
    return lambda handler: handler.answer(status, Location=to)


def in_turn(*pages: Page) -> Page:
    """The first page for the first who asks, the next for the next, the last for all others."""
    left = list(pages)
    lock = threading.Lock()

    def answer(handler: Handler) -> None:
        with lock:
            page = left.pop(0) if len(left) > 1 else left[0]
        page(handler)

    return answer


def hangs(handler: Handler) -> None:
    """Takes the request and says nothing."""
    handler.close_connection = True
    handler.server.closing.wait(DEADLINE_S)


def drips(handler: Handler) -> None:
    """Announces a picture and sends a byte of it now and then, for ever."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Type", "image/jpeg")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b"\xff")


def drips_head(handler: Handler) -> None:
    """The same before the body: a header that never ends."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b"x")


def floods(total: int) -> Page:
    """Sends `total` bytes, chunked: nothing announces how many."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", "image/jpeg")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        block = b"\xff" * 65_536
        for _ in range(total // len(block)):
            if handler.server.closing.is_set():
                return
            handler.wfile.write(b"10000\r\n" + block + b"\r\n")
            with handler.server.lock:
                handler.server.bytes_sent += len(block)
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def breaks_off(body: bytes, announced: int) -> Page:
    """Announces more bytes than it sends."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", "image/jpeg")
        handler.send_header("Content-Length", str(announced))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def speaks_nonsense(handler: Handler) -> None:
    handler.close_connection = True
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


def resolver(table: Mapping[str, Sequence[str]]) -> Callable[[str, float], Sequence[str]]:
    """A DNS of our own."""
    return lambda host, timeout_s: table.get(host, ())


def until(condition: Callable[[], bool]) -> None:
    """Wait for it, but not for ever."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
