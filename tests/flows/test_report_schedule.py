from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from drivetrain.errors import Unavailable
from drivetrain.flows.report_schedule import Every, find_end, name_dated, run_reports
from drivetrain.flows.rollout import rollback
from drivetrain.flows.webhook import post_signed, sign
from drivetrain.store.store import Store

from .rollout_traffic import Clock, Traffic, begin

SECRET = "sixteen and more characters"
DAY_S = 86_400.0


class Enough(Exception):
    """The test has seen enough."""


class Night:
    """Sleeps by moving the clock; at each report's end something may happen, and at the last it is over."""

    def __init__(self, clock: Clock, *, ends: int) -> None:
        self.clock, self.ends, self.naps = clock, ends, 0
        self.told: list[str] = []
        self.shown: list[dict[str, Any]] = []

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 60
        self.naps += 1
        self.clock.now += seconds

    def tell(self, words: str) -> None:
        self.told.append(words)
        if words.startswith("The next report"):
            self.ends -= 1
            if self.ends < 0:
                raise Enough

    def show(self, summary: dict[str, Any]) -> None:
        self.shown.append(summary)


def run(store: Store, night: Night, page: Path, *, every: Every = "day", post: Any = None) -> None:
    run_reports(
        store, "shapes", page, every=every, post=post,
        clock=night.clock, sleep=night.sleep, tell=night.tell, show=night.show,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("every", "end", "name"),
    [
        ("hour", "2026-11-25T18:00", "r-2026-11-25T17.html"),
        ("day", "2026-11-26T00:00", "r-2026-11-25.html"),
        ("week", "2026-11-30T00:00", "r-2026-W48.html"),
    ],
)
def test_a_period_has_an_end_and_a_name(every: Every, end: str, name: str) -> None:
    at = datetime(2026, 11, 25, 17, 31, 2, tzinfo=UTC).timestamp()
    found = find_end(at, every)
    assert datetime.fromtimestamp(found, UTC).isoformat(timespec="minutes")[:16] == end
    assert name_dated(Path("r.html"), at, every).name == name
    assert find_end(found, every) > found  # a page that is written at the end belongs to the period before
    assert name_dated(Path("r.html"), found - 1, every).name == name


def test_a_page_each_day_and_what_changed_since_the_last(store: Store, clock: Clock, tmp_path: Path) -> None:
    traffic = Traffic(store, clock, begin(store, tmp_path))
    night, page = Night(clock, ends=2), tmp_path / "out" / "r.html"
    traffic.send(3)
    page.parent.mkdir()
    with pytest.raises(Enough):
        run(store, night, page)
    assert sorted(one.name for one in page.parent.iterdir()) == ["r-2023-11-14.html", "r-2023-11-15.html", "r.html"]
    assert page.read_bytes() == (page.parent / "r-2023-11-15.html").read_bytes()
    assert clock.now % DAY_S < 1
    assert night.shown[0]["changes"] == []
    assert "0 more requests counted" in night.shown[1]["changes"][1]
    assert night.told[0] == "The next report is due at 2023-11-15 00:00 UTC."
    assert [one["report"] for one in night.shown] == [str(page.parent / f"r-2023-11-{day}.html") for day in (14, 15)]


class Listener:
    """A real server that takes what is posted, or refuses."""

    def __init__(self) -> None:
        self.got: list[tuple[Mapping[str, str], bytes]] = []
        self.statuses: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.statuses.pop(0) if outer.statuses else 200
                if status == 200:
                    outer.got.append((dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    opened = Listener()
    yield opened
    opened.close()


def test_a_summary_is_posted_and_one_that_was_not_taken_goes_first_next_time(
    store: Store, clock: Clock, tmp_path: Path, listener: Listener
) -> None:
    begin(store, tmp_path, n_min=100)
    listener.statuses = [500]
    night = Night(clock, ends=2)
    post = partial(post_signed, listener.url, SECRET, "rollout.report", timeout_s=10)
    with pytest.raises(Enough):
        run(store, night, tmp_path / "r.html", post=post)
    [failed] = [words for words in night.told if "webhook" in words]
    assert "500" in failed
    assert "1 report waits; tried again next time." in failed
    bodies = [json.loads(body) for _, body in listener.got]
    assert [body["made_at"][:10] for body in bodies] == ["2023-11-15", "2023-11-16"]
    first = bodies[0]
    assert first["event"] == "rollout.report"
    assert (first["rollout"], first["stage"], first["share"], first["next"]) == ("shapes", "manual", 0.0, "limited")
    assert first["harm"]["is_shown"] is False
    assert any("0 of 100 requests: 100 more." in one for one in first["missing"])
    assert first["report"] == str(tmp_path / "r-2023-11-14.html")
    headers, body = listener.got[0]
    assert headers["X-Drivetrain-Signature"] == sign(SECRET, headers["X-Drivetrain-Timestamp"], body)


def test_a_page_that_cannot_be_written_costs_one_report(store: Store, clock: Clock, tmp_path: Path) -> None:
    begin(store, tmp_path)
    night = Night(clock, ends=3)
    page = tmp_path / "out" / "r.html"
    page.parent.write_text("in the way")

    def tell(words: str) -> None:
        if words.startswith("No report"):
            page.parent.unlink()
        Night.tell(night, words)

    with pytest.raises(Enough):
        run_reports(
            store, "shapes", page, every="hour", post=None,
            clock=clock, sleep=night.sleep, tell=tell, show=night.show,
        )  # fmt: skip
    assert sum(words.startswith("No report") for words in night.told) == 1
    assert len(night.shown) == 2


def test_the_end_of_a_roll_out_is_its_last_report(store: Store, clock: Clock, tmp_path: Path) -> None:
    begin(store, tmp_path)
    rollback(store, "shapes", by="ann", reason="enough")
    night = Night(clock, ends=5)

    def refuse(_: Mapping[str, Any]) -> None:
        raise Unavailable("webhook", got="nothing", want="an answer")

    run(store, night, tmp_path / "r.html", every="hour", post=refuse)
    assert len(night.shown) == 1
    assert night.shown[0]["missing"] == []
    assert night.told[-1] == "The roll-out is over: rolled back. This was its last report."
