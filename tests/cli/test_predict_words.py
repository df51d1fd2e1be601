"""What `predict` prints of a picture it does not decide: each reason by its name, and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.cli.predict import _print_answer
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction, Reason, ValuePrediction


def answer(*reasons: Reason, shifted_by: tuple[str, ...] = ()) -> Prediction:
    return Prediction(
        label="cat",
        probability=0.9,
        probabilities={"cat": 0.9, "dog": 0.1},
        label_set=("cat",),
        ood_score=1.0,
        ood_p_value=0.5,
        decision="defer" if reasons else "accept",
        reasons=reasons,
        shift_p_value=0.002 if shifted_by else None,
        shifted_by=shifted_by,
    )


def shifted_labels() -> MultiLabelPrediction:
    return MultiLabelPrediction(
        labels=("cat",),
        probabilities={"cat": 0.9},
        decisions={"cat": "defer"},
        ood_score=1.0,
        ood_p_value=0.5,
        decision="defer",
        reasons=("shifted",),
        shifted_by=("greyer",),
    )


def unsure_labels() -> MultiLabelPrediction:
    return MultiLabelPrediction(
        labels=("cat",),
        probabilities={"cat": 0.9, "dog": 0.4},
        decisions={"cat": "present", "dog": "defer"},
        ood_score=1.0,
        ood_p_value=0.5,
        decision="defer",
        reasons=("low_confidence",),
    )


def shifted_value() -> ValuePrediction:
    return ValuePrediction(
        value=2.5,
        interval=None,
        values={"age": 2.5},
        intervals={"age": None},
        ood_score=1.0,
        ood_p_value=0.5,
        decision="defer",
        reasons=("shifted",),
        shifted_by=("greyer",),
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (answer(), "cat 90.0 %"),
        (
            answer("low_confidence"),
            "cat 90.0 %  a person should look (low_confidence, not sure enough to decide by itself)",
        ),
        (answer("unknown"), "cat 90.0 %  a person should look (unknown, unlike anything it was trained on)"),
        (
            answer("shifted", shifted_by=("darker", "blurrier")),
            "cat 90.0 %  a person should look (shifted, the right kind of thing in a style it has not seen: "
            "darker and blurrier than the pictures it knows)",
        ),
        (
            answer("shifted", "low_confidence"),
            "cat 90.0 %  a person should look (shifted, the right kind of thing in a style it has not seen; "
            "low_confidence, not sure enough to decide by itself)",
        ),
        (
            answer("unknown", "shifted", shifted_by=("greyer",)),
            "cat 90.0 %  a person should look (unknown, unlike anything it was trained on; "
            "shifted, a style it has not seen: greyer than the pictures it knows)",
        ),
        (
            unsure_labels(),
            "cat 90.0 %  a person should look at dog (low_confidence, not sure enough to decide by itself)",
        ),
        (
            shifted_labels(),
            "cat 90.0 %  a person should look at cat (shifted, the right kind of thing in a style it has not seen: "
            "greyer than the pictures it knows)",
        ),
        (
            shifted_value(),
            "2.5  a person should look (shifted, the right kind of thing in a style it has not seen: "
            "greyer than the pictures it knows)",
        ),
    ],
)
def test_each_reason_is_told(given: Answer, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    _print_answer(Path("a.jpg"), given, as_json=False)
    assert capsys.readouterr().out == f"a.jpg: {told}\n"
