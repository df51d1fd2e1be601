from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.flows.calibrate import Calibration, calibrate
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.imaging.style_measures import STYLE_MEASURES
from drivetrain.learn.head import deal_folds
from drivetrain.runtime.decision import DecisionPolicy
from drivetrain.runtime.known import KnownRule

K, D = 3, 24


def flag(made: Calibration, features: FloatArray, logits: FloatArray | None = None) -> BoolArray:
    """(n,) True where the rule that serves takes the picture of these features, and logits, for unknown."""
    rows = np.zeros((len(features), K)) if logits is None else logits
    policy = DecisionPolicy(made.decision, made.arrays, feature_count=features.shape[1], output_count=K)
    answers = [policy.decide(*one, ("a", "b", "c"), "") for one in zip(rows, features, strict=True)]
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
    assert made.decision["label_set"]["n_calibration"] == 41  # of the 20 in the second half one counts
    assert any("Of the 60 pictures kept apart 41 count, one of each group" in note for note in made.notes)


def test_a_promise_counts_one_picture_of_each_group() -> None:
    """Copies are right or wrong together: with each of them counted, 47 of 120 such promises of 9 % are broken."""
    rng = np.random.default_rng(5)
    n_groups, broken, counted = 120, 0, 0
    for _ in range(120):
        given = make(n_groups, seed=int(rng.integers(1 << 30)))
        wrong = rng.random(n_groups) < 0.1
        logits = 4.0 * np.eye(K)[(given["valid_labels"] + wrong) % K] + 0.01 * rng.normal(size=(n_groups, K))
        copies = {
            **given,
            "valid_features": np.repeat(given["valid_features"], 5, axis=0),
            "valid_labels": np.repeat(given["valid_labels"], 5),
            "valid_logits": np.repeat(logits, 5, axis=0),
        }
        made = calibrate(
            **copies, valid_groups=np.repeat(np.arange(n_groups), 5), options=PolicyOptions(max_error=0.09)
        )
        broken += made.decision["promise"]["is_certified"]
        counted += made.decision["promise"]["n_calibration"]
    assert counted == 120 * n_groups // 2
    assert broken <= 120 * 0.05 + 3 * np.sqrt(120 * 0.05 * 0.95)


@pytest.mark.parametrize("by_class", [True, False])
def test_what_is_known_are_training_pictures_and_the_first_half_calibrates_it(by_class: bool) -> None:
    given = make(400)
    if by_class:
        given["known_logits"] = 4.0 * np.eye(K)[given["train_labels"]]
    fit, _ = halves(given)
    made = calibrate(**given)
    rule = KnownRule(made.decision, made.arrays, feature_count=D, output_count=K)
    logits = given["valid_logits"]
    scores = rule.scores(given["valid_features"], logits, logits / made.decision["temperature"])
    np.testing.assert_allclose(made.arrays["ood_calibration"], np.sort(scores[fit]), rtol=1e-6)
    other = calibrate(**{**given, "valid_features": make(400, seed=9)["valid_features"]})
    np.testing.assert_array_equal(other.arrays["ood_known"], made.arrays["ood_known"])


def test_the_promise_is_about_the_error_asked_for() -> None:
    given = make(600)
    strict, lax = (calibrate(**{**given, "options": PolicyOptions(max_error=share)}).promise for share in (0.01, 0.2))
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
    assert list(made.notes[:-1]) == notes
    assert re.fullmatch(
        r"The promise of 5 % would take about 1[23]0 labelled pictures like these in all, none of them trained on: "
        r"`drivetrain certify` takes them without training again\.",
        made.notes[-1],
    )
    assert (made.decision["temperature"] == 1.0) is (n < 60)
    assert (made.decision["label_set"]["threshold"] == 0.0) is (n == 24)
    assert flag(made, -1000 * make(6, seed=5)["valid_features"]).all() == (n > 24)


def test_flagged_are_those_beyond_nearly_all_of_the_reference() -> None:
    made = calibrate(**make(600))
    fresh = make(600, seed=7)
    assert 0.01 <= flag(made, fresh["valid_features"], fresh["valid_logits"]).mean() <= 0.1
    strange = np.random.default_rng(0).normal(size=(50, D))
    assert flag(made, strange).all()


