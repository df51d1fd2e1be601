"""The verbs on real pictures, in this process and as a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drivetrain.bundle.archive import read_bundle
from drivetrain.flows.train import TrainResult

from .runner import run

PictureFolder = Callable[..., Path]
ODD = "[red]x[/red] :smile:"


def run_process(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "utf8", "-m", "drivetrain", *map(str, argv)]
    return subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=120, check=False)


@pytest.fixture(scope="module")
def odd_data(picture_folder: PictureFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, one with a name that looks like markup, in a folder whose path is longer than a line."""
    root = picture_folder(
        ("circle", "square"), per_class=8, seed=11, root=tmp_path_factory.mktemp("a" * 60) / ("b" * 60)
    )
    rows = [f"{file.relative_to(root).as_posix()},{name}" for name, file in _named(root)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return root


def _named(root: Path) -> list[tuple[str, Path]]:
    return [(ODD if file.parent.name == "circle" else "square", file) for file in sorted(root.rglob("*.png"))]


def test_train_and_evaluate_in_text(odd_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = odd_data / "circle" / "cut short.png"
    broken.write_bytes(b"\x89PNG")
    table = odd_data / "labels.csv"
    table.write_text(table.read_text() + f"\ncircle/cut short.png,{ODD}")
    model = tmp_path / ("m" * 60) / "odd model.dt"
    assert run("train", odd_data, "-o", model, "--size", "96") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert any(line.startswith(ODD) and line.split()[2:4] == ["2", "100.0"] for line in lines)
    assert "Could not be read and were left out, none deleted: 1" in lines
    assert any(line.startswith("  circle/cut short.png: ") for line in lines)
    assert any(line.startswith("accuracy 100.0 % of 4 held-out pictures (95 % interval") for line in lines)
    assert any(line.startswith("No promise: 2 pictures kept apart") for line in lines)
    assert any(line.startswith("note  Left out, because they could not be read: 1 file") for line in lines)
    assert "(16 pictures decoded and run, 0 taken from the cache)" in lines
    version = read_bundle(model).version
    assert lines[-4:] == [
        f"model   {model}   ({version})",
        f"report  {model.parent / 'report.html'}",
        f"next    drivetrain predict '{model}' PICTURE",
        f"        drivetrain serve '{model}'",
    ]
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)
    assert "Reading pictures" in err
    assert "Reading pictures" not in out

    assert run("evaluate", model, odd_data) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert any(line.startswith(ODD) for line in lines)
    assert any(line.startswith("accuracy 100.0 % of 16 pictures, 12 of which") for line in lines)
    for label in ("decided alone", "left to a person", "calibration (ECE)", "note  12 of 16 pictures trained it"):
        assert any(line.startswith(label) for line in lines), label
    assert lines[-1] == f"model {version}"
    assert all(len(line) <= 80 for line in lines)
    assert "Predicting" in err

    assert run("predict", model, odd_data / "circle" / "circle-000.png") == 0
    assert f": {ODD} " in capsys.readouterr().out


def test_train_json_is_alone_on_stdout_and_options_reach_the_model(
    picture_folder: PictureFolder, tmp_path: Path
) -> None:
    data = picture_folder(("circle", "square"), per_class=10, seed=12, root=tmp_path / "data")
    options = "--size 96 --resize pad --valid 0.4 --seed 5 --max-error 0.1 --fixtures synthetic --threads 1 --json"
    done = run_process(
        "train", "data", "--out", "m.dt", *options.split(), "--method", "head", "--backbone", "efficientnet_lite0",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert (plain["bundle"], plain["report"]) == ("m.dt", "report.html")
    assert (plain["n_train"], plain["n_valid"], plain["n_computed"]) == (12, 8, 20)
    manifest = read_bundle(tmp_path / "m.dt").manifest
    assert plain["digest"] == manifest.digest
    assert manifest.lineage["seed"] == 5
    assert manifest.decision["promise"]["max_error"] == 0.1
    assert "pad" in [op["op"] for op in manifest.preprocess]
    assert data.exists()


def test_evaluate_json(trained: TrainResult, picture_folder: PictureFolder, tmp_path: Path) -> None:
    picture_folder(per_class=2, seed=9, root=tmp_path / "data")
    done = run_process("evaluate", trained.bundle, "data", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    plain = json.loads(done.stdout)
    assert (plain["version"], plain["n"], len(plain["predictions"])) == (trained.version, 6, 6)


def test_predict_answers_a_line_for_each_picture(
    trained: TrainResult, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    folder = picture_folder(per_class=1, seed=9, root=tmp_path / "new")
    (folder / ".hidden").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "b\u00e4r\n.png")
    (folder / "square" / "cut.png").write_bytes(b"\x89PNG")
    argv = ["predict", trained.bundle, "new", "b\u00e4r\n.png", "gone.jpg", "new/.hidden"]
    done = run_process(*argv, cwd=tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "new/circle/circle-000.png",
        "new/square/square-000.png",
        "new/stripes/stripes-000.png",
        "b\u00e4r\\n.png",
    ]
    assert lines[0].startswith("new/circle/circle-000.png: circle 9")
    assert lines[0].count(" %") == 1
    assert "  a person should look (unknown, unlike anything it was trained on" in lines[3]
    errors = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in errors] == ["new/square/cut.png", "gone.jpg", "new/.hidden"]
    assert errors[1:] == ["gone.jpg: no such file", "new/.hidden: a folder without a picture"]

    done = run_process(*argv, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    rows: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["path"], row.get("error", {}).get("code")) for row in rows] == [
        ("new/circle/circle-000.png", None),
        ("new/square/cut.png", "unreadable_picture"),
        ("new/square/square-000.png", None),
        ("new/stripes/stripes-000.png", None),
        ("b\u00e4r\n.png", None),
        ("gone.jpg", "not_found"),
        ("new/.hidden", "not_found"),
    ]
    assert rows[0].keys() == {
        "path", "label", "probability", "probabilities", "label_set", "ood_score", "ood_p_value",
        "shift_p_value", "shifted_by", "decision", "reasons", "version",
    }  # fmt: skip
    assert rows[0]["version"] == trained.version

    done = run_process("predict", trained.bundle, "new/circle/circle-000.png", "--threads", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{lines[0]}\n")


@pytest.mark.slow
def test_demo_end_to_end(tmp_path: Path) -> None:
    done = run_process("demo", "--no-serve", "--dir", "here", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert plain["evaluation"]["accuracy"] > 0.85
    assert (plain["n_train"] + plain["n_valid"], len(plain["unreadable"])) == (1797, 0)
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "check.html",
        "digits",
        "digits.dt",
        "report.html",
    ]
    assert [found["code"] for found in plain["check"]["findings"] if found["severity"] != "note"] == [
        "mirror_features",
        "mirror_names",
    ]
    again = run_process("demo", "--no-serve", "--dir", "here", cwd=tmp_path)
    assert "(0 pictures decoded and run, 1,797 taken from the cache)" in again.stdout
    assert f"({plain['version']})" in again.stdout


@pytest.mark.parametrize("verb", ["train", "check"])
def test_the_cache_goes_where_it_is_told(
    verb: str, picture_folder: PictureFolder, shared_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = picture_folder(("circle", "square"), per_class=8, seed=12, root=tmp_path / "data")
    there, not_there = tmp_path / "there", tmp_path / "not there"
    there.mkdir()
    (there / "trunks").symlink_to(shared_cache / "trunks", target_is_directory=True)
    monkeypatch.setenv("DRIVETRAIN_CACHE_DIR", str(not_there))
    rest = ["-o", tmp_path / "m.dt", "--size", "96"] if verb == "train" else ["--no-html"]
    assert run(verb, data, "--cache-dir", there, *rest) == 0
    assert (there / "features.sqlite").is_file()
    assert not not_there.exists()
