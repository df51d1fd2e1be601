from __future__ import annotations

from pathlib import Path
from typing import Any

from drivetrain.flows.rollout import advance, hold, rollback
from drivetrain.flows.rollout_evidence import EvidenceReader
from drivetrain.flows.rollout_status import describe_rollout
from drivetrain.flows.rollout_words import tell_distance
from drivetrain.rollout.stages import START
from drivetrain.store.store import Store

from .rollout_traffic import Clock, Traffic, begin

SIGNED = {"by": "ann", "reason": "to try it"}


def steps(facts: dict[str, Any]) -> list[str]:
    return [step["state"] for step in facts["ladder"]]


def climb(store: Store, traffic: Traffic, n: int, **how: Any) -> dict[str, Any]:
    """So many steps, with enough shown for each."""
    for _ in range(n):
        traffic.clock.now += 5
        traffic.send(60, **how)
        advance(store, traffic.deployment.id, **SIGNED)
    return describe_rollout(store, traffic.deployment.id)


def test_each_step_says_who_decides(store: Store, clock: Clock, tmp_path: Path) -> None:
    traffic = Traffic(store, clock, begin(store, tmp_path, audit_share=1.0, scope="site=north|south,hours=06-18"))
    facts = describe_rollout(store, "shapes")
    assert facts["decides"] == "People decide. The new model sees every picture and decides nothing."
    assert steps(facts) == ["now", "next", *["ahead"] * 5]
    facts = climb(store, traffic, 1)
    assert facts["decides"] == (
        "The new model decides where site=north or south, hours=06-18, as far as it is sure; elsewhere people decide."
    )
    facts = climb(store, traffic, 1)
    assert facts["decides"].startswith(
        "The new model decides for 5 % of the traffic, as far as it is sure; of the rest"
    )
    assert steps(facts) == ["done", "done", "now", "next", "ahead", "ahead", "ahead"]
    hold(store, "shapes", **SIGNED)
    held = describe_rollout(store, "shapes")
    assert held["distance"].startswith("All is shown for the next step, expanding at 25 %. It is on hold;")
    rollback(store, "shapes", **SIGNED)
    over = describe_rollout(store, "shapes")
    assert steps(over) == ["done", "done", "stopped", *["ahead"] * 4]
    assert over["distance"] == "It is over."
    assert over["decides"] == "People decide. The new model was taken back and decides nothing."


def test_a_version_in_use_is_named(store: Store, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, has_incumbent=True)
    decides = describe_rollout(store, "shapes")["decides"]
    assert decides.startswith(f"The version in use, {deployment.incumbent}, decides. The new model sees every picture")


def test_at_live_it_is_the_version_in_use(store: Store, clock: Clock, tmp_path: Path) -> None:
    traffic = Traffic(store, clock, begin(store, tmp_path, audit_share=1.0))
    facts = climb(store, traffic, 6)
    assert facts["stage"] == "live"
    assert steps(facts) == [*["done"] * 6, "now"]
    assert facts["decides"] == "The new model decides, everywhere. It is the version in use now."


def test_how_far_it_is_and_what_it_lacks(store: Store, clock: Clock, tmp_path: Path) -> None:
    needs = {"n_min": 100, "class_min": 10, "hours_min": 2.0, "day_hours_min": 3, "defer_max": 0.05}
    deployment = begin(store, tmp_path, premortem={"miss": "x"}, datasheet="# empty", **needs)
    traffic = Traffic(store, clock, deployment, gap_s=60.0)
    traffic.send(55)
    traffic.send(4, candidate="square", truth="square")
    traffic.send(10, candidate=None)
    store.alerts.open(deployment.id, "sample_ratio", "3 of 100")
    facts = describe_rollout(store, "shapes")
    gate = {one["name"]: one for one in facts["gate"]}
    assert {name: round(one["share"], 3) for name, one in gate.items()} == {
        "error": 1.0, "requests": 0.69, "hours": 0.567, "hours of the day": 0.667, "classes": 0.7, "deferred": 0.0,
        "alerts": 0.0, "datasheet": 0.0, "pre-mortem": 0.125, "backlog": 1.0,
    }  # fmt: skip
    assert {name: one["lacks"] for name, one in gate.items() if one["lacks"]} == {
        "requests": "31 more requests", "hours": "0.9 more hours", "hours of the day": "1 more hour of the day",
        "classes": "more decisions of square", "deferred": "fewer pictures left to people",
        "alerts": "1 alert to be closed", "datasheet": "the datasheet answered",
        "pre-mortem": "7 answers of the pre-mortem",
    }  # fmt: skip
    assert facts["distance"] == (
        "Not enough: needs 31 more requests, 0.9 more hours, 1 more hour of the day and 5 other things."
    )


