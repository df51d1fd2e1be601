"""What the server remembers for its callers: ids of answers, verdicts on them, and keys of requests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from drivetrain.serve.app import create_app
from drivetrain.serve.idempotency import body_digest
from drivetrain.store.store import open_store

from .fakes import BlockingModel, FakeModel, call, client, make_app, picture, settings, until
from .tiny import archive, task_model, tiny_app, write


@contextmanager
def remembering(folder: Path, model: FakeModel | None = None, **changed: object) -> Iterator[FastAPI]:
    with open_store(f"sqlite:///{folder / 'store.db'}") as store:
        app = create_app(model or FakeModel(), settings(address_rate_limit=0, **changed), store=store)
        yield app
        app.state.registry.close(drain_s=1)


def post(
    app: FastAPI, content: bytes = b"", *, path: str = "/predict", key: str = "", **headers: str
) -> httpx.Response:
    given = {"Content-Type": "image/png", **({"Idempotency-Key": key} if key else {}), **headers}
    return call(app, "POST", path, content=content or picture(), headers=given)


def judge(app: FastAPI, prediction_id: str, **body: object) -> httpx.Response:
    return call(app, "POST", f"/feedback/{prediction_id}", json=body)


# prediction_id


def test_every_answer_is_kept_under_its_id(tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        reply = post(app, picture("blue"), path="/predict?name=b.png", **{"X-Request-ID": "r-1"})
        told = reply.json()
        stored = app.state.store.predictions.get(told["prediction_id"])
        assert stored.answer == {name: value for name, value in told.items() if name != "name"}
        assert (stored.name, stored.request_id, stored.caller_id) == ("b.png", "r-1", "local")
        assert (stored.model, stored.version) == ("colours", "colours@0123456789ab")
        assert stored.sha256 == hashlib.sha256(picture("blue")).hexdigest()


def test_each_picture_of_a_form_has_an_id_and_an_error_has_none(tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        files = [("f", (name, body)) for name, body in (("a", picture()), ("b", b"no"), ("c", picture("blue")))]
        first, bad, last = call(app, "POST", "/predict", files=files).json()["predictions"]
        assert "prediction_id" not in bad
        assert first["prediction_id"] < last["prediction_id"]
        assert [app.state.store.predictions.get(one["prediction_id"]).name for one in (first, last)] == ["a", "c"]
        app.state.store.predictions.flush()
        assert app.state.store.predictions.count() == 2


def test_without_a_store_there_is_no_id_and_no_feedback() -> None:
    app = make_app()
    assert "prediction_id" not in post(app).json()
    reply = judge(app, "0" * 26, verdict="right")
    assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")
    assert "--db" in reply.json()["message"]
    keyed = post(app, key="k")
    assert (keyed.status_code, keyed.json()["field"]) == (503, "Idempotency-Key")


def test_a_store_that_fails_is_told_without_its_place(tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        app.state.store.predictions.close()
        reply = post(app)
        assert (reply.status_code, reply.json()["field"]) == (503, "db")
        assert str(tmp_path) not in reply.text
        assert "answer after" not in reply.text
        assert reply.headers["X-Request-ID"] in reply.json()["message"]


def test_a_full_queue_to_the_store_is_waited_for_and_large_pictures_are_hashed(tmp_path: Path) -> None:
    large = picture(size=(600, 600), kind="BMP")
    assert len(large) > 1_000_000
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}", queue_max=1)
    app = create_app(FakeModel(), settings(address_rate_limit=0), store=store)
    files = [("f", (str(number), large)) for number in range(6)]
    told = call(app, "POST", "/predict", files=files).json()["predictions"]
    ids = [one["prediction_id"] for one in told]
    assert {store.predictions.get(one).sha256 for one in ids} == {hashlib.sha256(large).hexdigest()}
    app.state.registry.close(drain_s=1)
    store.close()


# feedback


@pytest.mark.parametrize(
    ("body", "label"),
    [
        ({"verdict": "right"}, None),
        ({"verdict": "unsure", "note": "too dark"}, None),
        ({"verdict": "wrong"}, None),
        ({"verdict": "wrong", "label": "blue"}, "blue"),
    ],
)
def test_a_verdict_is_kept(body: dict[str, Any], label: str | None, tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        prediction_id = post(app).json()["prediction_id"]
        reply = judge(app, prediction_id, **body)
        assert reply.status_code == 200
        assert {name: reply.json()[name] for name in ("prediction_id", "verdict", "label")} == {
            "prediction_id": prediction_id,
            "verdict": body["verdict"],
            "label": label,
        }
        [note] = app.state.store.feedback.list(prediction_id)
        assert (note.verdict, note.label, note.note, note.by) == (
            body["verdict"],
            label,
            body.get("note", ""),
            "local",
        )
        assert reply.json()["at"] == note.at
        metrics = call(app, "GET", "/metrics").text
        assert f'drivetrain_feedback_total{{verdict="{body["verdict"]}"}} 1.0' in metrics


def test_who_says_it_twice_counts_with_the_last(tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        prediction_id = post(app).json()["prediction_id"]
        for verdict in ("wrong", "unsure", "right"):
            assert judge(app, prediction_id, verdict=verdict).status_code == 200
        assert app.state.store.feedback.counts() == {"right": 1, "wrong": 0, "unsure": 0}
        replies = [judge(app, prediction_id, verdict="right") for _ in range(18)]
        assert (replies[-1].status_code, replies[-1].json()["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "verdict: got nothing; want one of right, wrong, unsure"),
        ({"verdict": "maybe"}, "got maybe"),
        ({"verdict": 5}, "got a number"),
        ({"verdict": "right", "label": "blue"}, "a label with wrong alone"),
        ({"verdict": "wrong", "label": "purple"}, "want one of amber, blue"),
        ({"verdict": "wrong", "label": "amber"}, "which was the answer"),
        ({"verdict": "wrong", "label": 5}, "label: got a number"),
        ({"verdict": "wrong", "label": None}, "label: got null"),
        ({"verdict": "right", "note": "x" * 2001}, "at most 2000"),
        ({"verdict": "right", "more": 1}, "the key 'more'"),
    ],
)
def test_verdicts_that_are_refused(body: dict[str, Any], text: str, tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        prediction_id = post(app).json()["prediction_id"]
        reply = judge(app, prediction_id, **body)
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
        assert text in reply.json()["message"]
        assert app.state.store.feedback.list(prediction_id) == []


def test_an_unknown_id_is_404_and_another_body_415(tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        for unknown in ("0" * 26, "x", "a%00b", "..%2f", "é" * 26):
            assert judge(app, unknown, verdict="right").status_code in {403, 404}
        assert judge(app, "0" * 26, verdict="right").json()["field"] == "prediction_id"
        path = "/feedback/" + "0" * 26
        assert call(app, "POST", path, content=b"x", headers={"Content-Type": "image/png"}).status_code == 415
        for content in (b"x", b"[]"):
            reply = call(app, "POST", path, content=content, headers={"Content-Type": "application/json"})
            assert (reply.status_code, reply.json()["field"]) == (422, "body")
        large = b'{"verdict": "right", "note": "' + b"x" * 70_000 + b'"}'
        assert call(app, "POST", path, content=large, headers={"Content-Type": "application/json"}).status_code == 413


def test_what_is_right_is_a_label_or_a_number_by_task(tmp_path: Path) -> None:
    for task, fine, wrong in (("multilabel", "bright", "dim"), ("regression", "4.5", "bright")):
        folder = tmp_path / task
        folder.mkdir()
        with tiny_app(folder, served=task_model(task)) as app:
            prediction_id = post(app).json()["prediction_id"]
            assert judge(app, prediction_id, verdict="wrong", label=fine).status_code == 200
            assert judge(app, prediction_id, verdict="wrong", label=wrong).status_code == 422


# Idempotency-Key


def test_the_same_key_and_body_is_done_once(tmp_path: Path) -> None:
    model = FakeModel()
    with remembering(tmp_path, model) as app:
        first, again, other = post(app, key="k-1"), post(app, key="k-1"), post(app, key="k-2")
        assert first.status_code == again.status_code == 200
        assert again.content == first.content
        assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (None, "true")
        assert again.headers["Content-Type"] == first.headers["Content-Type"]
        assert other.json()["prediction_id"] != first.json()["prediction_id"]
        assert len(model.seen) == 2


def test_the_key_stands_for_the_pictures_not_for_their_wrapping(tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        files = [("f", ("a.png", picture()))]
        given = {"headers": {"Idempotency-Key": "k"}}
        first = call(app, "POST", "/predict", files=files, **given)  # a new boundary each time
        again = call(app, "POST", "/predict", files=files, **given)
        assert (again.status_code, again.content) == (200, first.content)
        one = {"image": base64.b64encode(picture()).decode(), "name": "a.png"}
        many = call(app, "POST", "/predict", json={"images": [one]}, **given)
        assert (many.status_code, many.content) == (200, first.content)


@pytest.mark.parametrize(
    "change",
    [{"content": picture("blue")}, {"path": "/predict?name=x"}, {"path": "/predict?model=colours"}],
)
def test_another_body_with_the_key_is_a_conflict(change: dict[str, Any], tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        post(app, key="k")
        reply = post(app, key="k", **change)
        assert (reply.status_code, reply.json()["code"], reply.json()["field"]) == (409, "conflict", "Idempotency-Key")
        assert "another body" in reply.json()["message"]


def test_the_key_stands_for_addresses_and_faults_in_a_list_too(tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        headers = {"Idempotency-Key": "k"}
        body = {"images": [{"url": "http://x.example/a"}, "?", base64.b64encode(picture()).decode()]}
        first = call(app, "POST", "/predict", json=body, headers=headers)
        assert [("error" in one) for one in first.json()["predictions"]] == [True, True, False]
        assert call(app, "POST", "/predict", json=body, headers=headers).content == first.content
        body["images"][0] = {"url": "http://x.example/b"}
        assert call(app, "POST", "/predict", json=body, headers=headers).status_code == 409


def test_an_error_that_will_not_pass_is_kept_and_one_that_may_is_not(tmp_path: Path) -> None:
    model = FakeModel()
    with remembering(tmp_path, model) as app:
        bad = [post(app, b"no picture", key="bad") for _ in range(2)]
        assert [reply.status_code for reply in bad] == [422, 422]
        assert bad[0].content == bad[1].content
        assert len(model.seen) == 1
        memory = app.state.service.memory
        memory.held_bytes = memory.max_bytes
        assert post(app, key="late").status_code == 429
        memory.held_bytes = 0
        reply = post(app, key="late")
        assert (reply.status_code, "Idempotency-Replayed" in reply.headers) == (200, False)


def test_a_fault_leaves_the_key_free(tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        app.state.store.predictions.close()
        assert post(app, key="k").status_code == 503
    with remembering(tmp_path) as app:
        assert post(app, key="k").status_code == 200


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    async def go(app: FastAPI, model: BlockingModel) -> None:
        async with client(app) as session:

            async def send() -> httpx.Response:
                headers = {"Content-Type": "image/png", "Idempotency-Key": "k"}
                return await session.post("/predict", content=picture(), headers=headers)

            first = asyncio.create_task(send())
            await until(lambda: model.begun.acquire(blocking=False))
            second = asyncio.create_task(send())
            await asyncio.sleep(0.1)
            assert not second.done()
            model.release.set()
            one, two = await asyncio.gather(first, second)
            assert one.content == two.content
            assert "Idempotency-Replayed" in two.headers
        assert len(model.seen) == 1

    model = BlockingModel()
    with remembering(tmp_path, model) as app:
        asyncio.run(go(app, model))


def test_a_first_that_does_not_end_is_a_conflict_for_the_second(tmp_path: Path) -> None:
    with remembering(tmp_path, request_timeout_s=1) as app:
        digest = body_digest(["predict", "", "", "False", "picture", "", picture()])
        assert app.state.store.idempotency.begin("local", "k", digest) == "new"  # by a process that hangs
        reply = post(app, key="k")
        assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
        assert "still at work" in reply.json()["message"]


@pytest.mark.parametrize("key", ["a b", "x" * 256, "é"])
def test_keys_that_are_none(key: str, tmp_path: Path) -> None:
    with remembering(tmp_path) as app:
        headers = [(b"content-type", b"image/png"), (b"idempotency-key", key.encode())]
        reply = call(app, "POST", "/predict", content=picture(), headers=headers)
        assert (reply.status_code, reply.json()["field"]) == (422, "Idempotency-Key")


def test_the_protocol_keeps_its_answers_too(tmp_path: Path) -> None:
    with tiny_app(tmp_path) as app:
        write(tmp_path / "models", "other", archive("other"))
        headers = {"Inference-Header-Content-Length": "0", "Idempotency-Key": "k"}
        first = call(app, "POST", "/v2/models/tiny/infer", content=picture(), headers=headers)
        again = call(app, "POST", "/v2/models/tiny/infer", content=picture(), headers=headers)
        assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
        other = call(app, "POST", "/v2/models/tiny/infer", content=picture("blue"), headers=headers)
        assert (other.status_code, set(other.json())) == (409, {"error"})
