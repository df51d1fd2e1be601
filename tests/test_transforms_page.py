"""docs/transforms.md: its examples run, what they print is what it says, and its figures are those the script draws."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "transforms.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    return importlib.import_module("draw"), importlib.import_module("draw_transforms")


def test_the_examples_run_and_print_what_the_page_says(
    scripts: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts[0].draw_scene(2, "grizzly").save(tmp_path / "bear.jpg")
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 5
    names: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, block in enumerate(BLOCKS):
            exec(
                compile(block, f"transforms.md, example {number + 1}", "exec"), names
            )  # one block uses another's names
    lines = printed.getvalue().splitlines()
    assert lines[:5] == ["(480, 320)"] + ["(160, 160)"] * 4
    said = " ".join(line.removeprefix("#").strip() for line in BLOCKS[1].splitlines() if line.startswith("#"))
    assert lines[5:] == [said]


def test_the_figures_are_there_and_shown(scripts: tuple[ModuleType, ModuleType]) -> None:
    shown = set(re.findall(r"!\[[^\]]+\]\(pictures/([^)]+)\)", PAGE))
    assert shown == set(scripts[1].FIGURES)
    for name, draw in scripts[1].FIGURES.items():
        with Image.open(DOCS / "pictures" / name) as kept:
            drawn = draw()
            assert kept.size == drawn.size
            difference = np.abs(np.asarray(kept.convert("RGB")).astype(int) - np.asarray(drawn))
            assert difference.mean() < 4  # of 255: 256 colours, and another version's letters


def test_a_scene_is_the_same_for_the_same_seed(scripts: tuple[ModuleType, ModuleType]) -> None:
    draw = scripts[0]
    made = {(seed, kind): draw.draw_scene(seed, kind).tobytes() for seed in (0, 1) for kind in draw.KINDS}
    assert len(set(made.values())) == len(made) == 6
    assert draw.draw_scene(1, "teddy").tobytes() == made[1, "teddy"]
    assert draw.draw_scene(0, "black", size=(120, 80)).size == (120, 80)
