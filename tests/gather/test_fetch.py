"""One fetch against servers that lie, hang, flood and lead astray: each is refused by name and costs little."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from drivetrain.data.gather.addresses import AddressRule, parse_url
from drivetrain.data.gather.fetch import Fetched, Fetcher, FetchLimits
from drivetrain.data.gather.refusal import Refused

from .web import (
    CA_FILE,
    Handler,
    Web,
    breaks_off,
    drips,
    drips_head,
    floods,
    gives,
    hangs,
    picture,
    redirects,
    resolver,
    serving,
    speaks_nonsense,
)  # fmt: skip

DNS = resolver({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"], "pictures.test": ["127.0.0.1"]})
Fetch = Callable[..., Fetched]


@pytest.fixture
def fetch() -> Iterator[Fetch]:
    open_ones: list[Fetcher] = []

    def run(url: str, *, enter: Callable[[str], None] = lambda host: None, **options: Any) -> Fetched:
        limits = {
            name: options.pop(name)
            for name in ("max_bytes", "timeout_s", "silence_s", "max_redirects")
            if name in options
        }
        given: dict[str, Any] = {
            "rule": AddressRule(allow_private=True),
            "user_agent": "drivetrain/test",
            "connections": 4,
            "resolve": DNS,
        }
        fetcher = Fetcher(limits=FetchLimits(**limits), **given | options)
        open_ones.append(fetcher)
        return fetcher.fetch(parse_url(url), enter=enter)

    yield run
    for fetcher in open_ones:
        fetcher.close()


def refused(fetch: Fetch, url: str, **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        fetch(url, **options)
    return caught.value


def test_the_bytes_come_as_they_are(web: Web, fetch: Fetch) -> None:
    web.pages = {"/b\u00e4r.jpg".encode().decode("latin-1"): gives(b""), "/b%C3%A4r.jpg": gives(b"x" * 300_000)}
    got = fetch(web.url("/b\u00e4r.jpg?q=1", "a.test"))
    assert got == Fetched(data=b"x" * 300_000, url=web.url("/b%C3%A4r.jpg?q=1", "a.test"))
    (sent,) = web.headers_seen
    assert sent["Host"] == f"a.test:{web.port}"
    assert sent["User-Agent"] == "drivetrain/test"
    assert sent["Accept-Encoding"] == "identity"
    assert sent["Accept"].startswith("image/jpeg")
    assert not {"Cookie", "Referer", "Authorization"} & set(sent)


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/JPEG; charset=utf-8", "application/octet-stream", "", None])
def test_types_that_may_be_a_picture(kind: str | None, web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(b"bytes", kind=kind)}
    assert fetch(web.url("/x")).data == b"bytes"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json", "video/mp4", "application/pdf"])
def test_a_type_that_is_no_picture_is_not_read(kind: str, web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(b"<html>", kind=kind)}
    exc = refused(fetch, web.url("/x"))
    assert str(exc) == f"wrong type: {kind.partition(';')[0]}"
    assert not exc.may_retry


@pytest.mark.parametrize(
    ("status", "told", "may_retry"),
    [
        (404, "http 404: Not Found", False),
        (403, "http 403: Forbidden", False),
        (410, "http 410: Gone", False),
        (204, "http 204: No Content", False),
        (429, "http 429: Too Many Requests", True),
        (500, "http 500: Internal Server Error", True),
        (503, "http 503: Service Unavailable", True),
        (599, "http 599", False),
    ],
)
def test_a_status_is_told(status: int, told: str, may_retry: bool, web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(b"", status=status)}
    exc = refused(fetch, web.url("/x"))
    assert (str(exc), exc.may_retry, exc.wait_s, exc.host_failed) == (told, may_retry, None, False)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("in an hour", 3_500, 3_600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_retry_after_is_read(text: str, low: float, high: float, web: Web, fetch: Fetch) -> None:
    if text == "in an hour":  # as a date, which must not be made long before it is asked for
        text = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    web.pages = {"/x": gives(b"", status=429, Retry_After=text)}
    wait_s = refused(fetch, web.url("/x")).wait_s
    assert wait_s is not None
    assert low <= wait_s <= high


@pytest.mark.parametrize("text", ["soon", "-1", "1e9", "\u00b2", "Mon, 01 Jan 2020 00:00:00 +9999999999999999999"])
def test_a_retry_after_that_says_nothing_is_passed_over(text: str, web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(b"", status=429, Retry_After=text)}
    assert refused(fetch, web.url("/x")).wait_s is None


def test_an_announced_size_is_refused_unread(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": breaks_off(b"x" * 10, announced=10_000_000_000)}
    exc = refused(fetch, web.url("/x"), max_bytes=1_000)
    assert str(exc) == "too large: more than 1,000 bytes; 10,000,000,000 bytes announced"
    assert exc.refusal.limit == "max-bytes 1000"


def test_ten_gigabytes_cost_no_more_than_the_limit(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": floods(10_000_000_000)}
    exc = refused(fetch, web.url("/x"), max_bytes=200_000)
    assert str(exc) == "too large: more than 200,000 bytes; stopped reading there"
    assert web.bytes_sent < 30_000_000  # what the system's buffers took in besides


def test_as_many_bytes_as_allowed_are_taken(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(b"x" * 1_000), "/chunked": floods(131_072)}
    assert len(fetch(web.url("/x"), max_bytes=1_000).data) == 1_000
    assert len(fetch(web.url("/chunked"), max_bytes=131_072).data) == 131_072
    assert refused(fetch, web.url("/x"), max_bytes=999).refusal.reason == "too_large"


def test_a_compressed_answer_is_refused_packed(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")}
    assert str(refused(fetch, web.url("/x"))) == "encoded: gzip"


def test_a_server_that_hangs_is_left(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": hangs}
    exc = refused(fetch, web.url("/x"), silence_s=0.1)
    assert (str(exc), exc.may_retry, exc.host_failed) == ("silent: nothing for 0.1 s", True, True)


@pytest.mark.parametrize("page", [drips, drips_head])
def test_a_server_that_drips_is_left_when_its_time_is_over(page: Any, web: Web, fetch: Fetch) -> None:
    """A byte now and then is never silent; only the time of the whole transfer ends it."""
    web.pages = {"/x": page}
    exc = refused(fetch, web.url("/x"), silence_s=5, timeout_s=0.3)
    assert (str(exc), exc.may_retry) == ("too slow: not complete in 0.3 s", False)


def test_a_wait_that_ends_with_the_whole_time_is_too_slow_not_silent(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": hangs}
    assert refused(fetch, web.url("/x"), silence_s=5, timeout_s=0.1).refusal.reason == "too_slow"


def test_the_whole_time_holds_over_redirects(web: Web, fetch: Fetch) -> None:
    def slow(handler: Handler) -> None:
        handler.server.closing.wait(0.2)
        handler.answer(302, Location=f"{handler.path}x")

    web.pages = dict.fromkeys(["/x", "/xx", "/xxx", "/xxxx"], slow)
    assert refused(fetch, web.url("/x"), timeout_s=0.5, silence_s=5).refusal.reason == "too_slow"
    assert sum(web.asked.values()) < 4


@pytest.mark.parametrize("sent", [b"", b"half"])
def test_an_answer_that_breaks_off(sent: bytes, web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": breaks_off(sent, announced=100)}
    exc = refused(fetch, web.url("/x"))
    assert exc.refusal.reason == "incomplete"
    assert "peer closed connection" in exc.refusal.detail
    assert exc.may_retry


def test_what_is_no_http(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": speaks_nonsense}
    exc = refused(fetch, web.url("/x"))
    assert (exc.refusal.reason, exc.may_retry) == ("bad_answer", True)


def test_a_port_where_nobody_listens(fetch: Fetch) -> None:
    with serving(Web()) as gone:
        url = gone.url("/x")
    exc = refused(fetch, url)
    assert exc.refusal.reason == "no_connection"
    assert "refused" in exc.refusal.detail
    assert (exc.may_retry, exc.host_failed) == (True, True)


def test_a_host_without_an_address(fetch: Fetch) -> None:
    assert str(refused(fetch, "http://gone.test/x")) == "unknown host: gone.test has no address"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int, web: Web, fetch: Fetch) -> None:
    web.pages = {
        "/old/x": redirects("../new/b\u00e4r 1.jpg".encode().decode("latin-1"), status),
        "/new/b%C3%A4r%201.jpg": gives(b"here"),
    }
    hosts: list[str] = []
    assert fetch(web.url("/old/x"), enter=hosts.append) == Fetched(data=b"here", url=web.url("/new/b%C3%A4r%201.jpg"))
    assert hosts == ["127.0.0.1", "127.0.0.1"]


def test_a_redirect_to_another_host_asks_for_a_turn_there(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": redirects(web.url("/y", "b.test")), "/y": gives(b"here")}
    hosts: list[str] = []
    assert fetch(web.url("/x", "a.test"), enter=hosts.append).url == web.url("/y", "b.test")
    assert hosts == ["a.test", "b.test"]


@pytest.mark.parametrize(
    ("place", "reason", "told"),
    [
        ("http://169.254.169.254/latest/meta-data/", "private_address", "169.254.169.254, link-local, where clouds"),
        ("http://2852039166/", "private_address", "2852039166 is 169.254.169.254, link-local"),
        ("http://[fd00:ec2::254]/", "private_address", "a cloud's metadata service"),
        ("http://metadata.test/", "private_address", "metadata.test is 169.254.169.254"),
        ("ftp://a.test/x", "bad_url", "redirected to ftp://a.test/x: scheme 'ftp'"),
        ("file:///etc/passwd", "bad_url", "scheme 'file'"),
        ("http://me:secret@a.test/", "bad_url", "a user name or password"),
        ("", "redirects", "to nowhere"),
        ("http://0177.0.0.1/", "redirects", "to what is no address"),
    ],
)
def test_a_redirect_is_checked_like_the_first_address(
    place: str, reason: str, told: str, web: Web, fetch: Fetch
) -> None:
    web.pages = {"/x": redirects(place)}
    exc = refused(fetch, web.url("/x"), resolve=resolver({"metadata.test": ["169.254.169.254"]}))
    assert exc.refusal.reason == reason
    assert told in exc.refusal.detail
    if reason == "private_address":
        assert exc.refusal.detail.startswith("redirected to http://")
    assert not exc.may_retry


def test_redirects_in_a_circle_and_without_end(web: Web, fetch: Fetch) -> None:
    web.pages = {"/a": redirects("/b"), "/b": redirects("/a")}
    assert str(refused(fetch, web.url("/a"))) == f"redirects: in a circle, back to {web.url('/a')}"
    web.pages = {f"/{n}": redirects(f"/{n + 1}") for n in range(20)}
    assert str(refused(fetch, web.url("/0"))) == f"redirects: more than 5, to {web.url('/6')}"
    assert sum(web.asked[f"/{n}"] for n in range(20)) == 6
    web.asked.clear()
    assert refused(fetch, web.url("/0"), max_redirects=2).refusal.reason == "redirects"
    assert web.asked.total() == 3
    web.pages["/5"] = gives(b"here")
    assert fetch(web.url("/0")).data == b"here"


def test_a_private_address_is_not_connected_to(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(b"secret")}
    for host in ("127.0.0.1", "a.test", "127.1", "2130706433"):
        exc = refused(fetch, web.url("/x", host), rule=AddressRule())
        assert exc.refusal.reason == "private_address"
    assert web.asked.total() == 0


def test_the_address_that_was_checked_is_the_one_connected_to(web: Web, fetch: Fetch) -> None:
    """Rebinding: a DNS that gives a good address to the check and a bad one to the connection."""
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    web.pages = {"/x": gives(b"here")}
    assert fetch(web.url("/x", "rebinds.test"), resolve=lambda host, timeout_s: next(answers)).data == b"here"
    assert next(answers) == ["169.254.169.254"]  # it was asked once, no more


def test_the_next_address_is_tried_where_the_first_is_dead(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(b"here")}
    dns = resolver({"two.test": ["127.0.0.2", "127.0.0.1"]})
    assert fetch(web.url("/x", "two.test"), resolve=dns).data == b"here"


def test_a_connection_is_used_again(web: Web) -> None:
    web.pages = {"/x": gives(b"x"), "/y": gives(b"y")}
    n_resolved = 0

    def dns(host: str, timeout_s: float) -> list[str]:
        nonlocal n_resolved
        n_resolved += 1
        return ["127.0.0.1"]

    fetcher = Fetcher(
        limits=FetchLimits(), rule=AddressRule(allow_private=True), user_agent="x", connections=2, resolve=dns
    )
    for path in ("/x", "/y", "/x"):
        fetcher.fetch(parse_url(web.url(path, "a.test")))
    fetcher.close()
    assert (n_resolved, web.asked.total()) == (1, 3)


def test_proxies_of_the_environment_are_passed_over(web: Web, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    web.pages = {"/x": gives(b"here")}
    assert fetch(web.url("/x")).data == b"here"


@pytest.fixture
def secure_web() -> Iterator[Web]:
    web = Web({"/x": gives(picture())})
    web.serve_tls()
    with serving(web):
        yield web


def test_tls_verifies_the_name_not_the_address(secure_web: Web, fetch: Fetch) -> None:
    trusting = ssl.create_default_context(cafile=CA_FILE)
    assert fetch(secure_web.url("/x", "pictures.test"), ssl_context=trusting).data == picture()
    exc = refused(fetch, secure_web.url("/x", "a.test"), ssl_context=trusting)
    assert exc.refusal.reason == "no_connection"
    assert "Hostname mismatch" in exc.refusal.detail
    assert not exc.may_retry


def test_a_certificate_of_nobody_is_refused(secure_web: Web, fetch: Fetch) -> None:
    exc = refused(fetch, secure_web.url("/x", "pictures.test"))
    assert "CERTIFICATE_VERIFY_FAILED" in exc.refusal.detail
    assert secure_web.asked.total() == 0


def test_threads_have_a_deadline_each(web: Web) -> None:
    """One slow transfer must not end another that has just begun."""
    web.pages = {"/slow": drips, "/x": gives(b"here")}
    fetcher = Fetcher(
        limits=FetchLimits(timeout_s=0.4), rule=AddressRule(allow_private=True), user_agent="x", connections=4
    )
    told: list[str] = []

    def go_slow() -> None:
        with pytest.raises(Refused) as caught:
            fetcher.fetch(parse_url(web.url("/slow")))
        told.append(str(caught.value))

    thread = threading.Thread(target=go_slow)
    thread.start()
    while thread.is_alive():
        assert fetcher.fetch(parse_url(web.url("/x"))).data == b"here"
    thread.join()
    fetcher.close()
    assert told == ["too slow: not complete in 0.4 s"]


def informs_forever(handler: Handler) -> None:
    """Says 100 Continue and never goes on."""
    handler.close_connection = True
    while not handler.server.closing.is_set():
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 500)


def pads_chunks(handler: Handler) -> None:
    """A byte of the picture, then thousands in the chunk's extension, again and again."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Type", "image/jpeg")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not handler.server.closing.is_set():
        handler.wfile.write(b"1;" + b"x" * 10_000 + b"\r\na\r\n")


