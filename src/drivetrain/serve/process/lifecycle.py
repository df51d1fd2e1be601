"""Loading, serving, draining: what the server says of itself before it is ready and after it was told to end."""

from __future__ import annotations

from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from drivetrain.errors import Unavailable
from drivetrain.serve.errors import error_response

__all__ = ["Doorkeeper", "Lifecycle", "Phase"]

Phase = Literal["loading", "serving", "draining"]

_READY_PATHS = frozenset({"/health/ready", "/v2/health/ready"})
_ALWAYS = frozenset({"/health/live", "/v2/health/live", "/metrics"})  # answered in every phase
_RETRY_AFTER_S = "1"


class Lifecycle:
    """Which phase the process is in; read for every request, written by the thread that loads and by signals."""

    def __init__(self) -> None:
        self.phase: Phase = "serving"  # an app that nobody loads behind is ready as it is

    def why_not_ready(self) -> str | None:
        """None while it serves; else the reason, for a person."""
        if self.phase == "loading":
            return "a model that is being loaded and proved"
        return "a server that is shutting down" if self.phase == "draining" else None


class Doorkeeper:
    """ASGI middleware: while loading, nothing but life and counters is answered; while draining, all but readiness."""

    def __init__(self, app: ASGIApp, *, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        why = self._lifecycle.why_not_ready()
        if why is None or scope["type"] != "http" or not self._is_kept_out(scope["path"]):
            await self._app(scope, receive, send)
            return
        error = Unavailable("ready", got=why, want="a server that is ready", hint="Send it elsewhere, or again later.")
        answer = error_response(error, str(scope["state"]["request_id"]))
        if scope["path"] not in _READY_PATHS:
            answer.headers["Retry-After"] = _RETRY_AFTER_S
            scope["state"]["outcome"] = "rejected"  # for the counters: not the request's fault, nor a deadline
        await answer(scope, receive, send)

    def _is_kept_out(self, path: str) -> bool:
        if self._lifecycle.phase == "draining":
            return path in _READY_PATHS
        return path not in _ALWAYS
