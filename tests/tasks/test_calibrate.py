"""From held-out pictures to a policy, where they bear any number of labels or values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from drivetrain.data.targets import find_strata
from drivetrain.errors import InvalidInput
from drivetrain.flows.calibrate import calibrate
from drivetrain.flows.evaluate import evaluate_answers
from drivetrain.imaging.style_measures import STYLE_MEASURES
from drivetrain.learn.folds import deal_folds
from drivetrain.task import Task
from drivetrain.trust.conformal import half_width

from .forge import CLASSES, fit, open_tiny, sides

BOTH: tuple[Task, ...] = ("multilabel", "regression")


def arguments(task: Task, n: int = 600) -> dict[str, Any]:
    train_features, train_targets, _ = sides(task, 300, seed=1)
    features, targets, logits = sides(task, n, seed=2)
    return {
        "task": task,
        "train_features": train_features,
        "train_labels": train_targets,
        "valid_features": features,
        "valid_labels": targets,
        "valid_logits": logits,
        "class_names": CLASSES[task],
    }


def halves(given: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    strata = find_strata(given["valid_labels"], task=given["task"])
    half = deal_folds(strata, count=2, part_tied=False)
    return np.flatnonzero(half == 0), np.flatnonzero(half == 1)


def spoil(given: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """The same pictures, the answers to some of them turned over; strata, so halves, stay."""
    logits = given["valid_logits"].copy()
    logits[rows] = -logits[rows] if given["task"] == "multilabel" else logits[rows] + 3
    return {**given, "valid_logits": logits}


def test_the_first_half_fits_labels_and_the_second_certifies_them() -> None:
    given = arguments("multilabel")
    first, second = halves(given)
    before, fitted, certified = (
        calibrate(**one).decision for one in (given, spoil(given, first), spoil(given, second))
    )
    for label in range(2):
        assert certified["labels"][label]["temperature"] == before["labels"][label]["temperature"]
        assert certified["labels"][label]["threshold"] == before["labels"][label]["threshold"]
        assert fitted["labels"][label]["temperature"] != before["labels"][label]["temperature"]
        assert before["labels"][label]["present"]["is_certified"]
        assert not certified["labels"][label]["present"]["is_certified"]
    assert before["n_calibration"] == len(second) == 300


def test_the_second_half_alone_measures_intervals() -> None:
    given = arguments("regression")
    first, second = halves(given)
    before = calibrate(**given).decision
    assert calibrate(**spoil(given, first)).decision == before
    assert calibrate(**spoil(given, second)).decision != before
    residuals = (given["valid_labels"].astype(np.float64) - given["valid_logits"])[second, 0]
    assert before["interval"]["half_widths"] == [half_width(residuals)]
    assert before["interval"]["n_calibration"] == len(second)
    assert before["spreads"] == pytest.approx([given["train_labels"].std()])


@pytest.mark.parametrize("task", BOTH)
def test_groups_stand_in_one_half(task: Task) -> None:
    given = arguments(task, 200)
    order = np.random.default_rng(0).permutation(600) % 200
    repeated = {name: given[name][order] for name in ("valid_features", "valid_labels", "valid_logits")}
    made = calibrate(**{**given, **repeated}, valid_groups=order)
    reference = made.arrays["ood_calibration"]
    assert len(np.unique(reference.round(9))) == 100  # each group three times in one half, none in both
    assert len(reference) == 300


@pytest.mark.parametrize("task", BOTH)
def test_the_policy_that_serves_gives_what_was_calibrated(task: Task) -> None:
    given = arguments(task)
    made = calibrate(**given)
    policy = open_tiny(task, made)
    answers = [
        policy.decide(*one, CLASSES[task], "")
        for one in zip(given["valid_logits"], given["valid_features"], strict=True)
    ]
    second = halves(given)[1]
    told = evaluate_answers([answers[at] for at in second], given["valid_labels"][second], CLASSES[task])
    if task == "multilabel":
        for at, row in enumerate(told.per_label):  # type: ignore[union-attr]
            promised = made.decision["labels"][at]
            n = promised["present"]["n_accepted"] + promised["absent"]["n_accepted"]
            assert (row.n_decided, row.n_wrong) == (n, promised["present"]["n_wrong"] + promised["absent"]["n_wrong"])
    else:
        assert 0.95 <= told.per_value[0].covered <= 0.96  # type: ignore[union-attr]


@pytest.mark.parametrize("task", BOTH)
def test_fresh_pictures_keep_the_promise(task: Task) -> None:
    policy = open_tiny(task, fit(task))
    features, targets, logits = sides(task, 4_000, seed=77)
    answers = [policy.decide(*one, CLASSES[task], "") for one in zip(logits, features, strict=True)]
    told = evaluate_answers(answers, targets, CLASSES[task])
    if task == "multilabel":
        assert all(row.error < 0.05 for row in told.per_label)  # type: ignore[union-attr]
        assert all(row.n_decided > 2_000 for row in told.per_label)  # type: ignore[union-attr]
    else:
        assert 0.92 < told.per_value[0].covered < 0.98  # type: ignore[union-attr]
    assert 0.02 < told.ood.rate < 0.09


def test_few_pictures_are_told() -> None:
    labels = fit("multilabel", n=24)
    assert list(labels.notes) == [
        "Only 12 pictures to calibrate on: probabilities are the head's own (temperature 1).",
        "Only 12 pictures to tell the unknown by: nothing can be flagged as unknown yet.",
    ]
    assert [rule["temperature"] for rule in labels.decision["labels"]] == [1.0, 1.0]
    assert labels.promise.statement.startswith("No promise: 12 pictures kept apart could not show of any label")
    values = fit("regression", n=24)
    assert list(values.notes)[1:] == ["Only 12 pictures to measure intervals by: answers come without one."]
    assert values.decision["interval"]["half_widths"] == [None]
    assert values.promise.statement == (
        "No promise: 12 pictures kept apart are too few for an interval that holds the true value for 95 % of pictures "
        "(it takes 19)."
    )
    answer = open_tiny("regression", values).decide(np.ones(1), np.ones(3), ("value",), "")
    assert (answer.interval, answer.decision) == (None, "accept")  # type: ignore[union-attr]


@pytest.mark.parametrize("task", BOTH)
def test_few_pictures_to_tell_a_style_by_are_told(task: Task) -> None:
    styles = np.full((300, len(STYLE_MEASURES)), 0.5, np.float32)
    made = calibrate(**arguments(task, 40), valid_styles=styles[:40], train_styles=styles[:100])
    told = "Only 70 pictures to tell a new style by: none can be flagged as shifted yet (it takes 99)."
    assert told in made.notes
    assert made.decision["style"]["n_calibration"] == 70


def test_a_label_that_one_half_lacks_keeps_its_temperature() -> None:
    given = arguments("multilabel")
    given["valid_labels"][:, 1] = 0
    made = calibrate(**given).decision["labels"]
    assert made[1]["temperature"] == 1.0
    assert made[0]["temperature"] != 1.0
    assert not made[1]["present"]["is_certified"]


@pytest.mark.parametrize("task", BOTH)
def test_the_decision_is_plain_and_whole(task: Task) -> None:
    made = fit(task)
    decision = json.loads(json.dumps(made.decision, allow_nan=False))
    assert decision == made.decision
    assert decision["statement"] == made.promise.statement
    assert {"method", "flag_at", "n_known", "n_calibration"} <= decision["ood"].keys()


def test_several_values_each_have_their_interval() -> None:
    given = arguments("regression")
    wide = {
        name: np.concatenate([given[name], 10 * given[name]], axis=1)
        for name in ("train_labels", "valid_labels", "valid_logits")
    }
    made = calibrate(**{**given, **wide, "class_names": ("small", "large")})
    small, large = made.decision["interval"]["half_widths"]
    assert large == pytest.approx(10 * small, rel=1e-4)
    assert f"within {small:.4g} (small), {large:.4g} (large) of its answer, each by itself" in made.promise.statement


def test_what_does_not_fit_together() -> None:
    given = arguments("multilabel", 60)
    with pytest.raises(InvalidInput, match="3 names, 2 targets, 2 logits"):
        calibrate(**{**given, "class_names": ("a", "b", "c")})
    values = arguments("regression", 60)
    with pytest.raises(InvalidInput, match="got one value of 'value' for all; want values that differ"):
        calibrate(**{**values, "train_labels": np.ones((300, 1), np.float32)})
