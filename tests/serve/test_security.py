"""What an attacker would try, one after the other; keys, sessions and connections have files of their own."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from drivetrain.data.gather.addresses import AddressRule, Resolve
from drivetrain.errors import InvalidConfig
from drivetrain.serve.edge import content_security_policy
from drivetrain.serve.fetch_url import UrlFetcher
from drivetrain.serve.server import start_server

from .doors import FAR, PASSWORD, Door, open_door
from .fakes import WAIT_S, BrokenModel, FakeModel, make_app, picture

PNG = {"Content-Type": "image/png"}
HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}</script><script>alert(2)</script>"
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path) as opened:
        opened.key("admin")
        yield opened


def raw(url: str, request: bytes) -> bytes:
    """Bytes as they are, which no client library would send."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as client:
        client.sendall(request)
        parts = []
        try:
            while part := client.recv(65_536):
                parts.append(part)
        except (ConnectionResetError, TimeoutError):
            pass
    return b"".join(parts)


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


# Paths


TRICKS = [
    "/predict/../v2/repository/index", "/static/../v2/repository/index", "/static/%2e%2e/v2/repository/index",
    "/static/..%2fv2/repository/index", "/static/%2e%2e%2fv2%2frepository%2findex", "/v2%2frepository/index",
    "/v2/repository%2findex", "/v2/models/../repository/index", "/v2/models/x/../../repository/index/infer",
    "//v2/repository/index", "/v2//repository/index", "/v2/./repository/index", "/v2/repository/index/",
    "/V2/repository/index", "/v2/Repository/Index", "/v2/repository/index;x=1", "/v2/repository/index%00",
    "/v2/repository/index%20", "/v2/%72epository/index", "/%76%32/repository/index", "/v2/repository/%69ndex",
    "/health/live/../../v2/repository/index", "/health/live%2f..%2f..%2fv2/repository/index",
    "/v2/repository/index%252e",
    "/login/../v2/repository/index", "/static%2f..%2fv2/repository/index", "/v2\\repository\\index",
    "/v2/models/a%2finfer/../../repository/index", "/./v2/repository/index", "/v2/models/repository/index/infer%2f..",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
def test_no_spelling_of_a_path_gets_past_the_rules(tmp_path: Path, path: str) -> None:
    """Asked with no key and with one for predictions; what the router would reach with it must stay shut."""
    with open_door(tmp_path) as door:
        keys = {
            "none": "",
            "predict": f"X-API-Key: {door.key('predict')}\r\n",
            "admin": f"X-API-Key: {door.key('admin')}\r\n",
        }
        with start_server(door.app) as running:
            said = {}
            for who, header in keys.items():
                request = (
                    f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n"
                )
                said[who] = status_of(raw(running.url, request.encode()))
    assert said["none"] in {400, 401, 404, 405}
    assert said["predict"] in {400, 403, 404, 405, 422}
    if said["admin"] == 200:  # one more way to write the real path: it must have been asked for the role
        assert (said["none"], said["predict"]) == (401, 403)


def test_an_absolute_address_is_judged_by_its_path(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        door.key("admin")
        with start_server(door.app) as running:
            for target in ("http://localhost/v2/repository/index", "http://evil/v2/repository/index"):
                reply = raw(
                    running.url, f"POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
                )
                assert status_of(reply) in {400, 401}


@pytest.mark.parametrize(
    "path",
    ["/static/x/../../app.py", "/static/x/..%2f..%2fapp.py", "/static/x/%2e%2e/%2e%2e/errors.py",
     "/static/x//etc/passwd", "/static/x/page.css%00.png", "/examples/..%2f..%2fetc%2fpasswd"],
)  # fmt: skip
def test_no_file_but_the_pages_own_is_sent(path: str) -> None:
    with start_server(make_app()) as running:
        reply = raw(running.url, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert status_of(reply) in {400, 404}
    assert b"import" not in reply
    assert b"root:" not in reply


# Hosts


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "localhost:8000", "127.0.0.1:1", "localhost."]
)
def test_this_machines_names_are_answered(host: str) -> None:
    with open_door(None) as door:
        assert door.get("/model", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "evil.example:8000", "localhost@evil.example", "",
     "localhost, evil.example", "localhost/evil", "[::1", "localhost:99999999", "0x7f000001", "0.0.0.0"],
)  # fmt: skip
def test_another_name_for_this_machine_is_not_answered(host: str) -> None:
    """DNS re-binding: a page of evil.example whose name now leads to 127.0.0.1 must get nothing."""
    with open_door(None) as door:
        reply = door.get("/model", headers={"Host": host})
        assert (reply.status_code, reply.json()["code"]) == (421, "wrong_host")
        assert door.post("/predict", content=picture(), headers={**PNG, "Host": host}).status_code == 421
        assert door.get("/", headers={"Host": host}).status_code == 421


