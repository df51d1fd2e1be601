"""Servers of others on the same ONNX file, the same pictures and the same cores: `bench/peers.py --only serve`.

Each is set up as its own pages say, as well as it goes on CPUs: a process a core, one thread a session (more threads
would fight for the cores). They decode as the floor does, run the network and answer the probabilities; drivetrain also
judges whether the picture is a stranger, and may defer. All get the same form from the same client, in turns.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from bench import floor, serving

_FORM = "multipart/form-data; boundary=drivetrain"
_PORTS = {"litserve": 8731, "bentoml": 8732}
_MODEL = "BENCH_MODEL"  # names the ONNX file to a peer's processes


@dataclass
class Row:
    """One server, round by round."""

    name: str
    server: serving.Server
    field_name: str  # of the form's file
    rates: list[float] = field(default_factory=list)  # pictures a second, 16 clients
    seconds: list[float] = field(default_factory=list)  # of each answer to one client

    def measure(self, pictures: Sequence[bytes], alone: int) -> None:
        begun = time.perf_counter()
        self.ask(pictures, clients=serving.CLIENTS)
        self.rates.append(len(pictures) / (time.perf_counter() - begun))
        self.seconds += self.ask(pictures[:alone], clients=1)

    def ask(self, pictures: Sequence[bytes], *, clients: int) -> list[float]:
        bodies = [_as_form(picture, self.field_name) for picture in pictures]
        return serving.ask(self.server.url, bodies, clients=clients, kind=_FORM)

    def tell(self, floor_rate: float) -> None:
        rate, p50 = statistics.median(self.rates), statistics.median(self.seconds)
        p99, memory = serving.quantile(self.seconds, 0.99), self.server.resident_bytes() / 1e6
        print(
            f"{self.name:<34}{rate:>9.1f} /s{rate / floor_rate:>8.2f}{1000 * p50:>10.1f} ms{1000 * p99:>10.1f} ms"
            f"{memory:>9.0f} MB",
            flush=True,
        )


def compare(drivetrain: Path, bundle: Path, files: Sequence[Path], *, rounds: int, alone: int = 50) -> None:
    """One table: throughput at 16 clients, also over the floor, p50 and p99 at one client, memory of all processes."""
    pictures = [file.read_bytes() for file in files]
    with tempfile.TemporaryDirectory(prefix="peers-serve-") as scratch, ExitStack() as held:
        model = Path(scratch, "model.onnx")
        model.write_bytes(zipfile.ZipFile(bundle).read("model.onnx"))
        narrow = floor.open_session(model, threads=1)
        rows = [Row(name, held.enter_context(server), at) for name, server, at in _servers(drivetrain, bundle, model)]
        for row in rows:
            row.ask(pictures[:16], clients=4)
        floors = []
        for _ in range(rounds):
            floors.append(len(files) / floor.pass_session_a_core(narrow, files, 224, "logits"))
            for row in rows:
                row.measure(pictures, alone)
        print(f"{len(files)} pictures, {rounds} rounds, {floor.CORES} cores; medians")
        print(f"{'':<34}{'16 clients':>12}{'floor':>8}{'p50':>13}{'p99':>13}{'memory':>12}")
        print(f"{'in-process, one session a core':<34}{statistics.median(floors):>9.1f} /s{1:>8.2f}")
        for row in rows:
            row.tell(statistics.median(floors))


def _servers(drivetrain: Path, bundle: Path, model: Path) -> list[tuple[str, serving.Server, str]]:
    """(name, server, name of the form's field); not started yet."""
    scratch = model.parent
    env = {_MODEL: str(model), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    bento_env = env | {"BENTOML_HOME": str(scratch / "bentoml"), "BENTOML_DO_NOT_TRACK": "true"}
    ours = [str(drivetrain), "serve", str(bundle), "--port", "0", "--db", "none"]
    lit = [sys.executable, "-m", "bench.peers_lit", str(_PORTS["litserve"])]
    bento = [sys.executable, "-m", "bentoml", "serve", "bench.peers_bento:Classifier"]
    bento += ["--host", "127.0.0.1", "--port", str(_PORTS["bentoml"])]
    at = {name: f"http://127.0.0.1:{port}" for name, port in _PORTS.items()}
    return [
        ("drivetrain", serving.Server(ours, env={"DRIVETRAIN_CACHE_DIR": str(scratch / "cache")}), "file"),
        (
            f"LitServe {version('litserve')}",
            serving.Server(lit, env=env, url=at["litserve"], ready_path="/health"),
            "request",
        ),
        (
            f"BentoML {version('bentoml')}",
            serving.Server(bento, env=bento_env, url=at["bentoml"], ready_path="/readyz"),
            "file",
        ),
    ]


class Classifier:
    """What a peer's process does with a picture's bytes: the floor, and a softmax."""

    def __init__(self) -> None:
        self._session = floor.open_session(Path(os.environ[_MODEL]), threads=1)

    def predict(self, data: bytes) -> list[float]:
        import numpy as np

        (logits,) = self._session.run(["logits"], {"pixels": floor.decode(io.BytesIO(data), 224)})
        shares = np.exp(logits[0] - logits[0].max())
        probabilities: list[float] = (shares / shares.sum()).tolist()
        return probabilities


def _as_form(picture: bytes, name: str) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="a.jpg"'
    head = f"--drivetrain\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
    return head.encode() + picture + b"\r\n--drivetrain--\r\n"
