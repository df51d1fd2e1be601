"""Which addresses of the web may be asked: http and https only, and no private network unless wished."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from .refusal import Refusal, Refused

__all__ = ["AddressRule", "Resolve", "host_name", "parse_url", "resolve_by_system"]

Resolve = Callable[[str, float], Sequence[str]]  # (host, seconds allowed) -> its addresses, as text
_Address = IPv4Address | IPv6Address

_MAX_URL_CHARS = 4_000
# Spellings of an IPv4 address that only the C library knows: 2130706433, 0x7f.1, 0177.0.0.1
_ODD_IPV4 = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+)){0,3}", re.IGNORECASE)

# (network, what it is, whether --allow-private opens it). IANA's special-purpose registries, and where clouds answer
# their own machines with secrets: those, like all that is link-local, stay closed whatever is allowed.
_V4 = tuple(
    (IPv4Network(network), what, is_opened)
    for network, what, is_opened in (
        ("100.100.100.200/32", "a cloud's metadata service", False),
        ("168.63.129.16/32", "a cloud's metadata service", False),
        ("0.0.0.0/8", "this machine", False),
        ("10.0.0.0/8", "a private network", True),
        ("100.64.0.0/10", "a provider's inner network", True),
        ("127.0.0.0/8", "this machine", True),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata service", False),
        ("172.16.0.0/12", "a private network", True),
        ("192.0.0.0/24", "reserved", False),
        ("192.0.2.0/24", "for documentation", False),
        ("192.88.99.0/24", "reserved", False),
        ("192.168.0.0/16", "a private network", True),
        ("198.18.0.0/15", "for benchmarks", False),
        ("198.51.100.0/24", "for documentation", False),
        ("203.0.113.0/24", "for documentation", False),
        ("224.0.0.0/4", "multicast", False),
        ("240.0.0.0/4", "reserved", False),
    )
)
_V6 = tuple(
    (IPv6Network(network), what, is_opened)
    for network, what, is_opened in (
        ("fd00:ec2::/32", "a cloud's metadata service", False),
        ("fd20:ce::/32", "a cloud's metadata service", False),
        ("fd00:42::42/128", "a cloud's metadata service", False),
        ("::/128", "this machine", False),
        ("::1/128", "this machine", True),
        ("fc00::/7", "a private network", True),
        ("fe80::/10", "link-local", False),
        ("ff00::/8", "multicast", False),
        ("2001::/23", "reserved", False),
        ("2001:db8::/32", "for documentation", False),
        ("3fff::/20", "for documentation", False),
    )
)
_V6_PUBLIC = IPv6Network("2000::/3")  # all that is handed out
# network -> bits below the IPv4 address that stands inside: mapped, NAT64, 6to4
_V4_INSIDE = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRule:
    """Says no to addresses that are not of the public internet; `allow_private` opens private networks and loopback."""

    allow_private: bool = False

    def why_not(self, address: str) -> str | None:
        """What is wrong with an IPv4 or IPv6 address, as text; None where it may be asked."""
        try:
            return self._judge(ip_address(address.partition("%")[0]))
        except ValueError:
            return "no address"

    def _judge(self, address: _Address) -> str | None:
        if isinstance(address, IPv6Address):
            for network, shift in _V4_INSIDE:
                if address in network:
                    return self._judge(IPv4Address(int(address) >> shift & 0xFFFFFFFF))
        ranges: Sequence[tuple[IPv4Network | IPv6Network, str, bool]]
        ranges = _V4 if isinstance(address, IPv4Address) else _V6
        for place, what, is_opened in ranges:
            if address in place:
                return None if is_opened and self.allow_private else what
        return "reserved" if isinstance(address, IPv6Address) and address not in _V6_PUBLIC else None

    def find_addresses(self, host: str, resolve: Resolve, *, timeout_s: float) -> Sequence[str]:
        """The addresses of `host`, each of them checked; connect to one of these and to nothing else.

        Raises Refused: one bad address spoils the host, or a second answer could lead inside.
        """
        written = _read_literal(host)
        addresses = [str(written)] if written is not None else list(resolve(host, timeout_s))
        if not addresses:
            raise Refused(Refusal(reason="unknown_host", detail=f"{host} has no address"), host_failed=True)
        for address in addresses:
            if (why := self.why_not(address)) is not None:
                spelled = address if address == host else f"{host} is {address}"
                raise Refused(
                    Refusal(
                        reason="private_address",
                        detail=f"{spelled}, {why}",
                        limit=f"allow-private {str(self.allow_private).lower()}",
                    )
                )
        return addresses


def parse_url(text: str) -> httpx.URL:
    """An http or https address without credentials and fragment, spelled one way. Raises Refused ("bad_url")."""
    text = "".join(f"%{ord(sign):02X}" if sign < " " or sign == "\x7f" else sign for sign in text.strip())
    if len(text) > _MAX_URL_CHARS:
        raise _bad_url(f"{len(text):,} characters")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as exc:
        raise _bad_url(str(exc)) from None
    if url.scheme not in ("http", "https"):
        raise _bad_url(f"scheme {url.scheme!r}" if url.scheme else "no http:// or https:// before it")
    if url.userinfo:
        raise _bad_url("a user name or password before the host")
    if not url.raw_host or (url.port is not None and not 0 < url.port < 65_536):
        raise _bad_url(f"port {url.port}" if url.raw_host else "no host")
    return url.copy_with(fragment=None)


def host_name(url: httpx.URL) -> str:
    """The host as the DNS is asked for it; `url.host` decodes punycode, and raises for what IDNA does not know."""
    return url.raw_host.decode("ascii")


def _bad_url(detail: str) -> Refused:
    return Refused(Refusal(reason="bad_url", detail=detail))


def _read_literal(host: str) -> _Address | None:
    """The address that `host` spells by itself, the way the C library would read it; None for a name."""
    bare = host.rstrip(".")
    try:
        return ip_address(bare.partition("%")[0])
    except ValueError:
        pass
    if _ODD_IPV4.fullmatch(bare):
        try:
            return IPv4Address(socket.inet_aton(bare))
        except OSError:
            return None
    return None


def resolve_by_system(host: str, timeout_s: float) -> Sequence[str]:
    """The system's answer for `host`, waited for no longer than `timeout_s`. Raises Refused ("unknown_host")."""
    answer: list[Sequence[str] | OSError] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answer.append(list(dict.fromkeys(str(row[4][0]) for row in found)))
        except (OSError, UnicodeError) as exc:  # UnicodeError: a label of more than 63 characters
            answer.append(exc if isinstance(exc, OSError) else OSError(str(exc)))

    # getaddrinfo has no deadline of its own, and may wait for half a minute
    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not answer:
        detail = f"no answer for {host} in {timeout_s:.0f} s"
        raise Refused(Refusal(reason="unknown_host", detail=detail), may_retry=True, host_failed=True)
    if isinstance(answer[0], OSError):
        may_retry = isinstance(answer[0], socket.gaierror) and answer[0].errno == socket.EAI_AGAIN
        detail = f"{host}: {answer[0].strerror or answer[0]}"
        raise Refused(Refusal(reason="unknown_host", detail=detail), may_retry=may_retry, host_failed=True)
    return answer[0]
