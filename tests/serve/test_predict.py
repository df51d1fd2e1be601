from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from fastapi import FastAPI

from drivetrain.errors import InvalidConfig
from drivetrain.serve.app import create_app
from drivetrain.serve.openapi import PREDICTION_SCHEMA

from .fakes import (
    CLASSES,
    BlockingModel,
    BrokenModel,
    FakeModel,
    call,
    client,
    make_app,
    pending,
    picture,
    post,
    settings,
    until,
)


def files(*pairs: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [(f"field{i}", (name, content, "image/png")) for i, (name, content) in enumerate(pairs)]


@pytest.mark.parametrize("kind", ["image/png", "image/x-anything", "application/octet-stream", "IMAGE/PNG; a=b"])
def test_raw_picture_gets_one_prediction(kind: str) -> None:
    reply = post(make_app(), picture(), kind=kind)
    assert reply.status_code == 200
    answer = reply.json()
    assert (answer["label"], answer["decision"], answer["version"]) == ("amber", "accept", "colours@0123456789ab")
    assert list(answer["probabilities"]) == list(CLASSES)
    assert "name" not in answer


def test_raw_picture_gets_its_name_back() -> None:
    model = FakeModel()
    app = make_app(model)
    assert post(app, picture(), path="/predict?name=b%C3%A4r.png").json()["name"] == "bär.png"
    assert model.seen == ["bär.png"]


def test_schema_tells_what_is_answered() -> None:
    answer = post(make_app(), picture(), path="/predict?name=a").json()
    told = post(make_app(), picture("black"), path="/predict?name=a").json()
    assert told["shifted_by"] == ["darker", "blurrier"]
    assert set(PREDICTION_SCHEMA["properties"]) == set(told) | {"prediction_id"}
    assert set(PREDICTION_SCHEMA["required"]) == set(answer) - {"name"}
    assert set(told) - set(answer) == {"shift_p_value", "shifted_by"}  # of a model that knows styles


def test_raw_unreadable_picture_is_422() -> None:
    reply = post(make_app(), b"not a picture", path="/predict?name=a.jpg")
    assert reply.status_code == 422
    body = reply.json()
    assert set(body) == {"code", "message", "field", "request_id"}
    assert (body["code"], body["field"]) == ("unreadable_picture", "a.jpg")
    assert "JPEG, PNG" in body["message"]


def test_form_answers_in_order_and_apart() -> None:
    given = files(("r.png", picture("red")), ("bad.png", b"no"), ("b.png", picture("blue")), ("empty.png", b""))
    reply = call(make_app(), "POST", "/predict", files=given, data={"note": "a text field is passed over"})
    assert reply.status_code == 200
    red, bad, blue, empty = reply.json()["predictions"]
    assert (red["name"], red["decision"]) == ("r.png", "accept")
    assert (blue["name"], blue["reasons"]) == ("b.png", ["unknown", "shifted"])
    assert bad["name"] == "bad.png"
    assert set(bad["error"]) == {"code", "message", "field"}
    assert bad["error"]["code"] == empty["error"]["code"] == "unreadable_picture"


def test_one_field_may_hold_many_files() -> None:
    given = [("file", (f"{i}.png", picture(colour), "image/png")) for i, colour in enumerate(["red", "blue", "red"])]
    answers = call(make_app(), "POST", "/predict", files=given).json()["predictions"]
    assert [(answer["name"], answer["decision"]) for answer in answers] == [
        ("0.png", "accept"),
        ("1.png", "defer"),
        ("2.png", "accept"),
    ]


def test_many_callers_each_get_their_own_answer() -> None:
    async def go() -> None:
        app = make_app(threads=4)
        async with client(app) as session:
            colours = ["red", "blue", "lime"] * 20
            replies = await asyncio.gather(
                *(
                    session.post(f"/predict?name={i}", content=picture(c), headers={"Content-Type": "image/png"})
                    for i, c in enumerate(colours)
                )
            )
        wanted = {"red": [], "blue": ["unknown", "shifted"], "lime": ["low_confidence"]}
        for i, (colour, reply) in enumerate(zip(colours, replies, strict=True)):
            assert (reply.json()["name"], reply.json()["reasons"]) == (str(i), wanted[colour])

    asyncio.run(go())


def test_fault_in_one_picture_spares_its_neighbours(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "drivetrain.serve"):
        reply = call(
            make_app(BrokenModel()), "POST", "/predict", files=files(("bug.png", picture()), ("ok.png", picture()))
        )
    bug, fine = reply.json()["predictions"]
    assert reply.status_code == 200
    assert fine["label"] == "amber"
    assert bug["error"]["code"] == "internal"
    assert reply.headers["X-Request-ID"] in bug["error"]["message"]
    assert "secret" not in reply.text
    assert "secret inner state" in caplog.text


def test_fault_is_500_with_a_request_id_and_a_logged_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "drivetrain.serve"):
        reply = post(make_app(BrokenModel()), picture(), path="/predict?name=bug")
    assert reply.status_code == 500
    assert reply.json()["code"] == "internal"
    assert reply.json()["request_id"] == reply.headers["X-Request-ID"]
    assert "secret" not in reply.text
    assert "Traceback" in caplog.text
    assert reply.headers["X-Request-ID"] in caplog.text
    assert "Content-Security-Policy" in reply.headers