def test_two_hosts_are_none() -> None:
    with start_server(make_app()) as running:
        for hosts in ("Host: localhost\r\nHost: evil.example\r\n", "Host: localhost\r\nHost: localhost\r\n", ""):
            reply = raw(running.url, f"GET /model HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
            assert status_of(reply) in {400, 421}, hosts


def test_hosts_that_are_named_are_the_only_ones(tmp_path: Path) -> None:
    with open_door(tmp_path, allowed_hosts="models.example, Api.Example") as door:
        key = {"X-API-Key": door.key("predict")}
        for host, status in (
            ("models.example", 200),
            ("api.example:443", 200),
            ("localhost", 421),
            ("x.models.example", 421),
        ):
            assert door.get("/model", headers={**key, "Host": host}).status_code == status
        assert door.get("/health/live", headers={"Host": "10.0.0.7"}).status_code == 200
        assert door.get("/login", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("given", ["models.example:443", "http://models.example", "a b", ","])
def test_a_host_that_cannot_be_is_told(given: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="allowed_hosts: got"), open_door(tmp_path, allowed_hosts=given):
        pass


def test_no_answer_repeats_the_host(door: Door) -> None:
    """Host header attack: links and redirects built of it would lead to whoever sent it."""
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Accept": "text/html"}
    for path in ("/", "/login", "/card", "/nothing", "/health/live"):
        reply = door.get(path, headers=evil)
        assert "evil.example" not in reply.text + str(reply.headers), path


# Headers


@pytest.mark.parametrize("sent", ["a\r\nSet-Cookie: x=1", "a\nb", "é", "x" * 65, "", "a b", "<script>", "a\0b"])
def test_a_request_id_cannot_carry_anything_in(sent: str) -> None:
    with open_door(None) as door:
        reply = door.get("/nothing", headers={b"x-request-id": sent.encode("latin-1")})
        assert re.fullmatch(r"[0-9a-f]{16}", reply.headers["X-Request-ID"])
        assert reply.json()["request_id"] == reply.headers["X-Request-ID"]
        assert "set-cookie" not in reply.headers
        assert door.get("/nothing", headers={"X-Request-ID": "order-66.b_1"}).headers["X-Request-ID"] == "order-66.b_1"


def test_every_answer_has_the_safe_headers(door: Door) -> None:
    app_paths = [
        "/",
        "/login",
        "/health/live",
        "/nothing",
        "/model",
        "/openapi.json",
        "/static/x/page.css",
        "/static/x/absent",
    ]
    for path in app_paths:
        reply = door.get(path, headers={"X-API-Key": door.key("predict")})
        policy = reply.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        for part in (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ):
            assert part in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Cache-Control" in reply.headers, path
        assert "server" not in reply.headers
        for name in ("Content-Security-Policy", "X-Content-Type-Options", "Cache-Control"):
            assert len(reply.headers.get_list(name)) == 1


def test_what_is_private_is_not_kept_by_others(door: Door) -> None:
    browser = door.person("ann")
    for path in ("/", "/model", "/card", "/login"):
        reply = browser.get(path, headers={"Accept": "text/html"})
        assert reply.status_code == 200
        assert re.search(r"no-store|private|no-cache", reply.headers["Cache-Control"]), path
        assert "public" not in reply.headers["Cache-Control"]


def test_who_may_show_the_page_in_a_frame() -> None:
    assert "frame-ancestors 'none'" in content_security_policy()
    with open_door(None, embed_from="https://huggingface.co, https://*.hf.space") as door:
        policy = door.get("/").headers["Content-Security-Policy"]
        assert policy.endswith("frame-ancestors https://huggingface.co https://*.hf.space")
    for wrong in ("*", "huggingface.co", "https://a.example; script-src *", "https://a.example/path", ""):
        with pytest.raises(InvalidConfig, match="embed_from: got"):
            content_security_policy(wrong)


def test_headers_that_are_too_large_are_refused() -> None:
    with start_server(make_app()) as running:
        for lines in (f"X-A: {'x' * 70_000}\r\n", "".join(f"X-{n}: {'y' * 60}\r\n" for n in range(1_200))):
            reply = raw(
                running.url, f"GET /model HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n".encode()
            )
            assert status_of(reply) in {400, 431}
        target = "/model?" + "x" * 70_000
        reply = raw(running.url, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert status_of(reply) in {400, 414, 431}
        assert httpx.get(f"{running.url}/model").status_code == 200


def test_too_many_headers_are_refused() -> None:
    with start_server(make_app()) as running:
        for count, status in ((90, 200), (101, 431)):
            lines = "".join(f"X-{n}: y\r\n" for n in range(count))
            reply = raw(
                running.url, f"GET /model HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n".encode()
            )
            assert status_of(reply) == status, count


SMUGGLED = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Content-Length: +5\r\n\r\nhello",
    "Content-Length: -1\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nx",
    "X-A: b\r\n c: d\r\nContent-Length: x\r\n\r\n",
    "X-A: \x00\r\n\r\n",
]


@pytest.mark.parametrize("rest", SMUGGLED)
def test_two_ways_to_read_one_request_are_refused(rest: str) -> None:
    """Request smuggling: what a proxy and we would cut differently must not be answered as if it were clear."""
    with start_server(make_app()) as running:
        hidden = "GET /model HTTP/1.1\r\nHost: localhost\r\nX-Hidden: 1\r\nConnection: close\r\n\r\n"
        reply = raw(
            running.url,
            f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n{rest}{hidden}".encode(),
        )
    assert status_of(reply) in {400, 422, 413}
    assert b'"classes"' not in reply  # the hidden request was not answered


# What leaves


def test_no_path_stack_or_exception_text_leaves(tmp_path: Path) -> None:
    with open_door(tmp_path, BrokenModel()) as door:
        for reply in (
            door.post("/predict?name=bug", content=picture(), headers=PNG),
            door.post("/predict", content=b"x", headers=PNG),
            door.post("/predict", files={"f": ("bug", picture(), "image/png")}),
            door.get("/feedback/../../x"),
            door.post("/feedback/nothing", json={"verdict": "right"}),
            door.post("/v2/models/absent/infer", json={}),
            door.post("/v2/repository/models/..%2f..%2fetc%2fpasswd/load", json={}),
        ):
            for secret in (
                "Traceback",
                "secret inner state",
                str(tmp_path),
                "site-packages",
                "/src/",
                ".py",
                "RuntimeError",
                "sqlite",
            ):
                assert secret not in reply.text, (reply.url, reply.text)


def test_secrets_are_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_door(tmp_path, BrokenModel()) as door, caplog.at_level(logging.DEBUG):
        token = door.key("predict")
        caller = door.seen_from(FAR, headers={"X-API-Key": token})
        caller.post("/predict?name=bug&x=query-secret", content=picture(), headers=PNG)
        caller.get("/model", headers={"X-API-Key": token[:-1] + "0"})
        browser = door.person("ann")
        browser.get("/model")
        door.seen_from(FAR).sign_in("ann", "a wrong guess at it")
    assert caplog.text
    cookie = browser.cookies["drivetrain_session"]
    for secret in (token, token.split("_")[2], cookie, PASSWORD, "a wrong guess at it", browser.csrf()):
        assert secret not in caplog.text
    assert door.store is not None
    assert token not in repr(door)
    assert browser.csrf() not in repr(caller)


# Names that are markup


class Markup(HTMLParser):
    """What a page loads, and what of it would run or be styled without a file."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: set[str] = set()
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.sources |= {value for name, value in attrs if name in {"src", "href"} and value}
        if tag in {"script", "style"} and "src" not in given:
            self.inline.append(tag)
        self.inline += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        self.inline += [f"{tag} {value}" for value in given.values() if (value or "").startswith("javascript:")]


def test_the_parser_sees_what_would_run() -> None:
    bad = '<p onclick=x style="a:b"><script>1</script><a href="javascript:1"><img src=x>'
    assert Markup(bad).inline == ["p onclick", "p style", "script", "a javascript:1"]
    assert "x" in Markup(bad).sources


def test_a_hostile_class_and_file_name_stay_text_in_the_page(tmp_path: Path) -> None:
    model = FakeModel(classes=("amber", HOSTILE, "coral"), name=HOSTILE, version=f"{HOSTILE}@0123456789ab")
    with open_door(tmp_path, model) as door:
        files = {"file": (HOSTILE, picture("red"), "image/png")}
        pages = [door.get(path, headers={"Accept": "text/html"}) for path in ("/", "/card", "/admin")]
        pages.append(door.post("/", files=files, headers={"Accept": "text/html"}))
        for page in pages:
            assert page.status_code == 200, page.url
            assert page.headers["Content-Type"].startswith("text/html")
            found = Markup(page.text)
            assert "x" not in found.sources, page.url
            assert found.inline == [], page.url
        assert "{{7*7}}" in pages[-1].text or "{{7*7}}" in pages[0].text  # shown, not evaluated


def test_answers_are_not_sniffed_as_pages() -> None:
    with open_door(None) as door:
        reply = door.post(f"/predict?name={quote(HOSTILE)}", content=picture(), headers=PNG)
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.json()["name"] == HOSTILE
        missing = door.get(f"/{quote('<script>alert(1)</script>')}")
        assert missing.headers["Content-Type"] == "application/json"


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")
def test_a_browser_runs_nothing_of_a_name(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    model = FakeModel(classes=("amber", HOSTILE, "coral"), name=HOSTILE)
    with open_door(tmp_path, model) as door, start_server(door.app) as running, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        complaints: list[str] = []
        requests: list[str] = []
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(running.url)
        page.set_input_files("#files", [{"name": HOSTILE, "mimeType": "image/png", "buffer": picture("lime")}])
        page.locator(".card").first.wait_for()
        for path in ("card", "admin", "login", "docs"):
            page.goto(f"{running.url}/{path}")
            page.wait_for_load_state("networkidle")
        assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
        browser.close()
    assert [text for text in complaints if "favicon" not in text] == []
    assert all(url.startswith((running.url, "blob:", "data:")) for url in requests)


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}")
def test_a_person_signs_in_with_a_browser(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with open_door(tmp_path) as door, start_server(door.app) as running, playwright.sync_playwright() as driver:
        assert door.store is not None
        door.store.users.add("Ann", password=PASSWORD, roles=["admin"], by="test")
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{running.url}/card")
        assert page.url == f"{running.url}/login?next=/card"
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill("a wrong guess")
        page.get_by_role("button", name="Sign in").click()
        assert "do not belong together" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Name").input_value() == "ann"
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{running.url}/card")
        page.goto(running.url)
        page.set_input_files("#files", [{"name": "a.png", "mimeType": "image/png", "buffer": picture()}])
        page.locator(".is-accepted").first.wait_for()  # the page's script sent the token
        assert page.evaluate("document.cookie") == ""  # no script reads it
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.get_by_role("button", name="Sign out").first.click()
        page.wait_for_url(f"{running.url}/login")
        page.goto(running.url)
        assert "/login" in page.url
        browser.close()
    assert complaints == []


# Addresses that the server would fetch


def test_no_address_is_fetched_unless_allowed() -> None:
    with open_door(None) as door:
        reply = door.post("/predict", json={"url": "http://127.0.0.1:9/x.png"})
        assert reply.status_code in {403, 422}
        assert "allow_url" in reply.json()["message"]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/secret", "http://localhost:{port}/secret", "http://[::1]:{port}/secret", "http://0:{port}/secret",
     "http://2130706433:{port}/secret", "http://0x7f.1:{port}/secret", "http://[::ffff:127.0.0.1]:{port}/secret",
     "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/",
     "http://user:pass@127.0.0.1:{port}/", "http://127.0.0.1:{port}@example.org/", "//127.0.0.1:{port}/", "http://127.1:{port}/"],
)  # fmt: skip
def test_no_private_address_is_fetched(url: str) -> None:
    """SSRF. The listener says whether anyone came."""
    with socket.create_server(("127.0.0.1", 0)) as inner, open_door(None, allow_url=1) as door:
        inner.settimeout(0.2)
        reply = door.post("/predict", json={"url": url.format(port=inner.getsockname()[1])})
        assert reply.status_code == 422, reply.text
        with pytest.raises(TimeoutError):
            inner.accept()
        assert "root:" not in reply.text


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyFirst(AddressRule):
    """127.0.0.1 plays the public internet; 127.0.0.2, as all else, is private."""

    def why_not(self, address: str) -> str | None:
        return None if address == "127.0.0.1" else AddressRule().why_not(address)


@contextmanager
def web(address: str, answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers every request alike; its port, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server((address, 0)) as listener:

        def run() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    asked.append(client.recv(65_536))
                    client.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)


def http_answer(head: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def fetching(door: Door, resolve: Resolve) -> Door:
    door.app.state.url_fetcher = UrlFetcher(is_allowed=True, max_bytes=10**6, rule=OnlyFirst(), resolve=resolve)
    return door


def test_a_redirect_does_not_lead_inside() -> None:
    with web("127.0.0.2", http_answer("200 OK\r\nContent-Type: image/png", picture())) as (port, asked):
        for to in (f"http://127.0.0.2:{port}/secret", f"http://inner.example:{port}/secret", f"//127.0.0.2:{port}/"):
            with (
                web("127.0.0.1", http_answer(f"302 Found\r\nLocation: {to}")) as (front, came),
                open_door(None) as door,
            ):
                names = {"outer.example": ["127.0.0.1"], "inner.example": ["127.0.0.2"]}
                fetching(door, lambda host, _: names[host])  # noqa: B023
                reply = door.post("/predict", json={"url": f"http://outer.example:{front}/a.png"})
                assert reply.status_code == 422, reply.text
                assert len(came) == 1  # it did ask the first
                for word in ("127.0.0", "inner", str(port)):  # the inner network is not described either
                    assert word not in reply.text
        assert asked == []


def test_a_name_that_changes_its_address_between_two_looks_does_not_lead_inside() -> None:
    """DNS re-binding: the address that was checked is the one that is connected to."""
    said: list[str] = []

    def resolve(host: str, _: float) -> list[str]:
        said.append(host)
        return ["127.0.0.1"] if len(said) == 1 else ["127.0.0.2"]

    good = http_answer("200 OK\r\nContent-Type: image/png", picture())
    with web("127.0.0.1", good) as (port, came), socket.create_server(("127.0.0.2", port)) as inner:
        inner.settimeout(0.2)
        with open_door(None) as door:
            reply = fetching(door, resolve).post("/predict", json={"url": f"http://turns.example:{port}/a.png"})
        assert reply.status_code == 200, reply.text
        assert (len(came), len(said)) == (1, 1)
        with pytest.raises(TimeoutError):
            inner.accept()
        with open_door(None) as door:  # now the name leads inside
            reply = fetching(door, resolve).post("/predict", json={"url": f"http://turns.example:{port}/a.png"})
        assert reply.status_code == 422
        with pytest.raises(TimeoutError):
            inner.accept()


def test_one_private_address_among_public_ones_is_enough_to_refuse_or_is_passed_over() -> None:
    with socket.create_server(("127.0.0.2", 0)) as inner, open_door(None) as door:
        inner.settimeout(0.2)
        port = inner.getsockname()[1]
        fetching(door, lambda *_: ["127.0.0.2", "127.0.0.1"])
        assert door.post("/predict", json={"url": f"http://both.example:{port}/a.png"}).status_code == 422
        with pytest.raises(TimeoutError):
            inner.accept()


def test_openapi_says_that_a_key_is_asked_for(door: Door) -> None:
    described = door.get("/openapi.json", headers={"X-API-Key": door.key("predict")}).json()
    assert json.dumps(described)
    predict = described["paths"]["/predict"]["post"]
    assert {"401", "403", "429"} <= set(predict["responses"])
