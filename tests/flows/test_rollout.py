from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from drivetrain.errors import Conflict, InvalidConfig, NotFound, Unavailable
from drivetrain.flows.premortem import QUESTIONS, answer_premortem
from drivetrain.flows.rollout import (
    advance,
    close_alert,
    enter_markers,
    get_deployment,
    hold,
    judge,
    judge_now,
    position_of,
    resume,
    rollback,
    verify,
    watch_harm,
)
from drivetrain.flows.rollout_evidence import EvidenceReader, gather_evidence
from drivetrain.flows.rollout_marker import read_markers, write_marker
from drivetrain.rollout.gates import judge_gate
from drivetrain.rollout.stages import LADDER
from drivetrain.store.erasure import forget
from drivetrain.store.store import Store

from .rollout_traffic import ANSWERS, HOUR_S, Clock, Traffic, begin

SIGNED = {"by": "ann", "reason": "it is shown"}


def actions(store: Store, name: str = "shapes") -> list[str]:
    return [entry["action"] for entry in store.deployments.ledger(get_deployment(store, name).id)]


def test_from_manual_to_live(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    traffic = Traffic(store, clock, deployment)
    with pytest.raises(Conflict, match="gate: got not enough: Not enough evidence yet that fewer than 10 %"):
        advance(store, "shapes", **SIGNED)
    traffic.send(60)
    seen = []
    for _ in LADDER[1:]:
        moved = advance(store, "shapes", **SIGNED)
        seen.append((moved.after.stage, moved.after.share))
    assert seen == list(LADDER[1:])
    assert moved.deployment is not None
    assert moved.deployment.ended_at == clock.now
    assert verify(store, "shapes") is None
    assert actions(store) == ["start"] + ["advance"] * 6
    entry = store.deployments.ledger(deployment.id)[1]
    assert (entry["by"], entry["reason"], entry["before"], entry["after"]) == (
        "ann",
        "it is shown",
        "manual",
        "limited",
    )
    assert entry["evidence"]["whole"]["n"] == 60
    assert entry["evidence"]["gate"]["is_met"]
    assert len(entry["evidence"]["digest"]) == 64
    with pytest.raises(Conflict, match="live; want one that goes on"):
        rollback(store, "shapes", **SIGNED)


def test_evidence_is_that_of_the_requests(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, has_incumbent=True, margin=0.05, bound=None, audit_share=0.25)
    traffic = Traffic(store, clock, deployment)
    traffic.send(3, candidate="circle", incumbent="square", truth="circle")  # won
    traffic.send(2, candidate="circle", incumbent="square", truth="square")  # lost
    traffic.send(4, incumbent="circle", wants_label=False, probability=0.25)  # they agree
    traffic.send(1, candidate=None, incumbent="circle", truth="circle")
    traffic.send(1, is_failed=True, incumbent="circle", wants_label=False, probability=0.25)
    traffic.send(1, candidate="circle", incumbent="square", wants_label=False, probability=0.25)  # never asked
    found = gather_evidence(store, deployment)
    assert (found.n, found.wins, found.losses, found.ties) == (12, 3, 2, 4)
    assert (found.n_deferred, found.n_failed, found.n_untold_pairs) == (1, 1, 1)
    assert found.n_automatic == 10
    assert found.floor == 0.25
    gate, harm = judge(store, deployment)
    assert [one.name for one in gate.criteria][:2] == ["against the incumbent", "requests"]
    assert not harm.is_met


def test_a_picture_forgotten_before_it_was_seen_is_no_failure(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, has_incumbent=True, margin=0.05, bound=None, audit_share=0.25)
    traffic = Traffic(store, clock, deployment)
    gone = store.images.put(b"gone")
    traffic.send(3, is_pending=True, incumbent="circle", wants_label=False, probability=0.25, image_sha256=gone)
    assert gather_evidence(store, deployment).n_waiting == 3
    forget(store, image=gone)
    found = gather_evidence(store, deployment)
    assert (found.n, found.n_deferred, found.n_failed, found.n_automatic) == (3, 3, 0, 0)


def test_counting_waits_for_the_first_label_awaited(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    traffic = Traffic(store, clock, deployment)
    traffic.send(5)
    traffic.send(1, truth=None)
    traffic.send(4)
    reader = EvidenceReader(store, deployment)
    found = reader.read()
    assert (found.whole.n, found.whole.n_waiting, found.step.n_waiting, found.last_seq) == (5, 5, 5, 10)
    traffic.label(traffic.tasks[5], "square")
    traffic.send(1, is_pending=True)
    again = reader.read()
    fresh = EvidenceReader(store, deployment).read()
    for one in (again, fresh):
        assert (one.whole.n, one.whole.n_wrong, one.whole.n_waiting) == (10, 1, 1)
    assert judge_now(store, deployment, reader=reader).evidence == judge_now(store, deployment).evidence
    assert judge_now(store, deployment).ready.backlog == 1


def test_what_is_overdue_counts_against_promotion_and_never_as_harm(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    Traffic(store, clock, deployment).send(80, truth=None, due_h=1.0)
    clock.now += 2 * HOUR_S
    assert not watch_harm(store, "shapes")
    found = gather_evidence(store, deployment)
    assert (found.n, found.n_untold, found.n_wrong) == (80, 80, 0)
    assert not judge(store, deployment)[0].is_met


def test_harm_rolls_back_by_itself_once(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    traffic = Traffic(store, clock, deployment)
    traffic.send(1, truth="square")
    assert not watch_harm(store, "shapes")
    traffic.send(12, truth="square")
    assert watch_harm(store, "shapes")
    assert not watch_harm(store, "shapes")
    assert position_of(get_deployment(store, "shapes")).in_words == "rolled back"
    last = store.deployments.ledger(deployment.id)[-1]
    assert (last["by"], last["action"]) == ("drivetrain", "rollback")
    assert last["reason"] == "It is shown that more than 10 % of its automatic decisions are wrong."
    assert verify(store, "shapes") is None


def test_harm_that_begins_late_is_found_by_its_step(store: Store, clock: Clock, tmp_path: Path) -> None:
    """All requests together would still look good: 11 wrong of 331."""
    deployment = begin(store, tmp_path, audit_share=1.0)
    traffic = Traffic(store, clock, deployment)
    traffic.send(300)
    advance(store, "shapes", **SIGNED)
    traffic.send(20)
    assert not watch_harm(store, "shapes")
    moved = advance(store, "shapes", **SIGNED)
    assert moved.after.share == 0.05
    traffic.send(11, truth="square")
    judged = judge_now(store, deployment)
    met = [one.name for one in judged.harm.criteria if one.is_met]
    assert met == ["harm: errors, this step"]
    assert watch_harm(store, "shapes")


def test_harm_uses_no_more_than_its_alpha(store: Store, clock: Clock, tmp_path: Path) -> None:
    import math

    deployment = begin(store, tmp_path, harm_alpha=0.06, audit_share=1.0)
    Traffic(store, clock, deployment).send(60)
    spent = []
    for _ in range(3):
        advance(store, "shapes", **SIGNED)
        judged = judge_now(store, deployment)
        needed = [one.needed for one in judged.harm.criteria]
        spent.append([sum(math.exp(-x) for x in part if x) for part in (needed[:2], needed[2:])])
    assert spent == [pytest.approx([0.03, 0.03 / k]) for k in (2, 6, 12)]


def test_each_step_needs_its_own_requests_and_hours(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, n_min=40, hours_min=2.0, day_hours_min=2)
    traffic = Traffic(store, clock, deployment, gap_s=HOUR_S / 20)
    traffic.send(60)
    advance(store, "shapes", **SIGNED)
    gate, _ = judge(store, deployment)
    missing = {one.name: one.sentence for one in gate.missing}
    assert missing == {
        "requests": "0 of 40 requests: 40 more, since the last step.",
        "hours": "0 of 2 hours from the first to the last: 2 more, since the last step.",
        "hours of the day": "0 of 2 different hours of the day: 2 more, since the last step.",
    }
    traffic.send(1, truth=None)
    traffic.send(45)
    assert "0 of 40 requests (46 more wait for a label)" in judge(store, deployment)[0].missing[0].sentence
    traffic.label(traffic.tasks[60], "circle")
    assert judge(store, deployment)[0].is_met


def test_what_must_be_answered_first(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, premortem={}, datasheet="# nothing")
    Traffic(store, clock, deployment).send(60)
    opened = store.alerts.open(deployment.id, "sample_ratio", "3 of 100")

    def missing() -> set[str]:
        return {one.name for one in judge(store, deployment)[0].missing}

    assert missing() == {"alerts", "datasheet", "pre-mortem"}
    close_alert(store, opened.id, by="ann", reason="the proxy was mended")
    answer_premortem(store, deployment, dict(list(ANSWERS.items())[1:]), by="ann")
    assert missing() == {"datasheet", "pre-mortem"}
    answer_premortem(store, deployment, {next(iter(QUESTIONS)): "It fell."}, by="ann")
    assert missing() == {"datasheet"}
    assert actions(store) == ["start", "close alert"]
    assert verify(store, "shapes") is None


def test_hold_and_resume(store: Store, clock: Clock, tmp_path: Path) -> None:
    Traffic(store, clock, begin(store, tmp_path)).send(60)
    assert hold(store, "shapes", by="bob", reason="holidays").after.in_words == "manual, held"
    with pytest.raises(Conflict, match="Resume it first"):
        advance(store, "shapes", **SIGNED)
    with pytest.raises(Conflict, match="hold: got manual, held"):
        hold(store, "shapes", **SIGNED)
    resume(store, "shapes", **SIGNED)
    advance(store, "shapes", **SIGNED)
    assert actions(store) == ["start", "hold", "resume", "advance"]


def test_a_dry_run_changes_nothing(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    moved = advance(store, "shapes", **SIGNED, is_dry=True)
    assert not moved.is_done
    assert moved.judged is not None
    assert not moved.judged.gate.is_met
    Traffic(store, clock, deployment).send(60)
    moved = advance(store, "shapes", **SIGNED, is_dry=True)
    assert moved.judged is not None
    assert moved.judged.gate.is_met
    assert get_deployment(store, "shapes") == deployment
    assert actions(store) == ["start"]


@pytest.mark.parametrize("signed", [{"by": " ", "reason": "x"}, {"by": "ann", "reason": ""}])
def test_a_move_has_a_name_and_a_reason(store: Store, tmp_path: Path, signed: dict[str, str]) -> None:
    begin(store, tmp_path)
    for move in (advance, hold, resume, rollback):
        with pytest.raises(InvalidConfig, match="want a name, and a reason"):
            move(store, "shapes", **signed)


def test_who_approves_has_the_role(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    Traffic(store, clock, deployment).send(60)
    store.users.add("ann", password="long enough 1", roles=["review"], by="x")
    store.users.add("eve", password="long enough 1", roles=["approve"], by="x")
    store.users.add("gone", password="long enough 1", roles=["admin"], by="x")
    store.users.remove("gone")
    opened = store.alerts.open(deployment.id, "k", "d")
    for by in ("ann", "gone", "stranger"):
        with pytest.raises(Conflict, match="want a person with the role approve"):
            advance(store, "shapes", by=by, reason="r")
        with pytest.raises(Conflict, match="role approve"):
            close_alert(store, opened.id, by=by, reason="r")
    hold(store, "shapes", by="ann", reason="r")  # anyone may stop it
    with pytest.raises(Conflict, match="role approve"):
        resume(store, "shapes", by="ann", reason="r")
    resume(store, "shapes", by="eve", reason="r")
    close_alert(store, opened.id, by="eve", reason="r")
    advance(store, "shapes", by="eve", reason="r")
    rollback(store, "shapes", by="ann", reason="r")


def test_a_key_approves_by_its_tag(store: Store, clock: Clock, tmp_path: Path) -> None:
    Traffic(store, clock, begin(store, tmp_path)).send(60)
    store.users.add("ann", password="long enough 1", roles=["approve"], by="x")
    may, may_not, gone, late = (
        store.keys.create("k", roles=[role], by="x", expires_at=expires_at)[0].id
        for role, expires_at in (("approve", None), ("review", None), ("admin", None), ("admin", clock.now + 5))
    )
    store.keys.revoke(gone)
    clock.now += 10
    for by in (may_not, gone, late, "0123456789", ""):
        with pytest.raises(Conflict, match="want a person with the role approve"):
            advance(store, "shapes", by=f"key:{by}", reason="r")
    with pytest.raises(Conflict, match="role approve"):
        advance(store, "shapes", by=may, reason="r")
    assert advance(store, "shapes", by=f"key:{may}", reason="r").after.stage == "limited"


def test_a_move_is_of_what_was_seen(store: Store, clock: Clock, tmp_path: Path) -> None:
    """Else two who look at the same page and approve would take two steps."""
    seen = begin(store, tmp_path).revision
    Traffic(store, clock, get_deployment(store, "shapes")).send(60)
    advance(store, "shapes", **SIGNED, revision=seen)
    for move in (advance, hold, resume):
        with pytest.raises(Conflict, match=rf"shapes at revision {seen + 1}, limited; want revision {seen}: another"):
            move(store, "shapes", **SIGNED, revision=seen)
    hold(store, "shapes", **SIGNED, revision=seen + 1)
    resume(store, "shapes", **SIGNED, revision=seen + 2)


def test_of_two_approvers_at_once_one_wins(store: Store, clock: Clock, tmp_path: Path) -> None:
    Traffic(store, clock, begin(store, tmp_path)).send(60)
    told: list[Any] = []
    ready = threading.Barrier(2)

    class Both(EvidenceReader):
        """Both have judged before either moves."""

        def read(self) -> Any:
            found = super().read()
            ready.wait(30)
            return found

    def approve(by: str) -> None:
        try:
            reader = Both(store, get_deployment(store, "shapes"))
            told.append(advance(store, "shapes", by=by, reason="r", reader=reader).after.stage)
        except Conflict as exc:
            told.append(exc.message)

    threads = [threading.Thread(target=approve, args=(by,)) for by in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost, won = sorted(map(str, told))
    assert won == "limited"
    assert "another change came first" in lost
    assert actions(store) == ["start", "advance"]


def test_a_rollback_holds_against_a_move_that_came_between(store: Store, clock: Clock, tmp_path: Path) -> None:
    begin(store, tmp_path)
    real, moved = store.deployments.get, []

    class Between(type(store.deployments)):  # type: ignore[misc]
        """Somebody holds it after it was looked at."""

        def get(self, name: str) -> Any:
            found = real(name)
            if not moved:
                moved.append(hold(store, "shapes", by="bob", reason="r"))
            return found

    from dataclasses import replace

    other = replace(store, deployments=Between(store.database, clock))
    assert rollback(other, "shapes", **SIGNED).before.in_words == "manual, held"
    assert actions(store) == ["start", "hold", "rollback"]


def test_starting_again_takes_the_evidence_over(store: Store, clock: Clock, tmp_path: Path) -> None:
    first = begin(store, tmp_path)
    Traffic(store, clock, first).send(40)
    Traffic(store, clock, first).send(1, is_pending=True)
    rollback(store, "shapes", **SIGNED)
    clock.now += 1
    again = begin(store, tmp_path)
    assert again.salt == first.salt
    Traffic(store, clock, again).send(20)
    assert gather_evidence(store, again).n == 60
    assert gather_evidence(store, get_deployment(store, first.id)).n == 40
    assert judge(store, again)[0].is_met
    rollback(store, "shapes", **SIGNED)
    for changed in ({"bound": 0.2}, {"alpha": 0.1}, {"harm_alpha": 0.01}, {"audit_share": 0.7}, {"fail_max": 0.1}):
        with pytest.raises(Conflict, match=r"as when its evidence began. Another name begins with no evidence"):
            begin(store, tmp_path, **changed)
    clock.now += 1
    begin(store, tmp_path, n_min=70)  # a minimum may change
    rollback(store, "shapes", **SIGNED)
    other = begin(store, tmp_path, name="other")
    assert gather_evidence(store, other).n == 0
    rollback(store, "other", **SIGNED)
    assert gather_evidence(store, begin(store, tmp_path, seed=3)).n == 0


def test_harm_outlives_a_new_start(store: Store, clock: Clock, tmp_path: Path) -> None:
    Traffic(store, clock, begin(store, tmp_path)).send(15, truth="square")
    assert watch_harm(store, "shapes")
    clock.now += 1
    begin(store, tmp_path)
    assert watch_harm(store, "shapes")


def test_people_as_incumbent_counts_in_manual_audits_later(store: Store, clock: Clock, tmp_path: Path) -> None:
    """Each label counts fully while all are given; of those drawn by chance later, each stands for two."""
    deployment = begin(store, tmp_path, audit_share=0.5)
    traffic = Traffic(store, clock, deployment)
    traffic.send(60)
    assert gather_evidence(store, deployment).floor == 1
    advance(store, "shapes", **SIGNED)
    for is_drawn in [True, False] * 20:
        traffic.send(1, wants_label=is_drawn, probability=0.5)
    found = gather_evidence(store, deployment)
    assert (found.floor, found.n, found.n_labelled) == (0.5, 100, 80)
    assert judge(store, deployment)[0].is_met
    assert found.for_promotion.n == 100
    config = deployment.config
    plain = judge_gate(found, get_config(config), judge_now(store, deployment).ready)
    assert plain.criteria[0] == judge(store, deployment)[0].criteria[0]


def get_config(raw: Any) -> Any:
    from drivetrain.flows.rollout_config import RolloutConfig

    return RolloutConfig.from_json(raw).gate


def test_a_ledger_that_was_changed_is_told(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    hold(store, "shapes", **SIGNED)
    with store.database.write() as db:
        db.execute(text("UPDATE stage_event SET reason = 'x' WHERE number = 1"))
    assert verify(store, "shapes") == "entry 1 was changed after it was written"
    with store.database.write() as db:
        db.execute(text("UPDATE stage_event SET reason = 'to try it' WHERE number = 1"))
    assert verify(store, "shapes") is None
    with store.database.write() as db:
        db.execute(text("DELETE FROM stage_event WHERE number = 2"))
    assert verify(store, "shapes") == "the ledger ends at 'manual', and the roll-out stands at 'manual, held'"
    assert deployment.name == "shapes"


def lock_writes(store: Store, *, is_locked: bool) -> None:
    """As a file system that became read-only, or a server's standby: each write is refused."""
    from sqlalchemy import event

    state = ("ON" if is_locked else "OFF") if store.database.is_sqlite else ("on" if is_locked else "off")
    what = "PRAGMA query_only" if store.database.is_sqlite else "SET default_transaction_read_only"

    def switch(connection: Any, *_: Any) -> None:
        connection.execute(f"{what} = {state}")
        if not store.database.is_sqlite:
            connection.commit()

    event.listen(store.database.engine, "checkout", switch)


def test_rollback_where_the_database_cannot_be_written(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path)
    folder = tmp_path / "markers"
    folder.mkdir()
    clock.now += 5
    lock_writes(store, is_locked=True)
    with pytest.raises(Unavailable):
        rollback(store, "shapes", **SIGNED)
    assert read_markers(folder) == []
    moved = rollback(store, "shapes", by="ann", reason="it burns", marker_folder=folder)
    assert moved.deployment is None
    assert moved.marker == folder / "shapes.rolled-back"
    assert moved.marker.exists()
    lock_writes(store, is_locked=False)
    clock.now += 100
    assert enter_markers(store, folder) == ["shapes"]
    assert not moved.marker.exists()
    last = store.deployments.ledger(deployment.id)[-1]
    assert (last["by"], last["action"]) == ("ann", "rollback")
    assert last["reason"].startswith("it burns (at 2023-11-14T22:13:25+00:00, while the database")
    assert enter_markers(store, folder) == []


def test_a_file_from_before_the_start_means_nothing(store: Store, clock: Clock, tmp_path: Path) -> None:
    write_marker(tmp_path, "shapes", by="ann", reason="r", at=clock.now - 10)
    write_marker(tmp_path, "unknown", by="ann", reason="r", at=clock.now)
    begin(store, tmp_path)
    assert enter_markers(store, tmp_path) == []
    assert read_markers(tmp_path) == []
    assert get_deployment(store, "shapes").stage == "manual"


def test_a_damaged_file_still_rolls_back(store: Store, tmp_path: Path) -> None:
    begin(store, tmp_path)
    (tmp_path / "shapes.rolled-back").write_bytes(b"{")
    assert enter_markers(store, tmp_path) == ["shapes"]  # written now, long after the clock of this test
    assert get_deployment(store, "shapes").stage == "rolled_back"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="want a database or a folder beside it that can be written"):
        write_marker(tmp_path / "file", "shapes", by="a", reason="r", at=0.0)


def test_a_roll_out_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There are: none yet"):
        advance(store, "shapes", **SIGNED)
    begin(store, tmp_path)
    with pytest.raises(NotFound, match="There are: shapes"):
        verify(store, "other")
