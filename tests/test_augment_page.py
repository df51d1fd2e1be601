"""docs/augment.md: its examples run and print what they say, its figures are those the script draws."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from drivetrain.learn.augment import aug_transforms

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "augment.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    return importlib.import_module("draw_augment")


def test_the_examples_run_and_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 4
    names: dict[str, object] = {}  # one block uses another's
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"augment.md, example {number + 1}", "exec"), names)
    said = re.findall(r"^print\(.*\)  # (.+)$", "".join(BLOCKS), re.MULTILINE)
    assert len(said) == 3
    assert printed.getvalue().splitlines() == said


def test_the_figures_are_there_and_shown(script: ModuleType) -> None:
    shown = re.findall(r"!\[[^\]]+\]\(pictures/([^)]+)\.png\)", PAGE)
    assert sorted(shown) == sorted(script.FIGURES)
    for name, draw in script.FIGURES.items():
        with Image.open(DOCS / "pictures" / f"{name}.png") as kept:
            drawn = draw()
            assert kept.size == drawn.size
            difference = np.abs(np.asarray(kept.convert("RGB")).astype(int) - np.asarray(drawn))
            assert difference.mean() < 6  # of 255: 128 colours, and another version's letters


def test_every_argument_and_its_default_are_in_the_table() -> None:
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in PAGE.splitlines() if line.startswith("| `")]
    told: dict[str, str] = {}
    for cells in rows:
        arguments, defaults = re.findall(r"`(\w+)`", cells[0]), cells[1].split(", ")
        told |= dict(zip(arguments, defaults, strict=True))
    parameters = inspect.signature(aug_transforms).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert told.keys() == defaults.keys()
    for name, text in told.items():
        default = defaults[name]
        assert float(text) == default if isinstance(default, float) else text == str(default)
