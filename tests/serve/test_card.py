"""The numbers on a model's card: of classes, labels and values, and of a manifest that is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.serve.page.card_numbers import list_facts, list_limits, list_promise, tell_each
from drivetrain.task import Task

PERCENT = "\N{NO-BREAK SPACE}%"
HEIGHT: dict[str, Any] = {
    "name": "height", "mae": 1.3377, "mae_low": 1.1, "mae_high": 1.56, "r2": 0.99785, "r2_low": 0.99, "r2_high": 0.999,
    "bias": -0.03901, "covered": 0.9875, "covered_low": 0.93, "covered_high": 0.998,
}  # fmt: skip
WIDTH = {**HEIGHT, "name": "width", "mae": 36.07, "bias": 0.8978}
INTERVAL = {"coverage": 0.95, "half_widths": [4.4012]}


def plain(text: object) -> str:
    return str(text).replace("\N{NO-BREAK SPACE}", " ")


def test_facts_of_one_value_stand_alone() -> None:
    told = {"n": 80, "per_value": [HEIGHT], "deferral": {"coverage": 0.9, "coverage_low": 0.8, "coverage_high": 0.95}}
    facts = [tuple(map(plain, fact)) for fact in list_facts(told, "regression")]
    assert facts == [
        ("Pictures", "80", "held out of its training"),
        ("Off by, on average", "1.338", "1.1 to 1.56"),
        ("R²", "0.998", "0.990 to 0.999"),
        ("Answers by itself", "90.0 %", "80.0 % to 95.0 %"),
    ]
    assert tell_each(told, "regression") == ("Each value", None)


def test_several_values_are_a_table() -> None:
    told = {"n": 80, "per_value": [HEIGHT, WIDTH]}
    assert [what for what, _, _ in list_facts(told, "regression")] == ["Pictures"]
    title, table = tell_each(told, "regression")
    assert title == "Each value"
    assert table is not None
    assert table.rows == [
        ["height", "1.338", "1.1 to 1.56", "0.998", "-0.039"],
        ["width", "36.07", "1.1 to 1.56", "0.998", "0.90"],
    ]


def test_facts_of_labels_have_two_digits() -> None:
    told = {"n": 84, "exact": 0.976, "macro_f1": 0.99318, "macro_f1_low": 0.982, "macro_f1_high": 1.0, "ece": 0.0223}
    facts = {what: (plain(number), plain(between)) for what, number, between in list_facts(told, "multilabel")}
    assert facts["F1"] == ("0.99", "0.98 to 1.00")
    assert facts["Calibration error"] == ("2.2 %", "")
    assert "Leaves no label open" not in facts  # nobody counted
    told["deferral"] = {"coverage": 0.5357}  # type: ignore[assignment]
    assert ("Leaves no label open", f"53.6{PERCENT}", "") in list_facts(told, "multilabel")


def test_promise_of_values_is_told_by_value() -> None:
    one = list_promise({"interval": INTERVAL}, {"per_value": [HEIGHT]}, "regression")
    assert [tuple(map(plain, row)) for row in one] == [
        ("The true value lies", "within 4.401 of its answer, in 95 %"),
        ("It did in", "98.8 % of the pictures held out (93.0 % to 99.8 %)"),
    ]
    two = {"interval": {"coverage": 0.95, "half_widths": [4.4, 75.4]}}
    named = list_promise(two, {"per_value": [HEIGHT, WIDTH]}, "regression")
    assert [what for what, _ in named] == ["height", "It did in", "width", "It did in"]


def test_limits_of_labels() -> None:
    def limit(above: float, below: float, *, there: bool, absent: bool) -> dict[str, Any]:
        sides = {"present": {"is_certified": there}, "absent": {"is_certified": absent}}
        return {"present_above": above, "absent_below": below, **sides}

    policy = {"labels": [limit(0.95, 0.05, there=True, absent=True), limit(0.8, 0.125, there=False, absent=True)]}
    table = list_limits(policy, ("cat", "dog"))
    assert table is not None
    assert [[plain(cell) for cell in row] for row in table.rows] == [
        ["cat", "95 %", "5 %", "both"],
        ["dog", "80 %", "12.5 %", "that it is not"],
    ]
    assert list_limits(policy, ("cat",)) is None


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize(
    "strange",
    [
        None,
        7,
        {"n": "x", "per_value": 3},
        {"per_value": [1, {"name": 2}], "per_label": "x"},
        {"deferral": 5, "n": True},
    ],
)
def test_what_is_no_number_is_left_out(strange: object, task: Task) -> None:
    assert list_facts(strange, task) == []
    assert tell_each(strange, task)[1] is None
    policies: list[dict[str, Any]] = [
        {}, {"interval": 3, "promise": 3}, {"interval": {"coverage": 0.9, "half_widths": "x"}}, {"labels": [1]},
    ]  # fmt: skip
    for policy in policies:
        assert list_promise(policy, strange, task) == []
        assert list_limits(policy, ("cat",)) is None
    wide = {"interval": {"coverage": 0.9, "half_widths": [float("inf")]}}
    assert list_promise(wide, {"per_value": [{"name": "height"}]}, "regression") == []
