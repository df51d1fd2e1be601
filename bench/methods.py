"""Methods of training: accuracy on pictures never seen, over seeds; wall time over the floor; peak memory.

`python -m bench methods` prints the table of docs/benchmarks.md. The test pictures are read here and nowhere else.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import floor
from drivetrain.trust.compare import compare_right

_DRIVETRAIN = [sys.executable, "-m", "drivetrain"]
# A child's peak counts what its parent held when it was forked: so a small process starts it, and tells its peak.
_WATCH = """
import os, subprocess, sys
begun = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(begun.pid, 0)
with open(sys.argv[1], "w") as out:
    out.write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Run:
    """One training and its evaluation."""

    seconds: float
    peak_bytes: int
    accuracy: float
    right: np.ndarray
    paths: tuple[str, ...]
    method: str  # that was used
    notes: tuple[str, ...]


def measure(
    data: Path, test: Path, *, trunk: Path, scratch: Path, methods: Sequence[str], seeds: Sequence[int], name: str
) -> None:
    """Train `data` by each method and seed, on a cache that holds the trunk alone; evaluate on `test`; print."""
    files = [file for file in sorted(data.rglob("*.jpg")) if _is_read(data, file)]
    before, _ = floor.measure(trunk, files, 224)
    runs: dict[str, list[Run]] = {}
    for method in methods:
        runs[method] = []
        for seed in seeds:
            cache = scratch / "cache"
            _empty(cache)
            runs[method].append(run_once(data, test, scratch=scratch, cache=cache, method=method, seed=seed))
            done = runs[method][-1]
            print(
                f"    {name} {method} seed {seed}: accuracy {done.accuracy:.4f}, {done.seconds:.1f} s, "
                f"{done.peak_bytes / 1e9:.2f} GB, used {done.method}",
                flush=True,
            )
    after, _ = floor.measure(trunk, files, 224)
    floor_s = (before + after) / 2
    for method, of_method in runs.items():
        accuracies = np.array([run.accuracy for run in of_method])
        spread = accuracies.std(ddof=1) if len(accuracies) > 1 else 0.0
        seconds = float(np.median([run.seconds for run in of_method]))
        peak = max(run.peak_bytes for run in of_method) / 1e9
        print(
            f"{name}, {method}: accuracy {accuracies.mean():.4f} (spread {spread:.4f}, "
            f"{accuracies.min():.4f} to {accuracies.max():.4f}); {seconds:.1f} s = {seconds / floor_s:.2f}x "
            f"of {floor_s:.1f} s; peak {peak:.2f} GB"
        )
    if "head" in runs:
        for method in methods:
            if method != "head":
                _compare(runs[method], runs["head"], f"{name}, {method}")


def run_once(data: Path, test: Path, *, scratch: Path, cache: Path, method: str, seed: int) -> Run:
    """`drivetrain train` and `drivetrain evaluate` as processes of their own."""
    model = scratch / "m.dt"
    seconds, peak, told = _call(
        cache, "train", str(data), "-o", str(model), "--method", method, "--seed", str(seed), "--json"
    )
    _, _, judged = _call(cache, "evaluate", str(model), str(test), "--json")
    predictions = sorted(judged["predictions"], key=lambda one: one["path"])
    right = np.array([one["label"] == one["truth"] for one in predictions])
    return Run(
        seconds=seconds,
        peak_bytes=peak,
        accuracy=float(right.mean()),
        right=right,
        paths=tuple(one["path"] for one in predictions),
        method=told["method"],
        notes=tuple(told["notes"]),
    )


