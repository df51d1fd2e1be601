"""The route that is asked again and again answers as it would behind the router."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from drivetrain.errors import InvalidInput
from drivetrain.serve.shortcut import Shortcut

from .fakes import call, make_app, picture, post

router = APIRouter()


class Picture(bytes):
    """Bytes that can be watched."""


@router.post("/often")
async def often(request: Request) -> Response:
    """Fails where it is told to."""
    if request.headers.get("x-fail") == "ours":
        raise InvalidInput("body", got="nothing", want="something")
    if request.headers.get("x-fail") == "a fault":
        raise RuntimeError("a fault")
    return Response(b"short")


async def the_long_way(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(b"long")(scope, receive, send)


def ask(path: str = "/often", *, method: str = "POST", fail: str = "", root_path: str = "") -> tuple[int, bytes, Scope]:
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": b"",
        "headers": [(b"x-fail", fail.encode())],
        "state": {"request_id": "1"},
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    app = Shortcut(the_long_way, routes=[route for route in router.routes if isinstance(route, APIRoute)])
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], scope


def test_its_route_is_called_without_the_router_and_told_to_whoever_counts() -> None:
    status, body, scope = ask()
    assert (status, body) == (200, b"short")
    assert scope["route"].path == "/often"


@pytest.mark.parametrize(
    "given", [{"path": "/often/"}, {"path": "/other"}, {"method": "GET"}, {"root_path": "/somewhere"}]
)
def test_whatever_else_goes_the_long_way(given: dict[str, str]) -> None:
    assert ask(**given)[:2] == (200, b"long")  # type: ignore[arg-type]


def test_errors_of_ours_are_answers_and_faults_are_not() -> None:
    status, body, _ = ask(fail="ours")
    assert status == 422
    assert b'"code": "invalid_input"' in body
    with pytest.raises(RuntimeError, match="a fault"):
        ask(fail="a fault")


def test_an_error_does_not_hold_its_picture_in_a_circle() -> None:
    held: list[weakref.ref[Any]] = []
    circles = APIRouter()

    class Body:
        pass

    @circles.post("/often")
    async def fail(request: Request) -> Response:
        body = Body()
        held.append(weakref.ref(body))
        error = InvalidInput("body", got="nothing", want="something")
        raise error  # held by this frame, which its traceback holds

    routes = [route for route in circles.routes if isinstance(route, APIRoute)]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/often", "headers": [], "state": {}}
    scope["state"]["request_id"] = "1"

    async def send(_: Message) -> None:
        pass

    gc.disable()
    try:
        asyncio.run(Shortcut(the_long_way, routes=routes)(scope, None, send))  # type: ignore[arg-type]
        assert [one() for one in held] == [None]
    finally:
        gc.enable()


def test_predict_takes_it_and_stays_in_the_description() -> None:
    app = make_app()
    seen: list[Scope] = []
    inner = app.router.middleware_stack

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await inner(scope, receive, send)

    app.router.middleware_stack = watched
    assert post(app, picture()).status_code == 200
    assert [scope["path"] for scope in seen if scope["type"] == "http"] == []
    assert call(app, "GET", "/predict").status_code == 405
    assert [scope["path"] for scope in seen if scope["type"] == "http"] == ["/predict"]
    assert "post" in app.openapi()["paths"]["/predict"]