@pytest.mark.parametrize("page", [informs_forever, pads_chunks])
def test_what_stands_around_a_picture_has_a_limit_too(page: Any, web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": page}
    exc = refused(fetch, web.url("/x"), max_bytes=1_000, timeout_s=20.0)
    assert str(exc) == "bad answer: far more bytes around the picture than in it"


def test_each_request_may_bring_as_much_again(web: Web) -> None:
    web.pages = {"/x": gives(b"\xff" * 900_000)}
    limits = FetchLimits(max_bytes=900_000)
    fetcher = Fetcher(limits=limits, rule=AddressRule(allow_private=True), user_agent="x", connections=1)
    for _ in range(5):
        assert len(fetcher.fetch(parse_url(web.url("/x"))).data) == 900_000
    fetcher.close()


def test_a_host_that_idna_does_not_know_is_asked_for_as_it_is_spelled(web: Web, fetch: Fetch) -> None:
    web.pages = {"/x": gives(picture())}
    dns = resolver({"xn--i-7iq.test": ["127.0.0.1"]})  # i and a heart: sold as names, though IDNA 2008 has no hearts
    entered: list[str] = []
    assert fetch(web.url("/x", "xn--i-7iq.test"), resolve=dns, enter=entered.append).data == picture()
    assert entered == ["xn--i-7iq.test"]
