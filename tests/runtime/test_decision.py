"""The parts of a policy that a bundle may lack: a bias, thresholds by class, label sets by class, a style rule."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from drivetrain.arrays import FloatArray
from drivetrain.errors import BundleRefused
from drivetrain.flows.calibrate import Calibration, calibrate
from drivetrain.flows.fit_shift import fit_shift
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.imaging.style_measures import STYLE_MEASURES
from drivetrain.runtime.decision import AnyPolicy, open_policy
from drivetrain.task import Task
from drivetrain.trust.calibration import softmax

NAMES = ("a", "b", "c")
# of a plain photograph; a measure that is not named here is of no matter
_PLAIN = {
    "brightness": 0.5,
    "highlights": 0.9,
    "contrast": 0.6,
    "colour": 0.3,
    "sharpness": 1.2,
    "even": 0.05,
    "side": 1.0,
}
_NIGHT = {**_PLAIN, "brightness": 0.02, "highlights": 0.04, "contrast": 0.03}
USUAL, DARK = (
    np.array([picture.get(name, 0.5) for name in STYLE_MEASURES], dtype=np.float32) for picture in (_PLAIN, _NIGHT)
)


def styles(n: int) -> FloatArray:
    return (
        (USUAL * np.random.default_rng(0).uniform(0.9, 1.1, (n, len(USUAL))))
        .clip(0, np.maximum(1, USUAL))
        .astype(np.float32)
    )


def make(n: int = 600, *, with_style: bool = False, **options: Any) -> Calibration:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 24))

    def draw(count: int) -> tuple[FloatArray, Any]:
        labels = rng.permutation(np.arange(count) % 3)
        return (centres[labels] + 0.3 * rng.normal(size=(count, 24))).astype(np.float32), labels

    known, known_labels = draw(90)
    features, labels = draw(n)
    logits = 4.0 * np.eye(3)[labels] + rng.normal(size=(n, 3))
    return calibrate(
        train_features=known,
        train_labels=known_labels,
        valid_features=features,
        valid_labels=labels,
        valid_logits=logits.astype(np.float32),
        valid_styles=styles(n) if with_style else None,
        class_names=NAMES,
        options=PolicyOptions(**options),
    )


@pytest.fixture(scope="module")
def made() -> Calibration:
    return make(with_style=True)


def open_with(made: Calibration, **changes: Any) -> AnyPolicy:
    decision: dict[str, Any] = copy.deepcopy(dict(made.decision))
    sets = changes.pop("sets", None)
    if not changes.pop("judges_known", False):
        decision["ood"]["flag_at"] = 0.0  # nothing is unknown
    decision |= changes
    if sets is not None:
        decision["label_set"] = {**decision["label_set"], "thresholds": sets}
    return open_policy("classification", decision, made.arrays, feature_count=24, output_count=3)


def feature() -> FloatArray:
    """A picture in the middle of the first class."""
    return np.random.default_rng(0).normal(size=(3, 24))[0].astype(np.float32)


def test_a_bias_moves_probabilities_and_answers(made: Calibration) -> None:
    logits, bias = np.array([1.0, 0.9, 0.0]), [-0.5, 0.5, 0.0]
    plain, biased = open_with(made), open_with(made, bias=bias)
    temperature = made.decision["temperature"]
    np.testing.assert_allclose(biased.row(logits), softmax(logits / temperature + bias))
    answers = [policy.decide(logits, feature(), NAMES, "") for policy in (plain, biased)]
    assert [answer.label for answer in answers] == ["a", "b"]  # type: ignore[union-attr]
    assert answers[1].probability == pytest.approx(biased.row(logits).max())  # type: ignore[union-attr]


def test_a_class_has_its_own_threshold(made: Calibration) -> None:
    policy = open_with(made, threshold=0.0, class_thresholds=[0.9, 1.0, 0.1], temperature=1.0)
    for at, (probability, decision) in enumerate([(0.95, "accept"), (0.99, "defer"), (0.5, "accept")]):
        probs = np.full(3, (1 - probability) / 2)
        probs[at] = probability
        answer = policy.decide(np.log(probs), feature(), NAMES, "")
        assert answer.decision == decision
        assert answer.reasons == (() if decision == "accept" else ("low_confidence",))
    low = policy.decide(np.log([0.85, 0.1, 0.05]), feature(), NAMES, "")
    assert low.reasons == ("low_confidence",)


def test_label_sets_by_class(made: Calibration) -> None:
    logits = np.log([0.7, 0.2, 0.1])
    by_class = open_with(made, temperature=1.0, sets=[0.8, 0.15, 0.05]).decide(logits, feature(), NAMES, "")
    assert by_class.label_set == ("b", "c")  # type: ignore[union-attr]
    assert "thresholds" in made.decision["label_set"]  # a hundred of each class


@pytest.mark.parametrize(
    "value", [None, 3, "abc", [], [0.1], [0.1] * 4, [0.1, 0.2, None], [0.1, "0.2", 0.3], [True, 0.1, 0.1],
              [0.1, 2.0, -101], [float("nan"), 0.1, 0.1], {"a": 1}],
)  # fmt: skip
@pytest.mark.parametrize("name", ["bias", "class_thresholds", "sets"])
def test_lists_of_numbers_that_are_none(name: str, value: object, made: Calibration) -> None:
    if name == "sets" and value is None:
        decision = {**made.decision, "label_set": {**made.decision["label_set"], "thresholds": None}}
        with pytest.raises(BundleRefused):
            open_policy("classification", decision, made.arrays, feature_count=24, output_count=3)
        return
    with pytest.raises(BundleRefused) as caught:
        open_with(made, **{name: value})
    assert caught.value.code == "bundle_manifest"
    assert caught.value.field == f"manifest.decision.{'label_set.thresholds' if name == 'sets' else name}"


def test_a_shifted_picture_is_deferred_and_told_apart_from_an_unknown_one(made: Calibration) -> None:
    policy = open_with(made, threshold=0.0, judges_known=True)
    sure = np.array([4.5, 0.0, 0.0])
    usual = policy.decide(sure, feature(), NAMES, "", USUAL)
    assert (usual.decision, usual.reasons, usual.shifted_by) == ("accept", (), ())
    assert usual.shift_p_value is not None
    assert usual.shift_p_value > 0.01
    dark = policy.decide(sure, feature(), NAMES, "", DARK)
    assert (dark.decision, dark.reasons) == ("defer", ("shifted",))
    assert "darker" in dark.shifted_by
    assert dark.as_json()["shifted_by"] == list(dark.shifted_by)
    strange = policy.decide(sure, -feature(), NAMES, "", DARK)
    assert strange.reasons == ("unknown", "shifted")
    certain = open_with(made, threshold=1.0, judges_known=True)
    unsure = certain.decide(np.zeros(3), -feature(), NAMES, "", DARK)
    assert unsure.reasons == ("unknown", "shifted", "low_confidence")
    unmeasured = policy.decide(sure, feature(), NAMES, "")
    assert (unmeasured.reasons, unmeasured.shift_p_value) == ((), None)
    assert "shift_p_value" not in unmeasured.as_json()


def test_a_bundle_of_before_styles_judges_none() -> None:
    policy = open_with(make())
    assert policy.decide(np.array([9.0, 0, 0]), feature(), NAMES, "", DARK).shift_p_value is None


@pytest.mark.parametrize("section", [None, 3, [], {}, {"version": 1}])
def test_a_style_section_that_is_none(section: object, made: Calibration) -> None:
    with pytest.raises(BundleRefused):
        open_with(made, style=section)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks_judge_the_style_too(task: Task, made: Calibration) -> None:
    shift = fit_shift(styles(200), np.arange(200), alpha=0.01)
    label = {"temperature": 1.0, "threshold": 0.5, "present_above": 0.5, "absent_below": 0.5}
    decision = {
        "labels": [label] * 3,
        "interval": {"half_widths": [1.0] * 3},
        "ood": {**made.decision["ood"], "flag_at": 0.0},
        "style": shift.section,
    }
    policy = open_policy(task, decision, {**made.arrays, **shift.arrays}, feature_count=24, output_count=3)
    answer = policy.decide(np.array([9.0, -9.0, -9.0]), feature(), NAMES, "", DARK)
    assert (answer.decision, answer.reasons) == ("defer", ("shifted",))
    assert answer.as_json()["shift_p_value"] == answer.shift_p_value
    if task == "multilabel":
        assert set(answer.decisions.values()) == {"defer"}  # type: ignore[union-attr]
    assert policy.decide(np.array([9.0, -9.0, -9.0]), feature(), NAMES, "", USUAL).decision == "accept"


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"max_error": 0.2}, lambda made: made.decision["promise"]["max_error"] == 0.2),
        ({"ood_alpha": 0.2}, lambda made: made.decision["ood"]["flag_at"] == pytest.approx(0.16)),
        ({"ood_alpha": 0.2}, lambda made: made.decision["style"]["flag_at"] == pytest.approx(0.04)),
        ({"max_defer": 0.01}, lambda made: "more than the 1 % allowed" in made.statement),
        ({"per_class": True}, lambda made: len(made.decision["class_thresholds"]) == 3),
        ({"cost_error": 30.0, "cost_review": 1.0}, lambda made: made.decision["threshold"] < 1 - 1 / 30),
        ({"cost_error": 30.0, "cost_review": 1.0}, lambda made: made.decision["cost"]["cost"] < 1.0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_options_reach_the_policy(options: dict[str, Any], check: Callable[[Calibration], bool]) -> None:
    made = make(with_style=True, **options)
    assert check(made)
    assert made.decision["policy"] == PolicyOptions(**options).as_json()
    open_with(made)
