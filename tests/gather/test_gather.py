"""A whole gathering against a web of our own: what is bad is refused by name, the rest is gathered, once."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drivetrain import GatherConfig, gather
from drivetrain.data.gather.search import Found
from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, NotFound, Unavailable
from drivetrain.flows.gather import GatherResult
from drivetrain.progress import SilentProgress
from drivetrain.settings import load_settings

from .web import (
    Handler,
    Web,
    breaks_off,
    drips,
    floods,
    gives,
    hangs,
    in_turn,
    picture,
    redirects,
    resolver,
    until,
)

HTML = b"<!doctype html><html><body>not found</body></html>"


def run(dest: Path, **options: Any) -> GatherResult:
    """Gather impatiently, private networks allowed: the server is one."""
    given = {
        name: options.pop(name)
        for name in ("settings", "progress", "search", "resolve", "ssl_context")
        if name in options
    }
    quick: dict[str, Any] = {"delay_s": 0.0, "backoff_s": 0.01, "timeout_s": 5.0, "allow_private": True}
    return gather(GatherConfig(dest=dest, **quick | options), **given)


def write_list(folder: Path, rows: Sequence[tuple[str, ...]], header: str = "url,class") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text).writerows([header.split(","), *rows])
    file = folder / "list.csv"
    file.write_text(text.getvalue(), encoding="utf-8")
    return file


def sources(dest: Path) -> list[dict[str, str]]:
    with (dest / "sources.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reasons(result: GatherResult) -> dict[str, str]:
    """The path of each address that was refused -> why."""
    return {wanted.url.rpartition("/")[2]: str(refusal) for wanted, refusal in result.refused}


def counts(result: GatherResult, label: str = "bear") -> tuple[int, int, int, int, int, int]:
    (tally,) = [tally for tally in result.classes if tally.label == label]
    parts = (tally.gathered, tally.already_there, tally.copies, tally.left_over, tally.refused.total())
    assert tally.asked == sum(parts)
    return (tally.asked, *parts)


def huge_png(side: int = 60_000) -> bytes:
    """A few bytes that say they are 3.6 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1_000))) + chunk(b"IEND", b"")
    )


