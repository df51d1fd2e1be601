"""docs/metrics.md: its examples run and print what they say, and every metric has its row, and every row its metric."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from drivetrain.learn import metrics
from drivetrain.learn.callbacks import falls_when_better
from drivetrain.learn.metrics import metric_name

PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
NO_METRICS = {"Metric", "MetricLike", "check_metrics", "metric_name", "skm_to_metric"}
ROWS = re.findall(r"^\| `(\w+)` \| (.+?), (low|high) \|", PAGE, re.MULTILINE)


def test_the_examples_run_and_print_what_the_page_says() -> None:
    assert len(BLOCKS) == 5
    names: dict[str, object] = {}  # one block uses another's
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"metrics.md, example {number + 1}", "exec"), names)
    said = re.findall(r"^ *print\(.*\)  # (.+)$", "".join(BLOCKS), re.MULTILINE)
    assert len(said) == 13
    assert printed.getvalue().splitlines() == said


def test_every_metric_has_a_row() -> None:
    public = {getattr(metrics, name) for name in metrics.__all__ if name not in NO_METRICS}
    assert len(ROWS) == len(public)
    assert {getattr(metrics, name) for name, _, _ in ROWS} == public


def test_what_the_page_calls_better_is_what_callbacks_look_for() -> None:
    for name, _, best in ROWS:
        assert falls_when_better(metric_name(getattr(metrics, name))) == (best == "low"), name


def test_every_metric_that_is_recommended_is_there() -> None:
    rows = [line for line in PAGE.split("## Which one?")[1].split("\n## ")[0].splitlines() if line.startswith("| ")]
    wanted = re.findall(r"(\w+)(?=\(|`|,)", " ".join(re.findall(r"`([^`]+`)", " ".join(rows))))
    named = [word for word in wanted if word not in {"partial", "k"} and not word.isdigit()]
    assert len(named) >= 15
    assert [word for word in named if not hasattr(metrics, word)] == []