def test_the_decision_is_plain_and_whole() -> None:
    made = calibrate(**make(400))
    decision = json.loads(json.dumps(made.decision))
    assert set(decision) == {
        "temperature", "calibration", "threshold", "rule", "promise", "classes", "label_set", "ood", "policy",
        "statement",
    }  # fmt: skip
    assert decision["statement"] == made.promise.statement
    assert decision["threshold"] == made.promise.threshold == decision["promise"]["threshold"]
    told = {name: decision["ood"][name] for name in ("flag_at", "n_known", "n_calibration")}
    assert told == {"flag_at": 0.05, "n_known": 90, "n_calibration": 200}
    assert replace(made.promise, threshold=0.0).statement == made.promise.statement


def skew(given: dict[str, Any], *, by: float) -> dict[str, Any]:
    """The same pictures and a network that is partial to the first class."""
    return {**given, "valid_logits": given["valid_logits"] + by * np.eye(K)[0]}


def test_a_partial_network_gets_a_bias_from_the_first_half() -> None:
    given = skew(make(600), by=3.0)
    _, certify = halves(given)
    plain, made = calibrate(**make(600)), calibrate(**given)
    assert "bias" not in plain.decision
    assert plain.decision["calibration"]["method"] == "temperature"
    told = made.decision["calibration"]
    assert (told["method"], told["n"]) == ("bias_corrected_temperature", 300)
    losses = told["cross_fitted_log_loss"]
    assert losses["bias_corrected_temperature"] < losses["temperature"]
    assert "neither trained nor selected on" in told["pictures"]
    assert made.decision["bias"][0] < -1 < 0 < made.decision["bias"][1]
    spoilt = given["valid_logits"].copy()
    spoilt[certify] = np.roll(spoilt[certify], 1, axis=1)
    assert calibrate(**{**given, "valid_logits": spoilt}).decision["bias"] == made.decision["bias"]
    policy = DecisionPolicy(made.decision, made.arrays, feature_count=D, output_count=K)
    raw = (given["valid_logits"].argmax(axis=1) == given["valid_labels"]).mean()
    right = np.mean([policy.row(row).argmax() for row in given["valid_logits"]] == given["valid_labels"])
    assert right > raw + 0.05


def test_the_whole_of_it_keeps_its_promise() -> None:
    """At every threshold a hair more than 20 % are wrong, so each promise made is broken: one in twenty at most."""
    draws, n, k, made = 400, 160, 20, 0
    for seed in range(draws):
        rng = np.random.default_rng([seed, 1])
        said = rng.integers(k, size=n)
        logits = rng.uniform(2, 6, (n, 1)) * np.eye(k)[said] + 0.1 * rng.normal(size=(n, k))
        labels = np.where(rng.random(n) < 0.201, (said + rng.integers(1, k, n)) % k, said).astype(np.int64)
        features = rng.normal(size=(n + 40, 6)).astype(np.float32)
        promise = calibrate(
            train_features=features[n:],
            train_labels=np.arange(40) % k,
            valid_features=features[:n],
            valid_labels=labels,
            valid_logits=logits,
            options=PolicyOptions(max_error=0.2),
        ).promise
        made += promise.is_certified
    assert made <= 0.05 * draws + 3 * (0.05 * 0.95 * draws) ** 0.5
    assert made >= 0.005 * draws  # and not by promising nothing


def test_few_pictures_to_tell_a_style_by_are_told() -> None:
    rng = np.random.default_rng(3)
    styles = rng.uniform(0.3, 0.7, (150, len(STYLE_MEASURES))).astype(np.float32)
    made = calibrate(**make(60), valid_styles=styles[:60], train_styles=styles[60:])
    assert made.decision["style"]["n_calibration"] == 30 + 45
    told = "Only 75 pictures to tell a new style by: none can be flagged as shifted yet (it takes 99)."
    assert told in made.notes


def test_few_pictures_of_a_class_get_no_bias() -> None:
    given = skew(make(600), by=3.0)
    rare = given["valid_labels"] == 2
    kept = np.flatnonzero(~rare | (np.cumsum(rare) <= 17))
    held = {name: given[name][kept] for name in ("valid_features", "valid_labels", "valid_logits")}
    made = calibrate(**{**given, **held}).decision
    assert "bias" not in made
    assert "cross_fitted_log_loss" not in made["calibration"]


