"""The report and the model card of models of labels and of values."""

from __future__ import annotations

import datetime
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.data.side_counts import SideCounts, ValueRange
from drivetrain.errors import InvalidInput
from drivetrain.flows.evaluate import evaluate_answers, interpret_answers
from drivetrain.flows.illustrate import load_thumbnails
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.inspect.interpretation import LabelInterpretation, ValueInterpretation
from drivetrain.inspect.model_card import ModelCard, write_model_card
from drivetrain.inspect.report import Report, render_report
from drivetrain.inspect.report_values import number
from drivetrain.task import Task

from .forge import CLASSES, fit, open_tiny, sides, write_data

HOSTILE = "<img src=x onerror=alert(1)>"
NOON = datetime.datetime(2026, 5, 3, 12, tzinfo=datetime.UTC)


def thumbnail() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), "teal").save(out, "JPEG")
    return out.getvalue()


def report_of(task: Task, *, n: int = 80, names: tuple[str, ...] | None = None, **changes: Any) -> Report:
    classes = names or CLASSES[task]
    made = fit(task)
    features, targets, logits = sides(task, n, seed=9)
    answers = [open_tiny(task, made).decide(*one, classes, "") for one in zip(logits, features, strict=True)]
    paths = [f"{at:03}.png" for at in range(n)]
    parts: dict[str, Any] = {
        "name": "tiny",
        "created_at": NOON,
        "evaluation": evaluate_answers(answers, targets, classes),
        "interpretation": interpret_answers(answers, targets, paths=paths, classes=classes),
        "policy_statement": made.promise.statement,
        "root": "/data",
        "thumbnails": {path: thumbnail() for path in paths},
    }
    return Report(**(parts | changes))


def test_the_report_of_labels() -> None:
    report = report_of("multilabel", notes=["a <b>note</b>"], unreadable=[("x.jpg", "cut short")])
    page = render_report(report).replace("\N{NO-BREAK SPACE}", " ")
    told = report.evaluation
    assert f"<strong>{100 * told.exact:.1f} %</strong> of 80" in page
    assert "with every label right" in page
    assert "for each label and answer by itself" in page
    for row in told.per_label:
        assert f'<th scope="row">{row.label}</th>' in page
    missed = [name for row in told.per_label for name in (f"missed on {_missed(report, row.label)} of {row.n}",)]
    assert all(words in page for words in missed if not words.startswith("missed on 0"))
    assert "a &lt;b&gt;note" in page
    assert "cut short" in page
    assert 'data-full="/data/0' in page
    assert page.count("data:image/jpeg;base64,") >= 10


def _missed(report: Report, label: str) -> int:
    shown = report.interpretation
    assert isinstance(shown, LabelInterpretation)
    return len(shown.find_wrong(shown.classes.index(label), missed=True, k=1000))


def test_the_report_of_values() -> None:
    report = report_of("regression")
    page = render_report(report).replace("\N{NO-BREAK SPACE}", " ")
    [row] = report.evaluation.per_value
    assert f"<strong>{number(row.mae)}</strong> off on average" in page
    assert page.count('<circle class="dot"') == 80
    assert page.count('<polygon class="band"') == 1
    assert f"said {number(float(report.interpretation.values[0, 0]))}, in truth" in page
    assert "truth within its interval" in page
    assert "The interval is as wide for every picture" in page
    assert "off by" in page


def test_a_report_without_intervals_or_pictures() -> None:
    report = report_of("regression", thumbnails={})
    shown = report.interpretation
    assert isinstance(shown, ValueInterpretation)
    bare = replace(report, evaluation=_without_intervals(report))
    page = render_report(bare)
    assert "The band is its interval" not in page
    assert "truth within its interval" not in page
    assert "data:image" not in page
    assert "no preview" not in page


def _without_intervals(report: Report) -> Any:
    rows = [replace(row, covered=None, interval_width=None) for row in report.evaluation.per_value]
    return replace(report.evaluation, per_value=tuple(rows))


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_names_of_others_are_escaped(task: Task) -> None:
    names = (HOSTILE, "b")[: len(CLASSES[task])]
    page = render_report(report_of(task, names=names, name=HOSTILE))
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_an_interpretation_of_another_task_is_refused() -> None:
    labels, values = report_of("multilabel"), report_of("regression")
    with pytest.raises(InvalidInput, match="got ValueInterpretation; want LabelInterpretation, as the evaluation is"):
        replace(labels, interpretation=values.interpretation)


