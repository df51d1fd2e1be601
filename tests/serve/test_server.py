"""Real sockets, on this machine alone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from drivetrain.errors import InvalidConfig, Unavailable
from drivetrain.serve.server import ServerOptions, start_server

from .fakes import WAIT_S, BlockingModel, make_app, pending, picture, until


def test_server_answers_on_a_free_port_and_stops() -> None:
    app = make_app(image_max_bytes=100_000)
    with start_server(app) as running, httpx.Client(base_url=running.url, timeout=WAIT_S) as session:
        assert not running.url.endswith(":0")
        reply = session.post("/predict", content=picture("blue"), headers={"Content-Type": "image/png"})
        assert (reply.status_code, reply.json()["decision"]) == (200, "defer")
        assert "server" not in reply.headers
        too_large = session.post("/predict", content=bytes(5_000_000), headers={"Content-Type": "image/png"})
        assert too_large.status_code == 413
        streamed = session.post(
            "/predict", content=(bytes(50_000) for _ in range(40)), headers={"Content-Type": "image/png"}
        )
        assert streamed.status_code == 413
        assert session.get("/health/ready").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url)


def test_client_that_hangs_up_before_its_turn_costs_no_compute() -> None:
    model = BlockingModel()
    app = make_app(model, threads=1)
    body = picture()
    request = (
        b"POST /predict?name=%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    )
    with start_server(app) as running:
        host, port = running.url.removeprefix("http://").split(":")
        stays = socket.create_connection((host, int(port)), timeout=WAIT_S)
        stays.sendall(request % (b"stays", len(body)) + body)
        asyncio.run(until(lambda: pending(app) == 1))
        leaves = socket.create_connection((host, int(port)), timeout=WAIT_S)
        leaves.sendall(request % (b"leaves", len(body)) + body)
        asyncio.run(until(lambda: pending(app) == 2))
        leaves.close()
        asyncio.run(until(lambda: pending(app) == 1))
        model.release.set()
        assert stays.recv(100).startswith(b"HTTP/1.1 200")
        stays.close()
    assert model.seen == ["stays"]


def test_stop_waits_for_the_request_in_work() -> None:
    model = BlockingModel()
    running = start_server(make_app(model))
    replies: list[int] = []

    def send() -> None:
        reply = httpx.post(
            f"{running.url}/predict", content=picture(), headers={"Content-Type": "image/png"}, timeout=WAIT_S
        )
        replies.append(reply.status_code)

    sender = threading.Thread(target=send)
    sender.start()
    assert model.begun.acquire(timeout=WAIT_S)
    stopper = threading.Thread(target=running.stop)
    stopper.start()
    model.release.set()
    sender.join(WAIT_S)
    stopper.join(WAIT_S)
    assert replies == [200]


def test_port_in_use_says_what_to_do() -> None:
    with start_server(make_app()) as running:
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(Unavailable, match=rf"port: got {port}, which another program listens on.*--port 0"):
            start_server(make_app(), port=port)


def test_host_and_port_that_cannot_be() -> None:
    with pytest.raises(Unavailable, match=r"host: got 192\.0\.2\.1"):
        start_server(make_app(), "192.0.2.1")
    with pytest.raises(InvalidConfig, match="port: got 99999; want 0 to 65535"):
        start_server(make_app(), port=99999)


def test_all_addresses_are_told_as_one_that_opens() -> None:
    with start_server(make_app(), "0.0.0.0") as running:
        assert running.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{running.url}/health/live").json() == {"live": True}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_serve_tells_its_address_and_ends_on_ctrl_c() -> None:
    program = """
