"""Real sockets, on this machine alone."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from drivetrain.errors import InvalidConfig, Unavailable
from drivetrain.serve.server import start_server

from .fakes import WAIT_S, BlockingModel, make_app, picture, until


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
    pool = app.state.service.pool
    body = picture()
    request = b"POST /predict?name=%s HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    with start_server(app) as running:
        host, port = running.url.removeprefix("http://").split(":")
        stays = socket.create_connection((host, int(port)), timeout=WAIT_S)
        stays.sendall(request % (b"stays", len(body)) + body)
        asyncio.run(until(lambda: pool.held == 1))
        leaves = socket.create_connection((host, int(port)), timeout=WAIT_S)
        leaves.sendall(request % (b"leaves", len(body)) + body)
        asyncio.run(until(lambda: pool.held == 2))
        leaves.close()
        asyncio.run(until(lambda: pool.held == 1))
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
