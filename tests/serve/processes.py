"""`drivetrain serve` as a person starts it: a process of its own, with workers, looked at from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from .fakes import picture

START_S = 90.0  # two cores may have much else to do
HEADERS = {"Content-Type": "image/png"}


class Served:
    """Started at once, ready after `until_ready`; ended with its workers whatever happens."""

    def __init__(self, folder: Path, *args: object, env: dict[str, str] | None = None) -> None:
        self.log = folder / "log"
        kept = {name: text for name, text in os.environ.items() if not name.startswith("DRIVETRAIN_")}
        defaults = {"DRIVETRAIN_DB": f"sqlite:///{folder / 'store.db'}", "DRIVETRAIN_ADDRESS_RATE_LIMIT": "0"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "drivetrain", "serve", *map(str, args), "--port", "0"],
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=folder,
                env=kept | defaults | {"DRIVETRAIN_CACHE_DIR": str(folder / "cache")} | (env or {}),
            )

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exc: object) -> None:
        left = [self.process.pid, *self.workers()]
        for pid in left:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8")

    def until_ready(self) -> None:
        poll(lambda: " answers at http://" in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said
        self.url = self.said.partition(" answers at ")[2].split()[0]

    def workers(self) -> list[int]:
        """Process ids, in no order."""
        try:
            found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in found.split()]

    def post(self) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", content=picture(), headers=HEADERS, timeout=START_S)

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", timeout=START_S).text

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=START_S)


class Clients:
    """Threads that ask without a pause, each over a connection of its own; errors and answers are counted."""

    def __init__(self, url: str, count: int) -> None:
        self._stop = threading.Event()
        self._url = url
        self.answers: list[dict[str, object]] = []
        self.failed: list[list[str]] = [[] for _ in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(failed,), daemon=True) for failed in self.failed]
        for thread in self._threads:
            thread.start()

    def _run(self, failed: list[str]) -> None:
        body = picture()
        with httpx.Client(timeout=START_S) as session:
            while not self._stop.is_set():
                try:
                    reply = session.post(f"{self._url}/predict", content=body, headers=HEADERS)
                except httpx.ConnectError:
                    failed.append("refused")
                    return
                except httpx.TransportError as exc:
                    failed.append(type(exc).__name__)
                    continue
                if reply.status_code == 200:
                    self.answers.append(reply.json())
                else:
                    failed.append(f"{reply.status_code} {reply.text}")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(START_S)


def poll(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)
