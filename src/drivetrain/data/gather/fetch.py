"""One picture's bytes from a stranger's server, with a limit on everything: bytes, seconds, redirects, addresses."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpcore
import httpx

from .addresses import AddressRule, Resolve, host_name, parse_url, resolve_by_system
from .refusal import Refusal, Refused

__all__ = ["FetchLimits", "Fetched", "Fetcher"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
# Servers that do not know a picture's type say this; the bytes are looked at anyway.
_NO_TYPE = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/binary"})
_WIRE_SPARE = 1_000_000  # bytes of an answer that are no body: heads, and what stands between chunks
_ACCEPT = "image/jpeg,image/png,image/webp,image/gif;q=0.8,image/*;q=0.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """What one picture may cost."""

    max_bytes: int = 20_000_000
    timeout_s: float = 30.0  # from the first connection to the last byte, redirects included
    silence_s: float = 10.0  # without a byte, or for a connection
    max_redirects: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The bytes, and the address that gave them in the end."""

    data: bytes
    url: str


class Fetcher:
    """Fetches from many threads at once; holds connections open for the next picture of the same host.

    Proxies named in the environment are passed over: through one, no address could be checked.
    """

    def __init__(
        self,
        *,
        limits: FetchLimits,
        rule: AddressRule,
        user_agent: str,
        connections: int,
        resolve: Resolve = resolve_by_system,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._user_agent = user_agent
        self._bounds = _Bounds()
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context() if ssl_context is None else ssl_context,
            max_connections=connections,
            keepalive_expiry=limits.silence_s,
            network_backend=_CheckedNetwork(rule, resolve, self._bounds),
        )

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def fetch(self, url: httpx.URL, *, enter: Callable[[str], None] = lambda host: None) -> Fetched:
        """Follow redirects to the picture's bytes; each hop is checked like the first.

        `enter` is called with the host before each request, and may wait for its turn there: that time does not count.
        Raises Refused.
        """
        left_s = self._limits.timeout_s
        seen: set[str] = set()
        while True:
            if str(url) in seen:
                raise Refused(Refusal(reason="redirects", detail=f"in a circle, back to {url}"))
            if len(seen) > self._limits.max_redirects:
                raise Refused(Refusal(reason="redirects", detail=f"more than {self._limits.max_redirects}, to {url}"))
            seen.add(str(url))
            enter(host_name(url))
            begun = time.monotonic()
            self._bounds.start(left_s, of_s=self._limits.timeout_s, most_bytes=2 * self._limits.max_bytes + _WIRE_SPARE)
            try:
                answer = self._ask(url)
            except Refused as exc:
                if len(seen) > 1:
                    exc.refusal = replace(exc.refusal, detail=f"redirected to {url}: {exc.refusal.detail}")
                raise
            if isinstance(answer, bytes):
                return Fetched(data=answer, url=str(url))
            url = answer
            left_s -= time.monotonic() - begun

    def _ask(self, url: httpx.URL) -> bytes | httpx.URL:
        """One request: the bytes, or the address that the server redirects to."""
        headers = [
            ("Host", url.netloc.decode("ascii")),
            ("User-Agent", self._user_agent),
            ("Accept", _ACCEPT),
            ("Accept-Encoding", "identity"),  # a small answer must not unpack into a large one
        ]
        silence_s = self._limits.silence_s
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), silence_s)}
        is_answering = False
        try:
            with self._pool.stream("GET", target, headers=headers, extensions=extensions) as response:
                fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status in _REDIRECTS:
                    return _read_location(url, fields)
                self._check_head(response.status, fields)
                is_answering = True
                return self._read_body(response.iter_stream())
        except httpcore.TimeoutException:
            raise Refused(
                Refusal(reason="silent", detail=f"nothing for {silence_s:g} s"), may_retry=True, host_failed=True
            ) from None
        except httpcore.NetworkError as exc:
            is_untrusted = "CERTIFICATE" in str(exc)
            raise Refused(
                Refusal(reason="no_connection", detail=_one_line(exc)), may_retry=not is_untrusted, host_failed=True
            ) from None
        except httpcore.ProtocolError as exc:
            reason = "incomplete" if is_answering else "bad_answer"
            raise Refused(Refusal(reason=reason, detail=_one_line(exc)), may_retry=True) from None

    def _check_head(self, status: int, fields: dict[str, str]) -> None:
        """What can be refused before a byte of the body is read."""
        if status != HTTPStatus.OK:
            known = status in HTTPStatus._value2member_map_
            raise Refused(
                Refusal(reason=f"http_{status}", detail=HTTPStatus(status).phrase if known else ""),
                may_retry=status in _TRY_AGAIN,
                wait_s=_read_wait(fields.get("retry-after", "")),
            )
        kind = fields.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind not in _NO_TYPE:
            raise Refused(Refusal(reason="wrong_type", detail=kind[:80]))
        if fields.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise Refused(Refusal(reason="encoded", detail=fields["content-encoding"][:80]))
        length = fields.get("content-length", "")
        if length.isdecimal() and int(length) > self._limits.max_bytes:
            raise self._too_large(f"{int(length):,} bytes announced")

    def _read_body(self, chunks: Iterable[bytes]) -> bytes:
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > self._limits.max_bytes:
                raise self._too_large("stopped reading there")
        return bytes(body)

    def _too_large(self, detail: str) -> Refused:
        most = self._limits.max_bytes
        return Refused(
            Refusal(reason="too_large", detail=f"more than {most:,} bytes; {detail}", limit=f"max-bytes {most}")
        )


