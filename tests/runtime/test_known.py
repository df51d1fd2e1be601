"""The out-of-domain rule of a bundle, as a stranger may have written it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from drivetrain.errors import BundleRefused
from drivetrain.flows.fit_known import fit_known
from drivetrain.runtime.known import KnownRule
from drivetrain.trust.ood import find_surest

D = 12
EVEN = (0.0, 1 / 3)  # the surest of three equal logits


Made = tuple[dict[str, Any], dict[str, np.ndarray]]


def make(*, by_class: bool) -> Made:
    rng = np.random.default_rng(0)
    features, held_out = rng.random((60, D), dtype=np.float32), rng.random((30, D), dtype=np.float32)
    known, logits = rng.normal(size=(60, 3)), rng.normal(size=(30, 3))
    given = {"known_logits": known, "valid_logits": logits, "calibrated": logits} if by_class else {}
    made = fit_known(features, np.arange(60) % 3, held_out, np.arange(30), [], **given)
    return {"ood": dict(made.section)}, dict(made.arrays)


@pytest.fixture(scope="module")
def honest() -> Made:
    return make(by_class=True)


@pytest.fixture(scope="module")
def classless() -> Made:
    return make(by_class=False)


def refuse(decision: dict[str, Any], arrays: dict[str, np.ndarray]) -> BundleRefused:
    with pytest.raises(BundleRefused) as caught:
        KnownRule(decision, arrays, feature_count=D, output_count=3)
    assert caught.value.code == "bundle_manifest"
    return caught.value


def test_an_honest_rule_opens(honest: Any) -> None:
    rule = KnownRule(*honest, feature_count=D, output_count=3)
    score, p_value, is_unknown = rule.judge(np.ones(D, np.float32), np.zeros(3), EVEN)
    assert np.isfinite(score)
    assert 0 < p_value <= 1
    assert is_unknown == (p_value <= 0.05)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 9e14])
@pytest.mark.parametrize("by_class", [True, False])
def test_any_features_and_logits_below_1e15_get_a_finite_score(by_class: bool, scale: float) -> None:
    rule = KnownRule(*make(by_class=by_class), feature_count=D, output_count=3)
    logits = np.array([scale, -scale, 0.0])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for features in (np.full(D, scale, np.float32), -np.full(D, scale, np.float32)):
            assert np.isfinite(rule.judge(features, logits, find_surest(1000 * logits))[0])


@pytest.mark.parametrize(
    "name",
    ["ood_centre", "ood_basis", "ood_known", "ood_whiten", "ood_means", "ood_calibration"],
)
@pytest.mark.parametrize("spoil", ["missing", "nan", "inf", "integers", "another shape", "none", "too many sides"])
@pytest.mark.parametrize("by_class", [True, False])
def test_arrays_that_do_not_fit(name: str, spoil: str, by_class: bool) -> None:
    decision, arrays = make(by_class=by_class)
    if name not in arrays:
        assert by_class
        assert name in ("ood_whiten", "ood_means")
        return
    array = arrays[name]
    spoilt = {
        "nan": np.full_like(array, np.nan),
        "inf": np.full_like(array, np.inf),
        "integers": np.ones(array.shape, np.int64),
        "another shape": np.ones((3,) if array.ndim == 2 else (7, 7), np.float32),
        "none": np.zeros((0,) * array.ndim, np.float32),
        "too many sides": np.ones((1, *array.shape), np.float32),
    }
    changed = {key: value for key, value in arrays.items() if key != name}
    if spoil != "missing":
        changed[name] = spoilt[spoil]
    if (name, spoil) == ("ood_calibration", "none"):
        rule = KnownRule(decision, changed, feature_count=D, output_count=3)
        assert rule.judge(np.ones(D), np.zeros(3), EVEN)[1] == 1  # says nothing
        return
    error = refuse(decision, changed)
    assert name in error.field or spoil in ("none", "another shape")  # what they must fit is named too


@pytest.mark.parametrize(
    ("name", "largest"),
    [("ood_centre", 1.1), ("ood_basis", 1.1), ("ood_known", 1e7), ("ood_whiten", 1e7), ("ood_means", 1e30)],
)
def test_numbers_that_are_too_large(classless: Any, name: str, largest: float) -> None:
    decision, arrays = classless
    changed = arrays[name].astype(np.float64)
    changed.flat[0] = -largest
    error = refuse(decision, {**arrays, name: changed})
    assert error.field == f"reference.npz/{name}"
    assert "numbers as large as" in str(error.got)


def test_scores_that_do_not_ascend(honest: Any) -> None:
    decision, arrays = honest
    error = refuse(decision, {**arrays, "ood_calibration": arrays["ood_calibration"][::-1].copy()})
    assert "ascending" in error.want


@pytest.mark.parametrize(
    "keys",
    [
        ("flag_at",),
        ("k",),
        ("parts", "energy", "weight"),
        ("parts", "energy", "centre"),
        ("parts", "neighbour", "spread"),
        ("near", "centre"),
        ("near", "spread"),
        ("far", "begins"),
        ("far", "weight"),
        ("far", "spread"),
        ("total", "spread"),
    ],
)
@pytest.mark.parametrize("value", [None, "1", True, float("nan"), float("inf"), -1e300, [1.0]])
def test_numbers_of_the_manifest_that_are_none(honest: Any, keys: tuple[str, ...], value: Any) -> None:
    decision, arrays = copy.deepcopy(honest[0]), honest[1]
    place = decision["ood"]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    assert refuse(decision, arrays).field == ".".join(("manifest.decision.ood", *keys))


@pytest.mark.parametrize("spread", [0, -1, 1e-300])
def test_a_spread_to_divide_by_is_above_nothing(honest: Any, spread: float) -> None:
    decision = copy.deepcopy(honest[0])
    decision["ood"]["total"]["spread"] = spread
    refuse(decision, honest[1])


@pytest.mark.parametrize("k", [0, 61, 1e9])
def test_there_are_k_known_pictures(honest: Any, k: float) -> None:
    decision = copy.deepcopy(honest[0])
    decision["ood"]["k"] = k
    refuse(decision, honest[1])


@pytest.mark.parametrize(
    "parts", [None, [], {}, {"energy": {}}, {"neighbour": {}, "mahalanobis": {}, "energy": {}}, {"evil": {}}]
)
def test_parts_are_those_there_are(honest: Any, parts: Any) -> None:
    decision = copy.deepcopy(honest[0])
    decision["ood"]["parts"] = parts
    assert refuse(decision, honest[1]).field == "manifest.decision.ood.parts"


@pytest.mark.parametrize("method", ["", None, 3, ["combined"], "evil"])
def test_a_method_nobody_knows(honest: Any, method: Any) -> None:
    decision = {"ood": {**honest[0]["ood"], "method": method}}
    assert refuse(decision, honest[1]).field == "manifest.decision.ood.method"


@pytest.mark.parametrize("section", [None, [], "combined", 1])
def test_a_section_that_is_none(honest: Any, section: Any) -> None:
    assert refuse({"ood": section}, honest[1]).field == "manifest.decision.ood.flag_at"


def test_energy_where_there_are_no_logits_is_left_out(honest: Any) -> None:
    rule = KnownRule(*honest, feature_count=D, output_count=3)
    assert np.isfinite(rule.judge(np.ones(D, np.float32))[0])


def test_logits_are_of_as_many_outputs_as_the_model_has(honest: Any) -> None:
    with pytest.raises(BundleRefused, match="ood_known"):
        KnownRule(*honest, feature_count=D, output_count=4)


def test_bundles_of_before_still_open() -> None:
    """Distance to the k-th nearest known features at length 1, which needs no logits."""
    decision = {"ood": {"method": "nearest_neighbours", "flag_at": 0.1, "k": 1}}
    arrays = {"ood_known": np.eye(2, dtype=np.float16), "ood_calibration": np.linspace(0, 1, 19)}
    rule = KnownRule(decision, arrays, feature_count=2, output_count=3)
    assert rule.judge(np.array([5.0, 0.0]), np.zeros(3)) == pytest.approx((0.0, 1.0, False), abs=1e-3)
    score, p_value, is_unknown = rule.judge(np.array([-5.0, -5.0]), None)
    assert score == pytest.approx((2 + 2**0.5) ** 0.5, abs=1e-3)
    assert (p_value, is_unknown) == (0.05, True)


def test_numbers_are_read_not_guessed(honest: Any) -> None:
    """Another weight, another score: what a later version finds better changes no bundle that is out."""
    decision, arrays = copy.deepcopy(honest[0]), honest[1]
    far = np.eye(1, D, dtype=np.float32)[0]
    before = KnownRule(decision, arrays, feature_count=D, output_count=3).judge(far, np.zeros(3), EVEN)[0]
    for keys in (("parts", "energy", "weight"), ("far", "centre"), ("far", "weight"), ("total", "centre")):
        changed = copy.deepcopy(decision)
        place = changed["ood"]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = 77.0 if keys[-1] != "centre" else -77.0
        after = KnownRule(changed, arrays, feature_count=D, output_count=3).judge(far, np.zeros(3), EVEN)[0]
        assert after != pytest.approx(before, abs=1e-6), keys