@pytest.mark.parametrize(
    ("headers", "content", "status", "text"),
    [
        (
            {"Content-Type": "text/plain"},
            b"x",
            415,
            "image/*, application/octet-stream, multipart/form-data or application/json",
        ),
        ({}, b"x", 415, "got none"),
        ({"Content-Type": "image/png", "Content-Encoding": "gzip"}, b"x", 415, "compressed already"),
        ({"Content-Type": "image/png"}, b"", 422, "no bytes"),
        ({"Content-Type": "multipart/form-data"}, b"x", 422, "without a boundary"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"nonsense", 422, "a broken form"),
        ({"Content-Type": "multipart/form-data; boundary=" + "b" * 999}, b"nonsense", 422, "a broken form"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"", 422, "stops in the middle"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"--b--\r\n", 422, "without a file"),
    ],
)
def test_bodies_that_are_refused(headers: dict[str, str], content: bytes, status: int, text: str) -> None:
    reply = call(make_app(), "POST", "/predict", content=content, headers=headers)
    assert reply.status_code == status
    assert set(reply.json()) == {"code", "message", "field", "request_id"}
    assert text in reply.json()["message"]
    if status == 415:
        assert "image/*" in reply.headers["Accept-Post"]


def test_form_with_text_alone_names_its_fields() -> None:
    reply = call(make_app(), "POST", "/predict", files={"note": (None, "hello")})
    assert reply.status_code == 422
    assert "without a file (note)" in reply.json()["message"]


def test_input_left_empty_in_a_browser_is_no_file() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\n\r\n--b--\r\n'
    reply = post(make_app(), body, kind="multipart/form-data; boundary=b")
    assert reply.status_code == 422


def test_picture_size_limit_holds_for_both_bodies() -> None:
    app = make_app(image_max_bytes=1000)
    assert post(app, bytes(1000)).json()["code"] == "unreadable_picture"
    raw = post(app, bytes(1001))
    form = call(app, "POST", "/predict", files=files(("ok.png", picture()), ("big.png", bytes(1001))))
    assert (raw.status_code, raw.json()["code"]) == (413, "too_large")
    assert (form.status_code, form.json()["field"]) == (413, "big.png")


def test_picture_count_limit() -> None:
    app = make_app(request_max_pictures=2)
    given = files(*[(f"{i}.png", picture()) for i in range(3)])
    assert call(app, "POST", "/predict", files=given[:2]).status_code == 200
    reply = call(app, "POST", "/predict", files=given)
    assert reply.status_code == 413
    assert "at most 2 in one request" in reply.json()["message"]


def test_form_with_endless_text_fields_is_refused() -> None:
    reply = call(make_app(request_max_pictures=1), "POST", "/predict", files={f"t{i}": (None, "x") for i in range(20)})
    assert reply.status_code == 413


def test_limits_that_could_never_let_a_request_in_stop_the_start() -> None:
    with pytest.raises(InvalidConfig, match=r"queue_max_pictures: got 4; want at least request_max_pictures, 5"):
        create_app(FakeModel(), settings(queue_max_pictures=4, request_max_pictures=5))


async def by_hand(
    app: FastAPI, messages: list[dict[str, Any]], *, path: str = "/predict", kind: bytes = b"image/png"
) -> tuple[int, dict[str, Any], int]:
    """Speak ASGI: send these messages, then stay silent. Gives status, body and how many messages were read."""
    read = 0
    silence = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> Any:
        nonlocal read
        if read == len(messages):
            await silence.wait()
        read += 1
        return messages[read - 1]

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", kind)],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(body or b"{}"), read