from drivetrain.serve.app import create_app
from drivetrain.serve.server import serve
from drivetrain.settings import load_settings
app = create_app(None, load_settings(environ={}))
serve(app, "127.0.0.1", 0, on_ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/health/ready").status_code == 503
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    assert (out, err, process.returncode) == ("ended\n", "", 0)


# What `drivetrain serve` does with its port before it has a model, and after a signal: as a process of its own.

SERVER = """
import sys, threading, time
from pathlib import Path
from drivetrain.serve.app import create_app
from drivetrain.serve.server import ServerOptions, serve
from drivetrain.settings import load_settings
from tests_serve_fakes import FakeModel

wait_s, grace_s, load_s, work_s = map(float, sys.argv[1:5])

class Slow(FakeModel):
    def prepare(self, picture, *, name=None):
        time.sleep(work_s)
        return super().prepare(picture, name=name)

app = create_app(None, load_settings(environ={}, flags={"db": "none"}))

def load():
    time.sleep(load_s)
    if sys.argv[5:]:
        from drivetrain.errors import BundleRefused
        raise BundleRefused("bundle_fixtures", "x.dt", got="other answers", want="those of its maker")
    app.state.registry.add(Slow())

code = serve(app, "127.0.0.1", 0, on_ready=lambda url: print("ready", flush=True), load=load,
             options=ServerOptions(wait_s=wait_s, grace_s=grace_s), on_listening=lambda url: print(url, flush=True))
print("ended", flush=True)
sys.exit(code)
"""


class Process:
    """The program above."""

    def __init__(self, *args: object) -> None:
        here = Path(__file__).parent
        script = (
            "import importlib.util, sys\n"
            f"spec = importlib.util.spec_from_file_location('tests_serve_fakes', {str(here / 'fakes.py')!r})\n"
            "sys.modules[spec.name] = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(sys.modules[spec.name])\n" + SERVER
        )
        command = [sys.executable, "-c", script, *map(str, args)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def status(self, path: str) -> int:
        return httpx.get(f"{self.url}{path}", timeout=WAIT_S).status_code

    def post(self) -> httpx.Response:
        return httpx.post(
            f"{self.url}/predict", content=picture(), headers={"Content-Type": "image/png"}, timeout=3 * WAIT_S
        )

    def begin_posts(self, count: int) -> list[Future[httpx.Response]]:
        """Requests in work: the counter of those without an answer tells when they are there."""
        pool = ThreadPoolExecutor(count)
        futures = [pool.submit(self.post) for _ in range(count)]
        pool.shutdown(wait=False)

        def are_there() -> bool:
            text = httpx.get(f"{self.url}/metrics", timeout=WAIT_S).text
            return f"drivetrain_http_requests_in_progress {count + 1}.0" in text

        asyncio.run(until(are_there))
        return futures


posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to one process")


@posix
def test_it_listens_at_once_and_is_ready_once_the_model_is_loaded() -> None:
    with Process(0, 10, 2, 0) as server:
        assert server.status("/health/live") == 200
        assert server.status("/metrics") == 200
        ready = httpx.get(f"{server.url}/health/ready")
        assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
        assert "being loaded and proved" in ready.json()["message"]
        early = server.post()
        assert (early.status_code, early.headers["Retry-After"]) == (503, "1")
        server.until_ready()
        assert server.status("/health/ready") == 200
        assert server.post().status_code == 200
        text = httpx.get(f"{server.url}/metrics").text
        assert 'inference_requests_total{model_name="",model_version="",outcome="rejected"} 1.0' in text


@posix
def test_a_refused_model_ends_the_server_with_its_error() -> None:
    with Process(0, 10, 0, 0, "refuse") as server:
        out, err = server.process.communicate(timeout=WAIT_S)
        assert "BundleRefused: x.dt: got other answers" in err
        assert "ready" not in out
        assert server.process.returncode == 1


@posix
def test_sigterm_while_loading_ends_it_with_0() -> None:
    with Process(0, 10, 1, 0) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=WAIT_S) == 0


@posix
def test_sigterm_ends_requests_in_work_and_takes_no_more() -> None:
    with Process(0, 10, 0, 1.0) as server:
        server.until_ready()
        inflight = server.begin_posts(4)
        server.process.send_signal(signal.SIGTERM)

        def takes_none() -> bool:
            try:
                socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=WAIT_S).close()
            except ConnectionRefusedError:
                return True
            return False

        asyncio.run(until(takes_none))
        assert [future.result(timeout=WAIT_S).status_code for future in inflight] == [200] * 4
        out, err = server.process.communicate(timeout=WAIT_S)
        assert (out, err, server.process.returncode) == ("ended\n", "", 0)


@posix
def test_after_sigterm_it_says_not_ready_at_once_and_still_answers_for_the_wait() -> None:
    with Process(3, 10, 0, 0.5) as server:
        server.until_ready()
        inflight = server.begin_posts(2)
        server.process.send_signal(signal.SIGTERM)
        asyncio.run(until(lambda: server.status("/health/ready") == 503))
        assert server.status("/health/live") == 200
        late = server.post()
        assert late.status_code == 200  # sent by a balancer that has not looked yet
        assert late.headers["Connection"] == "close"
        assert {future.result(timeout=WAIT_S).status_code for future in inflight} == {200}
        assert server.process.wait(timeout=WAIT_S) == 0


