"""For load balancers and people: is it alive, is it ready, what does it serve."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from drivetrain.errors import Unavailable
from drivetrain.serve.service import encode_json, service_of

__all__ = ["router"]

router = APIRouter(tags=["health"])


async def live() -> Response:
    """200 as long as the process answers."""
    return _json({"live": True})


async def ready(request: Request) -> Response:
    """200 when a picture sent now would be answered; else 503 with the reason."""
    service = service_of(request)
    why = service.why_not_ready()
    if why is not None:
        raise Unavailable("ready", got=why, want="a loaded model and free threads", hint="Send traffic elsewhere.")
    model = service.require_model()
    return _json({"ready": True, "model": model.name, "version": model.version})


async def describe_model(request: Request) -> Response:
    """Name, version, classes, measured quality and decision policy of the model served.

    `task` is there where it is not classification: multilabel, or regression, whose `classes` name the values.
    """
    model = service_of(request).require_model()
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


for path, endpoint in (("/health/live", live), ("/health/ready", ready), ("/model", describe_model)):
    router.add_api_route(path, endpoint, methods=["GET"], response_class=Response)
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _json(value: dict[str, object]) -> Response:
    return Response(encode_json(value), headers={"Cache-Control": "no-store"}, media_type="application/json")
