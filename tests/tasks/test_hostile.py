"""Bundles of labels and of values from a stranger: each new field is looked at before it is used."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import numpy as np
import pytest

from drivetrain.bundle.archive import parse_bundle
from drivetrain.bundle.fixtures import EXPECTED, measure_differences, read_spreads, unpack
from drivetrain.errors import BundleRefused
from drivetrain.flows.fixtures import perturb_preprocess
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.runtime.predictor import Predictor
from drivetrain.task import Task

from .forge import Parts, tiny_parts

BOTH: tuple[Task, ...] = ("multilabel", "regression")
ODD = [True, "0.5", None, [0.5], {"x": 1}, -1, 2**50, 1e300]


def load(parts: Parts) -> Predictor:
    return Predictor(parse_bundle(io.BytesIO(parts.archive())))


def refuse(parts: Parts) -> BundleRefused:
    with pytest.raises(BundleRefused) as caught:
        load(parts)
    return caught.value


def decision_with(parts: Parts, *keys: str | int, value: object) -> Parts:
    decision: Any = copy.deepcopy(parts.manifest["decision"])
    inner = decision
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return parts.changed(decision=decision)


@pytest.mark.parametrize("task", BOTH)
def test_an_honest_one_loads(task: Task) -> None:
    predictor = load(tiny_parts(task))
    assert predictor.task == task
    assert predictor.fixture_difference < 1e-6


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", ["temperature", "threshold", "present_above", "absent_below"])
def test_a_number_of_a_label_that_is_none(name: str, value: object) -> None:
    error = refuse(decision_with(tiny_parts("multilabel"), "labels", 1, name, value=value))
    assert (error.code, error.field) == ("bundle_manifest", f"manifest.decision.labels.{name}")


@pytest.mark.parametrize("value", [None, {}, [], "ab", [{}], [{}, {}, {}], [1, 2]])
def test_labels_that_are_no_rules(value: object) -> None:
    error = refuse(decision_with(tiny_parts("multilabel"), "labels", value=value))
    assert error.code == "bundle_manifest"
    assert error.field.startswith("manifest.decision.labels")


def test_a_label_cannot_be_present_and_absent_at_once() -> None:
    parts = decision_with(tiny_parts("multilabel"), "labels", 0, "present_above", value=0.4)
    error = refuse(decision_with(parts, "labels", 0, "absent_below", value=0.6))
    assert (error.code, error.got) == ("bundle_manifest", "a label both present and absent")


@pytest.mark.parametrize("value", [True, "1", [1], {}, -0.1, 1e39, float(2**60) ** 9])
def test_a_half_width_that_is_none(value: object) -> None:
    error = refuse(decision_with(tiny_parts("regression"), "interval", "half_widths", value=[value]))
    assert (error.code, error.field) == ("bundle_manifest", "manifest.decision.interval.half_widths")


@pytest.mark.parametrize("value", [None, [], {}, 7, {"half_widths": 3}, {"half_widths": []}, {"half_widths": [1, 2]}])
def test_an_interval_that_is_none(value: object) -> None:
    error = refuse(decision_with(tiny_parts("regression"), "interval", value=value))
    assert (error.code, error.field) == ("bundle_manifest", "manifest.decision.half_widths")


@pytest.mark.parametrize("value", [None, [], 1.0, [0], [-1.0], [True], ["1"], [1.0, 1.0], [None]])
def test_spreads_that_are_none(value: object) -> None:
    error = refuse(decision_with(tiny_parts("regression"), "spreads", value=value))
    assert (error.code, error.field) == ("bundle_manifest", "manifest.decision.spreads")
    with pytest.raises(BundleRefused):
        read_spreads({"spreads": value}, task="regression", output_count=1)


@pytest.mark.parametrize("task", BOTH)
@pytest.mark.parametrize("key", ["flag_at", "k"])
@pytest.mark.parametrize("value", ODD)
def test_the_out_of_domain_rule_is_looked_at_too(task: Task, key: str, value: object) -> None:
    assert refuse(decision_with(tiny_parts(task), "ood", key, value=value)).code == "bundle_manifest"


@pytest.mark.parametrize("task", BOTH)
def test_another_task_than_its_own(task: Task) -> None:
    other: Task = "regression" if task == "multilabel" else "multilabel"
    assert refuse(tiny_parts(task).changed(task=other)).code == "bundle_manifest"
    error = refuse(tiny_parts(task).changed(task="classification"))
    assert error.code == "bundle_manifest"
    assert refuse(tiny_parts(task).changed(task=["multilabel"])).code == "bundle_manifest"


def test_one_output_is_enough_but_for_classes() -> None:
    assert load(tiny_parts("regression")).classes == ("value",)
    for task in BOTH:
        assert "1 to 10000" in refuse(tiny_parts(task).changed(classes=[])).message


def with_expected(parts: Parts, change: Any) -> Parts:
    expected = json.loads(parts.members[EXPECTED])
    return parts.changed({EXPECTED: json.dumps({name: change(row) for name, row in expected.items()}).encode()})


@pytest.mark.parametrize("task", BOTH)
@pytest.mark.parametrize("value", [None, "1", True, [1.0], 10**52])
def test_expected_numbers_that_are_none(task: Task, value: object) -> None:
    error = refuse(with_expected(tiny_parts(task), lambda row: [value, *row[1:]]))
    assert error.code == "bundle_fixtures"


@pytest.mark.parametrize("task", BOTH)
def test_expected_answers_are_kept_to(task: Task) -> None:
    error = refuse(with_expected(tiny_parts(task), lambda row: [row[0] + 0.05, *row[1:]]))
    assert error.code == "bundle_fixtures"
    assert "an answer off by" in error.message


@pytest.mark.parametrize("task", BOTH)
@pytest.mark.parametrize(
    "what", ["nearest instead of the filter", "no antialias", "squished", "mean and std of ImageNet"]
)
def test_another_preprocessing_does_not_load(task: Task, what: str) -> None:
    parts = tiny_parts(task)
    changed = perturb_preprocess(parts.manifest["preprocess"])[what]
    Preprocess(changed)  # it runs, and gives what the network takes
    assert refuse(parts.changed(preprocess=changed)).code == "bundle_fixtures"


def test_a_temperature_of_a_label_is_noticed_by_the_fixtures() -> None:
    parts = tiny_parts("multilabel")
    warm = parts.manifest["decision"]["labels"][1]["temperature"] * 1.02
    assert refuse(decision_with(parts, "labels", 1, "temperature", value=warm)).code == "bundle_fixtures"


@pytest.mark.parametrize(
    "what", ["nearest instead of the filter", "no antialias", "squished", "mean and std of ImageNet"]
)
def test_no_spread_in_a_strangers_manifest_waves_its_fixtures_through(what: str) -> None:
    """What a value may differ by is also a share of how far the fixtures' own answers lie apart: it must be earned."""
    parts = decision_with(tiny_parts("regression"), "spreads", value=[1e30])
    assert load(parts).fixture_difference < 1e-6
    changed = perturb_preprocess(parts.manifest["preprocess"])[what]
    assert refuse(parts.changed(preprocess=changed)).code == "bundle_fixtures"
    apart = json.loads(parts.members[EXPECTED])
    first = next(iter(apart))
    apart[first] = [1e30]  # nor does an expected answer that the model does not give
    assert refuse(parts.changed({EXPECTED: json.dumps(apart).encode()})).code == "bundle_fixtures"


