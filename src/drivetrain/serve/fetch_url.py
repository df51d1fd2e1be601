"""Fetch a picture for a caller: off unless allowed, and then from the public internet alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from drivetrain.errors import DeadlinePassed, DrivetrainError, QueueFull
from drivetrain.settings import Settings

from .errors import UrlRefused

if TYPE_CHECKING:
    from drivetrain.data.gather.addresses import AddressRule, Resolve
    from drivetrain.data.gather.fetch import Fetcher

__all__ = ["UrlFetcher"]

_THREADS = 8
_WAITING_MAX = 64  # pictures in all requests together
_TIMEOUT_S = 10.0  # for one picture, redirects included


class UrlFetcher:
    """Each connection of a fetch, redirects included, goes to an address that was checked, never to a name.

    `is_allowed` is the setting `allow_url`. `rule`, `resolve` and the rest are gather's; the defaults open no private
    network.
    """

    def __init__(
        self,
        *,
        is_allowed: bool,
        max_bytes: int,
        timeout_s: float = _TIMEOUT_S,
        rule: AddressRule | None = None,
        resolve: Resolve | None = None,
        ssl_context: Any = None,
    ) -> None:
        self.is_allowed = is_allowed
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._rule = rule
        self._resolve = resolve
        self._ssl_context = ssl_context
        self._threads: ThreadPoolExecutor | None = None
        self._fetcher: Fetcher | None = None
        self._fetch_one: Callable[[str], bytes] | None = None
        self._waiting = 0

    @classmethod
    def of(cls, settings: Settings) -> UrlFetcher:
        return cls(
            is_allowed=bool(settings.allow_url),
            max_bytes=settings.image_max_bytes,
            timeout_s=min(_TIMEOUT_S, settings.request_timeout_s),
        )

    async def fetch(self, url: str, field: str) -> bytes | DrivetrainError:
        """The bytes, or why there are none: with no word of what the server's own network looks like."""
        if not self.is_allowed:
            return UrlRefused(
                field, got="an address", want="the picture itself", hint="This server does not fetch (allow_url)."
            )
        if self._waiting >= _WAITING_MAX:
            return QueueFull(field, got=f"{self._waiting} pictures being fetched", want=f"at most {_WAITING_MAX}")
        if self._threads is None or self._fetch_one is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="drivetrain-fetch")
            self._fetch_one = self._open()
        self._waiting += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._fetch_one, url)
            async with asyncio.timeout(2 * self._timeout_s):
                return await work
        except TimeoutError:
            return DeadlinePassed(field, got=f"no picture in {2 * self._timeout_s:.0f} s", want="one in that time")
        except UrlRefused as exc:
            return UrlRefused(field, got=exc.got, want=exc.want)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Fetch no more; what is under way ends within its time."""
        threads, self._threads, self._fetch_one = self._threads, None, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        if self._fetcher is not None:
            self._fetcher.close()

    def _open(self) -> Callable[[str], bytes]:
        """gather's fetcher, loaded when the first picture is fetched: most servers never do."""
        from drivetrain.data.gather.addresses import AddressRule, parse_url, resolve_by_system
        from drivetrain.data.gather.fetch import Fetcher, FetchLimits
        from drivetrain.data.gather.refusal import REASONS, Refused

        fetcher = self._fetcher = Fetcher(
            limits=FetchLimits(
                max_bytes=self._max_bytes, timeout_s=self._timeout_s, silence_s=min(5.0, self._timeout_s)
            ),
            rule=self._rule or AddressRule(),
            user_agent="drivetrain",
            connections=_THREADS,
            resolve=self._resolve or resolve_by_system,
            ssl_context=self._ssl_context,
        )

        def fetch_one(url: str) -> bytes:
            try:
                return fetcher.fetch(parse_url(url)).data
            except Refused as exc:
                # its detail names what a name resolves to and where it redirects: a map of the inner network
                reason = exc.refusal.reason
                told = REASONS.get(reason, reason.replace("_", " "))
                want = "a picture on the public internet"
                raise UrlRefused("url", got=f"{reason} ({told})" if told != reason else reason, want=want) from None

        return fetch_one
