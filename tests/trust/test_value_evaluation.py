from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from drivetrain.errors import InvalidInput
from drivetrain.trust.value_evaluation import ValueEvaluation, evaluate_values


def given(n: int = 200, *, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    targets = rng.normal((50, 1e6), (10, 5), (n, 2))
    values = targets + rng.normal((1, 0), (2, 4), (n, 2))
    width = np.array([4.0, 8.0])
    return {
        "values": values,
        "targets": targets,
        "classes": ["length", "mass"],
        "intervals": np.stack([values - width, values + width], axis=-1),
        "accepted": np.arange(n) % 4 > 0,
        "flagged": np.arange(n) % 4 == 0,
    }


def measure(**changes: Any) -> ValueEvaluation:
    return evaluate_values(**{**given(), **changes})


def test_numbers_are_those_of_scikit_learn() -> None:
    parts, found = given(), measure()
    for at, row in enumerate(found.per_value):
        said, true = parts["values"][:, at], parts["targets"][:, at]
        assert row.mae == pytest.approx(mean_absolute_error(true, said))
        assert row.rmse == pytest.approx(root_mean_squared_error(true, said))
        assert row.r2 == pytest.approx(r2_score(true, said))
        assert row.bias == pytest.approx((said - true).mean())
        assert row.truth_spread == pytest.approx(true.std())
    assert [row.name for row in found.per_value] == ["length", "mass"]
    assert found.deferral.n_accepted == 150
    accepted = parts["accepted"]
    mae = mean_absolute_error(parts["targets"][accepted], parts["values"][accepted], multioutput="raw_values")
    assert found.deferral.mae == pytest.approx(tuple(mae))
    assert found.ood.n_flagged == 50


def test_coverage() -> None:
    parts, found = given(), measure()
    inside = np.abs(parts["values"] - parts["targets"]) <= (4, 8)
    assert [row.covered for row in found.per_value] == pytest.approx(list(inside.mean(axis=0)))
    assert [row.interval_width for row in found.per_value] == pytest.approx([8, 16])
    assert found.per_value[0].covered_low < found.per_value[0].covered  # type: ignore[operator]
    none = measure(intervals=None)
    row = none.per_value[0]
    assert (row.covered, row.covered_low, row.covered_high, row.interval_width) == (None, 0, 1, None)
    half = given()["intervals"]
    half[:, 1] = np.nan
    assert [row.covered is None for row in measure(intervals=half).per_value] == [False, True]


def test_intervals_hold_what_they_say() -> None:
    world = measure(**given(200_000)).per_value[0]
    missed = np.zeros(4)
    for seed in range(60):
        row = measure(**given(80, seed=seed + 1)).per_value[0]
        missed += [
            not row.mae_low <= world.mae <= row.mae_high,
            not row.rmse_low <= world.rmse <= row.rmse_high,
            not row.r2_low <= world.r2 <= row.r2_high,  # type: ignore[operator]
            not row.bias_low <= world.bias <= row.bias_high,
        ]
    assert (missed <= 10).all(), missed
    assert measure() == measure()


def test_truth_that_never_varies_has_no_r2() -> None:
    found = measure(targets=np.full((200, 2), 7.0))
    assert (found.per_value[0].r2, found.per_value[0].r2_low, found.per_value[0].r2_high) == (None, 0.0, 1.0)
    json.dumps(found.as_json(), allow_nan=False)


def test_none_accepted_and_one_picture() -> None:
    assert measure(accepted=np.zeros(200, bool)).deferral.mae is None
    parts = {name: part if name == "classes" else part[:1] for name, part in given().items()}
    one = measure(**parts)
    ends = [f"{name}_{end}" for name in ("mae", "rmse", "r2", "bias") for end in ("low", "high")]
    assert {getattr(one.per_value[0], end) for end in ends} == {None}  # they used to have no width
    json.dumps(one.as_json(), allow_nan=False)


def test_as_json_says_its_task() -> None:
    plain = measure().as_json()
    assert next(iter(plain.items())) == ("task", "regression")
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["classes"] == ["length", "mass"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"values": np.zeros((0, 2)), "targets": np.zeros((0, 2))}, "values"),
        ({"values": np.zeros((200, 3))}, "values"),
        ({"targets": np.full((200, 2), np.nan)}, "values"),
        ({"classes": ["a"]}, "classes"),
        ({"accepted": np.zeros(3, bool)}, "accepted"),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        measure(**changes)
    assert caught.value.field == field
