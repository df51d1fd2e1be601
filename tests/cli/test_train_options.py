"""The options of `drivetrain train` reach the run; those that mean nothing are refused; a killed run goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.bundle.archive import read_bundle
from drivetrain.flows.train import TrainResult

from .runner import run

PictureFolder = Callable[..., Path]
DEADLINE_S = 300.0
TOP = ["--method", "top", "--views", "1", "--batch", "8"]


@pytest.fixture(scope="module")
def shapes(picture_folder: PictureFolder) -> Path:
    return picture_folder(("circle", "square"), per_class=12)


def train(data: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert run("train", data, "-o", out / "m.dt", "--size", "96", "--json", *options) == 0
    plain: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plain


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--method", "head", "--epochs", "3"], "--epochs: got it with --method head, which is fitted in one go"),
        (["--method", "head", "--batch", "3"], "--batch: got it with --method head"),
        (["--method", "head", "--lr", "0.1"], "--lr: got it with --method head"),
        (["--method", "head", "--resume"], "--resume: got it with --method head"),
        (["--method", "full", "--views", "3"], "--views: got it with --method full"),
        (["--method", "tip"], "--method: got tip; want one of auto, head, top, full"),
        (["--class-weights", "even"], "--class-weights: got even; want balanced"),
        (["--epochs", "0"], "--epochs: got 0; want a whole number of at least 1"),
        (["--views", "-1"], "--views: got -1; want a whole number of at least 0"),
        (["--lr", "nan"], "--lr: got nan; want a number above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_means_nothing_is_refused(
    options: list[str], told: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", shapes, "-o", tmp_path / "m.dt", *options) == 2
    assert told in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_the_options_of_top_reach_it(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--views", "2", "--epochs", "1", "--batch", "7", "--lr", "0.002", "--class-weights", "balanced"]
    plain = train(shapes, tmp_path, capsys, "--method", "top", "--resume", *options)
    assert plain["method"] == "top"
    training = read_bundle(tmp_path / "m.dt").manifest.training
    assert {name: training["top"][name] for name in ("views", "epochs", "batch", "lr")} == {
        "views": 2,
        "epochs": 1,
        "batch": 7,
        "lr": 0.002,
    }
    assert training["class_weights"] == "balanced"
    assert "1 epochs over 2 views a picture" in (tmp_path / "report.html").read_text()


def test_the_options_of_head_reach_it(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = train(shapes, tmp_path, capsys, "--method", "head", "--views", "1", "--learning-curve")
    training = read_bundle(tmp_path / "m.dt").manifest.training
    assert training["views"] == 1
    assert read_bundle(tmp_path / "m.dt").manifest.name == "m"
    curve = plain["learning_curve"]
    assert any(curve["sentence"] in note for note in plain["notes"])
    page = (tmp_path / "report.html").read_text()
    without = train(shapes, tmp_path / "b", capsys, "--method", "head", "--views", "1", "--name", "shapes")
    assert read_bundle(tmp_path / "b" / "m.dt").manifest.name == "shapes"
    assert "learning_curve" not in without
    assert page.count("<svg") > (tmp_path / "b" / "report.html").read_text().count("<svg")


def test_auto_is_what_is_done_where_nothing_is_said(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", shapes, "-o", tmp_path / "m.dt", "--size", "96") == 0
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "auto chose head: 20 pictures to train on are too few to train more (200 are asked for)." in out
    assert read_bundle(tmp_path / "m.dt").manifest.training["asked"] == "auto"


# kills


def start(data: Path, out: Path, cache: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "drivetrain", "train", str(data), "-o", str(out / "m.dt")]
    return subprocess.Popen(
        [*command, "--size", "96", *TOP, *options],
        env=os.environ | {"DRIVETRAIN_CACHE_DIR": str(cache), "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], out: Path) -> tuple[str, str]:
    """(digest of what it made, what it said)."""
    told, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    return read_bundle(out / "m.dt").manifest.digest, re.sub(r"\s+", " ", told + err)


def kill_once(process: subprocess.Popen[str], is_time: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_time() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGKILL, err


@pytest.fixture
def cold(shared_cache: Path, trained: TrainResult, tmp_path: Path) -> Callable[[str], Path]:
    """A cache of a name that holds the trunk alone."""

    def make(name: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "trunks").symlink_to(shared_cache / "trunks", target_is_directory=True)
        return tmp_path / name

    return make


def test_a_run_that_is_killed_while_it_looks_is_gone_on_with(
    shapes: Path, cold: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = cold("broken")
    kill_once(
        start(shapes, tmp_path / "a", cache, "--epochs", "1"), lambda: bool(list(cache.glob("activations/*/done.npy")))
    )
    assert not (tmp_path / "a").exists()
    digest, told = finish(start(shapes, tmp_path / "a", cache, "--epochs", "1", "--resume"), tmp_path / "a")
    assert "(0 pictures decoded and run, 24 taken from the cache)" in told
    unbroken = train(shapes, tmp_path / "b", capsys, *TOP, "--epochs", "1", "--cache-dir", str(cold("unbroken")))
    assert digest == unbroken["digest"]  # of another process and another cache, too


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_trains_is_gone_on_with(
    shapes: Path, cold: Callable[[str], Path], tmp_path: Path
) -> None:
    long = ("--epochs", "500")  # longer than it takes until the first checkpoint
    cache = cold("broken")
    kill_once(start(shapes, tmp_path / "a", cache, *long), lambda: bool(list(cache.glob("fits/*.safetensors"))))
    digest, told = finish(start(shapes, tmp_path / "a", cache, *long, "--resume"), tmp_path / "a")
    assert re.search(r"resumed after [\d,]+ of 1,000 steps", told)
    unbroken, _ = finish(start(shapes, tmp_path / "b", cold("unbroken"), *long), tmp_path / "b")
    assert digest == unbroken
