"""The server against the least that must be done: in turns, so that what else the machine does meets both.

The client is as light as can be (one thread, requests built beforehand): what it costs is taken from the same cores.
"""

from __future__ import annotations

import os
import selectors
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from bench import floor

CLIENTS = 16
ROUNDS = 5
_ALONE = 100  # pictures a round, one after the other
_TIMEOUT_S = 120.0


@dataclass
class Pair:
    """What the floor and the server did, round by round."""

    floor: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def least(self) -> float:
        return statistics.median(self.floor)

    @property
    def found(self) -> float:
        return statistics.median(self.ours)

    @property
    def ratio(self) -> float:
        """The middle one of the rounds' ratios: within a round both met the same machine."""
        return statistics.median(self._all())

    @property
    def ratios(self) -> str:
        return f"{min(self._all()):.2f} to {max(self._all()):.2f}"

    def _all(self) -> list[float]:
        return [ours / least for ours, least in zip(self.ours, self.floor, strict=True)]


@dataclass
class Served:
    """One server's numbers."""

    throughput: Pair = field(default_factory=Pair)  # pictures a second, 16 clients
    p50: Pair = field(default_factory=Pair)  # seconds, one client
    p99: Pair = field(default_factory=Pair)
    resident_bytes: int = 0


def measure(
    server: Server, model: Path, files: Sequence[Path], *, rounds: int = ROUNDS, path: str = "/predict"
) -> Served:
    """The server against one session a core and one on all cores, whichever is faster."""
    bodies = [file.read_bytes() for file in files]
    narrow = floor.open_session(model, threads=1)
    wide = floor.open_session(model, threads=floor.CORES)
    some = files[: min(_ALONE, len(files))]
    for clients in (1, 4):  # warm-up
        ask(server.url, bodies[:20], clients=clients, path=path)
    floor.pass_session_a_core(narrow, files[:20], 224, "logits")
    alone_floor(wide, files[:20])
    served = Served()
    for _ in range(rounds):
        least_s = min(
            floor.pass_session_a_core(narrow, files, 224, "logits"), floor.pass_one_session(wide, files, 224, "logits")
        )
        served.throughput.floor.append(len(files) / least_s)
        begun = time.perf_counter()
        ask(server.url, bodies, clients=CLIENTS, path=path)
        served.throughput.ours.append(len(files) / (time.perf_counter() - begun))
        alone = alone_floor(wide, some)
        one = ask(server.url, bodies[: len(some)], clients=1, path=path)
        served.p50.floor.append(statistics.median(alone))
        served.p50.ours.append(statistics.median(one))
        served.p99.floor.append(quantile(alone, 0.99))
        served.p99.ours.append(quantile(one, 0.99))
    served.resident_bytes = server.resident_bytes()
    return served


def alone_floor(wide: object, files: Sequence[Path]) -> list[float]:
    """Seconds of each picture: decode, then the network on all cores."""
    seconds = []
    for file in files:
        begun = time.perf_counter()
        wide.run(["logits"], {"pixels": floor.decode(file, 224)})  # type: ignore[attr-defined]
        seconds.append(time.perf_counter() - begun)
    return seconds


def quantile(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def ask(
    url: str, bodies: Sequence[bytes], *, clients: int, path: str = "/predict", kind: str = "image/jpeg"
) -> list[float]:
    """POST each body once over `clients` connections that never pause; seconds of each answer, as they came."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    waiting = list(reversed([_request(address.netloc, path, kind, body) for body in bodies]))
    seconds: list[float] = []
    with selectors.DefaultSelector() as selector:
        for _ in range(min(clients, len(bodies))):
            peer = socket.create_connection((address.hostname, address.port), timeout=_TIMEOUT_S)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(peer, selectors.EVENT_READ, _Exchange(peer))
        exchanges: list[_Exchange] = [key.data for key in selector.get_map().values()]
        for exchange in exchanges:
            exchange.send(waiting.pop())
        open_count = len(exchanges)
        while open_count:
            ready = selector.select(_TIMEOUT_S)
            if not ready:
                raise RuntimeError(f"{url} has not answered for {_TIMEOUT_S:.0f} s")
            for key, _ in ready:
                exchange = key.data
                if not exchange.receive():
                    continue
                seconds.append(exchange.seconds)
                if waiting:
                    exchange.send(waiting.pop())
                else:
                    selector.unregister(exchange.peer)
                    exchange.peer.close()
                    open_count -= 1
    return seconds


class _Exchange:
    """One connection: a request out, an answer in, again and again."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.seconds = 0.0
        self._begun = 0.0
        self._heard = b""

    def send(self, request: bytes) -> None:
        self._heard, self._begun = b"", time.perf_counter()
        self.peer.sendall(request)

    def receive(self) -> bool:
        """Take what is there; whether that was all."""
        chunk = self.peer.recv(65_536)
        if not chunk:
            raise RuntimeError(f"the server hung up after {self._heard[:200]!r}")
        self._heard += chunk
        head, found, body = self._heard.partition(b"\r\n\r\n")
        if not found:
            return False
        lines = (line.partition(b":") for line in head.split(b"\r\n"))
        names = {name.strip().lower(): value.strip() for name, _, value in lines}
        if len(body) < int(names[b"content-length"]):
            return False
        self.seconds = time.perf_counter() - self._begun
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self._heard[:2000].decode(errors="replace"))
        return True


def _request(host: str, path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Server:
    """A server as a process of its own, waited for until it is ready; its address is the first it tells on stderr."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: dict[str, str] | None = None,
        url: str = "",
        ready_path: str = "/health/ready",
    ) -> None:
        self._command, self._env = list(command), os.environ | (env or {})
        self.url = url
        self._ready_path = ready_path

    def __enter__(self) -> Server:
        self._told = tempfile.TemporaryFile("w+")  # not a pipe: nobody would read the log of every request
        self._process = subprocess.Popen(self._command, env=self._env, stdout=subprocess.DEVNULL, stderr=self._told)
        try:
            self._wait_for(self._is_ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=30)
        self._told.close()

    def resident_bytes(self) -> int:
        """Of the process and of all it started."""
        found, todo = 0, [self._process.pid]
        while todo:
            pid = todo.pop()
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                tasks = Path(f"/proc/{pid}/task").iterdir()
                todo += [int(child) for task in tasks for child in (task / "children").read_text().split()]
            except OSError:  # gone by now
                continue
            lines = [line for line in status.splitlines() if line.startswith("VmRSS")]
            found += 1024 * int(lines[0].split()[1]) if lines else 0
        return found

    def cpu_s(self) -> float:
        """Processor seconds of the process, user and system."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _is_ready(self) -> bool:
        if not self.url:
            self._told.seek(0)
            self.url = next((word for word in self._told.read().split() if word.startswith("http://")), "")
        return bool(self.url) and _is_ready(self.url, self._ready_path)

    def _wait_for(self, is_so: Callable[[], bool]) -> None:
        ends = time.monotonic() + _TIMEOUT_S
        while not is_so():
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with {self._process.returncode}")
            if time.monotonic() > ends:
                raise RuntimeError("the server did not start")
            time.sleep(0.2)


def _is_ready(url: str, path: str) -> bool:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
