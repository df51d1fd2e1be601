"""The outermost layer: counts every answer a client sees, and writes the one line of each request."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drivetrain.runtime.batch_types import Outcome

from .logs import log_access, request_in_hand
from .metrics import Metrics

__all__ = ["Access", "outcome_of"]

_UNMATCHED = "unmatched"  # no route: the path itself could be anything, and would make a time series of each
_BROKEN = "broken"  # an answer that began and did not end
_LEFT = "499"  # nginx's number for a client that did not wait


class Access:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, described: FastAPI) -> None:
        """`described` is the app whose routes have the patterns."""
        self._app = app
        self._metrics = metrics
        self._described = described

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        code, may_retry, is_whole = "", False, False

        async def watch(message: Message) -> None:
            nonlocal code, may_retry, is_whole
            if message["type"] == "http.response.start":
                code = str(message["status"])
                if code[0] != "2":
                    may_retry = any(name.lower() == b"retry-after" for name, _ in message.get("headers", ()))
            elif message["type"] == "http.response.body":
                is_whole = not message.get("more_body", False)
            await send(message)

        begun = time.perf_counter()
        self._metrics.request_begun()
        try:
            with request_in_hand(scope):
                await self._app(scope, receive, watch)
        finally:
            seconds = time.perf_counter() - begun
            code = code if is_whole else _BROKEN if code else _LEFT
            self._tell(scope, code=code, may_retry=may_retry, seconds=seconds)

    def _tell(self, scope: Scope, *, code: str, may_retry: bool, seconds: float) -> None:
        route, method, state = self._route_of(scope), scope["method"], scope.get("state", {})
        self._metrics.request_ended(route=route, method=method, code=code, seconds=seconds)
        served = state.get("served")  # put there by the routes that ask a model, the page's own form among them
        if method == "POST" and (served is not None or route == "/predict" or route.endswith("/infer")):
            self._metrics.inference(
                model_name=getattr(served, "name", ""),
                model_version=getattr(served, "version", ""),
                outcome=state.get("outcome") or outcome_of(code, may_retry=may_retry),
            )
        log_access(
            {
                "method": method if method.isalpha() else "OTHER",
                "route": route,
                "status": int(code) if code.isdigit() else code,
                "seconds": round(seconds, 4),
                "request_id": state.get("request_id", ""),
                **_caller_of(state),
            }
        )

    def _route_of(self, scope: Scope) -> str:
        """The pattern, never the path: `/predict`, `/static/{version}/{name}`."""
        found = getattr(scope.get("route"), "path", None)
        if isinstance(found, str) and found:
            return found
        # refused before it came to its route: by who asked, from where, or how often
        return next((path for path, pattern in self._patterns if pattern.fullmatch(scope["path"])), _UNMATCHED)

    @cached_property
    def _patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        paths = self._described.openapi()["paths"]
        return [(path, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))) for path in paths]


def outcome_of(code: str, *, may_retry: bool) -> Outcome:
    """How a request for answers ended, by what its client was told."""
    if code == _LEFT:
        return "canceled"
    if code in {"401", "403", "429"}:
        return "rejected"
    if code == "408" or (code == "503" and may_retry):  # the client stalled; the deadline passed
        return "timeout"
    if code.startswith("2"):
        return "success"
    return "invalid" if code.startswith("4") else "error"


def _caller_of(state: Mapping[str, Any]) -> dict[str, str]:
    """Kind and id of who asked, as auth found it; never what they proved it with."""
    caller = state.get("caller")
    kind, id_ = getattr(caller, "kind", ""), getattr(caller, "id", "")
    return {"caller": f"{kind}:{id_}" if id_ and kind != id_ else str(kind)} if kind else {}
