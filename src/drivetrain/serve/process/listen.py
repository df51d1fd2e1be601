"""Open the port, before anything heavy is loaded: one that is taken is told at once."""

from __future__ import annotations

import errno
import socket

from drivetrain.errors import InvalidConfig, Unavailable

__all__ = ["listen_on", "url_of"]

_PORT_MAX = 65_535
_BACKLOG = 2048


def listen_on(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises InvalidConfig or Unavailable, and says what to do."""
    if not 0 <= port <= _PORT_MAX:
        raise InvalidConfig("port", got=port, want=f"0 to {_PORT_MAX}")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as exc:
        raise InvalidConfig(
            "host", got=f"{host} ({exc})", want="an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        ) from exc
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        listener.bind(address)
        listener.listen(_BACKLOG)  # here, not in the loop: two servers can both bind, but not both listen
    except OSError as exc:
        listener.close()
        raise _cannot_listen(host, port, exc) from exc
    return listener


def url_of(listener: socket.socket) -> str:
    """Where to find it from this machine."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - read, not bound: every address includes this one
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _cannot_listen(host: str, port: int, exc: OSError) -> Unavailable:
    if exc.errno == errno.EADDRINUSE:
        return Unavailable(
            "port",
            got=f"{port}, which another program listens on",
            want="a free port",
            hint="Stop that program, or choose a port with --port; --port 0 takes a free one.",
        )
    if exc.errno == errno.EACCES:
        return Unavailable("port", got=port, want="one this user may open", hint="Ports from 1024 up are open to all.")
    return Unavailable("host", got=f"{host} ({exc.strerror})", want="an address of this machine")
