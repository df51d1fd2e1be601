from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.rollout.evidence import Evidence, Outcome
from drivetrain.rollout.gates import GateConfig, Readiness, asked_at, judge_gate, judge_harm
from drivetrain.rollout.stages import Stage
from drivetrain.rollout.two_arms import ShareCheck

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
STAGES: tuple[Stage, ...] = ("manual", "limited", "expanding")
READY = Readiness(has_datasheet=True, has_premortem=True)


def labelled(number: int, *, is_wrong: bool, incumbent_wrong: bool | None = None) -> Outcome:
    """A request every half hour, all of them reviewed."""
    return Outcome(
        at=NOON + timedelta(minutes=30 * number),
        candidate="wolf" if is_wrong else "bear",
        incumbent=None if incumbent_wrong is None else "fox" if incumbent_wrong else "bear",
        review="labelled",
        truth="bear",
    )


def evidence_of(n: int, wrong: int) -> Evidence:
    return Evidence.of(labelled(number, is_wrong=number < wrong) for number in range(n))


def missing(evidence: Evidence, config: GateConfig, ready: Readiness = READY) -> set[str]:
    return {one.name for one in judge_gate(evidence, config, ready).missing}


def test_the_gate_opens_when_all_is_shown() -> None:
    config = GateConfig(bound=0.05)
    result = judge_gate(evidence_of(200, 2), config, READY)
    assert {one.name for one in result.missing} == {"classes"}  # wolf was decided twice only
    assert judge_gate(evidence_of(200, 0), config, READY).is_met
    assert "0 wrong of 200 labelled" in result.criteria[0].sentence or "2 wrong of 200" in result.criteria[0].sentence


@pytest.mark.parametrize(
    ("config", "ready", "lacks"),
    [
        ({"bound": 0.01}, READY, "error"),
        ({"n_min": 201}, READY, "requests"),
        ({"class_min": 201}, READY, "classes"),
        ({"hours_min": 101}, READY, "hours"),
        ({"defer_max": 0.001}, Readiness(has_datasheet=True, has_premortem=True, open_alerts=1), "alerts"),
        ({}, Readiness(has_premortem=True), "datasheet"),
        ({}, Readiness(has_datasheet=True), "pre-mortem"),
        ({}, Readiness(has_datasheet=True, has_premortem=True, backlog=3), "backlog"),
    ],
)
def test_each_criterion_alone_holds_it(config: dict[str, Any], ready: Readiness, lacks: str) -> None:
    full = GateConfig(**({"bound": 0.05} | config))
    assert missing(evidence_of(200, 0), full, ready) == {lacks}


@pytest.mark.parametrize(
    ("count", "told"), [(0, "No alert is open."), (1, "1 alert is open."), (2, "2 alerts are open.")]
)
def test_alerts_are_told(count: int, told: str) -> None:
    judged = judge_gate(evidence_of(200, 0), GateConfig(bound=0.05), Readiness(open_alerts=count))
    assert told in [one.sentence for one in judged.criteria if one.name == "alerts"]


