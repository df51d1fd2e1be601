"""What the policies of labels and values make of logits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from drivetrain.runtime.decision import LabelPolicy, ValuePolicy
from drivetrain.runtime.prediction import MultiLabelPrediction, ValuePrediction

ARRAYS = {"ood_known": np.eye(2), "ood_calibration": np.linspace(0, 1, 99)}
OOD = {"k": 1, "flag_at": 0.05}
KNOWN, STRANGE = np.array([1.0, 0.0]), np.array([-1.0, -1.0])
RULES = [
    {"temperature": 1.0, "threshold": 0.4, "present_above": 0.8, "absent_below": 0.2},
    {"temperature": 2.0, "threshold": 0.5, "present_above": 0.9, "absent_below": 0.1},
]


def labels(p: tuple[float, float], frozen: np.ndarray = KNOWN) -> MultiLabelPrediction:
    policy = LabelPolicy({"labels": RULES, "ood": OOD}, ARRAYS, feature_count=2, output_count=2)
    odds = np.log(np.array(p)) - np.log1p(-np.array(p))
    return policy.decide(odds * (1.0, 2.0), frozen, ("cat", "dog"), "m@1")


def values(numbers: list[float], widths: list[float | None], frozen: np.ndarray = KNOWN) -> ValuePrediction:
    policy = ValuePolicy(
        {"interval": {"half_widths": widths}, "ood": OOD}, ARRAYS, feature_count=2, output_count=len(widths)
    )
    names = ("value",) if len(widths) == 1 else tuple(f"value {at}" for at in range(1, len(widths) + 1))
    return policy.decide(np.array(numbers, np.float32), frozen, names, "m@1")


def test_probabilities_are_cooled_label_by_label() -> None:
    assert labels((0.7, 0.3)).probabilities == pytest.approx({"cat": 0.7, "dog": 0.3})


@pytest.mark.parametrize(
    ("p", "guess", "decisions", "is_alone"),
    [
        ((0.85, 0.05), ("cat",), ("present", "absent"), True),
        ((0.85, 0.95), ("dog", "cat"), ("present", "present"), True),
        ((0.01, 0.02), (), ("absent", "absent"), True),
        ((0.45, 0.45), ("cat",), ("defer", "defer"), False),
        ((0.85, 0.85), ("cat", "dog"), ("present", "defer"), False),
        ((0.15, 0.15), (), ("absent", "defer"), False),
    ],
)
def test_each_label_is_decided_by_itself(
    p: tuple[float, float], guess: tuple[str, ...], decisions: tuple[str, str], is_alone: bool
) -> None:
    answer = labels(p)
    assert set(answer.labels) == set(guess)
    assert list(answer.labels) == sorted(answer.labels, key=lambda name: -answer.probabilities[name])
    assert answer.decisions == dict(zip(("cat", "dog"), decisions, strict=True))
    assert answer.decision == ("accept" if is_alone else "defer")
    assert answer.reasons == (() if is_alone else ("low_confidence",))
    assert answer.open_labels == tuple(name for name, one in answer.decisions.items() if one == "defer")


def test_of_an_unknown_picture_no_label_is_decided() -> None:
    answer = labels((0.99, 0.01), STRANGE)
    assert (answer.decision, answer.reasons, answer.labels) == ("defer", ("unknown",), ("cat",))
    assert set(answer.decisions.values()) == {"defer"}
    assert labels((0.99, 0.5), STRANGE).reasons == ("unknown", "low_confidence")


def test_labels_as_json() -> None:
    plain = labels((0.85, 0.85)).as_json()
    assert list(plain) == [
        "labels", "probabilities", "decisions", "ood_score", "ood_p_value", "decision", "reasons", "version",
    ]  # fmt: skip
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["labels"], plain["reasons"], plain["version"]) == (["cat", "dog"], ["low_confidence"], "m@1")


def test_a_value_and_its_interval() -> None:
    answer = values([7.5], [2.0])
    assert (answer.value, answer.interval, answer.decision, answer.reasons) == (7.5, (5.5, 9.5), "accept", ())
    assert (answer.values, answer.intervals) == ({"value": 7.5}, {"value": (5.5, 9.5)})
    unknown = values([7.5], [2.0], STRANGE)
    assert (unknown.value, unknown.decision, unknown.reasons) == (7.5, "defer", ("unknown",))


def test_several_values() -> None:
    answer = values([1.0, -2.0], [0.5, None])
    assert (answer.value, answer.interval) == (1.0, (0.5, 1.5))
    assert answer.values == {"value 1": 1.0, "value 2": -2.0}
    assert answer.intervals == {"value 1": (0.5, 1.5), "value 2": None}


def test_values_as_json() -> None:
    plain = values([1.0, -2.0], [None, 1.0]).as_json()
    assert list(plain) == [
        "value", "interval", "values", "intervals", "ood_score", "ood_p_value", "decision", "reasons", "version",
    ]  # fmt: skip
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["interval"], plain["intervals"]) == (None, {"value 1": None, "value 2": [-3.0, -1.0]})


def test_stored_answers_bear_their_id() -> None:
    from dataclasses import replace

    for answer in (labels((0.5, 0.5)), values([1.0], [None])):
        assert "prediction_id" not in answer.as_json()
        assert replace(answer, prediction_id="p-1").as_json()["prediction_id"] == "p-1"
