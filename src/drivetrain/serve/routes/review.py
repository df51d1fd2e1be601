"""/review: pictures that wait for a person, one at a time. Without a script; what changes anything is a form's POST."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Response

from drivetrain.errors import NotFound
from drivetrain.settings import Settings

if TYPE_CHECKING:
    from drivetrain.serve.page.review_desk import ReviewDesk
    from drivetrain.store.store import Store

__all__ = ["make_router"]

_SWEEP_S = 2.0  # between two looks for answers that can no longer be taken back
_TASK = "/review/task/{task_id}"
_ROUTES = (  # method, path, method of the desk
    ("GET", "/review", "show_queue"),
    ("GET", "/review/next", "take_next"),
    ("POST", "/review/undo", "undo"),
    ("GET", _TASK, "show_task"),
    ("GET", f"{_TASK}/picture", "show_picture"),
    ("POST", f"{_TASK}/answer", "answer"),
    ("POST", f"{_TASK}/why", "why"),
    ("POST", f"{_TASK}/release", "release"),
)
_log = logging.getLogger("drivetrain.serve")


def make_router(store: Store | None, settings: Settings) -> APIRouter:
    """The routes; while the server runs, answers that can no longer be taken back are settled."""
    if store is None:
        router = APIRouter(include_in_schema=False)
        for method, path, _ in _ROUTES:
            router.add_api_route(path, _refuse, methods=[method], response_class=Response)
        return router
    from drivetrain.serve.page.review_desk import ReviewDesk  # SQLAlchemy: not for a server without memory

    desk = ReviewDesk.of(store, settings)

    @asynccontextmanager
    async def settle_while_open(app: FastAPI) -> AsyncIterator[None]:
        ends = asyncio.Event()
        sweeping = asyncio.create_task(_sweep(app, desk, ends))
        try:
            yield
        finally:
            ends.set()
            await sweeping

    router = APIRouter(include_in_schema=False, lifespan=settle_while_open)
    for method, path, name in _ROUTES:
        router.add_api_route(path, getattr(desk, name), methods=[method], response_class=Response)
    return router


async def _refuse() -> Response:
    raise NotFound("review", got="a server without memory", want="one with a database", hint="Set DRIVETRAIN_DB.")


async def _sweep(app: FastAPI, desk: ReviewDesk, ends: asyncio.Event) -> None:
    """Until the end. A database that does not answer now may answer later."""
    has_failed = False
    while not ends.is_set():
        try:
            await desk.settle(app)
            has_failed = False
        except Exception as exc:
            if not has_failed:
                _log.error("answers of reviewers cannot be settled, and wait", exc_info=exc)
            has_failed = True
        try:
            async with asyncio.timeout(_SWEEP_S):
                await ends.wait()
        except TimeoutError:
            continue
