"""POST /explain: which places of a picture an answer rests on."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from fastapi import APIRouter, Request, Response

from drivetrain.errors import InvalidInput
from drivetrain.serve.bodies import ClientGone, Upload, body_kind, read_form, read_raw
from drivetrain.serve.errors import DeadlinePassed, Overloaded, UnsupportedMedia
from drivetrain.serve.openapi import ERROR_SCHEMA
from drivetrain.serve.page.shelf import PageShelf
from drivetrain.serve.registry import Served
from drivetrain.serve.routes.predict import CLIENT_CLOSED_REQUEST, asked_model
from drivetrain.serve.service import Service, encode_json, service_of
from drivetrain.serve.state import registry_of

__all__ = ["make_router"]

_AT_ONCE = 1  # what says why must not take the cores from what answers
_WAITING_MAX = 8
_LABEL_MAX_CHARS = 1000

_TEXT = {"type": "string"}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_BINARY = {"type": "string", "format": "binary"}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["label", "share_explained", "width", "height", "where", "frame", "heat", "version"],
    "properties": {
        "label": {"type": "string", "description": "What is explained."},
        "probability": {**_SHARE, "description": "Calibrated; absent where the model measures."},
        "value": {"type": "number", "description": "Where the model measures."},
        "share_explained": {
            **_SHARE,
            "description": "Of what the head weighs for this label, the part that lies in the maps looked at.",
        },
        "width": {"type": "integer", "description": "Of the picture as looked at, turned as its EXIF says; pixels."},
        "height": {"type": "integer"},
        "where": {
            "type": "string",
            "description": "Where most of it lies, in words; empty where nothing speaks for it.",
        },
        "frame": {
            "type": "object",
            "description": "What the network saw, in shares of the picture; beyond 0 and 1 where it was padded.",
            "properties": {side: {"type": "number"} for side in ("left", "top", "right", "bottom")},
        },
        "heat": {
            "type": "string",
            "description": "data:image/png;base64, with transparency, to be laid over the whole picture.",
        },
        "version": {"type": "string", "description": "The model that was asked."},
    },
}


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": ERROR_SCHEMA}}}


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Why.", "content": {"application/json": {"schema": _SCHEMA}}},
    404: _error("No such model or version."),
    408: _error("The client stopped sending."),
    409: _error("The model came from no file, or its file is gone or another by now: load it again."),
    413: _error("Too many bytes."),
    415: _error("The body is neither a picture nor a form."),
    422: _error("No picture that can be read, more than one, or a label that the model does not know."),
    429: _error("Too many are waiting for a why."),
    500: _error("A fault of the server."),
    503: _error("This model cannot say why, or not in time."),
}
_PARAMETERS = [
    {"name": name, "in": "query", "schema": {**_TEXT, "minLength": 1}, "description": what}
    for name, what in (
        ("label", "Which label to explain; its best guess if left out."),
        ("model", "Which model; the default one if left out."),
        ("version", "Which version of it; the newest if left out."),
    )
]
_BODY = {
    "required": True,
    "description": "One picture: its bytes, or a form with one file.",
    "content": {
        "image/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": {"schema": {"type": "object", "additionalProperties": _BINARY}},
    },
}


def make_router(shelf: PageShelf) -> APIRouter:
    """The route; `shelf` opens what explains."""
    router = APIRouter(tags=["predict"])
    turns = asyncio.Semaphore(_AT_ONCE)
    waiting = 0

    @router.post(
        "/explain",
        operation_id="explain",
        response_class=Response,
        responses=_RESPONSES,
        openapi_extra={"requestBody": _BODY, "parameters": _PARAMETERS},
    )
    async def explain(request: Request) -> Response:
        """Class activation for one picture: where in it the evidence for a label lies."""
        nonlocal waiting
        service = service_of(request)
        name, version = asked_model(request)
        label = _asked_label(request)
        if waiting >= _WAITING_MAX:
            raise Overloaded("explain", got=f"{waiting} pictures waiting for a why", want=f"fewer than {_WAITING_MAX}")
        waiting += 1
        try:
            with registry_of(request).hold(name, version) as served, service.memory.lease() as lease:
                upload = await _read(request, service, lease)
                shelf.forget(one.version for one in registry_of(request).all())
                async with asyncio.timeout(service.timeout_s), turns:
                    return Response(
                        await asyncio.to_thread(_explain, shelf, served, upload, label),
                        headers={"Cache-Control": "no-store"},
                        media_type="application/json",
                    )
        except TimeoutError:
            want = f"one within {service.timeout_s:.0f} s"
            raise DeadlinePassed("explain", got="no answer in time", want=want, hint="Send it again later.") from None
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        finally:
            waiting -= 1

    return router


def _explain(shelf: PageShelf, served: Served, upload: Upload, label: str | None) -> bytes:
    from drivetrain.inspect.saliency import tell_where
    from drivetrain.inspect.saliency_picture import paint_saliency  # with its explainer: not at every start

    told = shelf.explainer(served).explain(upload.content, label=label, name=upload.name or "picture")
    heat = base64.b64encode(paint_saliency(told)).decode()
    frame = told.frame
    return encode_json(
        {
            "label": told.label,
            "value" if served.model.task == "regression" else "probability": told.number,
            "share_explained": min(1.0, told.share_explained),
            "width": told.width,
            "height": told.height,
            "where": tell_where(told),
            "frame": {side: getattr(frame, side) for side in ("left", "top", "right", "bottom")},
            "heat": f"data:image/png;base64,{heat}",
            "version": served.version,
        }
    )


async def _read(request: Request, service: Service, lease: Any) -> Upload:
    kind = body_kind(request)
    if kind == "json":
        want = "image/*, application/octet-stream or multipart/form-data"
        raise UnsupportedMedia("content-type", got="application/json", want=want)
    if kind == "raw":
        return Upload("", await read_raw(request, service.limits, lease))
    uploads = await read_form(request, service.limits, lease)
    if len(uploads) != 1:
        raise InvalidInput("body", got=f"{len(uploads)} pictures", want="one")
    return uploads[0]


def _asked_label(request: Request) -> str | None:
    label = request.query_params.get("label")
    if label is not None and not 0 < len(label) <= _LABEL_MAX_CHARS:
        raise InvalidInput("label", got=f"{len(label)} characters", want="a label, or the parameter left out")
    return label
