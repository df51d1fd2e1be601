"""One line a request, as text or JSON, and never a secret."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.serve import logs
from drivetrain.serve.access import Access
from drivetrain.serve.logs import check_log_format, open_logs, without_secrets

from .fakes import WAIT_S, BrokenModel, call, make_app, picture, post, until

KEY = "dt_k4f7_" + "s3cretS3cretS3cretS3cret"


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_json_line_a_request_with_what_an_operator_needs() -> None:
    stream = io.StringIO()
    with open_logs("json", stream=stream):
        app = make_app()
        post(app, picture(), path="/predict?name=private-name.jpg")
        call(app, "GET", "/nowhere/private-path", headers={"X-Request-ID": "mine-1"})
    first, second = lines_of(stream)
    assert {name: first[name] for name in ("level", "logger", "method", "route", "status")} == {
        "level": "info",
        "logger": "drivetrain.access",
        "method": "POST",
        "route": "/predict",
        "status": 200,
    }
    assert first["seconds"] >= 0
    assert first["caller"] == "local"
    assert len(first["request_id"]) == 16
    assert first["time"].endswith("Z")
    assert (second["route"], second["status"], second["request_id"]) == ("unmatched", 404, "mine-1")
    assert "private" not in stream.getvalue()


def test_text_has_the_same_on_one_line() -> None:
    stream = io.StringIO()
    with open_logs("text", stream=stream, worker=3):
        call(make_app(), "GET", "/health/live", headers={"X-Request-ID": "mine-2"})
    [line] = stream.getvalue().splitlines()
    assert " info    GET /health/live 200 seconds=" in line
    assert " request_id=mine-2 " in line
    assert line.endswith(" worker=3")


def test_another_format_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="log_format: got xml; want text or json"):
        check_log_format("xml")
    with pytest.raises(InvalidConfig), open_logs("xml"):
        pass


def test_a_fault_bears_its_request_id_and_its_traceback_in_one_json_line() -> None:
    stream = io.StringIO()
    with open_logs("json", stream=stream):
        reply = post(make_app(BrokenModel()), picture(), path="/predict?name=bug")
    fault = next(line for line in lines_of(stream) if line["level"] == "error")
    assert fault["request_id"] == reply.json()["request_id"]
    assert "RuntimeError: secret inner state" in fault["exception"]
    assert "secret inner state" not in reply.text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"key {KEY} was sent", "s3cret"),
        (f"Authorization: Bearer {KEY}", "s3cret"),
        ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("{'X-API-Key': 'abcdefgh'}", "abcdefgh"),
        ("Bearer eyJhbGciOi", "eyJhbGciOi"),
        ("Cookie: drivetrain_session=abc123; other=xyz", "abc123"),
        ("drivetrain_session=abc123", "abc123"),
        ("cannot connect to postgresql://me:hunter2@db.example/x", "hunter2"),
        ("retry with password=hunter2&x=1", "hunter2"),
        ("csrf=tokentoken", "tokentoken"),
    ],
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_looks_like_a_secret_is_starred_out(text: str, secret: str, log_format: str) -> None:
    stream = io.StringIO()
    with open_logs(log_format, stream=stream):
        logging.getLogger("drivetrain.serve").error("%s", text)
        try:
            raise RuntimeError(text)
        except RuntimeError:
            logging.getLogger("drivetrain.serve").exception("it failed")
    assert secret not in stream.getvalue()
    assert stream.getvalue().count("***") >= 2


def test_what_is_no_secret_stays() -> None:
    for text in ("worker 1 ended by signal 9", "dt_short", "sqlite:////data/drivetrain.db", "tokens=3 in a batch"):
        assert without_secrets(text) == text


def test_a_key_in_a_request_is_nowhere_in_its_line() -> None:
    stream = io.StringIO()
    headers = {"Authorization": f"Bearer {KEY}", "Cookie": "drivetrain_session=c00kie"}
    with open_logs("json", stream=stream):
        call(make_app(), "POST", f"/predict?api_key={KEY}", headers=headers, content=picture())
    assert len(lines_of(stream)) == 1
    assert "s3cret" not in stream.getvalue()
    assert "c00kie" not in stream.getvalue()


def test_the_caller_is_told_by_kind_and_id() -> None:
    stream = io.StringIO()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["caller"] = SimpleNamespace(kind="key", id="k4f7", name="phone")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    described = make_app()
    with open_logs("json", stream=stream):
        call(Access(app, metrics=described.state.metrics, described=described), "GET", "/")  # type: ignore[arg-type]
    assert lines_of(stream)[0]["caller"] == "key:k4f7"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_clients_text_cannot_write_a_line_of_its_own(log_format: str) -> None:
    stream = io.StringIO()
    with open_logs(log_format, stream=stream):
        logging.getLogger("drivetrain.serve").warning("picture %s", "a\n2026 info forged\x1b[2J\u2028.jpg")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_a_reader_that_stops_does_not_stop_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_WAITING_MAX", 50)
    monkeypatch.setattr(logs, "_FLUSH_S", 0.1)
    reads, writes = os.pipe()
    log = logging.getLogger("drivetrain.serve")
    done = threading.Event()

    def write_much() -> None:
        for number in range(5_000):  # far more than the pipe and the queue hold
            log.info("line %d %s", number, "x" * 100)
        done.set()

    with os.fdopen(writes, "w") as stream:
        with open_logs("text", stream=stream):
            threading.Thread(target=write_much, daemon=True).start()
            assert done.wait(10)
        with os.fdopen(reads, "rb") as pipe:
            os.set_blocking(pipe.fileno(), False)
            seen = b""

            def is_told() -> bool:
                nonlocal seen
                seen += pipe.read() or b""
                return b"lines were dropped" in seen or not threads_that_write()

            asyncio.run(until(is_told))
    assert b"line 0 x" in seen
    assert b"line 4999" not in seen


def threads_that_write() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "drivetrain-logs"]


def test_dropped_lines_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_WAITING_MAX", 1)
    gate = threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(10)
            return super().write(text)

    stream = Slow()
    with open_logs("text", stream=stream):
        for number in range(10):
            logging.getLogger("drivetrain.serve").warning("line %d", number)
        gate.set()
    assert "lines were dropped" in stream.getvalue().splitlines()[-1]


def test_loggers_are_as_before_afterwards() -> None:
    loggers = [logging.getLogger(name) for name in ("drivetrain", "uvicorn.error")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    with open_logs("text", stream=io.StringIO()):
        assert not loggers[0].propagate
    assert [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers] == before


class Writes(io.StringIO):
    """Counts."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def write(self, text: str) -> int:
        self.count += 1
        return super().write(text)


def test_lines_of_one_moment_are_written_together_and_in_order() -> None:
    stream = Writes()
    with open_logs("json", stream=stream):
        for number in range(100):
            logs.log_access({"status": number})
    assert [line["status"] for line in lines_of(stream)] == list(range(100))
    assert stream.count < 50


def test_a_warning_does_not_wait_for_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_GATHER_S", 10 * WAIT_S)
    stream = Writes()
    with open_logs("text", stream=stream):
        logs.log_access({"status": 1})
        logging.getLogger("drivetrain.serve").warning("now")
        asyncio.run(until(lambda: "now" in stream.getvalue()))
    assert len(stream.getvalue().splitlines()) == 2
