"""The Open Inference Protocol, version 2: health, metadata and inference."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from drivetrain.errors import InvalidInput, Unavailable
from drivetrain.runtime.prediction import Answer
from drivetrain.serve.answers import Told, answer_pixels, answer_uploads, remember
from drivetrain.serve.bodies import ClientGone, Upload, read_all, refuse_encoding
from drivetrain.serve.errors import ErrorResponse, TooLarge, error_response, internal_item, request_id_of
from drivetrain.serve.idempotency import body_digest, key_of, once
from drivetrain.serve.registry import Served
from drivetrain.serve.routes.predict import CLIENT_CLOSED_REQUEST, told_errors
from drivetrain.serve.service import Service, encode_json, service_of
from drivetrain.serve.state import registry_of, rollouts_of, store_of
from drivetrain.serve.v2 import openapi as said
from drivetrain.serve.v2.answer import describe, encode_answer, output_names, to_tensors
from drivetrain.serve.v2.request import InferRequest, json_limits, parse_infer
from drivetrain.serve.v2.tensors import Tensor

if TYPE_CHECKING:
    from drivetrain.serve.rollout.traffic import Held

__all__ = ["EXTENSIONS", "OneSlash", "router"]

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository")
_ASIDE_BYTES = 100_000  # reading more than this would hold up the event loop for a millisecond and longer

router = APIRouter(tags=["v2"])


class OneSlash:
    """ASGI middleware: a path of the protocol with a slash at its end is the one without, for rules and routes alike.

    The protocol writes both. A redirect would lose the body of a POST with some clients.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v2/") and scope["path"].endswith("/"):
            scope["path"] = scope["path"][:-1]  # in place: Access, outside, finds the route in it
        await self._app(scope, receive, send)


async def live() -> Response:
    """200 as long as the process answers."""
    return _json({"live": True})


async def ready(request: Request) -> Response:
    """200 when every model answers; else 400."""
    why = registry_of(request).why_not_ready()
    return _not_ready(request, why) if why else _json({"ready": True})


async def server_metadata() -> Response:
    """Name, version and extensions of the server."""
    return _json({"name": "drivetrain", "version": version_of("drivetrain"), "extensions": list(EXTENSIONS)})


async def model_ready(request: Request) -> Response:
    """200 when this model, or this version of it, answers; else 400."""
    served = _find(request)
    why = served.batcher.why_not_ready()
    return _not_ready(request, why) if why else _json({"name": served.name, "ready": True})


async def model_metadata(request: Request) -> Response:
    """What the model takes and gives."""
    served = _find(request)
    versions = [one.digest for one in registry_of(request).versions(served.name)]
    return _json(describe(served, versions))


async def infer(request: Request) -> Response:
    """Answers for pictures (input `image`, BYTES) or for preprocessed pixels (input `pixels`, FP32).

    One picture that cannot be read fails the request: the protocol has no errors for single elements.
    """
    service, store = service_of(request), store_of(request)
    key = key_of(request, store)
    header = request.headers.get("inference-header-content-length")
    try:
        with _hold(request) as (served, held), service.memory.lease() as lease:
            request.state.served = served
            refuse_encoding(request)
            served.batcher.check_room()
            limits = service.limits
            max_bytes = limits.json_bytes if header is None else limits.request_bytes
            body = await read_all(request, max_bytes, limits.idle_s, lease)
            lease.take(len(body))  # as text or as numbers, the same again and more
            limits_of_json = json_limits(limits.pictures, served.model.predictor.input_size)
            if len(body) < _ASIDE_BYTES:
                asked = parse_infer(body, header, limits_of_json)
            else:
                asked = await asyncio.to_thread(parse_infer, body, header, limits_of_json)

            async def do() -> Response:
                return await _answer(request, service, served, held, asked)

            if key is None or store is None:
                return await do()
            parts: list[str | bytes] = ["v2", *(part or "" for part in _asked(request)), header or "", body]
            digest = await asyncio.to_thread(body_digest, parts)
            return await once(request, store, key, digest, told_errors(request, do), wait_s=service.timeout_s)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


@contextmanager
def _hold(request: Request) -> Iterator[tuple[Served, Held | None]]:
    """The version that answers, and both where the model is rolled out."""
    name, version = _asked(request)
    rollouts, registry = rollouts_of(request), registry_of(request)
    if rollouts is None or (live := rollouts.find(name, version)) is None:
        with registry.hold(name, version) as served:
            yield served, None
        return
    from drivetrain.serve.rollout.traffic import hold_both  # SQLAlchemy: not for a server without memory

    with hold_both(registry, live) as held:
        if (one := held.incumbent or held.candidate) is not None:
            yield one, held
            return
        with registry.hold(name, version) as served:  # neither is loaded: what its inputs are, the rest can tell
            yield served, held


async def _answer(
    request: Request, service: Service, served: Served, held: Held | None, asked: InferRequest
) -> Response:
    _check_outputs(served, asked)
    answers = await _ask(request, service, served, held, _only_input(served, asked, service.limits.pictures))
    if isinstance(answers, Response):
        return answers
    body, headers, kind = encode_answer(served, asked, to_tensors(served, answers, asked))
    return Response(body, headers=dict(headers), media_type=kind)


