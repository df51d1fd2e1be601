"""Run the app under uvicorn: in the main thread for `drivetrain serve`, in another for tests and notebooks.

`serve` listens at once and loads behind: /health/live answers, /health/ready says 503 until the model is proved.
SIGTERM: not ready at once, goes on for `wait_s`, then takes no more and ends what is in work within `grace_s`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import uvicorn
from fastapi import FastAPI

from drivetrain.errors import Unavailable
from drivetrain.settings import Settings

from .process.guard import GuardLimits
from .process.listen import listen_on, url_of
from .process.protocol import HEAD_MAX_S, LINGER_S, UPLOAD_MAX_S, make_protocol
from .process.signals import END_SIGNALS
from .process.supervisor import CUT_SHORT

__all__ = ["RunningServer", "ServerOptions", "serve", "serve_on", "start_server"]

_START_MAX_S = 30.0
_CLOSE_MAX_S = 5.0  # after the grace: threads and the store have so long to close
_TELL_EVERY_S = 1.0
_LAST_WORDS_S = 0.2  # for the thread that writes the log

_log = logging.getLogger("drivetrain.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How it ends, and whom it believes."""

    wait_s: float = 0.0  # after SIGTERM, before it takes no more
    grace_s: float = 10.0  # then, for requests in work
    trusted_proxies: str = "127.0.0.1,::1"  # whose X-Forwarded headers count; "*" any
    head_max_s: float = HEAD_MAX_S  # for the headers of a request
    upload_max_s: float = UPLOAD_MAX_S  # for its whole body
    linger_s: float = LINGER_S  # for a body that goes on after its answer
    guard: GuardLimits = field(default_factory=GuardLimits)

    @classmethod
    def of(cls, settings: Settings) -> ServerOptions:
        return cls(
            wait_s=settings.shutdown_wait_s,
            grace_s=settings.shutdown_grace_s,
            trusted_proxies=settings.trusted_proxies,
            head_max_s=settings.header_timeout_s,
            upload_max_s=settings.upload_timeout_s,
            guard=GuardLimits.of(settings),
        )


