"""Whose turn a request is, and whether a label is wanted: values in, values out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drivetrain.flows.rollout_marker import Marker
from drivetrain.rollout.scope import Facts, parse_scope
from drivetrain.serve.rollout.live import arrange, obey_markers
from drivetrain.serve.rollout.turn import is_drawn, label_of, whose_turn, wish_for_label
from drivetrain.store.deployments import Deployment

from .rollout_bench import make_config

AT = datetime(2026, 5, 3, 12, tzinfo=UTC)


def facts(key: str = "cam-1", **attributes: str) -> Facts:
    return Facts(key=key, at=AT, attributes=attributes)


def turn(stage: str, share: float = 1.0, *, scope: str = "", given: Facts | None = None) -> Any:
    return whose_turn(stage=stage, share=share, salt="s", scope=parse_scope(scope), facts=given or facts())


@pytest.mark.parametrize("stage", ["manual", "rolled_back"])
def test_the_candidate_never_has_a_turn_in(stage: str) -> None:
    assert not turn(stage, 1.0).is_candidates
    assert turn(stage, 1.0).propensity == 0.0


def test_limited_is_the_scope() -> None:
    inside = turn("limited", scope="site=north", given=facts(site="north"))
    outside = turn("limited", scope="site=north", given=facts(site="south"))
    assert (inside.is_candidates, inside.in_scope, inside.propensity) == (True, True, 1.0)
    assert (outside.is_candidates, outside.in_scope, outside.propensity) == (False, False, 0.0)


def test_expanding_is_everywhere_and_says_its_propensity() -> None:
    found = turn("expanding", 0.25, scope="site=north", given=facts(site="south"))
    assert found.propensity == 0.25
    assert not found.in_scope


def test_shares_of_the_keys_are_binomial_and_nobody_loses_it() -> None:
    keys = [f"camera-{number}" for number in range(10_000)]
    had: set[str] = set()
    for share in (0.05, 0.25, 0.5, 1.0):
        has = {key for key in keys if turn("expanding", share, given=facts(key)).is_candidates}
        deviation = (len(keys) * share * (1 - share)) ** 0.5
        assert abs(len(has) - len(keys) * share) <= 4 * deviation
        assert had <= has
        had = has


def test_audits_are_a_share_that_no_answer_changes_and_not_the_keys_own_order() -> None:
    ids = [f"id-{number}" for number in range(20_000)]
    drawn = {one for one in ids if is_drawn(one, salt="s", share=0.1)}
    assert abs(len(drawn) - 2_000) < 4 * 42.5
    has = {one for one in ids if turn("expanding", 0.1, given=facts(one)).is_candidates}
    assert len(drawn & has) < 300  # another salt than the shares'


ACCEPT = {"label": "bear", "decision": "accept"}
OTHER = {"label": "wolf", "decision": "accept"}
DEFER = {"label": "bear", "decision": "defer"}


@pytest.mark.parametrize(
    ("decided_by", "candidate", "incumbent", "changed", "want"),
    [
        ("people", None, None, {"is_pending": True}, (True, 1.0, "all")),
        ("people", ACCEPT, None, {"is_audit": False}, (True, 1.0, "all")),
        ("incumbent", OTHER, ACCEPT, {"is_audit": False}, (True, 1.0, "disagreement")),
        ("candidate", OTHER, ACCEPT, {}, (True, 1.0, "disagreement")),
        ("incumbent", ACCEPT, ACCEPT, {}, (True, 0.1, "audit")),
        ("incumbent", ACCEPT, ACCEPT, {"is_audit": False}, (False, 0.1, None)),
        ("incumbent", DEFER, ACCEPT, {}, (False, 0.1, None)),  # it decided nothing: there is nothing to audit
        ("incumbent", ACCEPT, DEFER, {}, (True, 0.1, "deferred")),
        ("incumbent", ACCEPT, DEFER, {"is_audit": False}, (False, 0.1, "deferred")),
        ("incumbent", None, ACCEPT, {"is_pending": True}, (True, 0.1, None)),  # asked for once both have seen it
        ("incumbent", None, DEFER, {"is_pending": True}, (True, 0.1, "deferred")),
        ("incumbent", None, ACCEPT, {}, (False, 0.1, None)),  # it failed
        ("candidate", ACCEPT, None, {}, (True, 0.1, "audit")),
        ("candidate", DEFER, None, {}, (False, 0.1, "deferred")),
        ("incumbent", None, ACCEPT, {"has_shadow": False}, (True, 0.1, "audit")),
        ("candidate", ACCEPT, None, {"has_shadow": False, "is_audit": False}, (False, 0.1, None)),
    ],
)
def test_which_labels_are_wanted(
    decided_by: Any, candidate: Any, incumbent: Any, changed: dict[str, Any], want: tuple[bool, float, str | None]
) -> None:
    values = {"has_shadow": True, "is_pending": False, "is_audit": True, **changed}
    wish = wish_for_label(decided_by=decided_by, candidate=candidate, incumbent=incumbent, audit_share=0.1, **values)
    assert (wish.is_wanted, wish.probability, wish.why) == want


def test_what_was_deferred_is_no_label() -> None:
    assert (label_of(ACCEPT), label_of(DEFER), label_of(None)) == ("bear", None, None)


def deployment(**changed: Any) -> Deployment:
    values: dict[str, Any] = {
        "id": "d", "name": "bears", "model": "bears", "candidate": "bears@2", "incumbent": "bears@1",
        "config": make_config().as_json(), "salt": "s", "stage": "manual", "share": 0.0, "started_at": 10.0,
        "started_by": "ann",
    }  # fmt: skip
    return Deployment(**(values | changed))


@pytest.mark.parametrize(
    ("changed", "newest", "aside"),
    [
        ({}, "bears@1", ("bears@2",)),
        ({"incumbent": None}, None, ("bears@2",)),
        ({"stage": "live", "ended_at": 20.0}, "bears@2", ()),
        ({"stage": "rolled_back", "ended_at": 20.0}, "bears@1", ()),
        ({"stage": "rolled_back", "ended_at": 20.0, "incumbent": None}, None, ()),
    ],
)
def test_which_versions_a_server_holds(changed: dict[str, Any], newest: str | None, aside: tuple[str, ...]) -> None:
    [found] = arrange(
        [deployment(id="first", candidate="bears@1", incumbent=None, ended_at=5.0), deployment(**changed)]
    )
    assert (found.newest, found.aside) == (newest, aside)
    assert found.known == {"bears@1", "bears@2"}


def test_a_marker_holds_for_what_was_started_before_it() -> None:
    def marker(at: float, name: str = "bears") -> Marker:
        return Marker(name=name, by="ann", reason="misses", at=at, path=Path("x"))

    [after] = obey_markers([deployment()], [marker(11.0)])
    assert (after.stage, after.share, after.ended_at) == ("rolled_back", 0.0, 11.0)
    assert obey_markers([deployment()], [marker(9.0)]) == [deployment()]
    assert obey_markers([deployment()], [marker(11.0, "wolves")]) == [deployment()]