def test_each_bad_answer_is_refused_by_name_and_the_rest_gathered(web: Web, tmp_path: Path) -> None:
    good = {f"/good{n}": gives(picture(n)) for n in range(12)}
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    web.pages = good | {
        "/metadata": redirects("http://169.254.169.254/latest/meta-data/"),
        "/flood": floods(10_000_000_000),
        "/announced": breaks_off(b"", announced=10_000_000_000),
        "/hang": hangs,
        "/drip": drips,
        "/html": gives(HTML),
        "/page": gives(HTML, kind="text/html"),
        "/circle": redirects("/circle"),
        "/cut": gives(picture(50)[: len(picture(50)) // 2]),
        "/broken": breaks_off(picture(51)[:100], announced=100_000),
        "/huge": gives(huge_png(), kind="image/png"),
        "/tiny": gives(picture(52, size=(300, 20))),
        "/empty": gives(b""),
        "/drawing": gives(svg, kind="image/svg+xml"),
        "/packed": gives(b"\x1f\x8b", Content_Encoding="gzip"),
        "/busy": in_turn(gives(b"", status=429, Retry_After="0"), gives(picture(60))),
        "/sick": in_turn(gives(b"", status=500), gives(b"", status=503), gives(picture(61))),
        "/dead": gives(b"", status=500),
    }
    urls = [web.url(path) for path in (*web.pages, "/gone")]
    urls += ["ftp://a.test/ftp", "http://me:secret@a.test/secret", "http://0.0.0.0/null", "http://gone.test/host"]
    result = run(
        tmp_path / "dest",
        urls=write_list(tmp_path, [(url, "bear") for url in urls]),
        max_bytes=300_000,
        timeout_s=1.0,
        retries=2,
        per_host=30,
        connections=30,
        resolve=resolver({}),
    )
    told = reasons(result)
    assert {name: told[name] for name in told if name not in ("hang", "cut", "broken")} == {
        "metadata": "private address: redirected to http://169.254.169.254/latest/meta-data/: "
        "169.254.169.254, link-local, where clouds keep their metadata service",
        "flood": "too large: more than 300,000 bytes; stopped reading there",
        "announced": "too large: more than 300,000 bytes; 10,000,000,000 bytes announced",
        "drip": "too slow: not complete in 1 s",
        "html": "unreadable: a web page, not a picture",
        "page": "wrong type: text/html",
        "circle": f"redirects: in a circle, back to {web.url('/circle')}",
        "huge": "unreadable: 60,000 x 60,000 pixels, and at most 80,000,000 are decoded",
        "tiny": "too small: 300 x 20 pixels, and the shorter side must have 64",
        "empty": "unreadable: an empty file (0 bytes)",
        "drawing": "unreadable: an SVG drawing, which is not supported",
        "packed": "encoded: gzip",
        "dead": "http 500: Internal Server Error",
        "gone": "http 404: Not Found",
        "ftp": "bad url: scheme 'ftp'",
        "secret": "bad url: a user name or password before the host",
        "null": "private address: 0.0.0.0, this machine",
        "host": "unknown host: gone.test has no address",
    }
    assert told["hang"] in ("silent: nothing for 1 s", "too slow: not complete in 1 s")
    assert told["cut"].startswith("unreadable: a damaged JPEG picture (")
    assert told["broken"].startswith("incomplete: ")
    assert counts(result) == (len(urls), 14, 0, 0, 0, len(told))
    assert web.bytes_sent < 40_000_000
    assert {row["url"] for row in sources(tmp_path / "dest")} == {web.url(path) for path in (*good, "/busy", "/sick")}
    assert web.asked["/dead"] == web.asked["/broken"] == 3  # once and two retries
    assert web.asked["/gone"] == web.asked["/html"] == 1
    assert (web.asked["/busy"], web.asked["/sick"]) == (2, 3)
    assert len(list((tmp_path / "dest" / "bear").iterdir())) == 14
    assert not (tmp_path / "dest" / ".gather").exists()
    assert result.has_pictures


def test_where_a_picture_came_from_is_on_record(web: Web, tmp_path: Path) -> None:
    web.pages = {"/old": redirects("/new"), "/new": gives(picture(), kind="image/png")}
    rows = [(web.url("/old"), "black bear", "CC BY 4.0", "http://a.test/page")]
    run(tmp_path / "dest", urls=write_list(tmp_path, rows, "url,class,licence,source"))
    (row,) = sources(tmp_path / "dest")
    assert (tmp_path / "dest" / row["path"]).read_bytes() == picture()
    assert row["path"].startswith("black bear/")
    assert row["path"].endswith(".jpg")  # by its bytes, whatever the server says
    assert (row["url"], row["final_url"]) == (web.url("/old"), web.url("/new"))
    assert (row["licence"], row["source"], row["found_by"]) == ("CC BY 4.0", "http://a.test/page", "list list.csv")
    assert (row["width"], row["height"], row["bytes"]) == ("96", "80", str(len(picture())))


def test_a_second_run_asks_for_nothing_again(web: Web, tmp_path: Path) -> None:
    web.pages = {f"/{n}": gives(picture(n)) for n in range(5)} | {"/html": gives(HTML), "/sick": gives(b"", status=503)}
    urls = write_list(tmp_path, [(web.url(path), "bear") for path in (*web.pages, "/gone")])
    first = run(tmp_path / "dest", urls=urls, retries=0)
    assert counts(first) == (8, 5, 0, 0, 0, 3)
    web.asked.clear()
    second = run(tmp_path / "dest", urls=urls, retries=0)
    assert counts(second) == (8, 0, 5, 0, 0, 3)
    assert web.asked == {"/sick": 1}  # what may pass is asked for again
    assert reasons(second) == reasons(first)
    assert second.has_pictures


def test_retry_refused_asks_again(web: Web, tmp_path: Path) -> None:
    web.pages = {"/0": gives(picture(0)), "/1": gives(HTML)}
    urls = write_list(tmp_path, [(web.url(path), "bear") for path in web.pages])
    run(tmp_path / "dest", urls=urls)
    deleted = tmp_path / "dest" / sources(tmp_path / "dest")[0]["path"]
    deleted.unlink()
    web.pages["/1"] = gives(picture(1))
    result = run(tmp_path / "dest", urls=urls)
    assert reasons(result) == {"0": "removed: by you, from its class", "1": "unreadable: a web page, not a picture"}
    assert not result.has_pictures
    assert counts(run(tmp_path / "dest", urls=urls, retry_refused=True)) == (2, 2, 0, 0, 0, 0)
    assert deleted.is_file()
    assert web.asked == {"/0": 2, "/1": 2}


def test_what_an_option_refused_is_tried_again_under_another(web: Web, tmp_path: Path) -> None:
    web.pages = {"/small": gives(picture(1, size=(50, 50))), "/large": gives(picture(2, size=(400, 400)))}
    urls = write_list(tmp_path, [(web.url(path), "bear") for path in web.pages])
    strict: dict[str, Any] = {"urls": urls, "max_bytes": 50_000, "min_size": 64}
    assert reasons(run(tmp_path / "dest", **strict, allow_private=False)).keys() == {"small", "large"}
    assert web.asked.total() == 0
    assert {why[:9] for why in reasons(run(tmp_path / "dest", **strict)).values()} == {"too small", "too large"}
    assert web.asked.total() == 2
    run(tmp_path / "dest", **strict)
    assert web.asked.total() == 2
    assert counts(run(tmp_path / "dest", **strict | {"min_size": 50})) == (2, 1, 0, 0, 0, 1)
    assert counts(run(tmp_path / "dest", **strict | {"max_bytes": 1_000_000})) == (2, 1, 1, 0, 0, 0)
    assert web.asked == {"/small": 2, "/large": 2}


def test_private_addresses_are_refused_unless_allowed(web: Web, tmp_path: Path) -> None:
    web.pages = {"/x": gives(picture())}
    urls = write_list(tmp_path, [(web.url("/x", host), "bear") for host in ("127.0.0.1", "inner.test")])
    dns = resolver({"inner.test": ["127.0.0.1"]})
    result = run(tmp_path / "dest", urls=urls, resolve=dns, allow_private=False)
    assert [str(refusal) for _, refusal in result.refused] == [
        "private address: 127.0.0.1, this machine",
        "private address: inner.test is 127.0.0.1, this machine",
    ]
    assert result.notes == ("Addresses that lead into no public network: 2; if they are yours, --allow-private.",)
    assert web.asked.total() == 0
    assert counts(run(tmp_path / "dest", urls=urls, resolve=dns)) == (2, 1, 0, 1, 0, 0)


def test_a_host_is_asked_by_no_more_than_allowed_at_once(web: Web, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=20)  # passes only if three come at once

    def meet(handler: Handler) -> None:
        together.wait()
        handler.answer(200, picture(int(handler.path[1:])))

    web.pages = {f"/{n}": meet for n in range(12)}
    urls = write_list(tmp_path, [(web.url(path), "bear") for path in web.pages])
    assert counts(run(tmp_path / "dest", urls=urls, per_host=3, connections=12))[1] == 12
    assert web.most_active == 3


def test_all_hosts_together_are_asked_by_no_more_than_allowed(web: Web, tmp_path: Path) -> None:
    web.pages = {f"/{n}": gives(picture(n)) for n in range(12)}
    dns = resolver({f"h{n}.test": ["127.0.0.1"] for n in range(12)})
    urls = write_list(tmp_path, [(web.url(f"/{n}", f"h{n}.test"), "bear") for n in range(12)])
    assert counts(run(tmp_path / "dest", urls=urls, connections=2, resolve=dns))[1] == 12
    assert web.most_active <= 2


def test_requests_to_a_host_keep_their_distance(web: Web, tmp_path: Path) -> None:
    web.pages = {f"/{n}": gives(picture(n)) for n in range(5)}
    urls = write_list(tmp_path, [(web.url(path), "bear") for path in web.pages])
    run(tmp_path / "dest", urls=urls, delay_s=0.1)
    times = sorted(at for at, _ in web.times)
    assert times[-1] - times[0] >= 0.25


def test_redirects_count_at_the_host_they_lead_to(web: Web, tmp_path: Path) -> None:
    web.pages = {f"/{n}": redirects(web.url(f"/to/{n}", "b.test")) for n in range(6)}
    busy = {"now": 0, "most": 0}

    def slow(handler: Handler) -> None:
        with handler.server.lock:
            busy["now"] += 1
            busy["most"] = max(busy["most"], busy["now"])
        handler.server.closing.wait(0.02)
        with handler.server.lock:
            busy["now"] -= 1
        handler.answer(200, picture(int(handler.path.rpartition("/")[2])))

    web.pages |= {f"/to/{n}": slow for n in range(6)}
    dns = resolver({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]})
    urls = write_list(tmp_path, [(web.url(f"/{n}", "a.test"), "bear") for n in range(6)])
    assert counts(run(tmp_path / "dest", urls=urls, per_host=1, resolve=dns))[1] == 6
    assert busy["most"] == 1


def test_retry_after_is_waited_for(web: Web, tmp_path: Path) -> None:
    web.pages = {"/x": in_turn(gives(b"", status=429, Retry_After="1"), gives(picture()))}
    run(tmp_path / "dest", urls=write_list(tmp_path, [(web.url("/x"), "bear")]))
    (first, _), (second, _) = web.times
    assert 1.0 <= second - first < 10


def test_a_server_that_asks_for_an_hour_is_left_alone(web: Web, tmp_path: Path) -> None:
    web.pages = {f"/{n}": gives(b"", status=503, Retry_After="3600") for n in range(30)} | {"/other": gives(picture())}
    rows = [(web.url(f"/{n}", "busy.test"), "bear") for n in range(30)] + [(web.url("/other"), "bear")]
    result = run(
        tmp_path / "dest",
        urls=write_list(tmp_path, rows),
        resolve=resolver({"busy.test": ["127.0.0.1"]}),
        per_host=1,
    )
    assert counts(result) == (31, 1, 0, 0, 0, 30)
    assert web.asked.total() == 2
    assert "http 503: busy.test asks to be left alone for 3,600 s" in reasons(result).values()


def test_a_dead_host_is_given_up(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def dns(host: str, timeout_s: float) -> list[str]:
        asked[host] += 1
        return []

    rows = [(f"http://gone.test/{n}", "bear") for n in range(50)]
    result = run(tmp_path / "dest", urls=write_list(tmp_path, rows), resolve=dns, per_host=1)
    assert counts(result)[5] == 50
    assert asked["gone.test"] == 5
    assert "given up after 5 failures" in reasons(result)["49"]


def test_a_class_gets_as_many_as_asked_and_is_filled_up_later(web: Web, tmp_path: Path) -> None:
    web.pages = {f"/{n}": gives(picture(n) if n % 3 else HTML) for n in range(30)}
    urls = write_list(tmp_path, [(web.url(path), "bear") for path in web.pages])
    result = run(tmp_path / "dest", urls=urls, max_per_class=5, connections=4)
    assert counts(result)[1] == 5
    assert counts(result)[4] > 10
    assert len(list((tmp_path / "dest" / "bear").iterdir())) == 5
    n_asked = web.asked.total()
    assert counts(run(tmp_path / "dest", urls=urls, max_per_class=5))[1:3] == (0, 5)
    assert web.asked.total() == n_asked
    assert counts(run(tmp_path / "dest", urls=urls, max_per_class=8))[1:3] == (3, 5)


def test_copies_and_pictures_of_two_classes_are_told(web: Web, tmp_path: Path) -> None:
    web.pages = {"/1": gives(picture()), "/2": gives(picture())}
    rows = [
        (web.url("/1"), "bear"),
        (web.url("/2"), "bear"),
        (web.url("/1#again"), "bear"),
        (web.url("/1"), "wolf"),
        (web.url("/1"), "fox"),
    ]
    result = run(tmp_path / "dest", urls=write_list(tmp_path, rows), connections=1)
    assert counts(result) == (2, 1, 0, 1, 0, 0)
    assert counts(result, "wolf") == counts(result, "fox") == (1, 1, 0, 0, 0, 0)
    assert web.asked == {"/1": 1, "/2": 1}  # the second class takes the bytes of the first
    assert [[path.partition("/")[0] for path in paths] for paths in result.shared] == [["bear", "fox", "wolf"]]
    assert "The same picture stands in several classes, 1 times; --json lists them." in result.notes


def test_only_the_classes_named(web: Web, tmp_path: Path) -> None:
    web.pages = {f"/{n}": gives(picture(n)) for n in range(3)}
    rows = [(web.url("/0"), "bear"), (web.url("/1"), "wolf"), (web.url("/2"), "bear")]
    result = run(tmp_path / "dest", urls=write_list(tmp_path, rows), classes=("bear", "fox"))
    assert [tally.label for tally in result.classes] == ["bear", "fox"]
    assert counts(result) == (2, 2, 0, 0, 0, 0)
    assert "Rows of list.csv in other classes, left alone: 1." in result.notes
    assert "Nothing was asked for in class 'fox'." in result.notes
    assert sorted(entry.name for entry in (tmp_path / "dest").iterdir()) == ["bear", "sources.csv"]


def test_a_local_folder_is_taken_in(tmp_path: Path) -> None:
    old = tmp_path / "old"
    for number, name in enumerate(["bear/1.jpg", "bear/2.png", "wolf/3.jpg"]):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_bytes(picture(number, kind="PNG" if name.endswith("png") else "JPEG"))
    (old / "bear" / "cut.jpg").write_bytes(picture(7)[:2_000])
    (old / "bear" / "large.bmp").write_bytes(picture(8, size=(200, 200), kind="BMP"))
    (old / "bear" / "small.gif").write_bytes(picture(9, size=(9, 9), kind="GIF"))
    os.mkfifo(old / "bear" / "pipe.jpg")
    result = run(tmp_path / "dest", folder=old, max_bytes=100_000)
    assert counts(result) == (6, 2, 0, 0, 0, 4)
    assert counts(result, "wolf") == (1, 1, 0, 0, 0, 0)
    told = reasons(result)
    assert told["cut.jpg"].startswith("unreadable: a damaged JPEG")
    assert told["large.bmp"] == "too large: 120,054 bytes, and at most 100,000 are taken"
    assert told["small.gif"].startswith("too small: 9 x 9 pixels")
    assert told["pipe.jpg"] == "no file: not a regular file"
    rows = sources(tmp_path / "dest")
    assert {row["url"] for row in rows} == {
        (old / name).as_uri() for name in ("bear/1.jpg", "bear/2.png", "wolf/3.jpg")
    }
    assert {row["found_by"] for row in rows} == {"folder old"}
    again = run(tmp_path / "dest", folder=old / "wolf", classes=("bear",))
    assert counts(again) == (1, 1, 0, 0, 0, 0)
    assert len(again.shared) == 1


@pytest.mark.parametrize("place", [".", "inner", ".."])
def test_a_folder_is_not_gathered_into_itself(place: str, tmp_path: Path) -> None:
    dest = tmp_path / "data" / "dest"
    (dest / "inner").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="within DEST or around it"):
        run(dest, folder=dest / place)


class Engine:
    """A search engine of our own."""

    name = "ours"

    def __init__(self, answers: dict[str, list[Found]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    def find(self, query: str, *, most: int) -> list[Found]:
        self.asked.append((query, most))
        if query not in self.answers:
            raise Unavailable(f"search for {query!r}", got="nothing", want="pictures")
        return self.answers[query][:most]


def test_a_search_for_each_class(web: Web, tmp_path: Path) -> None:
    web.pages = {f"/{n}": gives(picture(n)) for n in range(9)}
    engine = Engine(
        {
            "black bear": [Found(url=web.url(f"/{n}"), page=f"http://a.test/{n}") for n in range(6)],
            "teddy bear": [Found(url=web.url(f"/{n}")) for n in range(6, 9)],
        }
    )
    said: list[str] = []

    class Telling(SilentProgress):
        def say(self, message: str) -> None:
            said.append(message)

    options: dict[str, Any] = {"classes": ("black", "teddy"), "search": True, "query": "{class} bear"}
    given = options | {"max_per_class": 4}
    given.pop("search")
    config = GatherConfig(dest=tmp_path / "dest", search=True, delay_s=0.0, allow_private=True, **given)
    result = gather(config, search=engine, progress=Telling())
    assert engine.asked == [("black bear", 6), ("teddy bear", 6)]
    assert said == ["searching for 'black bear'", "searching for 'teddy bear'"]
    assert counts(result, "black")[1] == 4
    assert counts(result, "teddy")[1] == 3
    row = next(row for row in sources(tmp_path / "dest") if row["class"] == "black")
    assert row["source"] == f"http://a.test/{row['url'].rpartition('/')[2]}"
    assert row["found_by"] == "search ours: black bear"
    assert "A picture from a search is not free to use" in result.notes[-1]
    engine.asked.clear()
    gather(config, search=engine)
    assert engine.asked == [("teddy bear", 6)]  # the other class is full


def test_a_search_that_fails_for_one_class_or_for_all(web: Web, tmp_path: Path) -> None:
    web.pages = {"/0": gives(picture())}
    engine = Engine({"bear": [Found(url=web.url("/0"))]})
    base: dict[str, Any] = {"search": True, "delay_s": 0.0, "allow_private": True}
    result = gather(GatherConfig(dest=tmp_path / "dest", classes=("bear", "wolf"), **base), search=engine)
    assert counts(result)[1] == 1
    assert engine.asked[0] == ("bear", 225)
    assert any(note.startswith("Class 'wolf': search for 'wolf': got nothing") for note in result.notes)
    with pytest.raises(Unavailable, match="search for 'fox'"):
        gather(GatherConfig(dest=tmp_path / "other", classes=("fox",), **base), search=engine)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"urls": None}, "source: got none; want one of --urls FILE.csv, --from FOLDER, --search."),
        ({"search": True}, "--class: got none; want the classes to search for"),
        ({"query": "{class} bear"}, "--query: got {class} bear; want --search with it"),
        ({"search": True, "classes": ("a", "b"), "query": "bear"}, "--query: got bear; want words with {class}"),
        ({"search": True, "classes": ("a",), "query": " "}, "--query: got  ; want words with {class}"),
        ({"max_per_class": 0}, "--max: got 0; want pictures, at least 1."),
        ({"min_size": 0}, "--min-size: got 0; want pixels, at least 1."),
        ({"max_bytes": 10}, "--max-bytes: got 10; want bytes, at least 1,000."),
        ({"timeout_s": 0}, "--timeout: got 0; want seconds, more than 0."),
        ({"timeout_s": float("nan")}, "--timeout: got nan"),
        ({"timeout_s": float("inf")}, "--timeout: got inf"),
        ({"retries": -1}, "--retries: got -1; want tries, at least 0, at most 20."),
        ({"backoff_s": -1}, "backoff_s: got -1"),
        ({"per_host": 0}, "--per-host: got 0; want connections, at least 1, at most 256."),
        ({"delay_s": -0.1}, "--delay: got -0.1"),
        ({"connections": 1_000}, "--connections: got 1000"),
        ({"contact": "me\r\nX-Evil: 1"}, "--contact: got me"),
        ({"contact": "b\u00e4r@a.test"}, "--contact: got b"),
    ],
)
def test_options_that_are_off(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        GatherConfig(**{"dest": Path("x"), "urls": Path("x.csv")} | options)
    assert told in caught.value.message


def test_nothing_is_made_where_nothing_can_begin(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        run(tmp_path / "dest", urls=tmp_path / "gone.csv")
    with pytest.raises(InvalidInput, match="--class: got 'a/b', with /"):
        run(tmp_path / "dest", urls=tmp_path / "gone.csv", classes=("a/b",))
    rows = [("http://a.test/1", "Bear"), ("http://a.test/2", "bear")]
    with pytest.raises(Conflict, match="got 'Bear' and 'bear'; want classes that differ in more than capital letters"):
        run(tmp_path / "dest", urls=write_list(tmp_path, rows))
    assert not (tmp_path / "dest").exists()
    (tmp_path / "dest" / "BEAR").mkdir(parents=True)
    with pytest.raises(Conflict, match="got 'bear' and 'BEAR'"):
        run(tmp_path / "dest", urls=write_list(tmp_path, rows[1:]))


def test_the_limits_of_the_settings_hold(web: Web, tmp_path: Path) -> None:
    wide, large = picture(1, size=(200, 100), kind="PNG"), picture(2, size=(400, 400))
    web.pages = {"/pixels": gives(wide), "/bytes": gives(large)}
    settings = load_settings(environ={}, folder=tmp_path, flags={"image_max_bytes": 70_000, "image_max_pixels": 19_999})
    urls = write_list(tmp_path, [(web.url(path), "bear") for path in web.pages])
    assert reasons(run(tmp_path / "dest", urls=urls, settings=settings)) == {
        "pixels": "unreadable: 200 x 100 pixels, and at most 19,999 are decoded",
        "bytes": f"too large: more than 70,000 bytes; {len(large):,} bytes announced",
    }


def test_the_servers_owner_can_reach_us(web: Web, tmp_path: Path) -> None:
    web.pages = {"/x": gives(picture())}
    urls = write_list(tmp_path, [(web.url("/x"), "bear")])
    run(tmp_path / "1", urls=urls)
    run(tmp_path / "2", urls=urls, contact="me@a.test")
    first, second = (sent["User-Agent"] for sent in web.headers_seen)
    assert first.startswith("drivetrain/")
    assert first.endswith("(gathers pictures for a data set)")
    assert second.endswith("(gathers pictures for a data set; me@a.test)")


def test_a_fault_in_a_thread_ends_the_run(web: Web, tmp_path: Path) -> None:
    """A full disk, say: not one error for each picture left, and what is there stays."""
    web.pages = {f"/{n}": gives(picture(n)) for n in range(9)}
    urls = write_list(tmp_path, [(web.url(path), "bear") for path in web.pages])
    dest = tmp_path / "dest"

    def answer_and_spoil(handler: Handler) -> None:
        (dest / "bear").touch()  # where the folder must be made
        gives(picture())(handler)

    web.pages["/0"] = answer_and_spoil
    with pytest.raises(Conflict, match="a file; want a folder, or nothing, where class 'bear' goes"):
        run(dest, urls=urls, connections=2)
    assert web.asked.total() <= 4


def test_a_progress_bar_for_each_class(web: Web, tmp_path: Path) -> None:
    web.pages = {"/0": gives(picture())}
    seen: dict[str, list[int]] = {}

    class Bars(SilentProgress):
        def task(self, name: str, total: int) -> Any:
            @contextlib.contextmanager
            def bar() -> Any:
                steps = seen.setdefault(f"{name} {total}", [])
                yield steps.append

            return bar()

    rows = [(web.url("/0"), "bear"), (web.url("/1"), "bear"), (web.url("/2"), "wolf")]
    run(tmp_path / "dest", urls=write_list(tmp_path, rows), progress=Bars())
    assert seen == {"bear 2": [1, 1], "wolf 1": [1]}


def test_the_result_as_json(web: Web, tmp_path: Path) -> None:
    web.pages = {"/0": gives(picture())}
    rows = [(web.url("/0"), "bear"), (web.url("/1"), "bear")]
    plain = run(tmp_path / "dest", urls=write_list(tmp_path, rows)).as_json()
    assert plain.pop("seconds") > 0
    assert plain == {
        "dest": str(tmp_path / "dest"),
        "classes": [
            {
                "class": "bear",
                "asked": 2,
                "gathered": 1,
                "already_there": 0,
                "copies": 0,
                "left_over": 0,
                "refused": {"http_404": 1},
            }
        ],
        "refused": [{"url": web.url("/1"), "class": "bear", "reason": "http_404", "detail": "Not Found"}],
        "in_several_classes": [],
        "notes": [],
        "sources": str(tmp_path / "dest" / "sources.csv"),
        "refused_file": str(tmp_path / "dest" / "refused.csv"),
    }


def test_the_pictures_are_decoded_to_their_end(web: Web, tmp_path: Path) -> None:
    """At an eighth of the size all the data of a JPEG is read still, so one cut near its end is found."""
    out = io.BytesIO()
    Image.effect_noise((640, 480), 60).convert("RGB").save(out, "JPEG", progressive=True)
    whole = out.getvalue()
    web.pages = {"/whole": gives(whole)} | {
        f"/cut{percent}": gives(whole[: len(whole) * percent // 100]) for percent in (10, 50, 90, 97)
    }
    result = run(tmp_path / "dest", urls=write_list(tmp_path, [(web.url(path), "bear") for path in web.pages]))
    assert counts(result) == (5, 1, 0, 0, 0, 4)


def test_time_is_not_spent_waiting_for_the_slow(web: Web, tmp_path: Path) -> None:
    """The others come through while one host hangs."""
    web.pages = {f"/{n}": gives(picture(n)) for n in range(20)} | {"/hang": hangs}
    rows = [(web.url("/hang", "slow.test"), "bear")] + [(web.url(f"/{n}"), "bear") for n in range(20)]
    dns = resolver({"slow.test": ["127.0.0.1"]})
    begun = time.monotonic()
    thread = threading.Thread(
        target=run,
        args=(tmp_path / "dest",),
        kwargs={"urls": write_list(tmp_path, rows), "resolve": dns, "connections": 2, "retries": 0, "timeout_s": 2},
    )
    thread.start()
    until(lambda: web.asked.total() == 21)
    assert time.monotonic() - begun < 2
    thread.join()
