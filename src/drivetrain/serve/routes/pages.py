"""The page for people: asked for, answered without a script, and its files."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from drivetrain.errors import DrivetrainError, NotFound
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.serve.answers import Told
from drivetrain.serve.bodies import ClientGone, Upload, read_form
from drivetrain.serve.errors import error_response, request_id_of
from drivetrain.serve.page.render import find_static, render_page, static_digest
from drivetrain.serve.page.shelf import PageShelf
from drivetrain.serve.page.views import AnswerView, view_answer, view_model
from drivetrain.serve.page.words import accuracy_in_words, error_sentence
from drivetrain.serve.registry import ModelRegistry, Served
from drivetrain.serve.routes import admin, card, explain
from drivetrain.serve.routes.predict import CLIENT_CLOSED_REQUEST, answer_items, hold_model
from drivetrain.serve.service import service_of
from drivetrain.serve.state import registry_of, store_of
from drivetrain.settings import Settings
from drivetrain.task import Task

__all__ = ["accuracy_in_words", "make_router"]

_FOREVER = "public, max-age=31536000, immutable"
_EXAMPLES_MAX = 4
_PRINTED: dict[Task, str] = {
    "classification": 'answer["label"], answer["probability"]',
    "multilabel": 'answer["labels"]',
    "regression": 'answer["value"], answer["interval"]',
}


def make_router(settings: Settings) -> APIRouter:
    """`/`, its files, its examples, and the pages beside it: the model's card, the admin's, and the why."""
    limits = DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels)
    shelf = PageShelf(limits)
    router = APIRouter(include_in_schema=False)

    async def show_start(request: Request) -> Response:
        return await _page(request, shelf, settings, answers=[])

    async def answer_form(request: Request) -> Response:
        try:
            return await _answer(request, shelf, settings, limits)
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def show_example(request: Request) -> Response:
        served = _find(registry_of(request), request.query_params.get("model"))
        leaf = await asyncio.to_thread(shelf.read, served) if served else None
        name = request.path_params["name"]
        known = {f"{number}.png": body for number, body in enumerate(leaf.examples if leaf else (), 1)}
        if name not in known:
            raise NotFound("example", got=name, want="one that the page shows")
        return Response(known[name], headers={"Cache-Control": "private, max-age=3600"}, media_type="image/png")

    for path, endpoint in (("/", show_start), ("/static/{version}/{name}", _show_static)):
        router.add_api_route(path, endpoint, methods=["GET", "HEAD"], response_class=Response)
    router.add_api_route("/", answer_form, methods=["POST"], response_class=Response)
    router.add_api_route("/examples/{name}", show_example, methods=["GET", "HEAD"], response_class=Response)
    router.include_router(card.make_router(shelf))
    router.include_router(admin.make_router())
    described = APIRouter()
    described.include_router(router)
    described.include_router(explain.make_router(shelf))
    return described


async def _show_static(request: Request) -> Response:
    name, asked = request.path_params["name"], request.path_params["version"]
    found = find_static(name)
    if found is None:
        raise NotFound("path", got=request.url.path, want="a file that a page asks for")
    body, kind = found
    # An old page's files may be asked for by their old version; what is sent then must not be kept as theirs.
    cache = _FOREVER if asked == static_digest() else "no-cache"
    return Response(body, headers={"Cache-Control": cache}, media_type=kind)


async def _answer(request: Request, shelf: PageShelf, settings: Settings, limits: DecodeLimits) -> Response:
    """A form without a script: the same answers, as a page."""
    service = service_of(request)
    try:
        with (
            hold_model(request, request.query_params.get("model") or None, None) as served,
            service.memory.lease() as lease,
        ):
            if isinstance(served, Served):
                request.state.served = served
            uploads = await read_form(request, service.limits, lease)
            told = await answer_items(request, service, served, uploads)
            answers = await asyncio.to_thread(_views, told, uploads, limits, request_id_of(request))
    except DrivetrainError as exc:
        status = error_response(exc, request_id_of(request)).status_code
        return await _page(
            request, shelf, settings, answers=[], error=error_sentence(exc.code, exc.message), status=status
        )
    return await _page(request, shelf, settings, answers=answers)


def _views(told: list[Told], uploads: list[Upload], limits: DecodeLimits, request_id: str) -> list[AnswerView]:
    return [
        view_answer(one, upload.content, limits=limits, request_id=request_id)
        for one, upload in zip(told, uploads, strict=True)
    ]


async def _page(
    request: Request,
    shelf: PageShelf,
    settings: Settings,
    *,
    answers: list[AnswerView],
    error: str = "",
    status: int = 200,
) -> Response:
    registry = registry_of(request)
    served = _find(registry, request.query_params.get("model"))
    leaf = await asyncio.to_thread(shelf.read, served) if served is not None and served.path is not None else None
    return render_page(
        request,
        "start.html",
        status,
        page="start",
        model=view_model(served.model) if served else None,
        names=registry.names() if served else [],
        examples=min(_EXAMPLES_MAX, len(leaf.examples)) if leaf else 0,
        endpoint=f"{request.base_url}predict",
        printed=_PRINTED[served.model.task if served else "classification"],
        can_explain=served is not None and served.path is not None,
        has_store=store_of(request) is not None,
        max_bytes=settings.image_max_bytes,
        answers=answers,
        error=error,
    )


def _find(registry: ModelRegistry, name: str | None) -> Served | None:
    """The model asked for; None where none is loaded at all. Raises NotFound."""
    return registry.get(name or None) if registry.names() else None
