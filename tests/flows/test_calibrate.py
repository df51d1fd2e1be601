from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.flows.calibrate import Calibration, calibrate
from drivetrain.learn.head import deal_folds
from drivetrain.runtime.decision import DecisionPolicy
from drivetrain.trust.ood import NearestNeighbours, normalise_rows

K, D = 3, 24


def flag(made: Calibration, features: FloatArray) -> BoolArray:
    """(n,) True where the rule that serves takes the picture of these features for unknown."""
    policy = DecisionPolicy(made.decision, made.arrays, feature_count=features.shape[1])
    answers = [policy.decide(np.zeros(K), row, ("a", "b", "c"), "") for row in features]
    return np.array(["unknown" in answer.reasons for answer in answers])


def make(n: int, *, seed: int = 0, spread: float = 0.3) -> dict[str, Any]:
    """The arguments of `calibrate`, from three clusters; logits right most of the time."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(K, D))

    def draw(count: int) -> tuple[FloatArray, IntArray]:
        labels = rng.permutation(np.arange(count) % K).astype(np.int64)
        return (centres[labels] + spread * rng.normal(size=(count, D))).astype(np.float32), labels

    train_features, train_labels = draw(90)
    valid_features, valid_labels = draw(n)
    logits = 4.0 * np.eye(K)[valid_labels] + rng.normal(size=(n, K))
    return {
        "train_features": train_features,
        "train_labels": train_labels,
        "valid_features": valid_features,
        "valid_labels": valid_labels,
        "valid_logits": logits,
        "max_error": 0.05,
    }


def halves(given: dict[str, Any]) -> tuple[IntArray, IntArray]:
    half = deal_folds(given["valid_labels"], count=2)
    return np.flatnonzero(half == 0), np.flatnonzero(half == 1)


def facts(calibration: Calibration) -> dict[str, Any]:
    return {**calibration.decision, "reference": calibration.arrays["ood_calibration"].tolist()}


@pytest.mark.parametrize("n", [60, 400])
def test_the_second_half_shapes_neither_temperature_nor_reference(n: int) -> None:
    given = make(n)
    _, certify = halves(given)
    before = facts(calibrate(**given))
    features, logits = given["valid_features"].copy(), given["valid_logits"].copy()
    features[certify] *= -1
    logits[certify] = np.roll(logits[certify], 1, axis=1)
    after = facts(calibrate(**{**given, "valid_features": features, "valid_logits": logits}))
    assert (after["temperature"], after["reference"]) == (before["temperature"], before["reference"])
    assert after["promise"] != before["promise"] or n == 60
    assert after["label_set"] != before["label_set"]


def test_the_first_half_certifies_nothing() -> None:
    """Its answers turned over, the promise stays: it speaks of the second half alone."""
    given = make(58 * 2)
    fit, certify = halves(given)
    assert not set(fit) & set(certify)
    assert len(fit) + len(certify) == len(given["valid_labels"])
    low = make(20)  # too few to fit a temperature by: nothing of the first half but the reference can reach the second
    fit, _ = halves(low)
    logits = low["valid_logits"].copy()
    logits[fit] = np.roll(logits[fit], 1, axis=1)
    before, after = calibrate(**low), calibrate(**{**low, "valid_logits": logits})
    assert before.decision == after.decision
    promised = calibrate(**given).promise
    assert promised.n_calibration == len(halves(given)[1])
    assert promised.n_accepted <= promised.n_calibration


def repeat(given: dict[str, Any], times: int) -> dict[str, Any]:
    """Every held-out picture `times` over, in an order that says nothing; copies are a group."""
    n = len(given["valid_labels"])
    order = np.random.default_rng(0).permutation(n * times) % n
    held_out = {name: given[name][order] for name in ("valid_features", "valid_labels", "valid_logits")}
    return {**given, **held_out, "valid_groups": order}


def test_groups_of_one_change_nothing() -> None:
    given = make(400)
    alone = np.arange(400)[::-1]
    assert facts(calibrate(**given, valid_groups=alone)) == facts(calibrate(**given))


def test_pictures_of_one_group_stand_in_one_half() -> None:
    """What is done to the groups of the second half does not reach the first, and so the other way round."""
    given = repeat(make(120), 4)
    half = deal_folds(given["valid_labels"], count=2, groups=given["valid_groups"])
    assert not set(given["valid_groups"][half == 0]) & set(given["valid_groups"][half == 1])
    assert np.bincount(half).tolist() == [240, 240]
    before = calibrate(**given)
    features = given["valid_features"].copy()
    features[half == 1] *= -1
    after = calibrate(**{**given, "valid_features": features})
    np.testing.assert_array_equal(before.arrays["ood_calibration"], after.arrays["ood_calibration"])
    features = given["valid_features"].copy()
    features[half == 0] *= -1
    after = calibrate(**{**given, "valid_features": features})
    assert (before.arrays["ood_calibration"] != after.arrays["ood_calibration"]).all()
    apart = calibrate(**{**given, "valid_groups": None})  # without groups, copies of most pictures are in both
    distinct = [len(np.unique(made.arrays["ood_calibration"].round(5))) for made in (before, apart)]
    assert distinct[0] == 60
    assert distinct[1] > 100


def test_a_class_of_one_group_stands_in_both_halves() -> None:
    given = make(120)
    groups = np.where(given["valid_labels"] == 0, 500, np.arange(120))
    half = deal_folds(given["valid_labels"], count=2, groups=groups)
    assert np.bincount(half[given["valid_labels"] == 0]).tolist() == [20, 20]
    made = calibrate(**given, valid_groups=groups)
    assert made.decision["label_set"]["n_calibration"] == 60


def test_what_is_known_are_training_pictures_and_they_calibrate_nothing() -> None:
    given = make(60)
    made = calibrate(**given)
    known = made.arrays["ood_known"]
    assert known.dtype == np.float16
    np.testing.assert_array_equal(known, normalise_rows(given["train_features"]).astype(np.float16))
    fit, _ = halves(given)
    neighbours = NearestNeighbours(known.astype(np.float32), k=made.decision["ood"]["k"])
    np.testing.assert_allclose(made.arrays["ood_calibration"], np.sort(neighbours.scores(given["valid_features"][fit])))
    assert made.arrays["ood_calibration"].min() > 0.05  # a picture that is known itself would score about 0


def test_many_known_pictures_are_thinned_class_by_class() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [900, 90, 10])[rng.permutation(1000)].astype(np.int64)
    given = make(60)
    given["train_features"] = np.eye(2_000, dtype=np.float32)[:1000] + labels[:, None].astype(np.float32)
    given["train_labels"] = labels
    given["valid_features"] = rng.normal(size=(60, 2_000)).astype(np.float32)
    made = calibrate(**given)
    assert made.decision["ood"]["n_known"] == len(made.arrays["ood_known"]) == 500  # 2 MB of 2-byte numbers
    rows = {row.tobytes() for row in made.arrays["ood_known"]}
    normalised = normalise_rows(given["train_features"]).astype(np.float16)
    kept = np.array([normalised[i].tobytes() in rows for i in range(1000)])
    assert [int(kept[labels == label].sum()) for label in range(3)] == [400, 90, 10]


def test_the_promise_is_about_the_error_asked_for() -> None:
    given = make(600)
    strict, lax = (calibrate(**{**given, "max_error": share}).promise for share in (0.01, 0.2))
    assert (strict.max_error, lax.max_error) == (0.01, 0.2)
    assert strict.n_needed == 299
    assert lax.is_certified
    assert lax.threshold < strict.threshold


def test_the_promise_survives_a_wrong_label_among_the_surest() -> None:
    given = make(1_600)
    _, certify = halves(given)
    surest = certify[np.argmax(given["valid_logits"][certify].max(axis=1))]
    logits = given["valid_logits"].copy()
    logits[surest] = 50 * np.eye(K)[(given["valid_labels"][surest] + 1) % K]
    promise = calibrate(**{**given, "valid_logits": logits}).promise
    assert promise.is_certified
    assert promise.n_wrong >= 1


@pytest.mark.parametrize(
    ("n", "notes"),
    [
        (
            24,
            [
                "Only 12 pictures to calibrate on: probabilities are the head's own (temperature 1).",
                "Only 12 pictures to tell the unknown by: nothing can be flagged as unknown yet.",
                "Only 12 pictures to shape label sets by: to be right, each holds every label.",
            ],
        ),
        (42, ["Only 21 pictures to calibrate on: probabilities are the head's own (temperature 1)."]),
        (60, []),
    ],
)
def test_few_pictures_are_told(n: int, notes: list[str]) -> None:
    made = calibrate(**make(n))
    assert list(made.notes) == notes
    assert (made.decision["temperature"] == 1.0) is (n < 60)
    assert (made.decision["label_set"]["threshold"] == 0.0) is (n == 24)
    assert flag(made, -1000 * make(6, seed=5)["valid_features"]).all() == (n > 24)


def test_flagged_are_those_beyond_nearly_all_of_the_reference() -> None:
    made = calibrate(**make(600))
    fresh = make(600, seed=7)["valid_features"]
    assert 0.01 <= flag(made, fresh).mean() <= 0.1
    strange = np.random.default_rng(0).normal(size=(50, D))
    assert flag(made, strange).all()


def test_the_decision_is_plain_and_whole() -> None:
    made = calibrate(**make(400))
    decision = json.loads(json.dumps(made.decision))
    assert set(decision) == {"temperature", "threshold", "label_set", "ood", "promise", "statement"}
    assert decision["statement"] == made.promise.statement
    assert decision["threshold"] == made.promise.threshold == decision["promise"]["threshold"]
    assert decision["ood"] == {
        "method": "nearest_neighbours",
        "k": 1,
        "flag_at": 0.05,
        "n_known": 90,
        "n_calibration": 200,
    }
    assert replace(made.promise, threshold=0.0).statement == made.promise.statement
