from __future__ import annotations

import json
import math
from typing import Any

import pytest

from drivetrain.errors import BundleRefused, InvalidConfig
from drivetrain.flows.policy_options import PolicyOptions


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_error": 0.0}, "--max-error: got 0.0; want a share from 0.000001 to below 1"),
        ({"max_error": 1.0}, "--max-error: got 1.0"),
        ({"max_defer": math.nan}, "--max-defer: got nan; want a share"),
        ({"ood_alpha": 0.0}, "--ood-alpha: got 0.0; want a share"),
        ({"max_error": 1e-17}, "--max-error: got 1e-17; want a share"),
        ({"ood_alpha": 1e-13}, "--ood-alpha: got 1e-13; want a share"),
        ({"cost_error": 5.0}, "--cost-error: got it alone; want --cost-error and --cost-review together"),
        ({"cost_review": 5.0}, "--cost-review: got it alone"),
        ({"cost_error": -1.0, "cost_review": 1.0}, "--cost-error: got -1.0; want a number above 0"),
        ({"cost_error": 1.0, "cost_review": math.inf}, "--cost-review: got inf; want a number above 0"),
        ({"cost_error": 5.0, "cost_review": 1.0, "max_error": 0.05}, "--max-error: got it with --cost-error"),
        ({"cost_error": 5.0, "cost_review": 1.0, "max_defer": 0.2}, "--max-defer: got it with --cost-error"),
        ({"cost_error": 5.0, "cost_review": 1.0, "per_class": True}, "--per-class: got it with --cost-error"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_is_off(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        PolicyOptions(**options)
    assert told in caught.value.message


def test_what_they_mean() -> None:
    assert PolicyOptions().promised_error == 0.05
    assert PolicyOptions(max_error=0.2).promised_error == 0.2
    assert PolicyOptions().costs is None
    assert PolicyOptions(cost_error=5.0, cost_review=1.0).costs == (5.0, 1.0)
    assert PolicyOptions().share_alpha(with_style=False) == (0.05, 0.0)
    assert PolicyOptions(ood_alpha=0.1).share_alpha(with_style=True) == pytest.approx((0.08, 0.02))


def test_they_survive_a_manifest() -> None:
    for given in (PolicyOptions(), PolicyOptions(max_error=0.02, max_defer=0.3, per_class=True, ood_alpha=0.1)):
        assert PolicyOptions.from_json(json.loads(json.dumps(given.as_json()))) == given
    assert PolicyOptions.from_json(None) == PolicyOptions()


@pytest.mark.parametrize(
    "asked", [{"max_error": "0.05"}, {"max_error": True}, {"per_class": 1}, {"colour": 3}, {"max_error": [1]}]
)
def test_what_a_stranger_says_was_asked(asked: object) -> None:
    with pytest.raises(BundleRefused, match=r"manifest\.decision\.policy\.\w+: got .*; want an option of `certify`"):
        PolicyOptions.from_json(asked)


def test_what_a_stranger_could_not_have_asked() -> None:
    with pytest.raises(BundleRefused, match=r"manifest\.decision\.policy: got --max-error 2.0; want a share"):
        PolicyOptions.from_json({"max_error": 2.0})
    with pytest.raises(BundleRefused, match="got --cost-error it alone"):
        PolicyOptions.from_json({"cost_error": 2.0})


def test_what_has_no_meaning_for_other_tasks() -> None:
    for options in (PolicyOptions(per_class=True), PolicyOptions(cost_error=2.0, cost_review=1.0)):
        options.check_task("classification")
        with pytest.raises(InvalidConfig, match="it for a model of regression; want a model that tells classes apart"):
            options.check_task("regression")
