"""Who is it? Keys and cookies are asked of the store, and believed for two seconds."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from drivetrain.errors import DrivetrainError
from drivetrain.settings import Settings

from .caller import ANYONE, LOCAL, Caller
from .csrf import csrf_for
from .limits import RateLimit
from .origin import HostRule, address_of, is_from_here
from .refusals import Unauthorized

if TYPE_CHECKING:
    from drivetrain.store.store import Store

__all__ = ["SESSION_COOKIE", "Gate", "key_of", "session_token"]

SESSION_COOKIE = "drivetrain_session"
BELIEVED_S = 2.0  # a key revoked in another process opens nothing after this, and the time of a query
_REMEMBERED_MAX = 4_096
_TOKEN_MAX_CHARS = 200
_log = logging.getLogger("drivetrain.serve")
_Value = TypeVar("_Value")


class Gate:
    """What the gatekeeper asks: who calls, and may they call so often. One a process."""

    def __init__(self, settings: Settings, store: Store | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.store = store
        self.hosts = HostRule.of(settings)
        self.keys_rate = RateLimit(settings.key_rate_limit, what="requests with one key", clock=clock)
        self.address_rate = RateLimit(
            settings.address_rate_limit, what="requests without a key from one address", clock=clock
        )
        self.wrong_rate = RateLimit(settings.login_rate_limit, what="wrong passwords or keys", clock=clock)
        self._keys: _Remembered[Caller] = _Remembered(clock)
        self._sessions: _Remembered[Caller] = _Remembered(clock)
        self._callers: _Remembered[str] = _Remembered(clock)
        self._asks_who = False
        self.idle_s = settings.session_idle_minutes * 60.0
        self.max_s = settings.session_max_hours * 3600.0

    async def asks_who(self) -> bool:
        """Whether a key or a person was ever made: from then on, being on this machine is no proof."""
        if self._asks_who or self.store is None:
            return self._asks_who
        found = await self._callers.get("", lambda: _in_thread(_has_callers, self.store))
        self._asks_who = found == "some"
        return self._asks_who

    async def is_local(self, scope: Scope, headers: Headers) -> bool:
        """Whether the caller is trusted for sitting at this machine."""
        return not self.settings.insecure and is_from_here(scope, headers) and not await self.asks_who()

    async def identify(self, scope: Scope, headers: Headers) -> Caller:
        """Raises Unauthorized for proof that does not hold, and where there is none and some is needed."""
        token = key_of(headers)
        if token is not None:
            return await self._by_key(token, address_of(scope))
        cookie = session_token(headers)
        if cookie is not None and (caller := await self._by_session(cookie)) is not None:
            return caller
        if self.settings.insecure:
            return ANYONE
        if await self.is_local(scope, headers):
            return LOCAL
        raise Unauthorized(
            "key",
            got="none" if cookie is None else "a session that is over",
            want="a key, as `Authorization: Bearer dt_...` or `X-API-Key: dt_...`, or a person who signed in",
            hint="Whoever runs this server makes one with `drivetrain key create`.",
        )

    def forget_session(self, token: str) -> None:
        """It was ended here: believe it no longer, not even for two seconds."""
        self._sessions.forget(_digest(token))

    async def _by_key(self, token: str, address: str) -> Caller:
        store = self.store
        found = None
        if store is not None and len(token) <= _TOKEN_MAX_CHARS:
            found = await self._keys.get(_digest(token), lambda: _in_thread(lambda s: _check_key(s, token), store))
        if found is None:
            self.wrong_rate.take(address)
            raise Unauthorized("key", got="one that is unknown, expired or revoked", want="a key that holds")
        return found

    async def _by_session(self, token: str) -> Caller | None:
        store = self.store
        if store is None or len(token) > _TOKEN_MAX_CHARS:
            return None

        def check(opened: Store) -> Caller | None:
            session = opened.sessions.find(token, idle_s=self.idle_s, max_s=self.max_s)
            if session is None:
                return None
            return Caller(
                kind=session.kind, id=session.holder_id, name=session.name, roles=session.roles, csrf=csrf_for(token)
            )

        return await self._sessions.get(_digest(token), lambda: _in_thread(check, store))

    def count(self, caller: Caller, address: str) -> None:
        """Raises RateLimited where the caller asks too often; what is on this machine alone is not counted."""
        if caller.kind in {"key", "user"}:
            self.keys_rate.take(caller.tag)
        elif caller.kind == "anonymous":
            self.address_rate.take(address)

    def count_refused(self, address: str) -> None:
        """One who was turned away counts too, lest a flood of them cost more than that of callers."""
        self.address_rate.take(address)


def session_token(headers: Headers) -> str | None:
    """The session cookie's value."""
    sent = headers.get("cookie")
    return None if sent is None else cookie_parser(sent).get(SESSION_COOKIE) or None


def key_of(headers: Headers) -> str | None:
    """The key that was sent; two different ones are none that holds. Other schemes are a proxy's own affair."""
    given = set(headers.getlist("x-api-key"))
    for value in headers.getlist("authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            given.add(token.strip())
    if not given:
        return None
    return given.pop() if len(given) == 1 else "several"


def _has_callers(store: Store) -> str:
    return "some" if store.has_callers() else "none"


def _check_key(store: Store, token: str) -> Caller | None:
    key = store.keys.check(token)
    if key is None or key.why_not(store.keys.clock()) is not None:
        return None
    try:
        store.keys.touch(key.id)
    except DrivetrainError as exc:  # a database that cannot be written to can still say who someone is
        _log.warning("the use of a key was not noted: %s", exc.message)
    return Caller(kind="key", id=key.id, name=key.name, roles=key.roles)


async def _in_thread(ask: Callable[[Store], _Value | None], store: Store | None) -> _Value | None:
    assert store is not None
    return await asyncio.to_thread(ask, store)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class _Remembered(Generic[_Value]):
    """Answers for a moment; what is not there is asked anew, once for all who wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[Hashable, tuple[float, _Value]] = {}
        self._asked: dict[Hashable, asyncio.Task[_Value | None]] = {}

    async def get(self, name: Hashable, ask: Callable[[], Awaitable[_Value | None]]) -> _Value | None:
        until, value = self._known.get(name, (0.0, None))
        if value is not None and self._clock() < until:
            return value
        task = self._asked.get(name)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._asked[name] = asyncio.ensure_future(self._ask(name, ask))
            task.add_done_callback(lambda done: self._asked.pop(name, None) if self._asked.get(name) is done else None)
        return await asyncio.shield(task)  # one caller who leaves must not take the answer from the others

    def forget(self, name: Hashable) -> None:
        self._known.pop(name, None)
        self._asked.pop(name, None)

    async def _ask(self, name: Hashable, ask: Callable[[], Awaitable[_Value | None]]) -> _Value | None:
        begun = self._clock()  # before the query: the answer is as old as that
        value = await ask()
        self._known.pop(name, None)
        if value is not None:
            self._known[name] = (begun + BELIEVED_S, value)
            while len(self._known) > _REMEMBERED_MAX:
                self._known.pop(next(iter(self._known)))
        return value