def measure_folds(data: Path, *, scratch: Path, methods: Sequence[str], folds: int, name: str) -> None:
    """Each fifth of `data` held out in turn, so that every picture is judged once: what few test pictures cannot tell.

    The settings of the methods were chosen among pictures of these same folders, so a gain is seen in its best light.
    """
    rights: dict[str, list[np.ndarray]] = {method: [] for method in methods}
    for fold in range(folds):
        part = hold_out(data, scratch / "fold", fold=fold, folds=folds)
        cache = scratch / "cache"
        _empty(cache)
        for method in methods:  # the second finds the first's features: nothing is timed here
            run = run_once(part, part, scratch=scratch, cache=cache, method=method, seed=fold)
            rights[method].append(run.right)
            print(f"    {name} {method} fold {fold + 1}: accuracy {run.accuracy:.4f} of {len(run.right):,}", flush=True)
    first, *others = methods
    right = {method: np.concatenate(parts) for method, parts in rights.items()}
    print(f"{name}, {folds} folds, {first}: accuracy {right[first].mean():.4f} of {len(right[first]):,}")
    for method in others:
        told = compare_right(right[method], right[first], reference=first)
        accuracy = right[method].mean()
        print(f"{name}, {folds} folds, {method}: accuracy {accuracy:.4f}; {told.sentence}, p {told.p_value:.2g}")


def hold_out(source: Path, folder: Path, *, fold: int = 0, folds: int = 5, seed: int = 0) -> Path:
    """A copy of `source`, a folder a class; in an order drawn by `seed` every folds-th of a class is marked as test."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(seed)
    rows = []
    classes: dict[str, list[Path]] = {}
    for file in sorted(source.rglob("*.jpg")):
        classes.setdefault(file.parent.name, []).append(file)
    for label, files in classes.items():
        (folder / label).mkdir(parents=True)
        for place, number in enumerate(rng.permutation(len(files)).tolist()):
            shutil.copyfile(files[number], folder / label / files[number].name)
            rows.append((f"{label}/{files[number].name}", label, "test" if place % folds == fold else ""))
    with (folder / "labels.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("path", "label", "split"), *rows])
    return folder


def find_textile() -> Path | None:
    """The pictures of the package conformal-clip-data, found without importing it."""
    from importlib.util import find_spec

    found = find_spec("conformal_clip_data")
    if found is None:
        return None
    return Path(str(found.origin)).parent / "data" / "textile_images" / "simulated"


def _compare(runs: Sequence[Run], reference: Sequence[Run], name: str) -> None:
    right, than = (np.concatenate([run.right for run in of]) for of in (runs, reference))
    pictures = np.concatenate([np.arange(len(run.right)) for run in runs])
    each = [compare_right(a.right, b.right, reference="head") for a, b in zip(runs, reference, strict=True)]
    pooled = compare_right(right, than, reference="head", groups=pictures)
    print(f"{name}: {pooled.sentence}, p {pooled.p_value:.2g}, seeds pooled by picture")
    for number, one in enumerate(each, start=1):
        print(f"    run {number}: {one.sentence}, p {one.p_value:.2g}")


def _is_read(data: Path, file: Path) -> bool:
    """Whether training looks at it: not what labels.csv marks as test."""
    table = data / "labels.csv"
    if not table.is_file():
        return True
    with table.open(newline="") as rows:
        marked = {row["path"] for row in csv.DictReader(rows) if row["split"] == "test"}
    return file.relative_to(data).as_posix() not in marked


def _empty(cache: Path) -> None:
    """Leave the exported trunk alone."""
    for path in cache.iterdir() if cache.is_dir() else ():
        if path.name != "trunks":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _call(cache: Path, *args: str) -> tuple[float, int, dict[str, Any]]:
    """(seconds, peak resident bytes, what it printed)."""
    out, peak = cache.parent / "out.json", cache.parent / "peak"
    begun = time.perf_counter()
    with out.open("w") as stdout:
        subprocess.run(
            [sys.executable, "-c", _WATCH, str(peak), *_DRIVETRAIN, *args],
            env=os.environ | {"DRIVETRAIN_CACHE_DIR": str(cache)},
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    seconds = time.perf_counter() - begun
    return seconds, 1024 * int(peak.read_text()), json.loads(out.read_text())
