"""docs/training.md: its examples run, and print what it says."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path
from types import ModuleType

import pytest

from drivetrain.learn.fit_table import format_header

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "training.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def draw_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    return importlib.import_module("draw_data")


def said_by(block: str) -> list[str]:
    """What the comments on its print() lines say."""
    return [line.rsplit("  # ", 1)[-1] for line in block.splitlines() if line.startswith("print(")]


@pytest.mark.slow
def test_the_examples_run_and_print_what_the_page_says(
    draw_data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_data.make_bears(tmp_path / "bears")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    n_said = 0
    for number, block in enumerate(BLOCKS):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, f"training.md, example {number + 1}", "exec"), names)  # one uses another's names
        assert printed.getvalue().splitlines() == said_by(block)
        n_said += len(said_by(block))
    assert (len(BLOCKS), n_said) == (7, 10)
    assert "epoch" in capsys.readouterr().err
    assert (tmp_path / "models" / "good.safetensors").is_file()


def test_the_table_looks_as_the_page_shows() -> None:
    assert f"```text\n{format_header(('train_loss', 'valid_loss', 'error_rate'))}\n" in PAGE


def test_the_page_names_what_there_is() -> None:
    learner = importlib.import_module("drivetrain.learn.learner").Learner
    called = set(re.findall(r"learn\.(\w+)\(", PAGE))
    assert {"fine_tune", "fit_one_cycle", "predict", "save", "load", "to_bf16"} <= called
    assert all(hasattr(learner, name) for name in called)
