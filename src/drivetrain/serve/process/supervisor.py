"""Several processes on one port, and one that keeps them running.

The supervisor listens and loads nothing. Each worker inherits the listening socket, so a connection that waits there
belongs to none: when a worker dies, only what it had in hand is lost, and the others take the rest. The first workers
answer 503 until all of them have proved their models; one that is started again proves them before it takes anything.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from drivetrain import errors
from drivetrain.errors import BundleRefused, DrivetrainError, Unavailable
from drivetrain.serve.logs import open_logs
from drivetrain.serve.process.launch import Launch
from drivetrain.serve.process.signals import END_SIGNALS

__all__ = ["CUT_SHORT", "Change", "Supervisor", "WorkerOrder", "serve_processes", "told", "untold"]

_BEAT_S = 0.1
_STEADY_S = 30.0  # a worker that ran so long did not die of its start
_WAIT_MAX_S = 30.0  # between two starts of one that keeps dying
_FAILED_STARTS_MAX = 3  # in a row, before any worker was ever ready
_REFUSED_MAX_S = 5.0  # for the other workers to end, where a model was refused
_OVERTIME_S = 15.0  # over wait and grace, before workers are killed

CUT_SHORT = 1  # exit code where requests did not end in the grace

_log = logging.getLogger("drivetrain.serve")

Change = dict[str, Any]  # verb "load" or "unload", and its arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrder:
    """What a worker is told when it starts."""

    launch: Launch
    slot: int  # from 0
    listener_fd: int
    status_fd: int  # it tells here, a JSON line an event: loaded, refused, said, changed
    metrics: Path
    is_first: bool  # listens while it loads, and waits for the others
    changes: tuple[Change, ...] = ()  # what admins had loaded and unloaded since the start


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and who fills it."""

    slot: int
    process: subprocess.Popen[bytes] | None = None
    status: IO[bytes] | None = None
    heard: bytes = b""
    begun: float = 0.0
    is_ready: bool = False
    deaths: int = 0  # in a row
    start_at: float = 0.0


