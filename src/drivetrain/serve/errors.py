"""The only place where an error becomes a status, and the one JSON body that every error has.

code                     status
invalid_input            422  also unreadable_picture, invalid_config, url_refused
unauthorized             401
forbidden                403
not_found                404
method_not_allowed       405
upload_stalled           408  the client stopped sending
conflict                 409
too_large                413  bytes of a picture or request, or pictures in a request
unsupported_media_type   415
wrong_host               421  a Host header that this server does not answer for
rate_limited             429  with Retry-After
overloaded               429  with Retry-After
internal                 500  the message holds the request id and nothing of the fault
unavailable              503  also missing_extra
deadline_passed          503  with Retry-After

Under /v2 the body is `{"error": message}`, as the Open Inference Protocol has it, and 422 is 400.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from drivetrain.errors import (
    Conflict,
    DeadlinePassed,
    DrivetrainError,
    InvalidConfig,
    InvalidInput,
    NotFound,
    QueueFull,
    Unavailable,
)

from .auth.refusals import Forbidden, Unauthorized, WrongHost

__all__ = [
    "DeadlinePassed",
    "ErrorResponse",
    "Overloaded",
    "TooLarge",
    "UnsupportedMedia",
    "UploadStalled",
    "UrlRefused",
    "error_item",
    "error_response",
    "install_error_handlers",
    "internal_item",
    "internal_response",
    "is_v2",
    "request_id_of",
]

Overloaded = QueueFull  # the queue, or the memory for pictures, is full

_RETRY_AFTER_S = 1  # the queue drains in about this time; a client that is told to wait longer gives up
_ACCEPT_POST = "image/*, application/octet-stream, multipart/form-data, application/json"

_log = logging.getLogger("drivetrain.serve")


class TooLarge(InvalidInput):
    """More bytes or pictures than one request may hold."""

    code = "too_large"


class UnsupportedMedia(InvalidInput):
    """A body of a kind that this route does not take."""

    code = "unsupported_media_type"


class UploadStalled(InvalidInput):
    """The client stopped sending before its body was complete."""

    code = "upload_stalled"


class UrlRefused(InvalidInput):
    """A picture's address that the server will not or cannot fetch from."""

    code = "url_refused"


# The first row that fits wins, so a class stands before its base.
_STATUS: tuple[tuple[type[DrivetrainError], int], ...] = (
    (TooLarge, 413),
    (UnsupportedMedia, 415),
    (UploadStalled, 408),
    (Unauthorized, 401),
    (Forbidden, 403),
    (WrongHost, 421),
    (QueueFull, 429),
    (InvalidInput, 422),
    (InvalidConfig, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
)


class ErrorResponse(Response):
    """An error's body, in the form that the path asks for: whoever sends it need not know the path."""

    media_type = "application/json"

    def __init__(
        self, status: int, item: Mapping[str, str], request_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            json.dumps({**item, "request_id": request_id}).encode(),
            status,
            {**(headers or {}), "Cache-Control": "no-store"},
        )
        self._message = item["message"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_v2(scope["path"]):
            self.status_code = 400 if self.status_code == HTTPStatus.UNPROCESSABLE_ENTITY else self.status_code
            self.body = json.dumps({"error": self._message}).encode()
            self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def is_v2(path: str) -> bool:
    """Whether the Open Inference Protocol rules there."""
    return path == "/v2" or path.startswith("/v2/")


def request_id_of(request: Request) -> str:
    """The id that the edge gave this request."""
    return str(request.state.request_id)


def error_item(code: str, message: str, field: str) -> dict[str, str]:
    """An error without its request: what stands in the place of one picture among many."""
    return {"code": code, "message": message, "field": field}


def internal_item(what: str, request_id: str) -> dict[str, str]:
    """A fault of ours, told by nothing but where the reason stands."""
    message = f"The server failed on this {what}. Its log has the reason under request id {request_id}."
    return error_item("internal", message, "server")


def error_response(error: DrivetrainError, request_id: str) -> Response:
    """The answer to an error of ours; one without a row in the table is a fault of the server."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        return internal_response(error, request_id)
    headers = {}
    if isinstance(error, QueueFull):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, DeadlinePassed):
        headers["Retry-After"] = str(_RETRY_AFTER_S)
    if isinstance(error, UnsupportedMedia):
        headers["Accept-Post"] = _ACCEPT_POST
    return ErrorResponse(status, error_item(error.code, _told(error, request_id), error.field), request_id, headers)


def internal_response(error: BaseException, request_id: str) -> Response:
    """Log the traceback; tell the client only how to find it."""
    _log.error("request %s failed", request_id, exc_info=error)
    return ErrorResponse(500, internal_item("request", request_id), request_id)


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
            message, field = NotFound("path", got=request.url.path, want="one that /docs lists").message, "path"
        elif status is HTTPStatus.METHOD_NOT_ALLOWED:
            message, field = f"method: got {request.method}; want {allowed or 'another one'} on this path.", "method"
        else:
            message, field = f"{status.phrase}.", "request"
        return ErrorResponse(status, error_item(code, message, field), request_id_of(request), exc.headers)

    async def validation(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        problems = exc.errors()
        field = ".".join(str(part) for part in problems[0]["loc"]) if problems else "request"
        message = "; ".join(str(problem["msg"]) for problem in problems)
        return ErrorResponse(422, error_item("invalid_input", message, field), request_id_of(request))

    app.add_exception_handler(DrivetrainError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)


def _told(error: DrivetrainError, request_id: str) -> str:
    """The message; a database's own words stay here: they name a path, or an address."""
    if error.field != "db":
        return error.message
    _log.error("request %s: %s", request_id, error.message, exc_info=error)
    return f"{error.field}: not to be had just now. The server's log has the reason under request id {request_id}."
