"""Addresses of pictures from a search engine; needs the extra `search`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from drivetrain.errors import MissingExtra, Unavailable

__all__ = ["DdgsSearch", "Found", "ImageSearch"]

_MAX_PAGES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One answer of a search: the picture's address, and the page it stands on."""

    url: str
    page: str = ""


class ImageSearch(Protocol):
    """Finds pictures for words."""

    name: str  # as it is written into sources.csv

    def find(self, query: str, *, most: int) -> list[Found]:
        """At most so many answers, the best first, each address once. Raises Unavailable."""
        ...


class DdgsSearch:
    """The search engines that the package ddgs reads, DuckDuckGo and Bing for pictures.

    `proxy` and `verify` are those of ddgs (without `proxy` it takes the one in DDGS_PROXY). Raises MissingExtra where
    the extra `search` is not installed.
    """

    name = "ddgs"

    def __init__(
        self,
        *,
        proxy: str | None = None,
        verify: bool | str = True,
        backend: str = "auto",
        timeout_s: int = 10,
        pause_s: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            import ddgs
        except ModuleNotFoundError as exc:
            if exc.name != "ddgs":
                raise
            raise MissingExtra("--search", package="ddgs", extra="search") from None
        self._engine: Any = ddgs.DDGS(proxy=proxy, timeout=timeout_s, verify=verify)
        self._backend = backend
        self._pause_s = pause_s
        self._sleep = sleep

    def find(self, query: str, *, most: int) -> list[Found]:
        from ddgs.exceptions import DDGSException

        found: dict[str, Found] = {}
        for page in range(1, _MAX_PAGES + 1):
            if page > 1:
                self._sleep(self._pause_s)
            try:
                answers = self._engine.images(query, max_results=None, page=page, backend=self._backend)
            except DDGSException as exc:
                if found:  # no further page
                    break
                raise Unavailable(
                    f"search for {query!r}",
                    got=" ".join(str(exc).split()),
                    want="pictures",
                    hint="Search engines limit and change what they answer: try later, or give --urls.",
                ) from None
            n_before = len(found)
            for answer in answers:
                if url := str(answer.get("image") or ""):
                    found.setdefault(url, Found(url=url, page=str(answer.get("url") or "")))
            if len(found) >= most or len(found) == n_before:
                break
        return list(found.values())[:most]
