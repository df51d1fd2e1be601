"""Roll-outs in which each request is asked of one version only, and keys that go where they should."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from drivetrain.errors import Conflict, InvalidConfig
from drivetrain.flows.rollout import advance, close_alert, gather_evidence, judge_now, rollback, watch_harm
from drivetrain.flows.rollout_config import RolloutConfig
from drivetrain.flows.rollout_evidence import EvidenceReader
from drivetrain.flows.rollout_forecast import plan_rollout
from drivetrain.flows.versions import describe_version
from drivetrain.rollout.stages import LADDER
from drivetrain.store.deployments import Deployment
from drivetrain.store.schema_rollout import DEPLOYMENT
from drivetrain.store.store import Store
from drivetrain.store.versions import Version

from .rollout_traffic import Clock, Traffic, begin, make_config, write_bundle

SIGNED = {"by": "ann", "reason": "it is shown"}
KEYS = count()


def begin_parted(store: Store, folder: Path, **changed: Any) -> Deployment:
    """Each request is asked of one version; every automatic decision is labelled."""
    values = {"has_shadow": False, "scope": "site=north", "has_incumbent": True, "margin": 0.2, "bound": None}
    return begin(store, folder, **{**values, "audit_share": 1.0, **changed})


def ask(traffic: Traffic, version: str, label: str | None = "circle", *, share: float = 0.5, **changed: Any) -> None:
    """One request of a key of its own; a circle, whatever was said."""
    said: dict[str, Any] = {version: label, "asked": version, "propensity": share, "key": f"cam-{next(KEYS)}"}
    traffic.send(1, **{**said, **changed})


def stand_at(store: Store, deployment: Deployment, stage: str, share: float) -> Deployment:
    """Without the gates before."""
    with store.database.write() as db:
        db.execute(update(DEPLOYMENT).where(DEPLOYMENT.c.id == deployment.id).values(stage=stage, share=share))
    found = store.deployments.get(deployment.id)
    assert found is not None
    return found


def names(store: Store, deployment: Deployment) -> list[str]:
    return [one.name for one in judge_now(store, deployment).gate.criteria]


def test_old_rows_are_read_and_a_new_start_may_not_change_it(store: Store, clock: Clock, tmp_path: Path) -> None:
    raw = make_config().as_json()
    del raw["has_shadow"]
    assert RolloutConfig.from_json(raw).has_shadow
    begin_parted(store, tmp_path)
    rollback(store, "shapes", **SIGNED)
    clock.now += 1
    with pytest.raises(Conflict, match="got has_shadow True; want has_shadow False"):
        begin_parted(store, tmp_path, has_shadow=True)


def test_where_it_decides_first_must_be_said(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"scope: got everywhere, without shadow"):
        begin_parted(store, tmp_path, scope="")


def test_each_stage_asks_what_can_be_shown_there(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin_parted(store, tmp_path, bound=0.1)
    conditions = ["alerts", "datasheet", "pre-mortem", "backlog"]
    assert names(store, deployment) == conditions
    assert advance(store, "shapes", **SIGNED).after.stage == "limited"
    limited = store.deployments.get("shapes")
    assert limited is not None
    assert names(store, limited)[:2] == ["error", "requests"]
    assert "against the incumbent" not in names(store, limited)
    with pytest.raises(Conflict, match="Not enough evidence yet that fewer than 10 %"):
        advance(store, "shapes", **SIGNED)
    traffic = Traffic(store, clock, deployment)
    for _ in range(60):
        ask(traffic, "candidate", share=1.0)
    assert advance(store, "shapes", **SIGNED).after.share == 0.05
    with pytest.raises(Conflict, match=r"not worse than the incumbent by 20 points \(0 wrong of 0 keys"):
        advance(store, "shapes", **SIGNED)


def test_both_versions_are_compared_a_key_at_a_time(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = stand_at(store, begin_parted(store, tmp_path), "expanding", 0.5)
    traffic = Traffic(store, clock, deployment)
    ask(traffic, "candidate", "square")  # wrong
    ask(traffic, "candidate", None)  # left to people: not wrong
    ask(traffic, "incumbent", "square")
    ask(traffic, "incumbent")
    ask(traffic, "incumbent", key="cam-x")
    ask(traffic, "incumbent", "square", key="cam-x")  # the key was counted
    ask(traffic, "candidate", "square", share=1.0)  # no choice
    ask(traffic, "candidate", is_failed=True, wants_label=False)
    found = gather_evidence(store, deployment)
    arms = found.arms
    assert arms is not None
    assert (arms.candidate_n, arms.candidate_wrong, arms.incumbent_n, arms.incumbent_wrong) == (3, 1, 3, 1)
    assert (found.n, found.n_automatic, found.n_wrong, found.n_deferred, found.n_failed) == (4, 2, 2, 1, 1)
    assert (found.wins, found.losses, found.ties) == (0, 0, 0)
    judged = judge_now(store, deployment)
    assert judged.evidence["whole"]["arms"]["incumbent_n"] == 3
    assert "(1 wrong of 3 keys, the incumbent's 1 of 3)" in judged.gate.criteria[0].sentence


def test_a_key_counts_once_however_often_it_starts(store: Store, clock: Clock, tmp_path: Path) -> None:
    first = stand_at(store, begin_parted(store, tmp_path), "expanding", 0.5)
    ask(Traffic(store, clock, first), "candidate", "square", key="cam-x")
    rollback(store, "shapes", **SIGNED)
    clock.now += 1
    again = stand_at(store, begin_parted(store, tmp_path), "expanding", 0.5)
    for key in ("cam-x", "cam-y"):
        ask(Traffic(store, clock, again), "candidate", key=key)
    reader = EvidenceReader(store, again)
    for _ in range(2):
        found = reader.read()
        assert found.whole.arms is not None
        assert (found.whole.n, found.whole.arms.candidate_n, found.whole.arms.candidate_wrong) == (3, 2, 1)
        assert found.step.arms is not None
        assert found.step.arms.candidate_n == 1
        assert found.shares.counts == {0.5: [0, 2]}


def test_a_label_that_is_awaited_holds_up_both(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = stand_at(store, begin_parted(store, tmp_path), "expanding", 0.5)
    traffic = Traffic(store, clock, deployment)
    ask(traffic, "incumbent", truth=None)
    ask(traffic, "candidate")
    reader = EvidenceReader(store, deployment)
    found = reader.read()
    assert found.whole.arms is not None
    assert (found.whole.n, found.whole.n_waiting, found.step.n_waiting, found.whole.arms.incumbent_n) == (0, 2, 2, 0)
    assert found.shares.n == 2  # who got a key is known at once
    traffic.label(traffic.tasks[0], "square")
    for _ in range(2):
        found = reader.read()
        assert found.whole.arms is not None
        assert (found.whole.n, found.whole.arms.incumbent_wrong, found.whole.arms.candidate_n) == (1, 1, 1)
        assert found.shares.n == 2


def test_audits_are_compared_and_as_much_of_the_rest(store: Store, clock: Clock, tmp_path: Path) -> None:
    """Half of the decisions are labelled, so half of what needs no label counts too; else deferring would hide."""
    deployment = stand_at(store, begin_parted(store, tmp_path, audit_share=0.5), "expanding", 0.5)
    traffic = Traffic(store, clock, deployment)
    for number in range(40):
        ask(traffic, "candidate", wants_label=number % 2 == 0, probability=0.5)
        ask(traffic, "incumbent", wants_label=number % 2 == 0, probability=0.5)
    arms = gather_evidence(store, deployment).arms
    assert arms is not None
    assert (arms.candidate_n, arms.incumbent_n) == (20, 20)
    for _ in range(60):
        ask(traffic, "candidate", None)
    arms = gather_evidence(store, deployment).arms
    assert arms is not None
    assert 20 + 15 < arms.candidate_n < 20 + 45


def test_a_label_that_was_wanted_and_not_asked_counts_against_promotion(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    deployment = stand_at(store, begin_parted(store, tmp_path), "expanding", 0.5)
    traffic = Traffic(store, clock, deployment)
    for version in ("candidate", "incumbent"):
        ask(traffic, version, wants_label=False)
    arms = gather_evidence(store, deployment).arms
    assert arms is not None
    assert arms.n_untold == 2
    assert arms.for_promotion.log_e < 0


def test_an_equal_one_passes_and_a_worse_one_is_taken_back(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin_parted(store, tmp_path)
    advance(store, "shapes", **SIGNED)
    traffic = Traffic(store, clock, deployment)
    ask(traffic, "candidate", share=1.0)
    assert advance(store, "shapes", **SIGNED).after.share == 0.05
    for number in range(150):
        ask(traffic, "candidate" if number % 2 else "incumbent", share=0.5)
    assert not watch_harm(store, "shapes")
    shown = [advance(store, "shapes", **SIGNED).after for _ in range(3)]
    assert [(one.stage, one.share) for one in shown] == list(LADDER[3:6])
    for number in range(120):
        ask(traffic, "candidate" if number % 2 else "incumbent", "square" if number % 2 else "circle", share=0.5)
    assert watch_harm(store, "shapes")
    last = store.deployments.ledger(deployment.id)[-1]
    assert last["reason"].startswith("It is shown that it is worse than the incumbent by more than 20 points")


def test_people_as_incumbent_leave_only_its_own_errors(store: Store, clock: Clock, tmp_path: Path) -> None:
    changed = {"has_incumbent": False, "margin": None, "bound": 0.1}
    deployment = begin_parted(store, tmp_path, **changed)
    traffic = Traffic(store, clock, deployment)
    ask(traffic, "incumbent", share=0.0)  # people decide it; it is asked of no version
    assert gather_evidence(store, deployment).n == 0
    advance(store, "shapes", **SIGNED)
    for _ in range(60):
        ask(traffic, "candidate", share=1.0)
    found = gather_evidence(store, deployment)
    assert (found.n, found.n_failed, found.arms) == (60, 0, None)
    assert advance(store, "shapes", **SIGNED).after.share == 0.05


def test_keys_that_go_elsewhere_raise_one_alert_and_hold_the_gate(store: Store, clock: Clock, tmp_path: Path) -> None:
    """A quarter of the keys should have the candidate, and none has: some proxy keeps them away."""
    deployment = stand_at(store, begin(store, tmp_path, audit_share=1.0, has_incumbent=True), "expanding", 0.25)
    traffic = Traffic(store, clock, deployment)
    ask(traffic, "candidate", incumbent="circle", asked="both", share=0.25)  # it counts where it would have decided
    found = judge_now(store, deployment).gathered.shares
    assert found.counts == {0.25: [1, 0]}
    for _ in range(79):
        ask(traffic, "candidate", incumbent="circle", asked="both", share=0.25)
    ask(traffic, "candidate", None, incumbent="circle", asked="both", share=0.25)  # left to people: not told by this
    assert not watch_harm(store, "shapes")
    assert not watch_harm(store, "shapes")
    [opened] = store.alerts.list(deployment.id)
    assert opened.kind == "sample_ratio"
    assert opened.detail == "0 of 80 keys got the candidate where 25 % should have."
    with pytest.raises(Conflict, match=r"1 alert is open. 0 of 80 keys got the candidate"):
        advance(store, "shapes", **SIGNED)
    clock.now += 1
    close_alert(store, opened.id, by="ann", reason="the proxy sends them on")
    for number in range(40):
        decided = "candidate" if number % 4 == 0 else "incumbent"
        ask(traffic, "candidate", incumbent="circle", asked="both", share=0.25, decided_by=decided)
    assert not watch_harm(store, "shapes")
    assert store.alerts.list(deployment.id) == []  # counted anew since then
    judged = judge_now(store, deployment)
    assert judged.gathered.shares.counts == {0.25: [30, 10]}
    assert judged.evidence["shares"] == {"0.25": [30, 10]}
    assert advance(store, "shapes", **SIGNED).after.share == 0.5


def test_who_got_a_key_is_told_once_the_candidate_has_seen_it(store: Store, clock: Clock, tmp_path: Path) -> None:
    """Else those it decided at once would run ahead of those that it sees later."""
    deployment = stand_at(store, begin(store, tmp_path, audit_share=1.0, has_incumbent=True), "expanding", 0.25)
    traffic = Traffic(store, clock, deployment)
    ask(traffic, "candidate", incumbent="circle", asked="both", is_pending=True, share=0.25)
    ask(traffic, "candidate", incumbent="circle", asked="both", share=0.25, decided_by="candidate")
    assert judge_now(store, deployment).gathered.shares.n == 0


def test_the_plan_is_that_of_parted_keys(store: Store, tmp_path: Path) -> None:
    plain = begin_parted(store, tmp_path, traffic=1000.0, margin=0.02, bound=0.05, audit_share=0.5)
    plan = store.deployments.ledger(plain.id)[0]["evidence"]["plan"]
    assert plan["sentence"].startswith("Without shadow the first gate asks for no requests. Then its errors take about")
    assert "; the comparison at 5 % about" in plan["sentence"]
    assert plan["requests"] > 1_000
    assert plan["labels"] < plan["requests"]
    assert plan["days"] == pytest.approx(plan["requests"] / 1000, rel=0.01)
    rollback(store, "shapes", **SIGNED)
    tighter = begin_parted(store, tmp_path, margin=0.01, bound=0.05, audit_share=0.5, name="two")
    assert store.deployments.ledger(tighter.id)[0]["evidence"]["plan"]["requests"] > 2 * plan["requests"]


def test_what_cannot_be_told_or_will_not_pass_is_said_before(tmp_path: Path) -> None:
    def version(seed: int, **evaluation: Any) -> Version:
        return describe_version(write_bundle(tmp_path / f"{seed}.dt", seed=seed, **evaluation), at=0.0, by="ann")

    config = make_config(has_shadow=False, scope="site=north", has_incumbent=True, margin=0.02, bound=None)
    good, unknown = version(1), version(2, evaluation={"n": 0})
    bad = version(3, evaluation={"n": 1000, "deferral": {"n_wrong": 300, "coverage": 0.9}})
    assert "cannot be told" in plan_rollout(config, unknown, good).sentence
    assert "cannot be told" in plan_rollout(config, good, unknown).sentence
    never = plan_rollout(config, bad, good)
    assert "would likely not pass within a million keys" in never.sentence
    assert (never.requests, never.labels, never.days) == (None, None, None)
