"""The description of all routes at /openapi.json: what each says of itself, and what holds for all of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .auth.rules import PUBLIC, rule_for
from .errors import is_v2
from .openapi import error
from .v2.openapi import v2_error

__all__ = ["TAGS", "describe_app"]

# tag -> title and what it holds; every route bears one of them
TAGS: dict[str, tuple[str, str]] = {
    "predict": ("Pictures", "Pictures in, answers out; and what people say of the answers."),
    "health": ("The server", "For load balancers, monitors and people."),
    "v2": (
        "Open Inference Protocol, version 2",
        "With the extensions binary data, classification and model repository. Each path also with a slash at its end.",
    ),
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer dt_..."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_FOR_ALL = {
    "401": "A key or a sign-in is needed, or the one given does not hold.",
    "403": "Known, but without the role, or sent by another site's page.",
    "421": "For a host that this server does not answer for.",
    "429": "Too many requests. Retry-After says when to try again.",
    "500": "A fault of the server.",
}
_MAY_BE_AWAY = "The server is loading, or shutting down."
_NOTE = (
    "Every error has one JSON body, `{code, message, field, request_id}`; under /v2 it is `{error}`. Every response "
    "bears `X-Request-ID`. A path or a method that is not here is 404 or 405."
)


def describe_app(app: FastAPI) -> dict[str, Any]:
    """As OpenAPI 3.1; made once, then kept."""
    if app.openapi_schema is None:
        described = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=_NOTE,
            routes=app.routes,
            tags=[{"name": name, "description": text} for name, (_, text) in TAGS.items()],
        )
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                _complete(path, method.upper(), operation)
        described.setdefault("components", {})["securitySchemes"] = _SECURITY
        app.openapi_schema = described
    return app.openapi_schema


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    """What the doors before every route may answer."""
    responses = operation["responses"]
    say = v2_error if is_v2(path) else error
    # FastAPI's own 422 is told where a route has parameters of its making; ours are in the routes' own words
    for status, text in _FOR_ALL.items():
        responses.setdefault(status, say(text))
    if not path.endswith("/live"):
        responses.setdefault("503", say(_MAY_BE_AWAY))
    if rule_for(method, path).role != PUBLIC:
        operation["security"] = [{name: []} for name in _SECURITY]
    operation["responses"] = dict(sorted(responses.items()))
