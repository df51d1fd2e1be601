"""The route that is asked again and again, found without a search.

FastAPI looks through its routes, opens three stacks of contexts and asks for the parameters of the function: half of
what a request costs beside the model, and of no use to a route that reads its request by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from drivetrain.errors import DrivetrainError

from .errors import error_response, request_id_of

__all__ = ["Shortcut"]


class Shortcut:
    """ASGI middleware, the innermost: calls the function of a route itself, and tells its errors as the router would.

    For routes whose path is plain, and whose only parameter is the request; they stay in the app, and its description.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[APIRoute]) -> None:
        self._app = app
        self._routes = {(method, route.path): route for route in routes for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_plain = scope["type"] == "http" and not scope.get("root_path")  # else the router takes it off the path
        route = self._routes.get((scope["method"], scope["path"])) if is_plain else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except DrivetrainError as exc:
            response = error_response(exc, request_id_of(request))
            exc.__traceback__ = None  # its frames hold the picture, and one of them the error: a circle
        await response(scope, receive, send)