class _Server(uvicorn.Server):
    """Tells when it listens, drains on SIGTERM, and keeps the counters of its models fresh."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, *, options: ServerOptions, on_listening: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._state = app.state
        self._options = options
        self._on_listening = on_listening
        self._leave_at: float | None = None
        self._told_at = 0.0
        self.was_cut = False  # requests in work did not end in the grace

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            served = self._state.registry.all()
            is_open = self._state.lifecycle.why_not_ready() is None
            self._state.metrics.tell_models((one, is_open and one.batcher.why_not_ready() is None) for one in served)
        if self._leave_at is not None and now >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def _wait_tasks_to_complete(self) -> None:
        try:
            await super()._wait_tasks_to_complete()
        except asyncio.CancelledError:  # the grace is over
            self.was_cut = True
            raise

    def drain(self, *, wait_s: float) -> None:
        """Not ready from here on; take no more after `wait_s`. From any thread, or a signal's handler."""
        if self._state.lifecycle.phase == "draining":
            self.should_exit = True  # told twice: no more waiting for balancers
            return
        if self._state.lifecycle.phase == "loading":
            wait_s = 0.0  # nobody was ever sent here
        self._state.lifecycle.phase = "draining"
        self._leave_at = time.monotonic() + wait_s
        _end_by_force(self._options.grace_s + wait_s + _CLOSE_MAX_S)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised once more: the exit code is 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in END_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT and self.should_exit:
            self.force_exit = True  # Ctrl-C twice
        self.drain(wait_s=0.0 if sig == signal.SIGINT else self._options.wait_s)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in a thread; also a context manager."""

    url: str
    _server: uvicorn.Server
    _thread: threading.Thread
    _stop_max_s: float

    def stop(self) -> None:
        """End requests in work, within the grace, then the thread."""
        self._server.should_exit = True
        self._thread.join(self._stop_max_s)
        if self._thread.is_alive():
            raise Unavailable("server", got="a thread that does not end", want="an end", hint="End the process.")

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def serve(
    app: FastAPI,
    host: str,
    port: int,
    *,
    on_ready: Callable[[str], None],
    options: ServerOptions | None = None,
    load: Callable[[], None] | None = None,
    on_listening: Callable[[str], None] = lambda _: None,
) -> int:
    """Serve until Ctrl-C or SIGTERM. `on_listening` gets the URL at once; `load` runs behind, then `on_ready` gets it.

    The exit code: 0, or 1 where requests did not end in the grace. Raises what `load` raises, once it has ended.
    """
    listener = listen_on(host, port)
    url = url_of(listener)
    return serve_on(
        listener,
        app,
        options=options or ServerOptions(),
        load=load,
        on_ready=lambda: on_ready(url),
        on_listening=lambda: on_listening(url),
    )


def serve_on(
    listener: socket.socket,
    app: FastAPI,
    *,
    options: ServerOptions,
    load: Callable[[], None] | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_listening: Callable[[], None] = lambda: None,
    on_server: Callable[[Callable[[], None]], None] = lambda _: None,
) -> int:
    """As `serve`, on a socket that listens already; `on_server` gets what begins an end from another thread."""
    failed: list[BaseException] = []
    lifecycle = app.state.lifecycle

    def load_behind() -> None:
        try:
            if load is not None:
                load()
            if lifecycle.phase == "loading":
                lifecycle.phase = "serving"
            on_ready()
        except BaseException as exc:  # the edge of a thread: raised anew where the server ends
            if lifecycle.phase != "draining":  # else it failed because the server was ending
                failed.append(exc)
            server.should_exit = True

    def begin() -> None:
        on_listening()
        if lifecycle.phase != "draining":  # told to end before it had begun
            thread.start()

    thread = threading.Thread(target=load_behind, name="drivetrain-load", daemon=True)
    server = _Server(_config(app, options), app, options=options, on_listening=begin)
    lifecycle.phase = "loading"
    on_server(lambda: server.drain(wait_s=options.wait_s))
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
    if thread.ident is not None:
        thread.join(_CLOSE_MAX_S)
    if thread.is_alive():  # in the middle of a model: Python cannot end around it, onnxruntime would abort
        _log.warning("ended while a model was being loaded")
        _leave(0)
    if failed:
        raise failed[0]
    return CUT_SHORT if server.was_cut else 0


def start_server(
    app: FastAPI, host: str = "127.0.0.1", port: int = 0, *, options: ServerOptions | None = None
) -> RunningServer:
    """Serve from a thread, without signal handlers; port 0 takes a free one. Returns once it listens."""
    listener = listen_on(host, port)
    is_ready = threading.Event()
    options = options or ServerOptions()
    server = _Server(_config(app, options), app, options=options, on_listening=is_ready.set)

    def run() -> None:
        with listener:
            server.run(sockets=[listener])

    thread = threading.Thread(target=run, name="drivetrain-serve", daemon=True)
    thread.start()
    if not is_ready.wait(_START_MAX_S):
        raise Unavailable("server", got=f"no start in {_START_MAX_S:.0f} s", want="a start", hint="See the log.")
    return RunningServer(url_of(listener), server, thread, options.grace_s + _CLOSE_MAX_S)


def _config(app: FastAPI, options: ServerOptions) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="auto",  # uvloop where it is installed
        http=make_protocol(
            app.state.metrics,
            lifecycle=app.state.lifecycle,
            limits=options.guard,
            head_max_s=options.head_max_s,
            linger_s=options.linger_s,
            upload_max_s=options.upload_max_s,
        ),
        ws="none",
        lifespan="on",
        log_config=None,  # serve/logs.py: uvicorn's own lines go where ours go
        access_log=False,
        server_header=False,
        forwarded_allow_ips=options.trusted_proxies,
        timeout_graceful_shutdown=round(options.grace_s),
    )


def _end_by_force(after_s: float) -> None:
    """A thread that hangs in a model would keep the process for ever; whoever ends us has a deadline of his own."""

    def end() -> None:
        _log.error("requests in work did not end within %.0f s of the signal: they are cut", after_s)
        _leave(CUT_SHORT)

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()


def _leave(code: int) -> None:
    time.sleep(_LAST_WORDS_S)
    os._exit(code)
