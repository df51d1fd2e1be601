"""One of several processes that answer on a port; started by `supervisor`, told on stdin what to do."""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

from drivetrain.errors import DrivetrainError
from drivetrain.serve.logs import open_logs
from drivetrain.serve.metrics import share_metrics
from drivetrain.serve.process.supervisor import Change, WorkerOrder, told
from drivetrain.serve.registry import ModelRegistry, Served
from drivetrain.serve.server import ServerOptions, serve_on

__all__ = ["main", "run_worker"]

_log = logging.getLogger("drivetrain.serve")

_REFUSED = 3  # exit code where a model or a setting was refused: the supervisor was told why


def main() -> None:
    """Read the order, then work until the supervisor ends this process, or has itself ended."""
    # unbuffered: a thread will wait in it to the very end, and must hold no lock then
    stdin = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    size = int.from_bytes(_read(stdin, 8), "big")
    order = pickle.loads(_read(stdin, size))  # noqa: S301 - our own parent wrote it, in a pipe that only we two have
    assert isinstance(order, WorkerOrder)
    sys.exit(run_worker(order, stdin))


def run_worker(order: WorkerOrder, commands: IO[bytes]) -> int:
    """Load and answer; the exit code."""
    share_metrics(order.metrics, slot=order.slot)
    settings = order.launch.settings
    with (
        open_logs(settings.log_format, worker=order.slot),
        os.fdopen(order.status_fd, "wb", buffering=0) as status,
        socket.socket(fileno=order.listener_fd) as listener,
    ):
        try:
            with order.launch.open_app(say=lambda line: _say(status, event="said", line=line)) as app:
                boss = _Boss(commands, app.state.registry, status)

                def load() -> None:
                    versions = order.launch.load(app)
                    for change in order.changes:
                        boss.change(change)
                    _say(status, event="loaded", versions=versions)
                    boss.wait_for_go()

                if not order.is_first:
                    load()  # the others answer meanwhile; nobody comes to us before we can
                return serve_on(
                    listener,
                    app,
                    options=ServerOptions.of(settings),
                    load=load if order.is_first else None,
                    on_server=boss.end_with,
                )
        except DrivetrainError as exc:
            _say(status, event="refused", error=told(exc))
            return _REFUSED


class _Boss:
    """The supervisor's end of the pipe: what it tells us to do, and its silence for ever once it has gone.

    A model that an admin loads here is loaded by the other processes too: it tells them.
    """

    def __init__(self, commands: IO[bytes], registry: ModelRegistry, status: IO[bytes]) -> None:
        self._commands = commands
        self._status = status
        self._load, self._unload = registry.load_named, registry.unload
        registry.load_named = self._load_and_tell  # type: ignore[method-assign]
        registry.unload = self._unload_and_tell  # type: ignore[method-assign]
        self._may_go = threading.Event()
        self._is_gone = threading.Event()
        self._drain: Callable[[], None] | None = None
        threading.Thread(target=self._listen, name="drivetrain-boss", daemon=True).start()

    def wait_for_go(self) -> None:
        self._may_go.wait()

    def end_with(self, drain: Callable[[], None]) -> None:
        """What to call when the supervisor has gone: without it, nobody would ever end us."""
        self._drain = drain
        if self._is_gone.is_set():
            drain()

    def change(self, change: Change) -> None:
        """Do here what an admin had done in another process."""
        try:
            if change["verb"] == "load":
                self._load(change["name"], keep=change["keep"])
            else:
                self._unload(change["name"], change["version"])
        except DrivetrainError as exc:
            _log.error("what an admin changed elsewhere failed here: %s", exc.message)

    def _load_and_tell(self, file_name: str, *, keep: bool = False) -> Served:
        served = self._load(file_name, keep=keep)
        _say(self._status, event="changed", change={"verb": "load", "name": file_name, "keep": keep})
        return served

    def _unload_and_tell(self, name: str, version: str | None = None) -> list[Served]:
        gone = self._unload(name, version)
        _say(self._status, event="changed", change={"verb": "unload", "name": name, "version": version})
        return gone

    def _listen(self) -> None:
        for line in self._commands:
            command = json.loads(line)
            if command["verb"] == "go":
                self._may_go.set()
            else:
                self.change(command)
        self._is_gone.set()
        self._may_go.set()
        if self._drain is not None:
            self._drain()


def _read(pipe: IO[bytes], count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = pipe.read(count - len(data))
        if not chunk:
            raise EOFError("the supervisor ended before it had given its order")
        data += chunk
    return data


def _say(status: IO[bytes], **event: Any) -> None:
    status.write(json.dumps(event).encode() + b"\n")


if __name__ == "__main__":  # pragma: no cover - `python -m drivetrain.serve.process.worker`
    main()