def test_night_must_be_seen() -> None:
    day = Evidence.of(
        Outcome(
            at=NOON + timedelta(days=number // 8, hours=number % 8),
            candidate="a",
            incumbent=None,
            review="labelled",
            truth="a",
        )
        for number in range(300)
    )
    assert missing(day, GateConfig(bound=0.05)) == {"hours of the day"}


def test_too_much_deferred_holds_it() -> None:
    requests = [labelled(number, is_wrong=False) for number in range(150)]
    requests += [Outcome(at=NOON, candidate=None, incumbent=None, review="labelled", truth="bear") for _ in range(50)]
    assert missing(Evidence.of(requests), GateConfig(bound=0.05, defer_max=0.2, hours_min=0)) == {"deferred"}
    assert not missing(Evidence.of(requests), GateConfig(bound=0.05, defer_max=0.3, hours_min=0))


def test_it_says_how_many_more_it_takes() -> None:
    criterion = judge_gate(evidence_of(40, 0), GateConfig(bound=0.05, n_min=0, hours_min=0), READY).missing[0]
    assert criterion.name == "error"
    assert criterion.more is not None
    assert f"about {criterion.more:,} more requests" in criterion.sentence
    enough = evidence_of(40 + criterion.more, 0)
    assert not missing(enough, GateConfig(bound=0.05, n_min=0, hours_min=0))
    short = evidence_of(40 + criterion.more - 3, 0)
    assert missing(short, GateConfig(bound=0.05, n_min=0, hours_min=0)) == {"error"}
    never = judge_gate(evidence_of(100, 20), GateConfig(bound=0.05), READY).missing[0]
    assert never.more is None


def test_not_worse_and_better_are_two_questions() -> None:
    """Both are right, but for 3 % each: as good. So "not worse by 3 points" is shown, and "better" is not."""
    requests = [
        labelled(number, is_wrong=number % 33 == 0, incumbent_wrong=number % 33 == 7) for number in range(3_000)
    ]
    evidence = Evidence.of(requests)
    assert not missing(evidence, GateConfig(margin=0.03, has_incumbent=True))
    assert missing(evidence, GateConfig(margin=0.0, has_incumbent=True)) == {"against the incumbent"}
    both = GateConfig(margin=0.03, bound=0.02, has_incumbent=True)
    assert missing(evidence, both) == {"error"}  # every criterion given


def test_untold_pairs_hold_a_promotion_and_are_no_harm() -> None:
    requests = [labelled(number, is_wrong=False, incumbent_wrong=number % 10 == 0) for number in range(600)]
    config = GateConfig(margin=0.0, has_incumbent=True)
    assert not missing(Evidence.of(requests), config)
    untold = [
        Outcome(at=one.at, candidate=one.candidate, incumbent=one.incumbent, review="unclear")
        if one.candidate != one.incumbent
        else one
        for one in requests
    ]
    assert missing(Evidence.of(untold), config) == {"against the incumbent"}
    assert not judge_harm(Evidence.of(untold), config).is_met


def test_harm_is_told_and_its_alpha_is_shared() -> None:
    config = GateConfig(bound=0.05, margin=0.02, has_incumbent=True)
    bad = Evidence.of(labelled(number, is_wrong=number % 4 == 0, incumbent_wrong=False) for number in range(300))
    result = judge_harm(bad, config)
    assert {one.name for one in result.criteria if one.is_met} == {"harm: errors", "harm: against the incumbent"}
    assert result.criteria[0].needed == pytest.approx(np.log(3 / 0.05))
    fine = Evidence.of(labelled(number, is_wrong=number % 50 == 0, incumbent_wrong=False) for number in range(300))
    assert not judge_harm(fine, config).is_met
    failing = Evidence.of(
        Outcome(at=NOON, candidate=None, incumbent=None, review="none", is_failed=number % 5 == 0)
        for number in range(100)
    )
    assert {one.name for one in judge_harm(failing, config).criteria if one.is_met} == {"harm: failures"}


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({}, "bound"),
        ({"margin": 0.02}, "margin"),
        ({"has_incumbent": True}, "neither"),
        ({"bound": 1.5}, "bound 1.5"),
        ({"bound": 0.05, "alpha": 0.0}, "alpha 0"),
        ({"bound": 0.05, "n_min": -1}, "n_min"),
        ({"bound": 0.05, "day_hours_min": 25}, "day_hours_min"),
    ],
)
def test_what_makes_no_sense_is_refused(config: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidConfig, match=what):
        GateConfig(**config)


def test_without_shadow_a_stage_asks_what_can_be_seen_there() -> None:
    config = GateConfig(bound=0.05, margin=0.02, has_incumbent=True)
    conditions = {"alerts", "datasheet", "pre-mortem", "backlog"}
    asked = {
        stage: {
            one.name for one in judge_gate(Evidence(), config, READY, asked=asked_at(stage, has_shadow=False)).criteria
        }
        for stage in ("manual", "limited", "expanding")
    }
    assert asked["manual"] == conditions
    assert asked["limited"] == conditions | {"error", "requests", "hours", "hours of the day", "classes"}
    assert asked["expanding"] == asked["limited"] | {"against the incumbent"}
    assert all(asked_at(stage, has_shadow=True) == "all" for stage in asked)


def test_keys_that_go_elsewhere_hold_it() -> None:
    config = GateConfig(bound=0.05)
    shares = ShareCheck()
    judged = judge_gate(evidence_of(200, 0), config, READY, shares=shares)
    assert "sample ratio" not in {one.name for one in judged.criteria}  # no key had a choice
    for number in range(200):
        shares.add(0.5, is_candidate=number % 2 == 0)
    assert judge_gate(evidence_of(200, 0), config, READY, shares=shares).is_met
    for _ in range(100):
        shares.add(0.5, is_candidate=True)
    [lacking] = judge_gate(evidence_of(200, 0), config, READY, shares=shares).missing
    assert lacking.name == "sample ratio"
    assert lacking.sentence == "200 of 300 keys got the candidate where 50 % should have."


def test_as_json_is_plain() -> None:
    told = judge_gate(evidence_of(10, 1), GateConfig(bound=0.05), READY).as_json()
    assert told["is_met"] is False
    assert {"name", "is_met", "sentence", "log_e", "needed", "more"} == set(told["criteria"][0])