def test_the_largest_losses_come_first() -> None:
    labels = report_of("multilabel").interpretation.top_losses()
    assert len(labels) == 80
    assert [row.loss for row in labels] == sorted((row.loss for row in labels), reverse=True)
    assert labels[0].label != labels[0].prediction
    values = report_of("regression").interpretation.top_losses(5)
    assert [row.loss for row in values] == sorted((row.loss for row in values), reverse=True)
    assert len(values) == 5
    assert abs(float(values[0].label) - float(values[0].prediction)) == pytest.approx(values[0].loss, abs=0.02)
    with pytest.raises(InvalidInput, match="k: got -1"):
        report_of("regression").interpretation.top_losses(-1)


def test_of_several_values_the_one_furthest_off_counts() -> None:
    truth = np.array([[0.0, 0.0], [1.0, 1000.0], [2.0, 2000.0]])
    said = truth + np.array([[0.0, 0.0], [0.0, 100.0], [1.0, 0.0]])
    shown = ValueInterpretation(values=said, targets=truth, intervals=None, paths=["a", "b", "c"], classes=["x", "y"])
    assert [(row.path, row.loss) for row in shown.top_losses()] == [("c", 1.0), ("b", 100.0), ("a", 0.0)]


@pytest.mark.parametrize("changes", [{"paths": ["a"]}, {"targets": np.zeros((3, 1))}, {"classes": ["x"]}])
def test_shapes_that_do_not_fit(changes: dict[str, Any]) -> None:
    parts = {
        "values": np.zeros((3, 2)),
        "targets": np.zeros((3, 2)),
        "intervals": None,
        "paths": ["a", "b", "c"],
        "classes": ["x", "y"],
    }
    with pytest.raises(InvalidInput, match="shape"):
        ValueInterpretation(**{**parts, **changes})


def test_thumbnails_of_any_task(tmp_path: Path) -> None:
    for task in ("multilabel", "regression"):
        report = report_of(task, n=30)  # type: ignore[arg-type]
        write_data(tmp_path / task, task, 30)  # type: ignore[arg-type]
        made = load_thumbnails(report.interpretation, root=tmp_path / task, limits=DecodeLimits(), threads=2)
        assert set(made) >= {row.path for row in report.interpretation.top_losses(3)}


def test_numbers_have_four_digits_that_count() -> None:
    given = (1234.56, 12.3456, 0.00012346, -0.5, 0.0, 3.2e9, None)
    assert [number(value) for value in given] == ["1,235", "12.35", "0.0001235", "-0.5", "0", "3.2e+09", "–"]


def card(task: Task, counts: SideCounts) -> str:
    report = report_of(task)
    return write_model_card(
        ModelCard(
            name="tiny",
            evaluation=report.evaluation,
            policy_statement=report.policy_statement,
            backbone="none (free)",
            counts=counts,
        )
    )


def test_the_card_of_labels() -> None:
    counts = SideCounts(
        task="multilabel",
        pictures={"train": 10, "valid": 5},
        labels={"train": {"bright": 4, "red": 3}, "valid": {"bright": 2, "red": 0}},
    )
    text = card("multilabel", counts)
    assert "pipeline_tag: image-classification" in text
    assert "    - type: average_precision\n      value: 0.9" in text
    assert "Finds any of 2 labels in a picture, none to all of them: bright, red." in text
    assert "| red | 3 | 0 |\n| **all pictures** | 10 | 5 |" in text
    assert "got every label right" in text
    assert "It decided every label of " in text
    assert "It knows the labels above and no other" in text


def test_the_card_of_values() -> None:
    of = {"value": ValueRange(low=0, median=5, high=10000, spread=2.5)}
    counts = SideCounts(task="regression", pictures={"train": 10}, labels={"train": {}}, values={"train": of})
    text = card("regression", counts)
    assert "pipeline_tag" not in text
    assert "    - type: mae\n      value: 0.1" in text
    assert "Measures value of what a picture shows" in text
    assert "| train | value | 10 | 0 | 5 | 10,000 | 2.5 |" in text
    assert "**Off by 0." in text
    assert "classes" not in text
