"""A training that is stopped in the middle: nothing half-written, and the next one goes on from there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.flows.train import TrainResult

PictureFolder = Callable[..., Path]
PER_CLASS, DEADLINE_S = 350, 60.0


@pytest.fixture(scope="module")
def pictures(picture_folder: PictureFolder) -> Path:
    return picture_folder(("circle", "square"), per_class=PER_CLASS, suffix=".jpg")


def count_features(cache: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{cache / 'features.sqlite'}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(DISTINCT sha256) FROM feature").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_a_stopped_training_is_gone_on_with(
    how: signal.Signals, pictures: Path, trained: TrainResult, shared_cache: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "trunks").symlink_to(shared_cache / "trunks", target_is_directory=True)
    command = [sys.executable, "-m", "drivetrain", "train", str(pictures), "-o", "out/m.dt"]
    command += ["--size", "96", "--threads", "1", "--json"]
    environment = os.environ | {"DRIVETRAIN_CACHE_DIR": str(cache)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + DEADLINE_S
    while count_features(cache) == 0 and process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
    process.send_signal(how)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert out == ""
    if how == signal.SIGINT:
        assert err == "\nStopped. Nothing is half-written, and what was read stays in the cache.\n"
    kept = count_features(cache)
    assert 0 < kept < 2 * PER_CLASS
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]

    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert plain["n_computed"] == 2 * PER_CLASS - kept
    assert plain["n_train"] + plain["n_valid"] == 2 * PER_CLASS
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"m.dt", "report.html"}