def test_what_is_decided_is_what_was_counted() -> None:
    """The joint rule as it serves, on the second half: the promise's own numbers, of all classes and of each."""
    for options in (PolicyOptions(), PolicyOptions(per_class=True), PolicyOptions(cost_error=20.0, cost_review=1.0)):
        given = make(900)
        made = calibrate(**given, options=options)
        _, certify = halves(given)
        policy = DecisionPolicy(made.decision, made.arrays, feature_count=D, output_count=K)
        rows = zip(given["valid_logits"][certify], given["valid_features"][certify], strict=True)
        answers = [policy.decide(*row, ("0", "1", "2"), "") for row in rows]
        accepted = np.array([answer.decision == "accept" for answer in answers])
        said = np.array([int(answer.label) for answer in answers])
        wrong = said != given["valid_labels"][certify]
        assert (made.promise.n_accepted, made.promise.n_wrong) == (accepted.sum(), (accepted & wrong).sum())
        assert accepted.any()
        for at, one in enumerate(made.decision.get("classes", [])):
            of_class = accepted & (said == at)
            assert (one["n_accepted"], one["n_wrong"]) == (of_class.sum(), (of_class & wrong).sum())


def test_a_class_without_a_promise_is_left_to_a_person() -> None:
    given = make(900)
    worse = given["valid_logits"] + 4.0 * np.eye(K)[given["valid_labels"]]  # right but for these:
    mixed = np.flatnonzero((given["valid_labels"] == 1) & (np.random.default_rng(5).random(900) < 0.3))
    worse[mixed] = np.roll(worse[mixed], 1, axis=1)  # a third of the second class is called the third
    made = calibrate(**{**given, "valid_logits": worse}, options=PolicyOptions(per_class=True))
    kept = [one["is_certified"] for one in made.decision["classes"]]
    assert kept == [True, True, False]
    assert made.decision["class_thresholds"][2] == 1.0
    assert "for 2 of 3 classes" in made.statement
    assert "The other 1 are left to a person each time." in made.statement
    by_all = calibrate(**{**given, "valid_logits": worse})
    assert "class_thresholds" not in by_all.decision


@pytest.mark.parametrize(
    ("is_turned", "told"),
    [
        (False, r"The promise of 5 % for [012], which is nearest to it, would take about \d[\d,]+ labelled pictures "),
        (True, "The promise of 5 % for any class is out of reach of any number of labels: even the surest answers "),
    ],
)
def test_how_far_the_nearest_class_is_from_its_promise(is_turned: bool, told: str) -> None:
    """Of each class by itself it takes three times what one for all takes: the note must not speak of the latter."""
    n = 240
    given = {**make(n), "class_names": ("0", "1", "2")}
    given["valid_labels"] = (given["valid_labels"] + is_turned) % K
    made = calibrate(**given, options=PolicyOptions(per_class=True))
    assert not made.promise.is_certified
    (note,) = [note for note in made.notes if note.startswith("The promise")]
    assert re.match(told, note)
    if not is_turned:
        assert calibrate(**given).promise.is_certified
        in_all = int(re.findall(r"about ([\d,]+)", note)[0].replace(",", ""))
        assert n < in_all < 4 * n
        assert calibrate(**make(2 * in_all), options=PolicyOptions(per_class=True)).promise.is_certified


def test_a_narrow_miss_is_told_as_one() -> None:
    """Wrong among the very surest, right below: another threshold would pass, had it been the one to be tried."""
    given = make(400)
    _, certify = halves(given)
    sure = 40 * np.eye(K)
    logits, labels = given["valid_logits"].copy(), given["valid_labels"]
    for row in certify[:3]:
        logits[row] = sure[(labels[row] + 1) % K]
    made = calibrate(**{**given, "valid_logits": logits})
    assert not made.promise.is_certified
    assert any(note.startswith("The promise of 5 % was missed by little: at another threshold") for note in made.notes)


def test_label_sets_are_made_by_class_where_each_has_fifty() -> None:
    for n, method in ((312, "class_conditional"), (240, "marginal")):
        sets = calibrate(**make(n)).decision["label_set"]
        assert sets["method"] == method
        assert ("thresholds" in sets) is (method == "class_conditional")


def test_a_limit_of_what_is_deferred_is_told() -> None:
    kept = calibrate(**make(600), options=PolicyOptions(max_defer=0.5))
    assert kept.statement.split(". ")[-2].endswith("% to a person, within the 50 % allowed") or (
        "within the 50 % allowed." in kept.statement
    )
    assert kept.decision["deferral_limit"]["is_kept"]
    broken = calibrate(**make(600), options=PolicyOptions(max_defer=0.001))
    assert "more than the 0.1 % allowed" in broken.statement
    assert not broken.decision["deferral_limit"]["is_kept"]
    none = calibrate(**make(60), options=PolicyOptions(max_defer=0.5))
    assert "So whether a person must see no more than 50 % cannot be said yet." in none.statement
