"""docs/data.md: its examples run, what they print is what it says, and its figures are those the script draws."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "data.md").read_text("utf-8")
FENCED = re.findall(r"^```(python|text)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
BLOCKS = [text for kind, text in FENCED if kind == "python"]
OUTPUTS = [text for kind, text in FENCED if kind == "text"]


@pytest.fixture
def draw_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    return importlib.import_module("draw_data")


@pytest.fixture
def bears(draw_data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page names: bears/, bears.csv and pets/."""
    folder: Path = draw_data.make_bears(tmp_path / "bears")
    with (tmp_path / "bears.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "kind", "is_valid", "tags", "kg"])
        told = {"black": ("dark", 120.5), "grizzly": ("brown dark", 300), "teddy": ("brown toy", 0.4)}
        for number, picture in enumerate(sorted(folder.rglob("*.jpg"))):
            kind = picture.parent.name
            table.writerow([picture.relative_to(folder).as_posix(), kind, number % 3 == 0, *told[kind]])
    (tmp_path / "pets").mkdir()
    for name in ("sam", "Tom"):
        for number in range(6):
            image = Image.new("RGB", (90, 70), (number * 20, 90, 120))
            image.save(tmp_path / "pets" / f"{name}_{number:03}.jpg")
    monkeypatch.chdir(tmp_path)
    return folder


def without_ranges(text: str) -> str:
    """Another decoder's pixels differ by one or two."""
    return re.sub(r"[\d.]+ to [\d.]+", "LOW to HIGH", text.strip())


def said_by(block: str) -> list[str]:
    """What the comments on and below its print() lines say."""
    lines = [line for line in block.splitlines() if line.startswith(("print(", "# "))]
    return [line.rsplit("  # ", 1)[-1].removeprefix("# ") for line in lines if "# " in line]


def test_the_examples_run_and_print_what_the_page_says(bears: Path) -> None:
    assert len(BLOCKS) == 15
    names: dict[str, object] = {}
    outputs = iter(OUTPUTS)
    n_said = 0
    for number, block in enumerate(BLOCKS):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, f"data.md, example {number + 1}", "exec"), names)  # one uses another's names
        if "summary(" in block:
            assert without_ranges(printed.getvalue()).endswith(without_ranges(next(outputs)))
        else:
            assert printed.getvalue().splitlines() == said_by(block)
            n_said += len(said_by(block))
    assert n_said == 9
    assert next(outputs, None) is None


def test_the_figures_are_there_and_shown(draw_data: ModuleType, tmp_path: Path) -> None:
    shown = re.findall(r"!\[[^\]]+\]\(pictures/([^)]+)\)", PAGE)
    assert sorted(shown) == sorted(draw_data.FIGURES)
    folder = draw_data.make_bears(tmp_path / "bears")
    for name in draw_data.FIGURES:
        drawn = draw_data.draw_figure(name, folder)
        with Image.open(DOCS / "pictures" / name) as kept:
            assert kept.size == drawn.size
            difference = np.abs(np.asarray(kept.convert("RGB")).astype(int) - np.asarray(drawn))
        assert difference.mean() < 4  # of 255: 256 colours, and another version's letters


def test_the_readme_s_data_block_runs(bears: Path) -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    (block,) = [
        text for text in re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE) if "DataBlock" in text
    ]
    names: dict[str, object] = {}
    exec(block, names)
    assert repr(names["dls"].vocab) == "('black', 'grizzly', 'teddy')"  # type: ignore[attr-defined]
