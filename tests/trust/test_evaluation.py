import json

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
)

from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import wilson_interval
from drivetrain.trust.evaluation import Evaluation, evaluate_predictions


def sample(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(k, 0.3), size=n)
    labels = np.where(rng.random(n) < 0.8, probs.argmax(axis=1), rng.integers(k, size=n))
    return probs, labels


def measure(probs: np.ndarray, labels: np.ndarray, **changes: object) -> Evaluation:
    options: dict[str, object] = {
        "classes": [f"c{i}" for i in range(probs.shape[1])],
        "accepted": probs.max(axis=1) > 0.6,
        "flagged": probs.max(axis=1) < 0.3,
    }
    return evaluate_predictions(probs, labels, **(options | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "k", "seed"), [(400, 7, 0), (25, 12, 1), (60, 2, 2)])
def test_agrees_with_scikit_learn(n: int, k: int, seed: int) -> None:
    probs, labels = sample(n, k, seed)
    predicted, names = probs.argmax(axis=1), range(k)
    result = measure(probs, labels)
    assert np.array_equal(result.confusion, confusion_matrix(labels, predicted, labels=names))
    assert result.accuracy == pytest.approx((predicted == labels).mean())
    assert result.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    recalls = recall_score(labels, predicted, labels=names, average=None, zero_division=np.nan)
    precisions = precision_score(labels, predicted, labels=names, average=None, zero_division=np.nan)
    assert [np.nan if row.recall is None else row.recall for row in result.per_class] == pytest.approx(
        list(recalls), nan_ok=True
    )
    assert [np.nan if row.precision is None else row.precision for row in result.per_class] == pytest.approx(
        list(precisions), nan_ok=True
    )
    assert result.log_loss == pytest.approx(log_loss(labels, probs, labels=names))
    assert result.brier == pytest.approx(brier_score_loss(labels, probs, labels=names, scale_by_half=False))


def test_balanced_accuracy_agrees_with_scikit_learn() -> None:
    probs, labels = sample(400, 5)
    assert measure(probs, labels).balanced_accuracy == pytest.approx(
        balanced_accuracy_score(labels, probs.argmax(axis=1))
    )


def test_a_small_case_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    labels = np.array([0, 0, 1, 1])
    result = evaluate_predictions(
        probs,
        labels,
        classes=["cat", "dog"],
        accepted=np.array([True, True, False, True]),
        flagged=np.array([False, False, True, False]),
    )
    assert result.confusion == ((2, 0), (1, 1))
    assert (result.n, result.n_correct, result.accuracy, result.balanced_accuracy) == (4, 3, 0.75, 0.75)
    cat, dog = result.per_class
    assert (cat.label, cat.n, cat.n_predicted, cat.recall, cat.f1) == ("cat", 2, 3, 1.0, pytest.approx(0.8))
    assert (dog.precision, dog.recall, dog.f1) == (1.0, 0.5, pytest.approx(2 / 3))
    assert (cat.precision_low, cat.precision_high) == wilson_interval(2, 3)
    assert (dog.recall_low, dog.recall_high) == wilson_interval(1, 2)
    assert (result.accuracy_low, result.accuracy_high) == wilson_interval(3, 4)
    deferral = result.deferral
    assert (deferral.n_accepted, deferral.n_wrong, deferral.coverage) == (3, 1, 0.75)
    assert deferral.error == pytest.approx(1 / 3)
    assert (deferral.error_low, deferral.error_high) == wilson_interval(1, 3)
    assert (deferral.coverage_low, deferral.coverage_high) == wilson_interval(3, 4)
    assert (result.ood.n_flagged, result.ood.rate) == (1, 0.25)
    assert (result.ood.rate_low, result.ood.rate_high) == wilson_interval(1, 4)


def test_losses_have_intervals_around_them() -> None:
    result = measure(*sample(300, 4))
    for name in ("log_loss", "brier"):
        low, value, high = (getattr(result, name + end) for end in ("_low", "", "_high"))
        assert low < value < high


def test_few_pictures_give_no_drawn_interval() -> None:
    """Of one picture it used to have no width: log-loss 0.023 (0.023 to 0.023)."""
    ends = [f"{name}_{end}" for name in ("log_loss", "brier", "ece") for end in ("low", "high")]
    assert {getattr(measure(*sample(29, 3)), end) for end in ends} == {None}
    assert None not in {getattr(measure(*sample(30, 3)), end) for end in ends}
    assert measure(*sample(29, 3)).accuracy_low > 0  # Wilson's holds for few


def test_an_absent_class_has_no_recall_and_spoils_no_mean() -> None:
    result = measure(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]), np.array([0, 1]))
    absent = result.per_class[2]
    assert (absent.n, absent.recall, absent.precision, absent.f1) == (0, None, None, None)
    assert (absent.recall_low, absent.recall_high) == (0.0, 1.0)
    assert (result.macro_f1, result.balanced_accuracy) == (1.0, 1.0)


def test_when_nothing_is_accepted_there_is_no_error_to_tell() -> None:
    deferral = measure(*sample(30, 3), accepted=np.zeros(30, dtype=bool)).deferral
    assert (deferral.coverage, deferral.error) == (0.0, None)
    assert (deferral.error_low, deferral.error_high) == (0.0, 1.0)


def test_as_json_is_plain_flat_and_stable() -> None:
    plain = measure(*sample(40, 3)).as_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == [
        *("n", "n_correct", "accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "macro_f1"),
        *(
            "log_loss",
            "log_loss_low",
            "log_loss_high",
            "brier",
            "brier_low",
            "brier_high",
            "ece",
            "ece_low",
            "ece_high",
        ),
        *("classes", "per_class", "confusion", "reliability", "deferral", "ood", "shifted"),
    ]
    assert plain["per_class"][0]["label"] == "c0"
    assert sum(map(sum, plain["confusion"])) == 40
    assert set(plain["deferral"]) >= {"coverage", "error", "error_low", "error_high", "n_accepted", "n_wrong"}
    assert plain["ood"]["rate"] == plain["ood"]["n_flagged"] / 40
    assert plain["shifted"]["n_flagged"] == 0
    assert 0 <= plain["ece_low"] <= plain["ece"] <= plain["ece_high"]


def test_what_is_shifted_is_counted_by_itself() -> None:
    shifted = np.arange(40) < 7
    result = measure(*sample(40, 3), shifted=shifted)
    assert (result.shifted.n_flagged, result.shifted.rate) == (7, 7 / 40)
    assert (result.shifted.rate_low, result.shifted.rate_high) == wilson_interval(7, 40)
    with pytest.raises(InvalidInput, match="shifted: got bool of shape"):
        measure(*sample(40, 3), shifted=shifted[:5])


def test_as_json_of_reliability_is_whole() -> None:
    plain = measure(*sample(40, 3)).as_json()
    assert sum(row["n"] for row in plain["reliability"]) == 40


def test_works_on_float32() -> None:
    probs, labels = sample(50, 4)
    assert measure(probs.astype(np.float32), labels).log_loss == pytest.approx(measure(probs, labels).log_loss, 1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["a"]}, "want 3 different names"),
        ({"classes": ["a", "b", "a"]}, "want 3 different names"),
        ({"accepted": np.ones(4, dtype=bool)}, "accepted: got bool of shape"),
        ({"flagged": np.ones(5)}, "flagged: got float64"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        measure(*sample(5, 3), **changes)