def test_differences_of_values() -> None:
    expected = [np.array([0.0, 10.0]), np.array([4.0, 10.0])]
    measured = [np.array([0.1, 10.0]), np.array([4.0, 10.0])]

    def worst(answers: list[np.ndarray], spreads: list[float]) -> float:
        return max(measure_differences(expected, answers, task="regression", spreads=np.array(spreads)))

    assert worst(measured, [100.0, 1.0]) == pytest.approx(0.1 / 4)  # as far as the expected lie apart
    assert worst(measured, [1.0, 1.0]) == pytest.approx(0.1)  # or the training values, if that is less
    assert worst([np.array([0.0, 10.1]), expected[1]], [1.0, 1.0]) == np.inf  # these do not differ at all
    assert worst([np.array([0.0, 10.0 + 1e-6]), expected[1]], [1.0, 1.0]) == 0.0  # float32's own noise
    assert worst(expected, [1.0, 1.0]) == 0.0
    assert np.isnan(worst([np.array([np.nan, 10.0]), expected[1]], [1.0, 1.0]))


def test_differences_of_labels() -> None:
    expected = [np.array([0.0, 40.0]), np.array([1.0, 60.0])]

    def worst(*answers: list[float]) -> float:
        return max(measure_differences(expected, [np.array(row) for row in answers], task="multilabel"))

    assert worst([0.0, 40.0], [1.0, 60.0]) == 0.0
    assert worst([0.2, 40.0], [1.0, 60.0]) == pytest.approx(0.2)
    assert worst([0.0, 42.0], [1.0, 60.0]) == pytest.approx(0.1)  # both probabilities are 1.0000; the log-odds tell
    assert worst([-9.0, 40.0], [1.0, 60.0]) > 0.4
    assert np.isnan(worst([np.nan, 40.0], [1.0, 60.0]))


def test_log_odds_may_be_any_number_and_probabilities_may_not() -> None:
    members = dict(tiny_parts("multilabel").members)
    assert len(unpack(members, class_count=2, task="multilabel")) >= 4
    with pytest.raises(BundleRefused, match="want 2 probabilities"):
        unpack(members, class_count=2)
