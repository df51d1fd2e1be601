"""An app with a store, and callers at its door: a key, a signed-in browser, a stranger from afar."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI
from starlette.routing import BaseRoute, Route

from drivetrain.serve.app import create_app
from drivetrain.store.store import Store, open_store

from .fakes import WAIT_S, FakeModel, settings

PASSWORD = "three green bottles"
FAR = "203.0.113.9"  # an address of nobody
_Value = TypeVar("_Value")


@dataclass
class Door:
    """What the tests knock at."""

    app: FastAPI
    store: Store | None
    address: str = "127.0.0.1"
    scheme: str = "http"
    host: str = "localhost"
    headers: dict[str, str] = field(default_factory=dict)
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)

    def seen_from(self, address: str, **changed: Any) -> Door:
        """Another caller's view of the same server."""
        return Door(self.app, self.store, address, **{"host": self.host, "scheme": self.scheme, **changed})

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **given: Any) -> httpx.Response:
        """One request; cookies are kept as a browser keeps them."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(self.address, 50_000))
            url = f"{self.scheme}://{self.host}"
            async with httpx.AsyncClient(
                transport=transport, base_url=url, cookies=self.cookies, timeout=WAIT_S
            ) as session:
                reply = await session.request(method, path, headers={**self.headers, **(headers or {})}, **given)
                self.cookies = session.cookies
                return reply

        return asyncio.run(send())

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.ask("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self.ask("POST", path, **given)

    def key(self, *roles: str, **given: Any) -> str:
        """A new key."""
        assert self.store is not None
        return self.store.keys.create("test", roles=roles or ["predict"], by="test", **given)[1]

    def with_key(self, *roles: str) -> Door:
        """A program that has a key with these roles."""
        return self.seen_from(self.address, headers={"X-API-Key": self.key(*roles)})

    def sign_in(self, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
        """Load the form and send it."""
        form = form_fields(self.get("/login").text)
        return self.post("/login", data={**form, "name": name, "password": password, **fields})

    def person(self, name: str, *roles: str) -> Door:
        """A browser in which someone has signed in."""
        assert self.store is not None
        self.store.users.add(name, password=PASSWORD, roles=roles or ["predict"], by="test")
        browser = self.seen_from(self.address)
        assert browser.sign_in(name).status_code == 303
        return browser

    def csrf(self) -> str:
        """What the page carries."""
        from drivetrain.serve.auth.csrf import csrf_for

        token = self.cookies.get("drivetrain_session")
        assert token is not None
        return csrf_for(token)


def form_fields(page: str) -> dict[str, str]:
    """The hidden fields of the first form."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in found}


@contextmanager
def open_door(tmp_path: Path | None, model: FakeModel | None = None, **changed: object) -> Iterator[Door]:
    """A server with an empty store in `tmp_path`, or without one."""
    store = None if tmp_path is None else open_store(f"sqlite:///{tmp_path}/door.db")
    try:
        yield Door(create_app(model or FakeModel(), settings(**changed), store=store), store)
    finally:
        if store is not None:
            store.close()


def all_routes(app: FastAPI) -> list[Route]:
    """Every route, those of included routers too."""

    def walk(routes: list[BaseRoute]) -> Iterator[Route]:
        for route in routes:
            if isinstance(route, Route):
                yield route
            else:
                inner = getattr(route, "original_router", route)
                yield from walk(inner.routes)

    return list(walk(app.routes))


async def soon(is_so: Callable[[], Awaitable[_Value]]) -> _Value:
    """Poll to a deadline until it is true."""
    async with asyncio.timeout(30):
        while not (found := await is_so()):
            await asyncio.sleep(0.05)
    return found
