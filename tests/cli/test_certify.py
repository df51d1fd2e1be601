"""`drivetrain certify`: options, text, JSON, exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.bundle.archive import read_bundle
from drivetrain.flows.train import TrainResult

from .runner import run

PictureFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def labelled(picture_folder: PictureFolder) -> Path:
    return picture_folder(per_class=40, seed=31)


def test_in_text(trained: TrainResult, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = labelled / "circle" / "cut short.png"
    broken.write_bytes(b"\x89PNG")
    out = tmp_path / "new model.dt"
    assert run("certify", trained.bundle, labelled, "-o", out, "--max-error", "0.1", "--threads", "1") == 0
    text, err = capsys.readouterr()
    broken.unlink()
    told = re.sub(r"\s+", " ", text)
    new = read_bundle(out)
    assert f"now: {new.manifest.decision['statement']}" in told
    assert f"before: {read_bundle(trained.bundle).manifest.decision['statement']}" in told
    assert "circle/cut short.png: " in told
    assert f"({new.version}, from {trained.version})" in told
    assert f"drivetrain evaluate '{out}' OTHERS" in text
    assert "Asking the model" in err
    assert all(len(line) <= 80 for line in text.splitlines() if str(tmp_path) not in line)


def test_json_is_alone_on_stdout_and_options_reach_the_model(
    trained: TrainResult, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.dt"
    options = ["--max-error", "0.1", "--max-defer", "0.5", "--per-class", "--ood-alpha", "0.1", "--json"]
    assert run("certify", trained.bundle, labelled, "--out", out, *options) == 0
    plain = json.loads(capsys.readouterr().out)
    manifest = read_bundle(out).manifest
    assert (plain["bundle"], plain["digest"], plain["n"]) == (str(out), manifest.digest, 120)
    assert manifest.decision["policy"] == {"max_error": 0.1, "max_defer": 0.5, "per_class": True, "ood_alpha": 0.1}
    assert run("certify", out, labelled, "-o", tmp_path / "c.dt", "--cost-error", "9", "--cost-review", "2") == 0
    policy = read_bundle(tmp_path / "c.dt").manifest.decision["policy"]
    assert (policy["cost_error"], policy["cost_review"]) == (9, 2)


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--max-error", "2"], 2, "--max-error: got 2.0"),
        (["--cost-error", "2"], 2, "--cost-error: got it alone"),
        (["--max-error", "0.001"], 1, "want 5,990 at least"),
        (["--colour"], 2, "No such option"),
    ],
)
def test_exit_codes(
    options: list[str], code: int, told: str, trained: TrainResult, labelled: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run("certify", trained.bundle, labelled, "-o", tmp_path / "m.dt", *options) == code
    assert told in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_there(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("certify", tmp_path / "none.dt", labelled, "-o", tmp_path / "m.dt", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_found"


def test_train_takes_the_same_options(
    picture_folder: PictureFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = picture_folder(("circle", "square"), per_class=12)
    common = ["train", data, "--size", "96", "--method", "head", "--json", "-o"]
    promise = ["--max-error", "0.2", "--max-defer", "0.4", "--per-class", "--ood-alpha", "0.1"]
    assert run(*common, tmp_path / "a.dt", *promise) == 0
    policy = read_bundle(tmp_path / "a.dt").manifest.decision["policy"]
    assert policy == {"max_error": 0.2, "max_defer": 0.4, "per_class": True, "ood_alpha": 0.1}
    assert run(*common, tmp_path / "b.dt", "--cost-error", "50", "--cost-review", "1") == 0
    assert read_bundle(tmp_path / "b.dt").manifest.decision["rule"] == "cost"
    capsys.readouterr()
    assert run(*common, tmp_path / "c.dt", "--cost-error", "50") == 2
