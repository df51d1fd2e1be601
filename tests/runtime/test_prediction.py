"""The decision rule on numbers made by hand, and the shape of an answer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from drivetrain.errors import BundleRefused
from drivetrain.runtime.decision import DecisionPolicy
from drivetrain.runtime.prediction import Prediction

CLASSES = ("black", "grizzly", "teddy")
# distances to the one known picture (1, 0): what calibration saw, ascending
SCORES = np.array([0.0, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def policy(**changes: Any) -> DecisionPolicy:
    decision = {
        "temperature": changes.pop("temperature", 1.0),
        "threshold": changes.pop("threshold", 0.6),
        "label_set": {"threshold": changes.pop("label_set", 0.2)},
        "ood": {"flag_at": changes.pop("flag_at", 0.1), "k": changes.pop("k", 1)},
    }
    arrays = {
        "ood_known": changes.pop("known", np.array([[1.0, 0.0]], dtype=np.float16)),
        "ood_calibration": changes.pop("scores", SCORES),
    }
    assert not changes
    return DecisionPolicy(decision, arrays, feature_count=2, output_count=3)


def logits(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities))


def at_distance(distance: float) -> np.ndarray:
    """Frozen features, of any length, at this distance from (1, 0)."""
    cosine = 1 - distance**2 / 2
    return 7 * np.array([cosine, np.sqrt(1 - cosine**2)])


def decide(probabilities: tuple[float, ...], distance: float, **changes: Any) -> Prediction:
    return policy(**changes).decide(logits(*probabilities), at_distance(distance), CLASSES, "bears@0123456789ab")


SURE, UNSURE = (0.1, 0.8, 0.1), (0.3, 0.4, 0.3)


@pytest.mark.parametrize(
    ("probabilities", "distance", "decision", "reasons"),
    [
        (SURE, 0.05, "accept", ()),
        (SURE, 1.2, "defer", ("unknown",)),
        (UNSURE, 0.05, "defer", ("low_confidence",)),
        (UNSURE, 1.2, "defer", ("unknown", "low_confidence")),
    ],
)
def test_the_four_answers(
    probabilities: tuple[float, ...], distance: float, decision: str, reasons: tuple[str, ...]
) -> None:
    answer = decide(probabilities, distance)
    assert (answer.label, answer.decision, answer.reasons) == ("grizzly", decision, reasons)


def test_the_numbers() -> None:
    answer = decide((0.25, 0.5, 0.25), 1.0)
    assert answer.probability == pytest.approx(0.5)
    assert answer.probabilities == pytest.approx({"black": 0.25, "grizzly": 0.5, "teddy": 0.25})
    assert list(answer.probabilities) == list(CLASSES)
    assert answer.ood_score == pytest.approx(1.0, abs=1e-6)
    assert answer.ood_p_value == pytest.approx(1 / 10)  # stranger than all nine
    assert answer.version == "bears@0123456789ab"
    assert answer.prediction_id is None


@pytest.mark.parametrize("above", [True, False])
def test_only_strictly_above_the_threshold(above: bool) -> None:
    """The promise was certified for scores above the threshold; a tie is not above."""
    probability = decide(SURE, 0.05).probability
    threshold = float(np.nextafter(probability, 0)) if above else probability
    assert decide(SURE, 0.05, threshold=threshold).decision == ("accept" if above else "defer")


@pytest.mark.parametrize(
    ("distance", "p_value"),
    [(0.05, 9 / 10), (0.15, 8 / 10), (0.35, 5 / 10), (0.65, 2 / 10), (0.75, 1 / 10)],
)
def test_p_values(distance: float, p_value: float) -> None:
    answer = decide(SURE, distance)
    assert answer.ood_p_value == pytest.approx(p_value)
    assert ("unknown" in answer.reasons) is (p_value <= 0.1)


def test_ties_count_as_at_least_as_strange() -> None:
    frozen = at_distance(0.5)
    score = policy().decide(logits(*SURE), frozen, CLASSES, "").ood_score
    tied = policy(scores=np.array([0.1, score, score, 0.9]))
    assert tied.decide(logits(*SURE), frozen, CLASSES, "").ood_p_value == pytest.approx(4 / 5)


@pytest.mark.parametrize(("flag_at", "reasons"), [(0.1, ("unknown",)), (0.0999, ())])
def test_flagged_at_the_level_itself(flag_at: float, reasons: tuple[str, ...]) -> None:
    assert decide(SURE, 1.2, flag_at=flag_at).reasons == reasons  # its p-value is 1/10


def test_too_few_pictures_to_flag_any() -> None:
    assert decide(SURE, 1.9, scores=np.array([0.1]), flag_at=0.05).reasons == ()
    assert decide(SURE, 1.9, scores=np.array([])).ood_p_value == 1.0


def test_temperature() -> None:
    assert decide(SURE, 0.05, temperature=1e3).probability == pytest.approx(1 / 3, abs=1e-2)
    assert decide(UNSURE, 0.05, temperature=1e-2).probability == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [(0.05, ("grizzly", "teddy", "black")), (0.25, ("grizzly", "teddy")), (0.5, ("grizzly",)), (0.9, ("grizzly",))],
)
def test_label_set(threshold: float, labels: tuple[str, ...]) -> None:
    assert decide((0.1, 0.6, 0.3), 0.05, label_set=threshold).label_set == labels


def test_the_kth_neighbour_counts() -> None:
    known = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float16)
    near, far = (policy(known=known, k=k).decide(logits(*SURE), at_distance(0), CLASSES, "") for k in (1, 2))
    assert near.ood_score == pytest.approx(0.0, abs=1e-3)
    assert far.ood_score == pytest.approx(np.sqrt(2), abs=1e-3)


def test_a_tie_of_classes_goes_to_the_first() -> None:
    assert decide((0.4, 0.4, 0.2), 0.05).label == "black"


@pytest.mark.parametrize("missing", ["temperature", "threshold", "label_set", "ood"])
def test_a_policy_that_is_not_whole(missing: str) -> None:
    decision: dict[str, Any] = {
        "temperature": 1.0,
        "threshold": 0.5,
        "label_set": {"threshold": 0.1},
        "ood": {"k": 1, "flag_at": 0.1},
    }
    del decision[missing]
    arrays = {"ood_known": np.eye(2), "ood_calibration": SCORES}
    with pytest.raises(BundleRefused, match=f"manifest.decision.{missing}.*got None; want a number from") as caught:
        DecisionPolicy(decision, arrays, feature_count=2, output_count=3)
    assert caught.value.code == "bundle_manifest"


def test_as_json() -> None:
    answer = decide(UNSURE, 1.2)
    raw = answer.as_json()
    assert list(raw) == [
        "label", "probability", "probabilities", "label_set", "ood_score", "ood_p_value", "decision", "reasons",
        "version",
    ]  # fmt: skip
    assert json.loads(json.dumps(raw, allow_nan=False)) == raw
    assert raw["reasons"] == ["unknown", "low_confidence"]
    assert raw["label_set"] == ["grizzly", "black", "teddy"]


def test_as_json_of_a_stored_prediction() -> None:
    stored = Prediction(
        label="a", probability=1.0, probabilities={"a": 1.0}, label_set=("a",), ood_score=0.0, ood_p_value=1.0,
        decision="accept", prediction_id="p-1",
    )  # fmt: skip
    assert stored.as_json()["prediction_id"] == "p-1"
