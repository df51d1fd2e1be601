"""Where people are the incumbent: 202 and a link, waiting, the webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from drivetrain.errors import InvalidConfig, Unavailable
from drivetrain.flows.webhook import check_webhook, post_signed, sign
from drivetrain.rollout.reviewing import CANNOT_TELL
from drivetrain.serve.metrics import Metrics
from drivetrain.serve.rollout.posts import Posts

from .fakes import call, settings
from .rollout_bench import BLUE, GREEN, HEADERS, NEW, RED, begin, poll, rollout_bench

SECRET = "a secret of some length"
NEW_SAYS = {"green": "blue", "blue": None}


def test_people_decide_and_the_caller_gets_a_link(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False, new=NEW_SAYS) as bench:
        deployment = begin(bench.store, has_incumbent=False, due_hours=2.0)
        bench.desk.refresh()
        reply = bench.post()
        body = reply.json()
        href = f"/predictions/{body['prediction_id']}"
        assert reply.status_code == 202
        assert body == {"prediction_id": body["prediction_id"], "state": "pending", "href": href}
        assert reply.headers["Location"] == href
        assert int(reply.headers["Retry-After"]) > 0

        [task] = bench.tasks(body)
        assert (task.why, task.deployment_id, task.people) == ("all", deployment.id, 1)
        row = bench.seen(body)
        assert (row.decided_by, row.wants_label, row.label_probability) == ("people", True, 1.0)
        assert row.candidate is not None
        assert bench.tasks(body) == [task]  # the shadow asks nobody once more
        assert row.image_sha256 is not None
        assert bench.store.images.get(row.image_sha256) == RED

        pending = call(bench.app, "GET", href)
        assert pending.status_code == 200
        assert pending.json() == {
            "prediction_id": body["prediction_id"], "state": "pending", "label": None, "decided_by": "people",
            "answered_at": None,
        }  # fmt: skip
        assert "Retry-After" in pending.headers
        bench.label(body, "coral")
        told = call(bench.app, "GET", href).json()
        assert (told["state"], told["label"], told["decided_by"]) == ("decided", "coral", "people")
        assert told["answered_at"] == pytest.approx(time.time(), abs=60)


def test_what_nobody_can_tell_and_what_nobody_told_in_time(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        dark, late = bench.send(), bench.send()
        bench.label(dark, CANNOT_TELL)
        assert call(bench.app, "GET", dark["href"]).json()["state"] == "unclear"
        bench.store.reviews.expire(time.time() + 10**6)
        assert call(bench.app, "GET", late["href"]).json()["state"] == "overdue"


def test_who_waits_is_told_as_soon_as_it_is_there(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        done: list[Any] = []
        asking = threading.Thread(target=lambda: done.append(bench.post(path="/predict?wait_s=20&name=a.png")))
        asking.start()
        poll(lambda: bench.store.reviews.open_count() == 1)
        [task] = [bench.store.reviews.claim("rita", order="deadline", lease_s=60)]
        assert task is not None
        bench.store.reviews.release(task.id, "rita")
        bench.label({"prediction_id": task.prediction_id}, "coral")
        asking.join(20)
        [reply] = done
        assert reply.status_code == 200
        assert (reply.json()["label"], reply.json()["state"], reply.json()["name"]) == ("coral", "decided", "a.png")

        other = bench.send()
        assert bench.post(path="/predict?wait_s=0.1").status_code == 202
        waiting = threading.Thread(
            target=lambda: done.append(call(bench.app, "GET", f"{other['href']}?wait_s=20").json())
        )
        waiting.start()
        poll(lambda: bool(bench.desk.waiting._listening))
        bench.label(other, "dune")
        waiting.join(20)
        assert done[-1]["label"] == "dune"


@pytest.mark.parametrize("wait_s", ["31", "-1", "soon", "nan"])
def test_how_long_to_wait_has_its_bounds(tmp_path: Path, wait_s: str) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        assert bench.post(path=f"/predict?wait_s={wait_s}").json()["field"] == "wait_s"


def test_several_pictures_each_have_their_own_object(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        images = [base64.b64encode(one).decode() for one in (RED, b"none", GREEN)]
        reply = call(bench.app, "POST", "/predict", json={"images": images})
        first, broken, last = reply.json()["predictions"]
        assert reply.status_code == 202
        assert "Location" not in reply.headers
        assert (first["state"], last["state"]) == ("pending", "pending")
        assert broken["error"]["code"] == "unreadable_picture"  # nobody is asked what nobody can open
        assert bench.store.reviews.open_count() == 2


def test_later_the_candidate_decides_its_share_and_leaves_the_rest(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False, new=NEW_SAYS) as bench:
        begin(bench.store, has_incumbent=False, scope="key=mine")
        bench.move("limited")
        decided = bench.send(GREEN, key="mine")
        assert (decided["version"], decided["label"]) == (NEW, "blue")
        left = bench.send(BLUE, key="mine")
        assert left["state"] == "pending"  # people decide what it leaves
        assert [(task.why, bench.row(left).decided_by) for task in bench.tasks(left)] == [("deferred", "candidate")]
        outside = bench.send(GREEN, key="other")
        assert [task.why for task in bench.tasks(outside)] == ["all"]
        bench.label(left, "fern")
        told = call(bench.app, "GET", left["href"]).json()
        assert (told["label"], told["decided_by"]) == ("fern", "people")
        mine = call(bench.app, "GET", f"/predictions/{decided['prediction_id']}").json()
        assert (mine["state"], mine["label"], mine["decided_by"]) == ("decided", "blue", "candidate")


def test_once_taken_back_people_go_on_and_the_candidate_decides_nothing(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        deployment = begin(bench.store, has_incumbent=False)
        bench.move("expanding", 1.0)
        assert bench.send()["version"] == NEW
        bench.move("rolled_back", 0.0)
        asked = len(bench.new.asked)
        after = bench.send()
        assert after["state"] == "pending"
        assert bench.store.requests.get(after["prediction_id"]) is None  # evidence of nothing
        [task] = bench.tasks(after)
        assert (task.why, task.deployment_id) == ("all", None)
        bench.label(after, "coral")
        assert call(bench.app, "GET", after["href"]).json()["label"] == "coral"
        assert len(bench.new.asked) == asked
        assert bench.desk.backlog(deployment.id) <= 1
        assert bench.send(path=f"/predict?model={NEW}")["version"] == NEW  # asked for by name
    with rollout_bench(tmp_path) as bench:  # another version: no roll-out ever spoke of it
        assert bench.send()["version"] != NEW


def test_a_prediction_is_told_to_who_asked(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        keys = bench.store.keys
        mine, theirs = (keys.create(name, roles={"predict"}, by="ann") for name in ("mine", "theirs"))
        checker = keys.create("checker", roles={"predict", "review"}, by="ann")

        def bearer(key: Any) -> dict[str, str]:
            return {"Authorization": f"Bearer {key[1]}"}

        reply = call(bench.app, "POST", "/predict", content=RED, headers=HEADERS | bearer(mine))
        href = reply.json()["href"]
        assert call(bench.app, "GET", href, headers=bearer(mine)).status_code == 200
        assert call(bench.app, "GET", href, headers=bearer(checker)).status_code == 200
        other = call(bench.app, "GET", href, headers=bearer(theirs))
        unknown = call(bench.app, "GET", "/predictions/" + "0" * 26, headers=bearer(theirs))
        assert (other.status_code, unknown.status_code) == (404, 404)
        assert other.json()["message"].replace(href[-26:], "ID") == unknown.json()["message"].replace("0" * 26, "ID")


def test_the_same_key_of_idempotency_gets_the_same_link(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        given = HEADERS | {"Idempotency-Key": "order-1"}
        first, again = (call(bench.app, "POST", "/predict", content=RED, headers=given) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.json() == first.json()
        assert again.headers["Location"] == first.headers["Location"]
        assert bench.store.reviews.open_count() == 1


def test_the_page_without_a_script_says_who_decides(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        reply = call(bench.app, "POST", "/", files={"file": ("a.png", RED, "image/png")})
        assert reply.status_code == 200
        assert "A person decides" in reply.text
        [task] = [bench.store.reviews.claim("rita", order="deadline", lease_s=60)]
        assert task is not None
        assert f"predictions/{task.prediction_id}" in reply.text


def test_the_protocol_has_no_word_for_people(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False, new=NEW_SAYS) as bench:
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        given = HEADERS | {"Inference-Header-Content-Length": "0"}
        reply = call(bench.app, "POST", "/v2/models/colours/infer", content=RED, headers=given)
        assert reply.status_code == 400
        assert "people" in reply.json()["error"]
        assert bench.store.predictions.count() == 0


# the webhook


class Listener:
    """Somebody's server: keeps what it got, and answers as it is told."""

    def __init__(self, *statuses: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        left = list(statuses)
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append((dict(self.headers), body))
                self.send_response(left.pop(0) if left else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/secret-path"


@contextmanager
def listening(*statuses: int) -> Iterator[Listener]:
    listener = Listener(*statuses)
    thread = threading.Thread(target=listener.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield listener
    finally:
        listener.server.shutdown()
        listener.server.server_close()
        thread.join()


def is_signed(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """As whoever gets it would check it."""
    stamp = headers["X-Drivetrain-Timestamp"]
    want = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    is_fresh = abs(time.time() - int(stamp)) < 300
    return is_fresh and hmac.compare_digest(headers["X-Drivetrain-Signature"], f"sha256={want}")


def test_a_decision_and_a_rollback_are_told_signed(tmp_path: Path) -> None:
    with (
        listening() as other,
        rollout_bench(tmp_path, has_old=False, webhook=other.url, webhook_secret=SECRET) as bench,
    ):
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        pending = bench.send()
        bench.label(pending, "coral")
        poll(lambda: len(other.got) == 1)
        headers, body = other.got[0]
        assert is_signed(headers, body, SECRET)
        assert not is_signed(headers, body, SECRET + "!")
        assert not is_signed(headers, body + b" ", SECRET)
        said = json.loads(body)
        assert (said["event"], said["prediction_id"]) == ("decided", pending["prediction_id"])
        assert (said["state"], said["label"], said["decided_by"]) == ("decided", "coral", "people")
        assert headers["Content-Type"] == "application/json"

        bench.move("rolled_back", 0.0)
        poll(lambda: len(other.got) == 2)
        said = json.loads(other.got[1][1])
        assert (said["event"], said["rollout"], said["candidate"]) == ("rolled_back", "colours", NEW)
        assert (said["by"], said["reason"]) == ("ann", "it may")
        assert bench.metric("drivetrain_webhooks_total", event="decided", outcome="sent") == 1


def test_an_audit_is_no_decision_that_somebody_waits_for(tmp_path: Path) -> None:
    with listening() as other, rollout_bench(tmp_path, webhook=other.url, webhook_secret=SECRET) as bench:
        begin(bench.store, audit_share=1.0)
        bench.desk.refresh()
        answer = bench.send()
        bench.seen(answer)
        bench.label(answer, "amber")
        bench.move("rolled_back", 0.0)
        poll(lambda: len(other.got) == 1)
        assert json.loads(other.got[0][1])["event"] == "rolled_back"


def test_a_webhook_is_tried_again_and_given_up_in_the_end() -> None:
    with listening(503, 302, 200, 500, 500, 500) as other:
        metrics = Metrics()
        given = settings(webhook=other.url, webhook_secret=SECRET)
        posts = Posts(given, metrics, pauses_s=(0.01, 0.01))
        for label in ("first", "second"):
            posts.send("decided", {"label": label})
        poll(lambda: len(other.got) == 6)
        posts.close(wait_s=10)
        assert [json.loads(body)["label"] for _, body in other.got] == ["first"] * 3 + ["second"] * 3

        def counted(outcome: str) -> float | None:
            labels = {"event": "decided", "outcome": outcome}
            return metrics.registry.get_sample_value("drivetrain_webhooks_total", labels)

        assert (counted("sent"), counted("failed")) == (1, 1)


def test_without_an_address_nothing_is_sent() -> None:
    posts = Posts(settings(), Metrics())
    posts.send("decided", {})
    assert "drivetrain-webhook" not in {thread.name for thread in threading.enumerate()}
    posts.close(wait_s=1)


@pytest.mark.parametrize(
    ("url", "secret", "field"),
    [
        ("ftp://host/x", SECRET, "webhook"),
        ("host/x", SECRET, "webhook"),
        ("http://[::1", SECRET, "webhook"),
        ("https://host/x", "short", "webhook_secret"),
        ("https://host/x", "none", "webhook_secret"),
    ],
)
def test_a_webhook_that_cannot_work_stops_the_start(tmp_path: Path, url: str, secret: str, field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        check_webhook(url, secret)
    assert caught.value.field == field
    with pytest.raises(InvalidConfig), rollout_bench(tmp_path, webhook=url, webhook_secret=secret):
        pass


def test_what_is_not_taken_is_told_without_the_secret_parts() -> None:
    with listening(500) as other, pytest.raises(Unavailable) as caught:
        post_signed(other.url, SECRET, "decided", {}, timeout_s=5)
    assert "500" in caught.value.message
    assert "secret-path" not in caught.value.message
    with pytest.raises(Unavailable):
        post_signed("http://127.0.0.1:9/", SECRET, "decided", {}, timeout_s=5)
    assert sign("k", "1", b"x") == "sha256=" + hmac.new(b"k", b"1.x", hashlib.sha256).hexdigest()
    assert SECRET not in repr(settings(webhook="https://host/x", webhook_secret=SECRET))
