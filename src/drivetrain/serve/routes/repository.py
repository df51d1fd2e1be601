"""The repository extension of the Open Inference Protocol: which models there are; load and unload, for admins."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from drivetrain.errors import InvalidInput
from drivetrain.serve.answers import caller_id_of
from drivetrain.serve.bodies import ClientGone, read_all, refuse_encoding
from drivetrain.serve.errors import request_id_of
from drivetrain.serve.json_body import JsonLimits, kind_of, parse_json, plain_text
from drivetrain.serve.routes.predict import CLIENT_CLOSED_REQUEST
from drivetrain.serve.service import encode_json, service_of
from drivetrain.serve.state import registry_of, store_of
from drivetrain.serve.v2 import openapi as said

__all__ = ["router"]

_BODY_MAX_BYTES = 65_536
_LIMITS = JsonLimits(values=1_000, brackets=1_000)

router = APIRouter(tags=["v2"])


async def index(request: Request) -> Response:
    """The models that answer, and the files in the folder of models that could be loaded."""
    try:
        ready = (await _read(request)).get("ready", False)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if not isinstance(ready, bool):
        raise InvalidInput("ready", got=kind_of(ready), want="true or false")
    rows = [asdict(row) for row in await asyncio.to_thread(registry_of(request).index)]
    return _json([row for row in rows if row["state"] == "READY" or not ready])


async def load(request: Request) -> Response:
    """Prove NAME.dt of the folder of models, then let it answer in the place of what bears its name.

    Requests that have begun end on the model they began with. The default model stays the default.
    """
    try:
        keep = _parameters(await _read(request)).get("keep", False)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if not isinstance(keep, bool):
        raise InvalidInput("parameters.keep", got=kind_of(keep), want="true or false")
    registry = registry_of(request)
    served = await asyncio.to_thread(registry.load_named, request.path_params["name"], keep=keep)
    await _note(request, "model.load", served.version)
    return _json({"name": served.name, "versions": [one.digest for one in registry.versions(served.name)]})


async def unload(request: Request) -> Response:
    """Send nobody to a model, or to one version of it, any more."""
    try:
        version = _parameters(await _read(request)).get("version")
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if version is not None:
        version = plain_text(version, "parameters.version", max_chars=256)
    registry = registry_of(request)
    gone = registry.unload(request.path_params["name"], version)
    await _note(request, "model.unload", ", ".join(one.version for one in gone))
    left = [one.digest for one in registry.all() if one.name == gone[0].name]
    return _json({"name": gone[0].name, "versions": left})


async def _read(request: Request) -> dict[str, Any]:
    """The body's object; an empty body is an empty one."""
    refuse_encoding(request)
    service = service_of(request)
    with service.memory.lease() as lease:
        body = await read_all(request, _BODY_MAX_BYTES, service.limits.idle_s, lease)
    found = parse_json(body, _LIMITS) if body.strip() else {}
    if not isinstance(found, dict):
        raise InvalidInput("body", got=kind_of(found), want="an object")
    return found


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    found = body.get("parameters", {})
    if not isinstance(found, dict):
        raise InvalidInput("parameters", got=kind_of(found), want="an object")
    return found


async def _note(request: Request, action: str, subject: str) -> None:
    """Into the audit, where there is one."""
    store = store_of(request)
    if store is None:
        return
    await asyncio.to_thread(
        store.audit,
        action,
        by=caller_id_of(request),
        subject=subject,
        address=request.client.host if request.client else "",
        request_id=request_id_of(request),
    )


def _json(value: object) -> Response:
    return Response(encode_json(value), headers={"Cache-Control": "no-store"}, media_type="application/json")


for _path, _endpoint, _described in (
    ("/v2/repository/index", index, said.INDEX),
    ("/v2/repository/models/{name}/load", load, said.LOAD),
    ("/v2/repository/models/{name}/unload", unload, said.UNLOAD),
):
    router.add_api_route(_path, _endpoint, methods=["POST"], response_class=Response, **_described)
