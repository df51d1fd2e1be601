"""Run the app under uvicorn: in the main thread for `drivetrain serve`, in another for tests and notebooks."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from drivetrain.errors import InvalidConfig, Unavailable

__all__ = ["RunningServer", "serve", "start_server"]

_GRACE_S = 10  # requests in work at shutdown have this long
_START_MAX_S = 30.0
_PORT_MAX = 65_535


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in a thread; also a context manager."""

    url: str
    _server: uvicorn.Server
    _thread: threading.Thread

    def stop(self) -> None:
        """End requests in work, within the grace, then the thread."""
        self._server.should_exit = True
        self._thread.join(_GRACE_S + 5)
        if self._thread.is_alive():
            raise Unavailable("server", got="a thread that does not end", want="an end", hint="End the process.")

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def serve(app: FastAPI, host: str, port: int, *, on_ready: Callable[[str], None], access_log: bool = False) -> None:
    """Serve until Ctrl-C or SIGTERM; `on_ready` gets the URL once it listens."""
    listener = _listen(host, port)
    url = _url(listener)
    server = _Server(_config(app, access_log=access_log), lambda: on_ready(url))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn passes on the Ctrl-C that it has already obeyed
        return
    finally:
        listener.close()


def start_server(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> RunningServer:
    """Serve from a thread, without signal handlers; port 0 takes a free one. Returns once it listens."""
    listener = _listen(host, port)
    is_ready = threading.Event()
    server = _Server(_config(app, access_log=False), is_ready.set)

    def run() -> None:
        with listener:
            server.run(sockets=[listener])

    thread = threading.Thread(target=run, name="drivetrain-serve", daemon=True)
    thread.start()
    if not is_ready.wait(_START_MAX_S):
        raise Unavailable("server", got=f"no start in {_START_MAX_S:.0f} s", want="a start", hint="See the log.")
    return RunningServer(_url(listener), server, thread)


def _config(app: FastAPI, *, access_log: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="auto",  # uvloop and httptools where they are installed
        http="auto",
        ws="none",
        lifespan="on",
        log_level="info" if access_log else "warning",
        access_log=access_log,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _listen(host: str, port: int) -> socket.socket:
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
        listener.listen(2048)  # here, not in the loop: two servers can both bind, but not both listen
    except OSError as exc:
        listener.close()
        raise _cannot_listen(host, port, exc) from exc
    return listener


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


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - read, not bound: every address includes this one
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
