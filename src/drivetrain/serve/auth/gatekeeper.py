"""ASGI middleware: no request reaches a route before the table of rules has let its caller in."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drivetrain.errors import DrivetrainError
from drivetrain.serve.errors import error_response

from .caller import NOBODY, Caller
from .csrf import require_csrf
from .gate import Gate, key_of
from .origin import SAFE_METHODS, address_of, check_site, is_from_here
from .refusals import Forbidden, Unauthorized
from .rules import KNOWN, PUBLIC, Rule, rule_for

__all__ = ["Gatekeeper"]

# A path that a proxy or a file system might read differently than our router does names nothing here.
_ODD_PATH = re.compile(r"[\x00-\x1f\x7f\\%;]|//|/\.{1,2}(/|$)")


class Gatekeeper:
    """Stands inside of the edge, which gives the request its id, and around the routes."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http"  # the server speaks nothing else
        headers = Headers(scope=scope)
        rule = rule_for(scope["method"], scope["path"])
        try:
            caller, receive = await self._admit(scope, headers, receive, rule)
        except DrivetrainError as exc:
            await self._refuse(exc, scope, headers, rule)(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        if rule.role == "admin" and scope["method"] not in SAFE_METHODS:
            await self._audited(caller, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, headers: Headers, receive: Receive, rule: Rule) -> tuple[Caller, Receive]:
        gate, address = self._gate, address_of(scope)
        if _ODD_PATH.search(scope["path"]):
            rule = rule_for("", "")
        if not rule.any_host:
            gate.hosts.check(headers, is_local=await gate.is_local(scope, headers))
        is_by_key = key_of(headers) is not None
        if not is_by_key:  # a browser adds no such header on another site's behalf
            check_site(scope["method"], headers)
        if rule.role == PUBLIC:
            if not rule.any_host and not is_from_here(scope, headers):
                gate.count_refused(address)
            return NOBODY, receive
        try:
            caller = await gate.identify(scope, headers)
        except Unauthorized:
            if rule.is_open_here and is_from_here(scope, headers) and not is_by_key:
                return NOBODY, receive
            gate.count_refused(address)
            raise
        gate.count(caller, address)
        if caller.csrf and scope["method"] not in SAFE_METHODS:
            receive = await require_csrf(headers, receive, caller.csrf)
        if (
            rule.role != KNOWN
            and not any(caller.may(role) for role in rule.role.split())
            and not (rule.is_open_here and is_from_here(scope, headers))
        ):
            raise Forbidden(
                "role",
                got=", ".join(sorted(caller.roles)) or "none",
                want=f"the role {' or '.join(rule.role.split())} for this request",
            )
        return caller, receive

    def _refuse(self, error: DrivetrainError, scope: Scope, headers: Headers, rule: Rule) -> Response:
        path = scope["path"]
        wants_page = rule.is_page and scope["method"] in SAFE_METHODS and "text/html" in headers.get("accept", "")
        if isinstance(error, Unauthorized) and wants_page and self._gate.store is not None:
            up = "../" * (path.count("/") - 1)  # relative: a proxy may have put a folder before our paths
            return RedirectResponse(f"{up}login?next={quote(path, safe='/')}", 303, {"Cache-Control": "no-store"})
        response = error_response(error, scope["state"]["request_id"])
        if isinstance(error, Unauthorized):
            response.headers["WWW-Authenticate"] = 'Bearer realm="drivetrain"'
        return response

    async def _audited(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Written down before it is done: an act that cannot be is not done either."""
        store = self._gate.store
        if store is None:
            await self._app(scope, receive, send)
            return
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        def write(action: str, **detail: object) -> None:
            assert store is not None
            store.audit(
                action,
                by=caller.tag,
                subject=f"{scope['method']} {scope['path']}",
                detail=detail,
                address=address_of(scope),
                request_id=scope["state"]["request_id"],
            )

        try:
            await asyncio.to_thread(write, "admin.request")
        except DrivetrainError as exc:
            await error_response(exc, scope["state"]["request_id"])(scope, receive, send)
            return
        try:
            await self._app(scope, receive, watch)
        finally:
            if not 200 <= status < 400:
                await asyncio.to_thread(write, "admin.failed", status=status)