class _Bounds(threading.local):
    """When the transfer of this thread must have ended, and what it may bring, all that is no body included."""

    at = 0.0
    of_s = 0.0
    left_bytes = 0

    def start(self, left_s: float, *, of_s: float, most_bytes: int) -> None:
        self.at = time.monotonic() + left_s
        self.of_s = of_s
        self.left_bytes = most_bytes

    def clip(self, timeout: float | None) -> float:
        """`timeout`, or what is left of the transfer's time. Raises Refused ("too_slow") where nothing is."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise Refused(Refusal(reason="too_slow", detail=f"not complete in {self.of_s:g} s"))
        return left if timeout is None else min(timeout, left)

    def count(self, data: bytes) -> bytes:
        """The bytes that came. Raises Refused ("bad_answer") where they are too many: a head that never ends."""
        self.left_bytes -= len(data)
        if self.left_bytes < 0:
            raise Refused(Refusal(reason="bad_answer", detail="far more bytes around the picture than in it"))
        return data


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connects to an address that was checked, never to a name: a second answer of the DNS could be another."""

    def __init__(self, rule: AddressRule, resolve: Resolve, bounds: _Bounds) -> None:
        self._rule = rule
        self._resolve = resolve
        self._bounds = bounds
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._rule.find_addresses(host, self._resolve, timeout_s=self._bounds.clip(timeout))
        for number, address in enumerate(addresses, start=1):
            try:
                stream = self._plain.connect_tcp(
                    address, port, self._bounds.clip(timeout), local_address, socket_options
                )
                return _TimedStream(stream, self._bounds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise AssertionError("find_addresses gives one address at least")


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every wait ends with the transfer's deadline: a byte a second would never be silent."""

    def __init__(self, inner: httpcore.NetworkStream, bounds: _Bounds) -> None:
        self._inner = inner
        self._bounds = bounds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        clipped = self._bounds.clip(timeout)
        try:
            return self._bounds.count(self._inner.read(max_bytes, clipped))
        except httpcore.ReadTimeout:
            self._bounds.clip(timeout)  # raises where it was the deadline that ended the wait
            raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._bounds.clip(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._inner.start_tls(ssl_context, server_hostname, self._bounds.clip(timeout))
        return _TimedStream(stream, self._bounds)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _read_location(url: httpx.URL, fields: dict[str, str]) -> httpx.URL:
    if not fields.get("location"):
        raise Refused(Refusal(reason="redirects", detail="to nowhere"))
    try:
        # servers write raw UTF-8 here, which a header's Latin-1 tears apart
        place = fields["location"].encode("latin-1").decode("utf-8", "replace")
        return parse_url(str(url.join(place)))
    except (httpx.InvalidURL, ValueError):
        raise Refused(Refusal(reason="redirects", detail="to what is no address")) from None
    except Refused as exc:
        told = Refusal(reason=exc.refusal.reason, detail=f"redirected to {place[:200]}: {exc.refusal.detail}")
        raise Refused(told) from None


def _read_wait(text: str) -> float | None:
    """Seconds that a Retry-After header asks for, given as such or as a date; None where it says nothing."""
    text = text.strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200] or type(exc).__name__
