"""The only place where an error becomes a status, and the one JSON body that every error has.

code                     status
invalid_input            422  also unreadable_picture, invalid_config
not_found                404
method_not_allowed       405
upload_stalled           408  the client stopped sending
conflict                 409
too_large                413  bytes of a picture or request, or pictures in a request
unsupported_media_type   415
overloaded               429  with Retry-After
internal                 500  the message holds the request id and nothing of the fault
unavailable              503  also missing_extra
deadline_passed          503  with Retry-After
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from drivetrain.errors import Conflict, DrivetrainError, InvalidConfig, InvalidInput, NotFound, Unavailable

__all__ = [
    "DeadlinePassed",
    "Overloaded",
    "TooLarge",
    "UnsupportedMedia",
    "UploadStalled",
    "error_body",
    "error_item",
    "error_response",
    "install_error_handlers",
    "internal_response",
    "request_id_of",
]

_RETRY_AFTER_S = 1  # the queue drains in about this time; a client that is told to wait longer gives up

_log = logging.getLogger("drivetrain.serve")


class TooLarge(InvalidInput):
    """More bytes or pictures than one request may hold."""

    code = "too_large"


class UnsupportedMedia(InvalidInput):
    """A body that is neither a picture nor a form with pictures."""

    code = "unsupported_media_type"


class UploadStalled(InvalidInput):
    """The client stopped sending before its body was complete."""

    code = "upload_stalled"


class Overloaded(Unavailable):
    """The queue or the memory for pictures is full; the same request may work in a moment."""

    code = "overloaded"


class DeadlinePassed(Unavailable):
    """No answer in the time a request has."""

    code = "deadline_passed"


# The first row that fits wins, so a class stands before its base.
_STATUS: tuple[tuple[type[DrivetrainError], int], ...] = (
    (TooLarge, 413),
    (UnsupportedMedia, 415),
    (UploadStalled, 408),
    (Overloaded, 429),
    (InvalidInput, 422),
    (InvalidConfig, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
)


def request_id_of(request: Request) -> str:
    """The id that the edge gave this request."""
    return str(request.state.request_id)


def error_item(code: str, message: str, field: str) -> dict[str, str]:
    """An error without its request: what stands in the place of one picture among many."""
    return {"code": code, "message": message, "field": field}


def error_body(code: str, message: str, field: str, request_id: str) -> bytes:
    """The one JSON body."""
    return json.dumps(error_item(code, message, field) | {"request_id": request_id}).encode()


def error_response(error: DrivetrainError, request_id: str) -> Response:
    """The answer to an error of ours; one without a row in the table is a fault of the server."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        return internal_response(error, request_id)
    headers = {}
    if isinstance(error, Overloaded | DeadlinePassed):
        headers["Retry-After"] = str(_RETRY_AFTER_S)
    if isinstance(error, UnsupportedMedia):
        headers["Accept-Post"] = "image/*, application/octet-stream, multipart/form-data"
    return _response(status, error_body(error.code, error.message, error.field, request_id), headers)


def internal_response(error: BaseException, request_id: str) -> Response:
    """Log the traceback; tell the client only how to find it."""
    _log.error("request %s failed", request_id, exc_info=error)
    message = f"The server failed on this request. Its log has the reason under request id {request_id}."
    return _response(500, error_body("internal", message, "server", request_id), {})


def install_error_handlers(app: FastAPI) -> None:
    """Replace each of FastAPI's own error bodies. What is left over, a 500, is caught at the edge."""

    async def ours(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, DrivetrainError)
        return error_response(exc, request_id_of(request))

    async def http(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        status = HTTPStatus(exc.status_code)
        code = status.name.lower()  # NOT_FOUND -> not_found
        allowed = (exc.headers or {}).get("Allow", "")
        if status is HTTPStatus.NOT_FOUND:
            message, field = _missing_page(request.url.path), "path"
        elif status is HTTPStatus.METHOD_NOT_ALLOWED:
            message, field = f"method: got {request.method}; want {allowed or 'another one'} on this path.", "method"
        else:
            message, field = f"{status.phrase}.", "request"
        return _response(status, error_body(code, message, field, request_id_of(request)), exc.headers or {})

    async def validation(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        problems = exc.errors()
        field = ".".join(str(part) for part in problems[0]["loc"]) if problems else "request"
        message = "; ".join(str(problem["msg"]) for problem in problems)
        return _response(422, error_body("invalid_input", message, field, request_id_of(request)), {})

    app.add_exception_handler(DrivetrainError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)


def _missing_page(path: str) -> str:
    want = "/, /predict, /model, /health/live, /health/ready or /openapi.json"
    return NotFound("path", got=path, want=want).message


def _response(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    return Response(body, status, {**headers, "Cache-Control": "no-store"}, media_type="application/json")