def test_the_largest_number_of_requests_is_told(store: Store, clock: Clock, tmp_path: Path) -> None:
    Traffic(store, clock, begin(store, tmp_path, n_min=30)).send(20)
    facts = describe_rollout(store, "shapes")
    [test] = [one for one in facts["gate"] if one["is_test"]]
    assert test["requests"] is not None
    assert 0 < test["share"] < 1
    most = max(test["requests"], 10)
    about = "about " if most == test["requests"] else ""
    assert facts["distance"] == f"Not enough: needs {about}{most} more requests."


def test_harm_comes_before_all(store: Store, clock: Clock, tmp_path: Path) -> None:
    traffic = Traffic(store, clock, begin(store, tmp_path))
    traffic.send(10)
    share = describe_rollout(store, "shapes")["harm"]["share"]
    traffic.send(6, truth="square")
    harm = describe_rollout(store, "shapes")["harm"]
    assert not harm["is_met"]
    assert 1 > harm["share"] > share
    traffic.send(20, truth="square")
    facts = describe_rollout(store, "shapes")
    assert facts["harm"]["sentence"].startswith("It is shown that more than 10 % of its automatic decisions are wrong.")
    assert facts["distance"] == "Harm is shown: it is to be rolled back."


def test_a_reader_that_is_kept_tells_the_same(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    reader, traffic = EvidenceReader(store, deployment), Traffic(store, clock, deployment)
    for n in (0, 7, 12):
        traffic.send(n)
        assert describe_rollout(store, "shapes", reader=reader) == describe_rollout(store, "shapes")


def test_without_shadow_the_new_model_waits(store: Store, tmp_path: Path) -> None:
    begin(store, tmp_path, has_incumbent=True, margin=0.02, has_shadow=False, scope="site=north")
    assert describe_rollout(store, "shapes")["decides"].endswith("The new model waits and decides nothing.")


def test_what_has_no_words_of_its_own_still_has_a_place() -> None:
    other = {"name": "new", "is_met": False, "requests": None, "lacks": "new"}
    assert tell_distance(START, [other], is_harmed=False) == "Not enough: needs new."
    assert tell_distance(START, [], is_harmed=False) == "All is shown for the next step, limited. A person may take it."


def test_a_minimum_of_nothing_is_not_listed(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, hours_min=1.0)
    of_none = [one["name"] for one in describe_rollout(store, "shapes")["gate"]]
    assert of_none == [
        "error",
        "hours",
        "classes",
        "alerts",
        "datasheet",
        "pre-mortem",
        "backlog",
    ]  # nothing decided yet
    Traffic(store, clock, deployment).send(1)
    facts = describe_rollout(store, "shapes")
    assert "classes" not in [one["name"] for one in facts["gate"]]
    assert "classes" in [one["name"] for one in facts["evidence"]["gate"]["criteria"]]  # as the ledger keeps it


def test_those_who_review_are_called_by_their_names(store: Store, clock: Clock, tmp_path: Path) -> None:
    user = store.users.add("Rita", password="three green bottles", roles=["review"], by="t")
    key = store.keys.create("kiosk", roles=["review"], by="t")[0]
    traffic = Traffic(store, clock, begin(store, tmp_path))
    for tag in (f"user:{user.id}", f"key:{key.id}", "somebody"):
        traffic.send(1, truth=None)
        task = store.reviews.claim(tag, order="deadline", lease_s=300)
        assert task is not None
        store.reviews.answer(
            task.id, tag, "circle", settle=lambda said: ("labelled", said[-1]), seconds=3.0, saw_model=False
        )
    people = describe_rollout(store, "shapes")["reviews"]["people"]
    assert sorted(one["by"] for one in people) == ["Rita", "kiosk", "somebody"]
