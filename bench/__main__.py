"""`make bench`: ratios to the floor on this machine, in one run. Seconds are shown for orientation only."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from bench import floor, loader, methods, ood, promise, shifted
from drivetrain.learn.trunk import prepare_trunk
from drivetrain.progress import SilentProgress

_DRIVETRAIN = [sys.executable, "-m", "drivetrain.cli.main"]
_COLD_START = (
    "import onnxruntime as ort, numpy as np, sys; from PIL import Image; from pathlib import Path;"
    "from bench.floor import open_session, decode;"
    "open_session(Path(sys.argv[1]), threads=1).run(['logits'], {'pixels': decode(Path(sys.argv[2]), 224)})"
)


def main() -> None:
    alone = {"ood": ood.main, "promise": promise.main}  # take options, and time nothing but themselves
    if sys.argv[1:2] and sys.argv[1] in alone:
        alone[sys.argv[1]](sys.argv[2:])
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode; so must both sides here
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        bench = Bench(Path(scratch))
        print(f"{floor.CORES} cores, {len(bench.files):,} pictures of {bench.source}\n")
        print(f"{'what':<58}{'floor':>9}{'ours':>9}{'ratio':>8}   hold")
        parts = {"load": bench.load, "train": bench.train, "predict": bench.predict}
        parts |= {"cold_start": bench.cold_start, "serve": bench.serve}
        asked = sys.argv[1:] or list(parts)
        parts["methods"] = bench.methods  # half an hour: only where it is asked for
        parts["folds"] = bench.folds  # a quarter of one
        parts["shifted"] = lambda: shifted.measure(bench.files, cache_dir=bench.cache)
        if unknown := [name for name in asked if name not in parts]:
            told = f"there are {', '.join(parts)} (those after train need its model), and alone {', '.join(alone)}"
            sys.exit(f"no part {unknown[0]!r}; {told}")
        for name in asked:
            parts[name]()


class Bench:
    """The rows, on one set of pictures in one scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.data, self.source = _find_pictures(scratch)
        self.files = sorted(self.data.rglob("*.jpg"))
        self.model = scratch / "bench.dt"
        self.cache = scratch / "cache"
        trunk = prepare_trunk("efficientnet_lite0", size=224, cache_dir=self.cache, progress=SilentProgress())
        self.trunk = trunk.model
        self.floor_s = 0.0

    def run(self, *args: str) -> float:
        """Seconds of a `drivetrain` command, imports and all; its output goes to scratch/out."""
        begun = time.perf_counter()
        with (self.scratch / "out").open("w") as out:
            subprocess.run(
                [*_DRIVETRAIN, *args],
                env=os.environ | {"DRIVETRAIN_CACHE_DIR": str(self.cache)},
                stdout=out,
                stderr=subprocess.DEVNULL,
                check=True,
            )
        return time.perf_counter() - begun

    def train(self) -> None:
        before, way = floor.measure(self.trunk, self.files, 224)
        cold = self.run("train", str(self.data), "-o", str(self.model), "--method", "head", "--json")
        after, _ = floor.measure(self.trunk, self.files, 224)  # the machine's speed drifts: measure on both sides
        self.floor_s = (before + after) / 2
        warm = self.run("train", str(self.data), "-o", str(self.model), "--method", "head", "--json")
        is_large = len(self.files) >= 3000  # on fewer, starting Python weighs more than the pictures
        allowed = "<= 1.30" if is_large else f"<= 1.30 with {self.floor_s + 6:.0f} s as floor"
        _row(f"train --method head, cold feature cache ({way})", self.floor_s, cold, allowed)
        _row("train again, warm cache (floor: the cold run)", cold, warm, "< 0.20" if is_large else "")
        told = json.loads((self.scratch / "out").read_text())
        spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in told["timings_s"].items())
        print(f"    held-out accuracy {told['evaluation']['accuracy']:.3f}; warm run: {spent}")

    def methods(self) -> None:
        test = Path(os.environ["DRIVETRAIN_DATA"], "clothing", "test")
        all_seeds = range(1, 6)
        methods.measure(
            self.data,
            test,
            trunk=self.trunk,
            scratch=self.scratch,
            methods=["head", "auto"],
            seeds=all_seeds,
            name="clothing",
        )
        source = methods.find_textile()
        if source is None:
            print("textile: pip install conformal-clip-data to measure it")
            return
        for seed in range(1, 4):
            folder = methods.hold_out(source, self.scratch / "textile", seed=seed)
            methods.measure(
                folder,
                folder,
                trunk=self.trunk,
                scratch=self.scratch,
                methods=["head", "auto"],
                seeds=[seed],
                name=f"textile, fifth {seed}",
            )

    def folds(self) -> None:
        methods.measure_folds(self.data, scratch=self.scratch, methods=["head", "auto"], folds=5, name="clothing")

    def load(self) -> None:
        rates = loader.measure(self.files[:1000], self.scratch)
        bare, plain, ours = rates["bare"], rates["plain"], rates["loader"]
        rows = (
            ("loader (floor: bare decode loop)", bare, ours, ">= 0.90"),
            ("loader (floor: torch DataLoader with PIL)", plain, ours, ""),
            ("first epoch, keeping pixels (floor: bare decode loop)", bare, rates["kept 1"], ""),
            ("second epoch, Resize (floor: the first)", rates["kept 1"], rates["kept 2"], ""),
            ("second epoch, RandomResizedCrop (floor: the first)", rates["kept crop 1"], rates["kept crop 2"], ""),
        )
        for what, least, found, hold in rows:
            _row(what, least, found, hold, unit="/s")

    def predict(self) -> None:
        _row(
            "predict on a folder",
            self.floor_s,
            self.run("predict", str(self.model), str(self.data), "--json"),
            "<= 1.15",
        )

    def cold_start(self) -> None:
        one = str(self.files[0])
        model = self.scratch / "model.onnx"
        import zipfile

        model.write_bytes(zipfile.ZipFile(self.model).read("model.onnx"))
        floors, ours = [], []
        for _ in range(5):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", _COLD_START, str(model), one], check=True)
            floors.append(time.perf_counter() - begun)
            ours.append(self.run("predict", str(self.model), one, "--json"))
        _row("cold start: predict one picture", statistics.median(floors), statistics.median(ours), "<= 1.50")

    def serve(self) -> None:
        files = self.files[:400]
        bodies = [file.read_bytes() for file in files]
        narrow = floor.open_session(self.scratch / "model.onnx", threads=1)
        loop_s = floor.pass_session_a_core(narrow, files, 224, "logits")
        wide = floor.open_session(self.scratch / "model.onnx", threads=floor.CORES)
        alone = []
        for file in files[:100]:
            begun = time.perf_counter()
            wide.run(["logits"], {"pixels": floor.decode(file, 224)})
            alone.append(time.perf_counter() - begun)
        with _Server(self.model, self.cache) as server:
            _ask(server.url, bodies[:20], [])  # warm-up
            one: list[float] = []
            _ask(server.url, bodies[:100], one)
            begun = time.perf_counter()
            clients = [threading.Thread(target=_ask, args=(server.url, bodies[i::16], [])) for i in range(16)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            served_s = time.perf_counter() - begun
            resident = server.resident_bytes()
        _row(
            "server throughput, 16 clients (pictures/s)",
            len(files) / loop_s,
            len(files) / served_s,
            ">= 0.90",
            unit="/s",
        )
        _row("server p50, 1 client", statistics.median(alone), statistics.median(one), "<= 1.25")
        print(f"{'server resident memory':<58}{'':>9}{resident / 1e6:>6.0f} MB{'':>8}   <= 300 MB")


class _Server:
    """`drivetrain serve` as a process of its own, on a free port."""

    def __init__(self, model: Path, cache: Path) -> None:
        self._process = subprocess.Popen(
            [*_DRIVETRAIN, "serve", str(model), "--port", "0"],
            env=os.environ | {"DRIVETRAIN_CACHE_DIR": str(cache)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = ""

    def __enter__(self) -> _Server:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = [word for word in line.split() if word.startswith("http://")]
            if found:
                self.url = found[0]
                return self
        raise RuntimeError("the server did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def _ask(url: str, bodies: Sequence[bytes], seconds: list[float]) -> None:
    """POST each body over one connection, appending how long each answer took."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    for body in bodies:
        begun = time.perf_counter()
        connection.request("POST", "/predict", body=body, headers={"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(answer.decode())
        seconds.append(time.perf_counter() - begun)
    connection.close()


def _find_pictures(scratch: Path) -> tuple[Path, str]:
    """clothing/train and clothing/validation where DRIVETRAIN_DATA has them, else generated photographs."""
    root = os.environ.get("DRIVETRAIN_DATA")
    data = scratch / "data"
    if root and Path(root, "clothing").is_dir():
        for part in ("train", "validation"):
            shutil.copytree(Path(root, "clothing", part), data / part, copy_function=shutil.copyfile)
        return data, "clothing/train and clothing/validation"
    rng = np.random.default_rng(0)
    for label in range(4):
        for number in range(150):
            small = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8) // 2 + np.uint8(label * 30)
            file = data / f"class{label}" / f"{number:03}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(small).resize((400, 533), Image.Resampling.BICUBIC).save(file, quality=85)
    return data, "noise made here (set DRIVETRAIN_DATA for photographs)"


def _row(what: str, least: float, ours: float, hold: str, *, unit: str = "s") -> None:
    digits = 3 if least < 1 and unit == "s" else 1
    print(f"{what:<58}{least:>7.{digits}f} {unit}{ours:>7.{digits}f} {unit}{ours / least:>7.2f}x   {hold}", flush=True)


if __name__ == "__main__":
    main()
