"""POST /predict: pictures in, answers out."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, Response

from drivetrain.errors import DrivetrainError
from drivetrain.serve.bodies import ClientGone, Upload, body_kind, read_form, read_raw
from drivetrain.serve.errors import error_item, request_id_of
from drivetrain.serve.openapi import PREDICT_BODY, PREDICT_PARAMETERS, PREDICT_RESPONSES
from drivetrain.serve.service import encode_json, service_of

__all__ = ["router"]

_CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody reads it, the connection is closed
_NAME_MAX_CHARS = 255

_log = logging.getLogger("drivetrain.serve")
router = APIRouter(tags=["predict"])


@router.post(
    "/predict",
    response_class=Response,
    responses=PREDICT_RESPONSES,
    openapi_extra={"requestBody": PREDICT_BODY, "parameters": PREDICT_PARAMETERS},
)
async def predict(request: Request) -> Response:
    """Answer for one picture (raw body) or several (form).

    Every error, of a picture or of the request, has a stable `code`, a `message` for a person and a `field`.
    """
    service = service_of(request)
    service.require_model()
    kind = body_kind(request)
    service.pool.check_room()  # before the upload: a full server should not make anyone send it
    try:
        with service.memory.lease() as lease:
            if kind == "raw":
                content = await read_raw(request, service.limits, lease)
                name = request.query_params.get("name", "")[:_NAME_MAX_CHARS]
                [answer] = await service.answer([Upload(name, content)], request.receive)
                if isinstance(answer, BaseException):
                    raise answer
                return Response(answer, media_type="application/json")
            uploads = await read_form(request, service.limits, lease)
            answers = await service.answer(uploads, request.receive)
    except ClientGone:
        return Response(status_code=_CLIENT_CLOSED_REQUEST)
    items = [
        _failed(upload, answer, request) if isinstance(answer, BaseException) else answer
        for upload, answer in zip(uploads, answers, strict=True)
    ]
    return Response(b'{"predictions":[' + b",".join(items) + b"]}", media_type="application/json")


def _failed(upload: Upload, error: BaseException, request: Request) -> bytes:
    """What stands in a picture's place; its neighbours have their answers."""
    if isinstance(error, DrivetrainError):
        item = error_item(error.code, error.message, error.field)
    else:
        request_id = request_id_of(request)
        _log.error("request %s failed on picture %r", request_id, upload.name, exc_info=error)
        message = f"The server failed on this picture. Its log has the reason under request id {request_id}."
        item = error_item("internal", message, "server")
    return encode_json({"name": upload.name, "error": item})