def serve_processes(
    launch: Launch,
    listener: socket.socket,
    *,
    on_ready: Callable[[tuple[str, ...]], None],
    say: Callable[[str], None],
) -> int:
    """Keep `workers` processes on this socket until a signal ends them; the exit code.

    Raises what the first workers' loading raises; Unavailable where they cannot start at all.
    """
    if not hasattr(os, "fork"):
        raise Unavailable("workers", got=launch.settings.workers, want="1 on this system", hint="Set --workers 1.")
    folder = Path(tempfile.mkdtemp(prefix="drivetrain-metrics-"))
    try:
        with open_logs(launch.settings.log_format):
            return Supervisor(launch, listener, metrics=folder, on_ready=on_ready, say=say).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Supervisor:
    """Starts workers, hears them, starts again those that die, and ends them all."""

    def __init__(
        self,
        launch: Launch,
        listener: socket.socket,
        *,
        metrics: Path,
        on_ready: Callable[[tuple[str, ...]], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._launch = launch
        self._listener = listener
        self._metrics = metrics
        self._on_ready = on_ready
        self._say = say
        self._clock = clock
        self._workers = [_Worker(slot) for slot in range(launch.settings.workers)]
        self._selector = selectors.DefaultSelector()
        self._was_ready = False
        self._versions: list[str] = []
        self._changes: list[Change] = []
        self._signals: list[int] = []
        self._kill_at: float | None = None
        self._refused: DrivetrainError | None = None
        self._endings: set[int] = set()  # exit codes after the signal

    def run(self) -> int:
        """Until they have all ended; 0, or 1 where one had to be cut."""
        with self._hearing_signals():
            try:
                while not self._is_over():
                    self._start_due()
                    self._hear(_BEAT_S)
                    self._reap()
                    self._obey()
            finally:
                self._end_all(signal.SIGKILL)
                self._selector.close()
                self._listener.close()
        if self._refused is not None:
            raise self._refused
        # one that had not begun is ended by the signal itself
        return 0 if self._endings <= {0, -signal.SIGTERM} else CUT_SHORT

    # starting

    def _start_due(self) -> None:
        if self._kill_at is not None:
            return
        for worker in self._workers:
            if worker.process is None and self._clock() >= worker.start_at:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        reads, writes = os.pipe()
        order = WorkerOrder(
            launch=self._launch.share(),
            slot=worker.slot,
            listener_fd=self._listener.fileno(),
            status_fd=writes,
            metrics=self._metrics,
            is_first=not self._was_ready,
            changes=tuple(self._changes),
        )
        try:
            process = subprocess.Popen(
                # -P: no module is taken from the folder that we were started in
                [sys.executable, "-P", "-m", "drivetrain.serve.process.worker"],
                stdin=subprocess.PIPE,
                pass_fds=(self._listener.fileno(), writes),
                process_group=0,  # Ctrl-C at a terminal is ours to pass on
            )
        finally:
            os.close(writes)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # dead already: seen at the next beat
            sent = pickle.dumps(order)
            process.stdin.write(len(sent).to_bytes(8, "big") + sent)
            process.stdin.flush()
        os.set_blocking(reads, False)
        worker.process, worker.status, worker.heard = process, os.fdopen(reads, "rb", buffering=0), b""
        worker.begun, worker.is_ready = self._clock(), False
        self._selector.register(worker.status, selectors.EVENT_READ, worker)

    # hearing

    def _hear(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            worker: _Worker = key.data
            assert worker.status is not None
            chunk = worker.status.read(65_536)
            if not chunk:
                self._selector.unregister(worker.status)  # it has ended, or will at once
                time.sleep(_BEAT_S / 10)
                continue
            worker.heard += chunk
            *lines, worker.heard = worker.heard.split(b"\n")
            for line in lines:
                self._heard(worker, json.loads(line))

    def _heard(self, worker: _Worker, event: dict[str, Any]) -> None:
        match event["event"]:
            case "refused":
                error = untold(event["error"])
                if self._was_ready:  # the file was changed under a server that runs: the others go on
                    _log.error("worker %d cannot start again: %s", worker.slot, error.message)
                else:
                    self._refused = self._refused or error
            case "said" if worker.slot == 0 and not self._was_ready:  # they all say the same
                self._say(event["line"])
            case "changed":
                change: Change = event["change"]
                self._changes = [*(each for each in self._changes if each != change), change]
                for each in self._workers:
                    if each is not worker:
                        self._tell(each, change)
            case "loaded":
                self._loaded(worker, event["versions"])

    def _loaded(self, worker: _Worker, versions: list[str]) -> None:
        worker.is_ready = True
        if self._was_ready:
            other = "" if versions == self._versions or self._changes else f", with {', '.join(versions)} from now on"
            _log.warning("worker %d answers again%s", worker.slot, other)
            self._tell(worker, {"verb": "go"})
        elif all(each.is_ready for each in self._workers):
            self._was_ready, self._versions = True, versions
            for each in self._workers:
                self._tell(each, {"verb": "go"})
            self._on_ready(tuple(versions))

    def _tell(self, worker: _Worker, command: Change) -> None:
        if worker.process is not None and worker.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.write(json.dumps(command).encode() + b"\n")
                worker.process.stdin.flush()

    # ending

    def _reap(self) -> None:
        for worker in self._workers:
            code = None if worker.process is None else worker.process.poll()
            if code is None:
                continue
            self._forget(worker, code)
            if self._kill_at is None and self._refused is None:
                self._mourn(worker, code)

    def _forget(self, worker: _Worker, code: int) -> None:
        assert worker.process is not None
        assert worker.process.stdin is not None
        assert worker.status is not None
        self._hear(0)  # what it said last
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.status)
        worker.status.close()
        with contextlib.suppress(BrokenPipeError):
            worker.process.stdin.close()
        worker.process = worker.status = None
        if self._kill_at is not None:
            self._endings.add(code)
        for file in self._metrics.glob(f"gauge_live*_{worker.slot}.db"):  # what it had in hand, it has no more
            file.unlink()

    def _mourn(self, worker: _Worker, code: int) -> None:
        is_steady = worker.is_ready and self._clock() - worker.begun >= _STEADY_S
        worker.deaths = 1 if is_steady else worker.deaths + 1
        wait_s = 0.0 if worker.deaths == 1 else min(_WAIT_MAX_S, 0.5 * 2.0 ** (worker.deaths - 2))
        worker.start_at = self._clock() + wait_s
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        _log.error("worker %d ended %s; it starts again in %.1f s", worker.slot, how, wait_s)
        if not self._was_ready and worker.deaths >= _FAILED_STARTS_MAX:
            self._refused = Unavailable(
                "workers",
                got=f"a process that ended {how} before it was ready, {worker.deaths} times",
                want="one that starts",
                hint="Its last words stand above. Too little memory is the usual reason: try --workers 1.",
            )

    def _obey(self) -> None:
        """What a signal asked for, or a model that was refused."""
        if self._refused is not None and not self._signals:
            self._signals.append(signal.SIGINT)
        while self._signals:
            number = self._signals.pop(0)
            if self._kill_at is None:
                settings = self._launch.settings
                wait_s = 0 if number == signal.SIGINT else settings.shutdown_wait_s
                self._kill_at = self._clock() + wait_s + settings.shutdown_grace_s + _OVERTIME_S
            if self._refused is not None:
                self._kill_at = self._clock() + _REFUSED_MAX_S  # nobody was ever answered
            self._end_all(number)
        if self._kill_at is not None and self._clock() >= self._kill_at:
            self._end_all(signal.SIGKILL)

    def _is_over(self) -> bool:
        return self._kill_at is not None and all(worker.process is None for worker in self._workers)

    def _end_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.process is not None:
                # one that is still importing would answer Ctrl-C with a traceback
                is_early = number == signal.SIGINT and not worker.is_ready
                worker.process.send_signal(signal.SIGTERM if is_early else number)

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        def note(number: int, _: FrameType | None) -> None:
            self._signals.append(number)

        before = {number: signal.signal(number, note) for number in END_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def told(error: DrivetrainError) -> dict[str, str]:
    """An error as a worker tells it."""
    fields = {"field": error.field, "got": error.got, "want": error.want, "hint": error.hint}
    return {"kind": type(error).__name__, "code": error.code, **fields}


def untold(item: dict[str, str]) -> DrivetrainError:
    """The error that was told: of the same kind where that can be made from its fields."""
    fields = {name: item[name] for name in ("got", "want", "hint")}
    kind = getattr(errors, item["kind"], Unavailable)
    if kind is BundleRefused:
        return BundleRefused(item["code"], item["field"], **fields)
    try:
        error: DrivetrainError = kind(item["field"], **fields)
    except TypeError:  # it takes other words
        return Unavailable(item["field"], **fields)
    return error
