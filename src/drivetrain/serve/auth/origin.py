"""Where a request comes from: the host it asks for, the site that made a browser send it, the machine it left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

from drivetrain.errors import InvalidConfig
from drivetrain.settings import Settings

from .refusals import Forbidden, WrongHost

__all__ = ["SAFE_METHODS", "HostRule", "address_of", "check_site", "is_from_here", "is_loopback"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
# What a proxy adds. Behind one, everybody's address is the proxy's: nobody is "this machine" then.
_PROXY_HEADERS = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"}
)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?")


class HostRule:
    """Which Host headers are answered. A name that leads to this machine in a stranger's DNS must not be one."""

    def __init__(self, allowed: Sequence[str] | None) -> None:
        """None: this machine's own names where the caller is trusted for being local, else any."""
        self._allowed = None if allowed is None else frozenset(name.removesuffix(".") for name in allowed)

    @classmethod
    def of(cls, settings: Settings) -> HostRule:
        if settings.allowed_hosts == "auto":
            return cls(None)
        names = [name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()]
        wrong = [name for name in names if not _HOST.fullmatch(name) or _HOST.fullmatch(name)[2]]  # type: ignore[index]
        if wrong or not names:
            raise InvalidConfig(
                "allowed_hosts", got=", ".join(wrong) or "none", want="auto, or names with commas, without ports"
            )
        return cls(names)

    def check(self, headers: Headers, *, is_local: bool) -> None:
        """Raises WrongHost."""
        given = headers.getlist("host")
        parts = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        allowed = self._allowed
        if allowed is None and is_local:
            allowed = frozenset(LOOPBACK_NAMES)
        if parts is None or (allowed is not None and parts[1].removesuffix(".") not in allowed):
            raise WrongHost(
                "Host",
                got=given[0][:100] if len(given) == 1 else f"{len(given)} of them",
                want="a name that this server answers for",
                hint="Ask for localhost, or name it in the setting allowed_hosts.",
            )


def check_site(method: str, headers: Headers) -> None:
    """Raises Forbidden where a page of another site made the browser send this; programs send neither header."""
    if method in SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        is_ours = site in {"same-origin", "none"}
    else:  # an older browser, or one that speaks plain http to another machine
        is_ours = origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()
    if not is_ours:
        raise Forbidden(
            "Origin",
            got=f"a request that a page of {(origin or 'another site')[:100]} made your browser send",
            want="one from this server's own pages, or from a program",
        )


def address_of(scope: Scope) -> str:
    """The client's address as text, for limits and the audit; a /64 of IPv6 counts as one."""
    client = scope.get("client")
    return _address(client[0]) if client else ""


@lru_cache(maxsize=4096)  # asked several times a request
def _address(host: str) -> str:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return str(host)[:64]
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, IPv6Address) and not address.is_loopback:
        return str(ip_network((address, 64), strict=False))
    return str(address)


def is_from_here(scope: Scope, headers: Headers) -> bool:
    """Whether it left this machine, and no proxy passed it on."""
    return is_loopback(address_of(scope)) and _PROXY_HEADERS.isdisjoint(name for name, _ in headers.raw)


@lru_cache(maxsize=4096)
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
