"""`python -m bench soak`: ten minutes at 80 % of what the server can do. No request may fail, nor its memory grow."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

_SETTLES_S = 60.0  # caches and arenas fill; the slope is taken after
_FASTEST_S = 20.0  # the throughput is measured for so long, after as much of warm-up
_SLOPE_MAX = 1.0  # MB a minute, over all processes
_LATE_MAX_S = 30.0  # a request that waits longer has failed


@dataclass
class Load:
    """Requests by several threads, each over one connection; what came of them."""

    url: str
    bodies: list[bytes]
    clients: int
    seconds: list[float] = field(default_factory=list)  # from when a request was due, not from when it was sent
    outcomes: Counter[str] = field(default_factory=Counter)
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, duration_s: float, *, rate: float | None) -> float:
        """Requests a second that were answered; as fast as may be where no `rate` is given."""
        begun = time.perf_counter()
        threads = [threading.Thread(target=self._ask, args=(begun, duration_s, rate)) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(self.seconds) / (time.perf_counter() - begun)

    def _ask(self, begun: float, duration_s: float, rate: float | None) -> None:
        address = urlsplit(self.url).netloc
        connection = HTTPConnection(address, timeout=_LATE_MAX_S)
        while (now := time.perf_counter() - begun) < duration_s:
            with self._lock:
                number, self._number = self._number, self._number + 1
            due = number / rate if rate else now
            if due > duration_s:
                break
            time.sleep(max(0.0, due - now))
            try:
                headers = {"Content-Type": "application/octet-stream"}
                connection.request("POST", "/predict", self.bodies[number % len(self.bodies)], headers)
                reply = connection.getresponse()
                reply.read()
                outcome = str(reply.status)
            except (OSError, HTTPException) as exc:
                outcome = type(exc).__name__
                connection.close()
                connection = HTTPConnection(address, timeout=_LATE_MAX_S)
            with self._lock:
                self.outcomes[outcome] += 1
                if outcome == "200":
                    self.seconds.append(time.perf_counter() - begun - due)
        connection.close()


@dataclass
class Memory:
    """Resident bytes of a process and its children, once a second."""

    pid: int
    samples: list[tuple[float, int]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        self._begun = time.perf_counter()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self.samples.append((time.perf_counter() - self._begun, sum(map(resident_bytes, family(self.pid)))))

    def slope(self) -> float:
        """MB a minute, by least squares over what came after the start."""
        late = np.array([sample for sample in self.samples if sample[0] >= min(_SETTLES_S, self.samples[-1][0] / 2)])
        minutes, size = (late - late.mean(axis=0)).T * [[1 / 60], [1e-6]]
        return float(minutes @ size / (minutes @ minutes or 1.0))


def main(argv: list[str]) -> None:
    """Prints what was seen; exits 1 where the memory grew or a request failed."""
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--share", type=float, default=0.8, help="of the measured throughput")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--model", type=Path, help="NAME.dt; without it one is trained")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        model, bodies = _prepare(given.model, Path(scratch))
        process, url = _start(model, Path(scratch), workers=given.workers)
        try:
            is_held = _soak(process.pid, url, bodies, given)
        finally:
            process.terminate()
            code = process.wait(timeout=90)
    print(f"    the server ended with {code}")
    sys.exit(0 if is_held and code == 0 else 1)


def _prepare(model: Path | None, scratch: Path) -> tuple[Path, list[bytes]]:
    from bench.__main__ import Bench, _find_pictures

    if model is None:
        bench = Bench(scratch)
        bench.run("train", str(bench.data), "-o", str(bench.model), "--method", "head", "--json")
        return bench.model, [file.read_bytes() for file in bench.files[:400]]
    data, _ = _find_pictures(scratch)
    return model, [file.read_bytes() for file in sorted(data.rglob("*.jpg"))[:400]]


def _soak(pid: int, url: str, bodies: list[bytes], given: argparse.Namespace) -> bool:
    Load(url, bodies, given.clients).run(_FASTEST_S, rate=None)
    fastest = Load(url, bodies, given.clients).run(_FASTEST_S, rate=None)
    rate = given.share * fastest
    print(f"{fastest:.1f}/s at most; {given.minutes:g} minutes at {rate:.1f}/s, {given.workers} processes", flush=True)
    load = Load(url, bodies, given.clients)
    with Memory(pid) as memory:
        reached = load.run(60 * given.minutes, rate=rate)
    failed = {name: count for name, count in load.outcomes.items() if name != "200"}
    p50, p99, worst = np.quantile(load.seconds, [0.5, 0.99, 1.0]) * 1000
    first, last = (np.mean([size for _, size in part]) / 1e6 for part in (memory.samples[:30], memory.samples[-30:]))
    slope = memory.slope()
    print(f"    {len(load.seconds)} answers, {reached:.1f}/s; failed: {json.dumps(failed) if failed else 'none'}")
    print(f"    p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {worst:.1f} ms, from when each was due")
    print(f"    memory {first:.1f} MB -> {last:.1f} MB, {slope:+.2f} MB a minute   <= {_SLOPE_MAX}")
    return not failed and slope <= _SLOPE_MAX


def _start(model: Path, scratch: Path, *, workers: int) -> tuple[subprocess.Popen[bytes], str]:
    log = scratch / "log"
    unlimited = {"DRIVETRAIN_ADDRESS_RATE_LIMIT": "0", "DRIVETRAIN_CACHE_DIR": str(scratch / "cache")}
    command = [sys.executable, "-m", "drivetrain", "serve", str(model), "--port", "0"]
    command += ["--workers", str(workers), "--db", f"sqlite:///{scratch / 'soak.db'}"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=os.environ | unlimited)
    while " answers at " not in (said := log.read_text("utf-8")):
        if process.poll() is not None:
            raise RuntimeError(said)
        time.sleep(0.1)
    return process, said.partition(" answers at ")[2].split()[0]


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def resident_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # a worker that has just gone
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
