"""`check` and `undo` as a person and a machine meet them; what is found is tried in tests/flows/test_check.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.cli.main import main
from drivetrain.data.items import read_items

ODD = "[red]cup\x1b[31m"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of five noisy pictures; one picture in both, one file that is none."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("cup", "[red]plate"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(5):
            noise = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
            picture = Image.fromarray(noise).resize((240, 180), Image.Resampling.BICUBIC)
            picture.save(tmp_path / "data" / name / f"{number}.png")
    shutil.copy(tmp_path / "data/cup/0.png", tmp_path / "data/[red]plate/0.png")
    (tmp_path / "data/cup/page.png").write_text("<!doctype html>")
    return tmp_path / "data"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(argv))
        assert isinstance(ended.value.code, int)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


Run = Callable[..., tuple[int, str, str]]


def test_check_in_text(data: Path, run: Run) -> None:
    code, out, err = run("check", "data")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["class", "pictures"]
    assert any(line.split()[:2] == ["[red]plate", "5"] for line in lines)
    assert any(line.rstrip() == "error    1 file cannot be read." for line in lines)
    assert "         [red]plate/0.png = cup/0.png" in lines
    assert any(line.startswith("next     Decide which class is right") for line in lines)
    assert any(line.startswith("10 readable pictures: 2 errors, ") for line in lines)
    assert "datasheet.md: 8 questions open (Motivation" in out
    assert lines[-2:] == [
        "page    check.html",
        "next    drivetrain check data --quarantine   (leaves out 3, to undo at will)",
    ]
    assert all(len(line) <= 80 for line in lines)
    assert "Looking at pictures" in err
    assert "<title>data: check</title>" in Path("check.html").read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["check.html", "data"]


def test_check_json_is_alone_on_stdout(data: Path, run: Run) -> None:
    code, out, _ = run("check", "data", "--json", "--html", "out/c.html", "--threads", "1", "--no-datasheet")
    plain = json.loads(out)
    assert code == 0
    assert (plain["n_errors"], plain["n_pictures"], plain["page"]) == (2, 10, "out/c.html")
    assert Path("out/c.html").is_file()
    assert not (data / "datasheet.md").exists()
    assert not Path("check.html").exists()
    assert plain["open_questions"][0] == "Motivation"


def test_strict_fails_where_there_is_an_error(data: Path, run: Run) -> None:
    assert run("check", "data", "--strict", "--no-html")[0] == 1
    assert not Path("check.html").exists()
    assert run("check", "data", "--quarantine", "--no-html", "--strict")[0] == 1
    assert run("check", "data", "--no-html", "--strict", "--json")[0] == 1  # four pictures of a class are too few
    Image.new("RGB", (200, 200), "teal").save(data / "cup/5.png")
    Image.new("RGB", (200, 200), "gold").save(data / "[red]plate/5.png")
    assert run("check", "data", "--no-html", "--strict")[0] == 0


def test_quarantine_and_undo(data: Path, run: Run) -> None:
    code, out, _ = run("check", "data", "--quarantine", "--by", "ann", "--no-html")
    assert code == 0
    edits, after = out.splitlines()[-2:]
    batch = edits.rpartition(" ")[2]
    assert edits == f"edits   3 left out, batch {batch}"
    assert after == f"next    drivetrain undo data --batch {batch}   (takes that back)"
    assert len(read_items(data)) == 8
    code, out, _ = run("undo", "data", "--list")
    assert out.splitlines()[1].split()[0] == batch
    assert "ann  3 quarantine" in out
    code, out, _ = run("undo", "data", "--path", "cup/0.png", "--by", "bo")
    lines = out.splitlines()
    assert lines[:2] == ["  cup/0.png: back in", "Taken back: 1 edit; still in force: 2."]
    redo = lines[2].split()[5]
    assert lines[2] == f"next    drivetrain undo data --batch {redo}   (does them again)"
    code, out, _ = run("undo", "data", "--batch", redo, "--json")
    assert json.loads(out)["in_force"] == 3
    code, out, _ = run("undo", "data", "--all", "--json")
    assert (code, json.loads(out)["in_force"], len(json.loads(out)["undone"])) == (0, 0, 3)
    assert len(read_items(data)) == 11
    code, out, _ = run("undo", "data", "--list", "--json")
    assert [row["by"] for row in json.loads(out)["batches"]][:2] == ["ann", "bo"]
    code, out, err = run("undo", "data")
    assert (code, out) == (1, "")
    assert "want an edit that holds" in err


def test_a_folder_without_edits(data: Path, run: Run) -> None:
    assert run("undo", "data", "--list")[:2] == (0, "No edit was made here.\n")


def test_names_cannot_steer_the_terminal(data: Path, run: Run) -> None:
    (data / "cup").rename(data / ODD.replace("\x1b", "-"))
    (data / "labels.csv").write_text(f"path,label\n{ODD.replace(chr(27), '-')}/0.png,cup :smile:\n[red]plate/1.png,x\n")
    _, out, _ = run("check", "data", "--no-html")
    assert "cup :smile:" in out
    assert "\x1b" not in out


def test_a_torn_group_is_not_shown_as_copies(data: Path, run: Run) -> None:
    rows = [f"cup/{n}.png,cup,{'ann' if n < 2 else ''},{'test' if n == 0 else 'train'}" for n in range(5)]
    (data / "labels.csv").write_text("path,label,group,split\n" + "\n".join(rows) + "\n")
    _, out, _ = run("check", "data", "--no-html")
    assert "error    1 group stands on both sides of the split: 'ann'." in out
    assert "         cup/1.png and cup/0.png" in out
