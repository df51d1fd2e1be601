"""POST /predict with JSON: base64, lists, and addresses that the server may or may not fetch from."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from drivetrain.data.gather.addresses import AddressRule
from drivetrain.serve.fetch_url import UrlFetcher

from .fakes import FakeModel, call, make_app, picture


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def ask(app: FastAPI, body: object, path: str = "/predict") -> httpx.Response:
    return call(app, "POST", path, json=body)


def test_one_picture_answers_as_a_raw_body_does() -> None:
    app = make_app()
    raw = call(app, "POST", "/predict?name=a.png", content=picture("blue"), headers={"Content-Type": "image/png"})
    for body in (
        {"image": b64(picture("blue")), "name": "a.png"},
        {"image": "data:image/png;base64," + b64(picture("blue")), "name": "a.png"},
        {"image": "\n".join(b64(picture("blue"))[i : i + 76] for i in range(0, 999, 76)), "name": "a.png"},
    ):
        reply = ask(app, body)
        assert (reply.status_code, reply.json()) == (200, raw.json())
    assert ask(app, {"image": b64(picture("blue"))}, "/predict?name=a.png").json() == raw.json()
    assert "name" not in ask(app, {"image": b64(picture())}).json()


def test_a_list_answers_in_order_and_each_fails_alone() -> None:
    body = {
        "images": [
            b64(picture()),
            {"image": b64(picture("blue")), "name": "b"},
            "?",
            b64(b"no picture"),
            {"url": "http://x.example/", "name": "u"},
            5,
        ]
    }
    red, blue, text, none, url, number = ask(make_app(), body).json()["predictions"]
    assert (red["decision"], blue["name"], blue["decision"]) == ("accept", "b", "defer")
    assert (text["error"]["code"], text["error"]["field"]) == ("invalid_input", "images[2].image")
    assert none["error"]["code"] == "unreadable_picture"
    assert (url["name"], url["error"]["code"]) == ("u", "url_refused")
    assert number["error"]["field"] == "images[5]"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "body: got a list"),
        ({}, "neither image nor url"),
        ({"image": "eA==", "url": "http://x/"}, "both image and url"),
        ({"image": "eA==", "extra": 1}, "the key 'extra'"),
        ({"image": 5}, "got a number; want base64"),
        ({"image": "x"}, "no base64"),
        ({"image": "data:image/png,abc"}, "not base64"),
        ({"image": "eA==", "name": 5}, "body.name"),
        ({"image": "eA==", "name": "x" * 256}, "at most 255"),
        ({"images": []}, "images: got none"),
        ({"images": "x"}, "images: got a string"),
        ({"images": ["eA=="], "name": "x"}, "the key 'name' beside images"),
        ({"url": 5}, "body.url"),
        ({"image": ""}, "picture 1"),
    ],
)
def test_bodies_that_are_refused(body: object, text: str) -> None:
    reply = ask(make_app(), body)
    assert reply.status_code == 422
    assert set(reply.json()) == {"code", "message", "field", "request_id"}
    assert text in reply.json()["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"image": NaN}', b"[" * 3000])
def test_what_is_no_json(content: bytes) -> None:
    reply = call(make_app(), "POST", "/predict", content=content, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["field"]) == (422, "body")


def test_limits_hold_in_json_too() -> None:
    app = make_app(image_max_bytes=1000, request_max_pictures=2)
    cases: Sequence[object] = (
        {"image": b64(bytes(1001))},
        {"images": [b64(picture())] * 3},
        {"images": [b64(picture()), b64(bytes(1001))]},
        {"image": "A" * 20_000},
    )
    for body in cases:
        reply = ask(app, body)
        assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    assert ask(app, {"image": b64(bytes(1000))}).json()["code"] == "unreadable_picture"
    commas = make_app()
    body = b'{"images": [' + b"1," * 20_000 + b"1]}"
    reply = call(commas, "POST", "/predict", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, "JSON with about" in reply.json()["message"]) == (413, True)
    assert app.state.service.memory.held_bytes == commas.state.service.memory.held_bytes == 0


def test_much_json_is_read_aside_and_answered_alike() -> None:
    app, large = make_app(), picture("blue", size=(200, 200), kind="BMP")
    assert ask(app, {"image": b64(large)}).json() == ask(app, {"image": b64(picture("blue"))}).json()


class Strict(AddressRule):
    """This machine stands for the public internet, but by one of its addresses alone."""

    def why_not(self, address: str) -> str | None:
        return None if address == "127.0.0.1" else super().why_not(address)


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        port = self.server.server_address[1]
        moves = {
            "/inside": f"http://127.0.0.2:{port}/ok",
            "/meta": "http://169.254.169.254/latest/meta-data",
            "/file": "file:///etc/passwd",
            "/again": f"http://again.example:{port}/ok",
        }
        if self.path in moves:
            self.send_response(302)
            self.send_header("Location", moves[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        kind, body = {
            "/ok": ("image/png", picture("blue")),
            "/large": ("image/png", bytes(60_000)),
            "/page": ("text/html", b"<p>secret"),
        }.get(self.path, ("", b""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield site.server_address[1]
    site.shutdown()
    thread.join()
    site.server_close()


def fetching_app(resolve: Any = None) -> FastAPI:
    app = make_app(allow_url=1)
    app.state.url_fetcher = UrlFetcher(
        is_allowed=True, max_bytes=50_000, timeout_s=5, rule=Strict(), resolve=resolve or (lambda *_: ["127.0.0.1"])
    )
    return app


def test_an_address_is_fetched_where_that_is_allowed(port: int) -> None:
    app = fetching_app()
    reply = ask(app, {"url": f"http://pictures.example:{port}/ok", "name": "far"})
    assert (reply.status_code, reply.json()["name"], reply.json()["decision"]) == (200, "far", "defer")
    body = {"images": [{"url": f"http://pictures.example:{port}/ok"}, {"url": f"http://pictures.example:{port}/gone"}]}
    fine, gone = ask(app, body).json()["predictions"]
    assert fine["decision"] == "defer"
    assert (gone["error"]["code"], "http_404" in gone["error"]["message"]) == ("url_refused", True)


def test_the_fetcher_can_be_closed_and_used_again(port: int) -> None:
    app = fetching_app()
    for _ in range(2):
        assert ask(app, {"url": f"http://pictures.example:{port}/ok"}).status_code == 200
        app.state.url_fetcher.close()


def test_too_many_fetches_at_once_are_429(port: int) -> None:
    app = fetching_app()
    app.state.url_fetcher._waiting = 64
    reply = ask(app, {"url": f"http://pictures.example:{port}/ok"})
    assert (reply.status_code, reply.json()["code"]) == (429, "overloaded")


def test_off_unless_allowed(port: int) -> None:
    for app in (make_app(), make_app(allow_url=0)):
        reply = ask(app, {"url": f"http://127.0.0.1:{port}/ok"})
        assert (reply.status_code, reply.json()["code"]) == (422, "url_refused")
        assert "allow_url" in reply.json()["message"]
    model = FakeModel()
    ask(make_app(model), {"url": f"http://127.0.0.1:{port}/ok"})
    assert model.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/ok",
        "http://localhost:{port}/ok",
        "http://2130706433:{port}/ok",
        "http://0x7f.1:{port}/ok",
        "http://[::1]:{port}/ok",
        "http://[::ffff:127.0.0.1]:{port}/ok",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0:{port}/ok",
    ],
)
def test_with_the_setting_alone_no_private_address_is_asked(url: str, port: int) -> None:
    reply = ask(make_app(allow_url=1), {"url": url.format(port=port)})
    assert (reply.status_code, reply.json()["code"]) == (422, "url_refused")
    assert "private_address" in reply.json()["message"]


@pytest.mark.parametrize(
    ("path", "reason"), [("/inside", "private_address"), ("/meta", "private_address"), ("/file", "bad_url")]
)
def test_a_redirect_leads_nowhere_that_the_first_address_may_not(path: str, reason: str, port: int) -> None:
    reply = ask(fetching_app(), {"url": f"http://pictures.example:{port}{path}"})
    assert (reply.status_code, reply.json()["code"]) == (422, "url_refused")
    assert reason in reply.json()["message"]
    for secret in ("127.0.0", "169.254", "passwd"):
        assert secret not in reply.json()["message"]


def test_a_name_that_is_bound_again_is_checked_again(port: int) -> None:
    answers = {"pictures.example": ["127.0.0.1"], "again.example": ["10.0.0.7"]}
    app = fetching_app(lambda host, _: answers[host])
    reply = ask(app, {"url": f"http://pictures.example:{port}/again"})
    assert "private_address" in reply.json()["message"]
    assert "10.0.0.7" not in reply.text
    both = fetching_app(lambda *_: ["127.0.0.1", "10.0.0.7"])  # one bad address spoils the name
    assert "private_address" in ask(both, {"url": f"http://pictures.example:{port}/ok"}).json()["message"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://pictures.example:{port}/large", "too_large"),
        ("http://pictures.example:{port}/page", "wrong_type"),
        ("ftp://pictures.example/ok", "bad_url"),
        ("http://user:secret@pictures.example:{port}/ok", "bad_url"),
        ("nonsense", "bad_url"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(url: str, reason: str, port: int) -> None:
    reply = ask(fetching_app(), {"url": url.format(port=port)})
    assert (reply.status_code, reply.json()["code"]) == (422, "url_refused")
    assert reason in reply.json()["message"]
    assert "secret" not in json.dumps(reply.json())
