from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from drivetrain.flows.rollout_drift import FIRST_PART, measure_drift
from drivetrain.flows.rollout_evidence import Row
from drivetrain.rollout.evidence import Outcome
from drivetrain.store.requests import Routed
from drivetrain.trust.estimate import wilson_interval
from drivetrain.trust.sequential import rate_interval

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def rows(answers: Iterable[dict[str, Any] | None]) -> list[Row]:
    found = []
    for k, answer in enumerate(answers):
        routed = Routed(
            prediction_id=str(k), deployment_id="d", seq=k + 1, at=0.0, key="k", in_scope=True, propensity=0.0,
            decided_by="people", candidate=answer, state="done", wants_label=False, label_probability=1.0,
        )  # fmt: skip
        outcome = Outcome(at=BEGAN + timedelta(minutes=k), candidate=None, incumbent=None, review="none")
        found.append(Row(routed=routed, outcome=outcome, floor=1.0, is_of_step=True))
    return found


def said(label: str = "bear", *reasons: str) -> dict[str, Any]:
    return {"label": label, "decision": "defer" if reasons else "accept", "reasons": list(reasons)}


def series(told: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [one for one in told["series"] if one["name"] == name]
    return dict(found)


def test_nothing_came() -> None:
    told = measure_drift(rows([None, None]))
    assert (told["n"], told["series"], told["windows"], told["changed"]) == (0, [], [], [])


def test_shares_over_time_and_against_the_first_part() -> None:
    early = [said("bear")] * 180 + [said("wolf", "unknown")] * 20
    late = [said("bear", "shifted")] * 150 + [said("wolf")] * 50
    told = measure_drift(rows([*early, None, *late]))  # one that the candidate was not asked
    assert told["n"] == 400
    assert [one["name"] for one in told["series"]] == [
        "unknown", "shifted", "left to people", "decided as bear", "decided as wolf",
    ]  # fmt: skip
    shifted = series(told, "shifted")
    assert len(shifted["windows"]) == 16
    assert shifted["windows"][0] == {"n": 25, "share": 0.0, "low": 0.0, "high": wilson_interval(0, 25)[1]}
    assert shifted["windows"][-1]["share"] == 0.0
    low, high = rate_interval(150, 200, alpha=0.05 / 10)  # five series, two sequences each
    assert shifted["compared"]["since"] == {"n": 200, "share": 0.75, "low": low, "high": high}
    assert shifted["compared"]["is_changed"]
    assert told["changed"] == ["shifted", "left to people"]
    assert not series(told, "decided as wolf")["compared"]["is_changed"]  # 10 % and 25 % may be the same yet
    assert told["windows"][0] == {"from": "2026-01-01T00:00+00:00", "to": "2026-01-01T00:24+00:00"}


def test_the_first_part_and_its_classes_are_fixed_before_the_rest_comes() -> None:
    first = [said("bear")] * FIRST_PART
    told = measure_drift(rows(first))
    assert all(one["compared"] is None for one in told["series"])
    later = measure_drift(rows(first + [said("zebra")] * 300))
    assert [one["name"] for one in later["series"]] == [one["name"] for one in told["series"]]
    assert series(later, "decided as bear")["compared"]["first"]["n"] == FIRST_PART
    assert "decided as bear" in later["changed"]


def test_at_most_six_classes_the_most_frequent_ones() -> None:
    answers = [said(label) for k, label in enumerate("abcdefghij") for _ in range(20 - k)]
    names = [one["name"] for one in measure_drift(rows(answers))["series"] if one["is_class"]]
    assert names == [f"decided as {label}" for label in "abcdef"]


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_what_does_not_change_is_rarely_called_changed_however_often_one_looks(share: float) -> None:
    false = 0
    for seed in range(60):
        drawn = np.random.default_rng(seed).random(1_000) < share
        answers = rows([said("bear", *(["unknown"] if one else [])) for one in drawn])
        looks = (measure_drift(answers[:n]) for n in range(250, 1_001, 150))
        false += any(look["changed"] for look in looks)
    assert false <= 3  # 5 % of 60