@posix
def test_a_second_sigterm_waits_no_more_for_balancers() -> None:
    with Process(3600, 10, 0, 0) as server:
        server.until_ready()
        server.process.send_signal(signal.SIGTERM)
        asyncio.run(until(lambda: server.status("/health/ready") == 503))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=WAIT_S) == 0


@posix
def test_what_outlasts_the_grace_is_cut() -> None:
    with Process(0, 1, 0, 60) as server:
        server.until_ready()
        [inflight] = server.begin_posts(1)
        server.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(httpx.HTTPError):  # the connection was closed
            assert inflight.result(timeout=2 * WAIT_S).status_code >= 500
        assert server.process.wait(timeout=2 * WAIT_S) == 1


def test_whose_forwarded_address_is_believed() -> None:
    seen: list[tuple[str, str]] = []
    app = make_app()

    @app.middleware("http")
    async def note(request: Request, proceed: Any) -> Any:
        assert request.client is not None
        seen.append((request.client.host, request.url.scheme))
        return await proceed(request)

    headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    for trusted in ("127.0.0.1", "192.0.2.1", "*"):
        with start_server(app, options=ServerOptions(trusted_proxies=trusted)) as running:
            httpx.get(f"{running.url}/health/live", headers=headers)
    assert seen == [("203.0.113.7", "https"), ("127.0.0.1", "http"), ("203.0.113.7", "https")]


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),  # a connection that says nothing
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nX-A: ", b"HTTP/1.1 408 "),  # headers without an end
    ],
)
def test_headers_have_a_time(sent: bytes, answer: bytes) -> None:
    with start_server(make_app(), options=ServerOptions(head_max_s=0.2)) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
            raw.sendall(sent)
            got = b""
            while chunk := raw.recv(65_536):  # to the end: it is the server that closes
                got += chunk
        assert got.startswith(answer)
        assert bool(got) == bool(answer)
        assert httpx.get(f"{running.url}/health/ready").status_code == 200


def test_a_body_has_a_time_however_busily_it_comes() -> None:
    with start_server(make_app(), options=ServerOptions(upload_max_s=0.5)) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
            raw.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n")
            raw.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
            raw.settimeout(0.02)
            answer, is_over = b"", False

            def is_cut() -> bool:
                nonlocal answer, is_over
                try:
                    raw.sendall(b"1\r\n\0\r\n")
                    answer += raw.recv(65_536)
                except TimeoutError:
                    return False
                except ConnectionError:  # the answer was lost, since we had sent more than was read
                    is_over = True
                return is_over or bool(answer)

            asyncio.run(until(is_cut))
        assert is_over or answer.startswith(b"HTTP/1.1 408 ")
        reply = httpx.post(f"{running.url}/predict", content=picture(), headers={"Content-Type": "image/png"})
        assert reply.status_code == 200


def test_a_body_that_goes_on_after_its_answer_is_cut() -> None:
    with start_server(make_app(image_max_bytes=1_000)) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
            raw.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n")
            raw.sendall(b"Transfer-Encoding: chunked\r\n\r\n" + (b"800\r\n" + bytes(2048) + b"\r\n"))
            assert raw.recv(65_536).startswith(b"HTTP/1.1 413 ")
            with pytest.raises(OSError, match=r"reset|Broken pipe"):
                send_for_ever(raw, b"800\r\n" + bytes(2048) + b"\r\n")
        assert httpx.get(f"{running.url}/health/ready").status_code == 200


def send_for_ever(raw: socket.socket, piece: bytes) -> None:
    while True:
        raw.sendall(piece)


def test_a_slow_body_behind_a_pipelined_request_is_not_cut() -> None:
    body = picture()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    with start_server(make_app(), options=ServerOptions(linger_s=0.2)) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
            raw.sendall(head % len(body) + body + head % len(body) + body[:10])
            assert raw.recv(65_536).startswith(b"HTTP/1.1 200 ")
            for byte in range(10, len(body), 20):
                raw.sendall(body[byte : byte + 20])
                threading.Event().wait(0.1)
            assert raw.recv(65_536).startswith(b"HTTP/1.1 200 ")