def chunk(content: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (b"image/png", b""),
        (
            b"multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.png"\r\n\r\n',
        ),
        (b"multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n'),
    ],
)
def test_size_is_checked_while_the_body_streams(kind: bytes, head: bytes) -> None:
    app = make_app(image_max_bytes=1000, request_max_pictures=1)
    stream = [chunk(head)] + [chunk(bytes(500)) for _ in range(1000)]
    status, body, read = asyncio.run(by_hand(app, stream, kind=kind))
    assert (status, body["code"]) == (413, "too_large")
    assert read <= 13  # far before the end: framing allows 4 KiB beside the picture


def test_client_that_stops_sending_is_told_so() -> None:
    app = make_app(request_timeout_s=1)
    status, body, _ = asyncio.run(by_hand(app, [chunk(b"abc")]))
    assert (status, body["code"]) == (408, "upload_stalled")


def test_client_that_leaves_during_its_upload_costs_nothing() -> None:
    model = FakeModel()
    app = make_app(model)
    status, _, _ = asyncio.run(by_hand(app, [chunk(b"abc"), {"type": "http.disconnect"}]))
    assert (status, model.seen, app.state.service.memory.held_bytes) == (499, [], 0)


def test_client_that_leaves_before_its_turn_costs_no_compute() -> None:
    async def go() -> None:
        model = BlockingModel()
        app = make_app(model, threads=1)
        async with client(app) as session:
            first = asyncio.create_task(
                session.post("/predict?name=first", content=picture(), headers={"Content-Type": "image/png"})
            )
            await until(lambda: model.begun.acquire(blocking=False))
            status, _, _ = await by_hand(app, [chunk(picture(), more=False), {"type": "http.disconnect"}])
            assert status == 499
            await until(lambda: pending(app) == 1)  # its place is free again while the first is still in work
            model.release.set()
            assert (await first).status_code == 200
            await until(lambda: pending(app) == 0)
        assert model.seen == ["first"]

    asyncio.run(go())


def test_full_queue_is_429_and_the_rest_still_get_answers() -> None:
    async def go() -> None:
        model = BlockingModel()
        app = make_app(model, threads=1, queue_max_pictures=2, request_max_pictures=2)
        async with client(app) as session:

            async def send() -> Any:
                return await session.post("/predict", content=picture(), headers={"Content-Type": "image/png"})

            accepted = [asyncio.create_task(send()) for _ in range(3)]
            await until(lambda: pending(app) == 3)
            refused = await send()
            assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
            assert int(refused.headers["Retry-After"]) >= 1
            model.release.set()
            assert [reply.status_code for reply in await asyncio.gather(*accepted)] == [200, 200, 200]
            await until(lambda: pending(app) == 0)
            assert (await send()).status_code == 200

    asyncio.run(go())


def test_form_that_finds_no_room_is_refused_whole() -> None:
    async def go() -> None:
        model = BlockingModel()
        app = make_app(model, threads=1, queue_max_pictures=2, request_max_pictures=2)
        async with client(app) as session:
            first = [
                asyncio.create_task(session.post("/predict", content=picture(), headers={"Content-Type": "image/png"}))
                for _ in range(2)
            ]
            await until(lambda: pending(app) == 2)
            reply = await session.post("/predict", files=files(("a", picture()), ("b", picture())))
            assert reply.status_code == 429
            assert pending(app) == 2
            model.release.set()
            await asyncio.gather(*first)

    asyncio.run(go())


def test_deadline_is_503_while_the_picture_is_still_in_work() -> None:
    model = BlockingModel()
    app = make_app(model, threads=1, request_timeout_s=1)
    reply = post(app, picture())
    assert (reply.status_code, reply.json()["code"]) == (503, "deadline_passed")
    assert "Retry-After" in reply.headers
    model.release.set()
    asyncio.run(until(lambda: pending(app) == 0))


def test_memory_for_all_bodies_is_bounded() -> None:
    app = make_app(image_max_bytes=1000)
    memory = app.state.service.memory
    memory.held_bytes = memory.max_bytes - 10  # as many uploads at once would leave it
    reply = post(app, picture())
    assert (reply.status_code, reply.json()["field"]) == (429, "memory")
    assert memory.held_bytes == memory.max_bytes - 10
