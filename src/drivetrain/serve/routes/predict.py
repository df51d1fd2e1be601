"""POST /predict: pictures in, answers out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from drivetrain.errors import DrivetrainError, InvalidInput
from drivetrain.serve.answers import Told, answer_uploads, remember
from drivetrain.serve.bodies import ClientGone, Lease, Upload, body_kind, read_all, read_form, read_raw
from drivetrain.serve.errors import ErrorResponse, error_response, internal_item, request_id_of
from drivetrain.serve.idempotency import body_digest, key_of, once
from drivetrain.serve.json_body import JsonLimits, parse_json_aside
from drivetrain.serve.openapi import PREDICT_BODY, PREDICT_PARAMETERS, PREDICT_RESPONSES
from drivetrain.serve.picture_json import PictureRequest, UrlItem, read_pictures
from drivetrain.serve.registry import Served
from drivetrain.serve.rollout.facts import read_wait_s
from drivetrain.serve.service import Service, encode_json, service_of
from drivetrain.serve.state import registry_of, rollouts_of, store_of, url_fetcher_of

if TYPE_CHECKING:
    from drivetrain.serve.rollout.traffic import Held

__all__ = ["CLIENT_CLOSED_REQUEST", "answer_items", "asked_model", "hold_model", "router", "told_errors"]

CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody reads it, the connection is closed
_NAME_MAX_CHARS = 255
_RETRY_AFTER_S = "5"  # a person takes that long at least
_JSON_LIMITS = JsonLimits(values=10_000, brackets=5_000)  # a list of pictures is short, its strings are long

router = APIRouter(tags=["predict"])


@router.post(
    "/predict",
    operation_id="predict",
    response_class=Response,
    responses=PREDICT_RESPONSES,
    openapi_extra={"requestBody": PREDICT_BODY, "parameters": PREDICT_PARAMETERS},
)
async def predict(request: Request) -> Response:
    """Answer for one picture (raw body, or JSON with `image` or `url`) or several (form, or JSON with `images`).

    Every error, of a picture or of the request, has a stable `code`, a `message` for a person and a `field`.
    """
    service, store = service_of(request), store_of(request)
    key = key_of(request, store)
    name, version = asked_model(request)
    wait_s = read_wait_s(request)
    try:
        with hold_model(request, name, version) as served, service.memory.lease() as lease:
            kind = body_kind(request)
            if isinstance(served, Served):
                request.state.served = served
                served.batcher.check_room()  # before the upload: a full server should not make anyone send it
            asked = await _READ[kind](request, service, lease)

            async def do() -> Response:
                return await _answer(request, service, served, lease, asked, wait_s=wait_s)

            if key is None or store is None:
                return await do()
            digest = await asyncio.to_thread(body_digest, _parts(request, asked))
            return await once(request, store, key, digest, told_errors(request, do), wait_s=service.timeout_s)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


def asked_model(request: Request) -> tuple[str | None, str | None]:
    """`?model=` and `?version=`; None where not given. Raises InvalidInput where one is empty."""
    given = [request.query_params.get(name) for name in ("model", "version")]
    for name, value in zip(("model", "version"), given, strict=True):
        if value == "":
            raise InvalidInput(name, got="nothing", want=f"a {name}, or the parameter left out")
    return given[0], given[1]


def hold_model(request: Request, name: str | None, version: str | None) -> AbstractContextManager[Served | Held]:
    """The version that answers; where the model is rolled out, both of it."""
    rollouts, registry = rollouts_of(request), registry_of(request)
    if rollouts is None or (live := rollouts.find(name, version)) is None:
        return registry.hold(name, version)
    from drivetrain.serve.rollout.traffic import hold_both  # SQLAlchemy: not for a server without memory

    return hold_both(registry, live)


async def _answer(
    request: Request,
    service: Service,
    served: Served | Held,
    lease: Lease,
    asked: PictureRequest,
    *,
    wait_s: float,
) -> Response:
    items = await _fetched_all(request, asked.items, lease)
    told = await answer_items(request, service, served, items, wait_s=wait_s)
    request_id = request_id_of(request)
    is_pending = any(one.review is not None and one.review["state"] == "pending" for one in told)
    headers = {"Retry-After": _RETRY_AFTER_S} if is_pending else {}
    if not asked.is_list:
        return _one(told[0], request_id, headers)
    body = encode_json({"predictions": [one.as_json(request_id) for one in told]})
    return Response(body, 202 if is_pending else 200, headers, media_type="application/json")


async def answer_items(
    request: Request,
    service: Service,
    served: Served | Held,
    items: Sequence[Upload | tuple[str, DrivetrainError]],
    *,
    wait_s: float = 0.0,
) -> list[Told]:
    """One for each item, remembered; what people decide with their label, where it comes within `wait_s`."""
    if isinstance(served, Served):
        told = await answer_uploads(request, service, served, items)
        store = store_of(request)
        return told if store is None else await remember(request, store, served, items, told)
    from drivetrain.serve.rollout.traffic import answer_routed, wait_for_people

    rollouts = rollouts_of(request)
    assert rollouts is not None
    told = await answer_routed(request, service, rollouts, served, items)
    return await wait_for_people(request, rollouts, told, wait_s=wait_s) if wait_s else told


def _one(told: Told, request_id: str, headers: dict[str, str]) -> Response:
    """A single picture's error is the request's."""
    if told.review is not None:
        body = encode_json(told.as_json(request_id))
        if told.review["state"] != "pending":
            return Response(body, media_type="application/json")
        headers = {**headers, "Location": str(told.review["href"])}
        return Response(body, 202, headers, media_type="application/json")
    if told.answer is not None:
        return Response(encode_json(told.as_json(request_id)), media_type="application/json")
    if told.error is not None:
        raise told.error
    return ErrorResponse(500, internal_item("picture", request_id), request_id)


async def _fetched_all(
    request: Request, items: Sequence[Upload | UrlItem | tuple[str, DrivetrainError]], lease: Lease
) -> list[Upload | tuple[str, DrivetrainError]]:
    """The same, with pictures for addresses; those are fetched together."""
    fetched = iter(
        await asyncio.gather(*(_fetched(request, item, lease) for item in items if isinstance(item, UrlItem)))
        if any(isinstance(item, UrlItem) for item in items)  # to gather nothing takes a turn of the event loop
        else []
    )
    return [next(fetched) if isinstance(item, UrlItem) else item for item in items]


async def _fetched(request: Request, item: UrlItem, lease: Lease) -> Upload | tuple[str, DrivetrainError]:
    content = await url_fetcher_of(request).fetch(item.url, "url")
    if isinstance(content, DrivetrainError):
        return item.name, content
    lease.take(len(content))
    return Upload(item.name, content)


async def _read_raw(request: Request, service: Service, lease: Lease) -> PictureRequest:
    content = await read_raw(request, service.limits, lease)
    name = request.query_params.get("name", "")[:_NAME_MAX_CHARS]
    return PictureRequest([Upload(name, content)], is_list=False)


async def _read_form(request: Request, service: Service, lease: Lease) -> PictureRequest:
    return PictureRequest([*await read_form(request, service.limits, lease)], is_list=True)


async def _read_json(request: Request, service: Service, lease: Lease) -> PictureRequest:
    body = await read_all(request, service.limits.json_bytes, service.limits.idle_s, lease)
    lease.take(len(body))  # the same again as text, while it is read
    asked = read_pictures(await parse_json_aside(body, _JSON_LIMITS), service.limits, lease)
    name = request.query_params.get("name", "")[:_NAME_MAX_CHARS]
    if name and not asked.is_list:
        [item] = asked.items
        if isinstance(item, Upload | UrlItem) and not item.name:
            return replace(asked, items=[replace(item, name=name)])
    return asked


_READ: dict[str, Callable[[Request, Service, Lease], Awaitable[PictureRequest]]] = {
    "raw": _read_raw,
    "form": _read_form,
    "json": _read_json,
}


def _parts(request: Request, asked: PictureRequest) -> list[str | bytes]:
    """What makes two requests the same: the model that was asked for and the pictures, not how they were wrapped."""
    parts: list[str | bytes] = ["predict", *(value or "" for value in asked_model(request)), str(asked.is_list)]
    for item in asked.items:
        if isinstance(item, Upload):
            parts += ["picture", item.name, item.content]
        elif isinstance(item, UrlItem):
            parts += ["url", item.name, item.url]
        else:
            parts += ["error", item[1].message]
    return parts


def told_errors(request: Request, do: Callable[[], Awaitable[Response]]) -> Callable[[], Awaitable[Response]]:
    """Errors as responses, so that what will not pass is kept under its key."""

    async def told() -> Response:
        try:
            return await do()
        except DrivetrainError as exc:
            return error_response(exc, request_id_of(request))

    return told
