"""For load balancers and people: is it alive, is it ready, what does it serve."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from drivetrain.errors import Unavailable
from drivetrain.serve import openapi as said
from drivetrain.serve.routes.predict import asked_model
from drivetrain.serve.service import encode_json
from drivetrain.serve.state import registry_of

__all__ = ["router"]

router = APIRouter(tags=["health"])


async def live() -> Response:
    """200 as long as the process answers."""
    return _json({"live": True})


async def ready(request: Request) -> Response:
    """200 when a picture sent now would be answered; else 503 with the reason."""
    registry = registry_of(request)
    why = registry.why_not_ready()
    if why is not None:
        raise Unavailable("ready", got=why, want="a loaded model and free threads", hint="Send traffic elsewhere.")
    served = registry.get(registry.names()[0])
    return _json({"ready": True, "model": served.name, "version": served.version})


async def describe_model(request: Request) -> Response:
    """Name, version, classes, measured quality and decision policy of a model.

    `task` is there where it is not classification: multilabel, or regression, whose `classes` name the values.
    """
    model = registry_of(request).get(*asked_model(request)).model
    return _json(
        {
            "name": model.name,
            "version": model.version,
            **({} if model.task == "classification" else {"task": model.task}),
            "classes": list(model.classes),
            "evaluation": dict(model.evaluation),
            "policy": dict(model.policy),
        }
    )


async def list_models(request: Request) -> Response:
    """Every version that answers."""
    registry = registry_of(request)
    default = registry.default
    rows = [
        {
            "name": one.name,
            "version": one.version,
            "task": one.model.task,
            "is_default": one.name == default,
            "loaded_at": one.loaded_at,
        }
        for name in registry.names()
        for one in reversed([one for one in registry.all() if one.name == name])
    ]
    return _json({"models": rows})


for path, endpoint, described in (
    ("/health/live", live, said.LIVE),
    ("/health/ready", ready, said.READY),
    ("/model", describe_model, said.MODEL),
    ("/models", list_models, said.MODELS),
):
    router.add_api_route(path, endpoint, methods=["GET"], response_class=Response, **described)
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _json(value: dict[str, object]) -> Response:
    return Response(encode_json(value), headers={"Cache-Control": "no-store"}, media_type="application/json")
