"""Sign in with a name and a password, or with a key; sign out."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import jinja2
from fastapi import APIRouter, Request, Response
from starlette.requests import cookie_parser

from drivetrain.errors import NotFound
from drivetrain.serve.auth.caller import caller_of
from drivetrain.serve.auth.csrf import csrf_for, is_same, read_form_fields
from drivetrain.serve.auth.gate import SESSION_COOKIE, Gate, session_token
from drivetrain.serve.auth.origin import address_of
from drivetrain.serve.auth.refusals import RateLimited
from drivetrain.serve.errors import request_id_of

if TYPE_CHECKING:
    from drivetrain.store.store import Store

__all__ = ["make_router"]

_FORM_COOKIE = "drivetrain_login"  # ties the form to this browser while nobody is signed in
_LOCAL_PATH = re.compile(r"(?!.*/\.\.)/(?:[A-Za-z0-9._~@-]+(?:/[A-Za-z0-9._~@-]+)*/?)?")
_GUESSES_MAX = 4  # passwords looked at, and waiting to be
_Holder = tuple[str, str] | None  # ("user" or "key", id)
_WRONG = "This name and password do not belong together, or this key does not hold."


def make_router(gate: Gate) -> APIRouter:
    """Routes for `/login` and `/logout`."""
    router = APIRouter(include_in_schema=False)
    guessing: set[object] = set()

    async def show_form(request: Request) -> Response:
        _store_of(gate)
        return _form(request, next_path=_next(request.query_params.get("next")))

    async def sign_in(request: Request) -> Response:
        store = _store_of(gate)
        fields = await read_form_fields(request.headers, request.receive)
        next_path, name = _next(fields.get("next")), fields.get("name", "")
        cookie = cookie_parser(request.headers.get("cookie", "")).get(_FORM_COOKIE, "")
        if not cookie or not is_same(fields.get("csrf", ""), csrf_for(cookie)):
            return _form(request, next_path=next_path, said="The form had grown old. Try again.", status=403)
        address = address_of(request.scope)
        try:
            # Before the password is looked at: who guesses gains nothing from a right guess while they must wait.
            for who in (address, f"name:{name.strip().casefold()[:100]}"):
                gate.wrong_rate.check(who)
            holder = await _unless_many(guessing, _holder, store, name, fields.get("password", ""))
        except RateLimited as exc:
            said = f"Too many tries. Wait {exc.retry_after_s} seconds."
            return _form(request, next_path=next_path, name=name, said=said, status=429, wait_s=exc.retry_after_s)
        if holder is None:
            for who in (address, f"name:{name.strip().casefold()[:100]}"):
                _take(gate, who)
            await _write(store, request, "session.refused", by="nobody", subject=name[:64])
            return _form(request, next_path=next_path, name=name, said=_WRONG, status=401)
        kind, id_ = holder
        await _end(gate, store, request)  # whatever session this browser had before is not the new one
        token = await asyncio.to_thread(_begin, gate, store, kind, id_, address)
        await _write(store, request, "session.begin", by=f"{kind}:{id_}")
        reply = Response(status_code=303, headers={"Location": f".{next_path}", "Cache-Control": "no-store"})
        _set_cookie(reply, request, SESSION_COOKIE, token, max_age_s=gate.settings.session_max_hours * 3600)
        reply.delete_cookie(_FORM_COOKIE)
        return reply

    async def sign_out(request: Request) -> Response:
        store = _store_of(gate)
        if await _end(gate, store, request):
            await _write(store, request, "session.end", by=caller_of(request).tag)
        # everything this browser kept of the pages goes too
        headers = {"Location": "login", "Cache-Control": "no-store", "Clear-Site-Data": '"cache", "storage"'}
        reply = Response(status_code=303, headers=headers)
        reply.delete_cookie(SESSION_COOKIE)
        return reply

    router.add_api_route("/login", show_form, methods=["GET", "HEAD"], response_class=Response)
    router.add_api_route("/login", sign_in, methods=["POST"], response_class=Response)
    router.add_api_route("/logout", sign_out, methods=["POST"], response_class=Response)
    return router


def _store_of(gate: Gate) -> Store:
    if gate.store is None:
        raise NotFound("login", got="a server without a database", want="one", hint="Set DRIVETRAIN_DB.")
    return gate.store


def _holder(store: Store, name: str, password: str) -> _Holder:
    """Who it is, or None. Without a name, the password may be a key."""
    if not name.strip():
        key = store.keys.check(password.strip())
        return ("key", key.id) if key is not None and key.why_not(store.keys.clock()) is None else None
    user = store.users.check(name, password)
    return ("user", user.id) if user is not None else None


def _begin(gate: Gate, store: Store, kind: str, id_: str, address: str) -> str:
    store.sessions.prune(idle_s=gate.idle_s, max_s=gate.max_s)
    if kind == "user":
        return store.sessions.create(user_id=id_, address=address)
    return store.sessions.create(api_key_id=id_, address=address)


async def _unless_many(guessing: set[object], check: Callable[..., _Holder], *given: object) -> _Holder:
    """Hashing is slow on purpose: a crowd of guesses must not take the threads that answers need."""
    if len(guessing) >= _GUESSES_MAX:
        raise RateLimited("login", got="many sign-ins at once", want="fewer", retry_after_s=2)
    guess = object()
    guessing.add(guess)
    try:
        return await asyncio.to_thread(check, *given)
    finally:
        guessing.discard(guess)


async def _end(gate: Gate, store: Store, request: Request) -> bool:
    token = session_token(request.headers)
    if token is None:
        return False
    ended = await asyncio.to_thread(store.sessions.end, token)
    gate.forget_session(token)
    return ended


def _take(gate: Gate, who: str) -> None:
    try:
        gate.wrong_rate.take(who)
    except RateLimited:  # the other of the two is counted all the same
        return


async def _write(store: Store, request: Request, action: str, *, by: str, subject: str = "") -> None:
    await asyncio.to_thread(
        store.audit,
        action,
        by=by,
        subject=subject,
        address=address_of(request.scope),
        request_id=request_id_of(request),
    )


def _next(given: str | None) -> str:
    """A path of this server, or `/`: never another site's, however it is written."""
    return given if given and _LOCAL_PATH.fullmatch(given) else "/"


def _form(
    request: Request,
    *,
    next_path: str,
    name: str = "",
    said: str = "",
    status: int = 200,
    wait_s: int = 0,
) -> Response:
    cookie = secrets.token_urlsafe(32)
    body = _template().render(next=next_path, name=name[:64], said=said, csrf=csrf_for(cookie))
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": str(wait_s)} if wait_s else {})
    reply = Response(body, status, headers, media_type="text/html")
    _set_cookie(reply, request, _FORM_COOKIE, cookie, max_age_s=3600)
    return reply


def _set_cookie(reply: Response, request: Request, name: str, value: str, *, max_age_s: int) -> None:
    is_https = request.url.scheme == "https"
    reply.set_cookie(name, value, max_age=max_age_s, path="/", secure=is_https, httponly=True, samesite="lax")


@cache
def _template() -> jinja2.Template:
    source = files("drivetrain.serve").joinpath("web/templates/login.html").read_text("utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
