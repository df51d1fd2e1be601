from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, hamming_loss, precision_score, recall_score

from drivetrain.errors import InvalidInput
from drivetrain.trust.label_evaluation import MultiLabelEvaluation, average_precision, evaluate_labels


def given(n: int = 240, k: int = 4, *, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.random((n, k)) < np.linspace(0.1, 0.6, k)
    probs = np.clip(rng.normal(0.3 + 0.35 * truth, 0.2).round(2), 0, 1)
    return {
        "probs": probs,
        "targets": truth.astype(np.float32),
        "classes": [f"l{at}" for at in range(k)],
        "guessed": probs > 0.4,
        "decided": np.abs(probs - 0.4) > 0.2,
        "flagged": np.arange(n) % 10 == 0,
    }


def measure(**changes: Any) -> MultiLabelEvaluation:
    return evaluate_labels(**{**given(), **changes})


def test_numbers_are_those_of_scikit_learn() -> None:
    parts = given()
    truth, guessed = parts["targets"].astype(bool), parts["guessed"]
    found = measure()
    assert found.macro_f1 == pytest.approx(f1_score(truth, guessed, average="macro"))
    assert found.micro_f1 == pytest.approx(f1_score(truth, guessed, average="micro"))
    assert found.macro_average_precision == pytest.approx(average_precision_score(truth, parts["probs"]))
    assert found.wrong_share == pytest.approx(hamming_loss(truth, guessed))
    for at, row in enumerate(found.per_label):
        assert row.precision == pytest.approx(precision_score(truth[:, at], guessed[:, at]))
        assert row.recall == pytest.approx(recall_score(truth[:, at], guessed[:, at]))
        assert row.average_precision == pytest.approx(average_precision_score(truth[:, at], parts["probs"][:, at]))
        assert (row.n, row.n_predicted) == (truth[:, at].sum(), guessed[:, at].sum())
        wrong = (truth[:, at] != guessed[:, at]) & parts["decided"][:, at]
        assert (row.n_decided, row.n_wrong) == (parts["decided"][:, at].sum(), wrong.sum())


def test_pictures_are_counted_whole() -> None:
    parts = given()
    truth = parts["targets"].astype(bool)
    wrong = truth != parts["guessed"]
    found = measure()
    assert found.n_exact == (~wrong).all(axis=1).sum()
    whole = parts["decided"].all(axis=1)
    assert found.deferral.n_accepted == whole.sum()
    assert found.deferral.n_wrong == (wrong.any(axis=1) & whole).sum()
    assert (found.ood.n_flagged, found.ood.rate) == (24, 0.1)


def test_intervals_hold_what_they_say() -> None:
    """Of 100 draws of 100 pictures, the interval misses the truth of a large world in a few."""
    world = measure(**given(100_000))
    missed = np.zeros(3)
    for seed in range(60):
        one = measure(**given(100, seed=seed + 1))
        row, true = one.per_label[2], world.per_label[2]
        missed += [
            not one.macro_f1_low <= world.macro_f1 <= one.macro_f1_high,  # type: ignore[operator]
            not row.average_precision_low <= true.average_precision <= row.average_precision_high,  # type: ignore[operator]
            not row.f1_low <= true.f1 <= row.f1_high,  # type: ignore[operator]
        ]
    assert (missed <= 10).all(), missed  # 3 expected; percentile intervals of few pictures are a little narrow
    assert measure() == measure()


def test_an_interval_of_a_mean_is_narrower_than_of_its_parts() -> None:
    found = measure()
    assert found.macro_f1_high - found.macro_f1_low < np.mean([row.f1_high - row.f1_low for row in found.per_label])
    assert found.macro_f1_low < found.macro_f1 < found.macro_f1_high  # type: ignore[operator]


def test_few_pictures_give_no_drawn_interval() -> None:
    few, enough = (
        measure(**{name: part if name == "classes" else part[:n] for name, part in given().items()}) for n in (29, 30)
    )
    for found, is_drawn in ((few, False), (enough, True)):
        of_all = [found.macro_f1_low, found.macro_average_precision_high, found.brier_low, found.brier_high]
        of_one = [found.per_label[0].f1_low, found.per_label[0].average_precision_high]
        assert [end is not None for end in of_all + of_one] == [is_drawn] * 6
        assert found.exact_low is not None
    json.dumps(few.as_json(), allow_nan=False)


def test_a_label_that_no_picture_has() -> None:
    parts = given()
    parts["targets"][:, 0] = 0
    parts["guessed"][:, 0] = False
    found = measure(**parts)
    row = found.per_label[0]
    assert (row.recall, row.precision, row.f1, row.average_precision) == (None, None, None, None)
    assert (row.recall_low, row.recall_high, row.f1_low, row.f1_high) == (0, 1, 0, 1)
    assert found.macro_f1 == pytest.approx(f1_score(parts["targets"][:, 1:], parts["guessed"][:, 1:], average="macro"))
    nothing = measure(targets=np.zeros((240, 4), np.float32), guessed=np.zeros((240, 4), bool))
    assert (nothing.macro_f1, nothing.micro_f1, nothing.exact) == (None, None, 1.0)
    json.dumps(nothing.as_json(), allow_nan=False)


def test_as_json_says_its_task() -> None:
    plain = measure().as_json()
    assert next(iter(plain.items())) == ("task", "multilabel")
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert [row["label"] for row in plain["per_label"]] == plain["classes"]


def test_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probs = rng.random((20_000, 1))
    parts = {
        "probs": probs,
        "classes": ["a"],
        "guessed": probs > 0.5,
        "decided": probs > 0.5,
        "flagged": np.zeros(20_000, bool),
    }
    assert measure(**parts, targets=(rng.random((20_000, 1)) < probs).astype(float)).ece < 0.02
    assert measure(**parts, targets=(rng.random((20_000, 1)) < probs**3).astype(float)).ece > 0.15


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"probs": np.zeros((0, 4))}, "probs"),
        ({"probs": np.full((240, 4), 1.5)}, "probs"),
        ({"probs": np.full((240, 4), np.nan)}, "probs"),
        ({"targets": np.full((240, 4), 0.5)}, "targets"),
        ({"targets": np.zeros((240, 3))}, "targets"),
        ({"classes": ["a", "a", "b", "c"]}, "classes"),
        ({"guessed": np.zeros((240, 4))}, "guessed"),
        ({"flagged": np.zeros(239, bool)}, "flagged"),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        measure(**changes)
    assert caught.value.field == field


def test_average_precision_of_ties() -> None:
    has = np.array([True, False, True, False])
    assert average_precision(np.array([0.9, 0.9, 0.1, 0.1]), has) == pytest.approx(0.5)
    assert average_precision(np.array([0.4, 0.3, 0.2, 0.1]), np.zeros(4, bool)) is None
