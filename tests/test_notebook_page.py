"""docs/notebook.md: its examples run one after the other, and print what the page says."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "notebook.md").read_text("utf-8")
FENCED = re.findall(r"^```(python|text)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
BLOCKS = [text for kind, text in FENCED if kind == "python"]


@pytest.fixture
def draw_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    return importlib.import_module("draw_data")


def test_the_examples_run_and_print_what_the_page_says(
    draw_data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(BLOCKS) == 5
    draw_data.make_bears(tmp_path / "bears", per_kind=16)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}  # one block uses another's
    printed, shown = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(shown):
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"notebook.md, example {number + 1}", "exec"), names)
    said = re.findall(r"^print\(.*\)  # (.+)$", "".join(BLOCKS), re.MULTILINE)
    assert len(said) == 6
    assert printed.getvalue().splitlines() == said
    tables = re.findall(r"^epoch .*time *\n(?:\d+ .*\n)+", shown.getvalue(), re.MULTILINE)
    assert len(tables) == 3  # the head, the top, the head again
    (told,) = [text for kind, text in FENCED if kind == "text"]
    assert told.splitlines()[0] == tables[0].splitlines()[0].rstrip()
    assert Path("bears.dt").is_file()


def test_the_table_of_methods_has_each_method_once() -> None:
    from drivetrain.learn.vision_learner import _METHODS

    assert tuple(re.findall(r'^\| `"(\w+)"` \|', PAGE, re.MULTILINE)) == _METHODS