async def _ask(
    request: Request, service: Service, served: Served, held: Held | None, tensor: Tensor
) -> Sequence[Answer] | Response:
    items: list[Upload] = []
    if isinstance(tensor.values, list):
        items = [Upload(f"image[{number}]", content) for number, content in enumerate(tensor.values)]
        for item in items:
            if len(item.content) > service.limits.picture_bytes:
                want = f"at most {service.limits.picture_bytes} bytes"
                raise TooLarge(item.name, got=f"{len(item.content)} bytes", want=want)
        told = await _answer_files(request, service, served, held, items)
    elif held is not None and held.live.deployment.incumbent is None:
        raise InvalidInput("inputs", got="pixels, of a model whose answers people give", want="image (BYTES, [n])")
    else:
        told = await answer_pixels(request, service, served, tensor.values)
    for one in told:
        if one.error is not None:
            raise one.error
    request_id = request_id_of(request)
    if any(one.answer is None for one in told):
        return ErrorResponse(500, internal_item("picture", request_id), request_id)
    if items and held is None and (store := store_of(request)) is not None:
        told = await remember(request, store, served, items, told)
    return [one.answer for one in told if one.answer is not None]


async def _answer_files(
    request: Request, service: Service, served: Served, held: Held | None, items: list[Upload]
) -> list[Told]:
    if held is None:
        return await answer_uploads(request, service, served, items)
    from drivetrain.serve.rollout.traffic import answer_routed

    rollouts = rollouts_of(request)
    assert rollouts is not None
    return await answer_routed(request, service, rollouts, held, items, can_wait=False)


def _only_input(served: Served, asked: InferRequest, most: int) -> Tensor:
    """The one input, of a form that the model takes."""
    size = served.model.predictor.input_size
    forms = f"image (BYTES, [n]) or pixels (FP32, [n, 3, {size}, {size}])"
    if len(asked.inputs) != 1:
        raise InvalidInput("inputs", got=f"{len(asked.inputs)} inputs", want=f"one: {forms}")
    [tensor] = asked.inputs
    if tensor.name not in ("image", "pixels"):
        raise InvalidInput("inputs[0].name", got=tensor.name, want=forms)
    datatype = "BYTES" if tensor.name == "image" else "FP32"
    if tensor.datatype != datatype:
        raise InvalidInput("inputs[0].datatype", got=tensor.datatype, want=f"{datatype} for {tensor.name}")
    rest = tensor.shape[1:]
    if not tensor.shape or rest not in (((), (1,)) if tensor.name == "image" else ((3, size, size),)):
        raise InvalidInput("inputs[0].shape", got=str(list(tensor.shape)), want=forms)
    if not 1 <= tensor.shape[0] <= most:
        kind = TooLarge if tensor.shape[0] else InvalidInput
        raise kind("inputs[0].shape", got=f"{tensor.shape[0]} pictures", want=f"1 to {most} in one request")
    if not isinstance(tensor.values, list) and not np.isfinite(tensor.values).all():
        raise InvalidInput("inputs[0].data", got="a number that is not finite", want="numbers")
    return tensor


def _check_outputs(served: Served, asked: InferRequest) -> None:
    """Before any work: an unknown output should cost nothing."""
    known = output_names(served)
    for one in asked.outputs or ():
        if one.name not in known:
            raise InvalidInput("outputs", got=one.name, want=f"one of {', '.join(known)}")
        if one.classification is not None and one.name != "probabilities":
            raise InvalidInput("outputs", got=f"classification of {one.name}", want="that of probabilities")


def _asked(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


def _find(request: Request) -> Served:
    return registry_of(request).get(*_asked(request))


def _not_ready(request: Request, why: str) -> Response:
    """400, as the protocol's first text and Triton have it; the body is an error's."""
    error = Unavailable("ready", got=why, want="models that answer")
    response = error_response(error, request_id_of(request))
    response.status_code = 400
    return response


def _json(value: dict[str, object]) -> Response:
    return Response(encode_json(value), headers={"Cache-Control": "no-store"}, media_type="application/json")


def _add(path: str, endpoint: Callable[..., Awaitable[Response]], described: dict[str, Any], method: str) -> None:
    router.add_api_route(path, endpoint, methods=[method], response_class=Response, **described)


_add("/v2", server_metadata, said.SERVER, "GET")
_add("/v2/health/live", live, said.LIVE, "GET")
_add("/v2/health/ready", ready, said.READY, "GET")
for _path, _suffix in (("/v2/models/{name}", ""), ("/v2/models/{name}/versions/{version}", "_version")):
    _add(_path, model_metadata, said.model_metadata(_suffix), "GET")
    _add(f"{_path}/ready", model_ready, said.model_ready(_suffix), "GET")
    _add(f"{_path}/infer", infer, said.infer(_suffix), "POST")
