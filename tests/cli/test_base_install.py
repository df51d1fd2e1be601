"""What `pip install drivetrain` without extras can do: everything but train."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.flows.train import TrainResult

# Only the extra `train` brings these; here they are as absent as they are in a base install.
BLOCKED = ("torch", "onnx", "onnxscript", "safetensors", "sklearn", "threadpoolctl")
RUN = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from drivetrain.cli.main import main
main(sys.argv[1:])
"""


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", RUN, *args], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def pictures(picture_folder: Callable[..., Path]) -> Path:
    return picture_folder(per_class=2, seed=3)


@pytest.mark.parametrize("as_json", [True, False])
def test_evaluates(trained: TrainResult, pictures: Path, as_json: bool) -> None:
    done = run("evaluate", str(trained.bundle), str(pictures), *(["--json"] if as_json else []))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 6 if as_json else "accuracy" in done.stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_predicts(trained: TrainResult, pictures: Path, as_json: bool) -> None:
    done = run("predict", str(trained.bundle), str(pictures), *(["--json"] if as_json else []))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6


def test_has_what_serving_takes() -> None:
    script = RUN.replace(
        "from drivetrain.cli.main import main\nmain(sys.argv[1:])",
        "import drivetrain.serve.server, drivetrain.serve.app",
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("verb", [("train", "FOLDER", "-o", "x.dt"), ("demo", "--no-serve")])
def test_says_which_extra_training_takes(verb: tuple[str, ...], pictures: Path, tmp_path: Path) -> None:
    args = [str(pictures) if arg == "FOLDER" else arg for arg in verb]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *args], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 1
    assert f"error: `drivetrain {verb[0]}`: got no package" in done.stderr
    assert "pip install 'drivetrain[train]'" in done.stderr
    assert list(tmp_path.iterdir()) == []
