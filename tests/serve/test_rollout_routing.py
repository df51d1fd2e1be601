"""Who answers at each stage, and what is on disk before the answer leaves."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from drivetrain.runtime.batch_types import Tuning
from drivetrain.serve.rollout.turn import is_drawn

from .fakes import call, picture
from .rollout_bench import BLUE, GREEN, HEADERS, NEW, OLD, RED, Bench, begin, poll, rollout_bench

NEW_SAYS = {"green": "blue", "blue": None}  # red: the same; green: another; blue: left to people


def test_without_a_rollout_nothing_is_routed(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        answer = bench.send()
        assert answer["version"] == OLD
        assert bench.store.requests.get(answer["prediction_id"]) is None
        assert bench.desk.find(None, None) is None
        assert bench.new.asked == []


def test_manual_the_incumbent_decides_and_the_candidate_sees_all(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, new=NEW_SAYS) as bench:
        deployment = begin(bench.store)
        bench.desk.refresh()
        for content, label in ((RED, "amber"), (GREEN, "blue"), (BLUE, None)):
            answer = bench.send(content, key="cam-1", **{"X-Drivetrain-Attr-Site": "north"})
            assert (answer["version"], answer["label"], answer["decision"]) == (OLD, "amber", "accept")
            row = bench.seen(answer)
            assert (row.decided_by, row.propensity, row.key) == ("incumbent", 0.0, "cam-1")
            assert row.attributes == {"site": "north"}
            assert row.deployment_id == deployment.id
            assert row.candidate is not None
            assert row.candidate["version"] == NEW
            assert (row.candidate["label"] if row.candidate["decision"] == "accept" else None) == label
            assert row.candidate_seconds is not None
            assert row.image_sha256 is not None
            assert bench.store.images.get(row.image_sha256) == content
        assert bench.metric("drivetrain_rollout_requests_total", deployment="colours", decided_by="incumbent") == 3
        assert bench.metric("drivetrain_rollout_shadows_total", deployment="colours", outcome="success") == 3


def test_a_disagreement_is_asked_for_and_an_audit_as_drawn(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, new=NEW_SAYS) as bench:
        begin(bench.store, audit_share=0.5, due_hours=2.0)
        bench.desk.refresh()
        differ = bench.send(GREEN)
        row = bench.seen(differ)
        [task] = bench.tasks(differ)
        assert (row.wants_label, row.label_probability, task.why) == (True, 1.0, "disagreement")
        assert task.due_at == pytest.approx(row.at + 7200, abs=60)
        for _ in range(20):
            same = bench.send(RED)
            row, drawn = bench.seen(same), is_drawn(same["prediction_id"], salt="salt", share=0.5)
            assert (row.wants_label, row.label_probability) == (drawn, 0.5)
            assert [one.why for one in bench.tasks(same)] == (["audit"] if drawn else [])
        left = bench.send(BLUE)
        assert not bench.seen(left).wants_label
        assert bench.tasks(left) == []


def test_limited_the_candidate_decides_in_its_scope_and_its_classes(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, new={"green": "blue", "blue": None, "red": "amber"}) as bench:
        begin(bench.store, scope="Site=north,class=amber")
        bench.move("limited")
        inside = bench.send(RED, **{"X-Drivetrain-Attr-Site": "north"})
        assert inside["version"] == NEW
        row = bench.seen(inside)
        assert (row.decided_by, row.in_scope, row.propensity) == ("candidate", True, 1.0)
        assert row.incumbent is not None  # the other one sees it too
        outside = bench.send(RED, **{"X-Drivetrain-Attr-Site": "south"})
        assert outside["version"] == OLD
        assert bench.row(outside).in_scope is False
        other_class = bench.send(GREEN, **{"X-Drivetrain-Attr-Site": "north"})
        assert other_class["version"] == OLD
        row = bench.row(other_class)
        assert (row.decided_by, row.in_scope, row.propensity, row.state) == ("incumbent", False, 0.0, "done")
        assert [one.why for one in bench.tasks(other_class)] == ["disagreement"]
        left = bench.send(BLUE, **{"X-Drivetrain-Attr-Site": "north"})
        assert (left["version"], left["decision"]) == (NEW, "defer")
        assert [one.why for one in bench.tasks(left)] == ["deferred"]


def test_expanding_the_same_keys_each_time_and_both_see_it(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        had: set[str] = set()
        for share in (0.25, 0.5, 1.0):
            bench.move("expanding", share)
            has = {key for key in map(str, range(16)) if bench.send(key=key)["version"] == NEW}
            assert had <= has
            had = has
        assert len(had) == 16
        answer = bench.send(key="1")
        row = bench.seen(answer)
        assert (row.decided_by, row.propensity) == ("candidate", 1.0)
        assert row.incumbent is not None
        assert row.candidate is not None


def test_who_has_it_has_it_after_a_restart(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.move("expanding", 0.5)
        before = {key: bench.send(key=key)["version"] for key in map(str, range(14))}
    assert Counter(before.values()).keys() == {OLD, NEW}
    with rollout_bench(tmp_path) as bench:
        assert {key: bench.send(key=key)["version"] for key in map(str, range(14))} == before


def test_without_a_key_it_is_the_callers(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.desk.refresh()
        assert bench.row(bench.send()).key == "local"


def test_a_version_asked_for_by_name_is_no_part_of_it(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.move("expanding", 1.0)
        answer = bench.send(path=f"/predict?version={OLD.partition('@')[2]}")
        assert answer["version"] == OLD
        assert bench.store.requests.get(answer["prediction_id"]) is None
        assert bench.send(path=f"/predict?model={OLD}")["version"] == OLD
        assert bench.send(path="/predict?model=colours")["version"] == NEW


def test_one_arm_asks_only_who_decides(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store, has_shadow=False, audit_share=0.5)
        bench.move("expanding", 0.5)
        for key in map(str, range(20)):
            answer = bench.send(key=key)
            row = bench.row(answer)
            by_new = answer["version"] == NEW
            assert (row.candidate is not None, row.incumbent is not None) == (by_new, not by_new)
            assert (row.state, row.propensity) == ("done", 0.5)
            assert row.wants_label == is_drawn(answer["prediction_id"], salt="salt", share=0.5)
            assert (row.image_sha256 is not None) == row.wants_label
        assert len(bench.new.asked) + len(bench.old.asked) == 20


def test_several_pictures_each_have_a_row_and_one_that_is_none_has_its_error(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.desk.refresh()
        images = [base64.b64encode(one).decode() for one in (RED, b"no picture", GREEN)]
        reply = call(bench.app, "POST", "/predict", json={"images": images})
        first, broken, last = reply.json()["predictions"]
        assert reply.status_code == 200
        assert broken["error"]["code"] == "unreadable_picture"
        assert {bench.seen(one).state for one in (first, last)} == {"done"}
        assert bench.store.predictions.count() == 2
        sha256 = hashlib.sha256(b"no picture").hexdigest()
        assert bench.store.images.get(sha256) is None  # kept while it was read, then forgotten


def test_a_candidate_that_fails_is_covered_and_counted(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, new={"red": "!"}) as bench:
        begin(bench.store)
        bench.move("expanding", 1.0)
        answer = bench.send()
        assert answer["version"] == OLD
        row = bench.row(answer)
        assert (row.decided_by, row.state, row.candidate, row.propensity) == ("incumbent", "failed", None, 1.0)
        bench.move("expanding", 0.0)
        assert bench.seen(bench.send()).state == "failed"  # in shadow
        assert bench.metric("drivetrain_rollout_shadows_total", deployment="colours", outcome="failed") == 1


def test_a_candidate_that_is_not_there_is_told_once_and_sees_it_when_it_comes(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_new=False) as bench:
        deployment = begin(bench.store)
        bench.move("expanding", 1.0)
        poll(lambda: len(bench.store.alerts.list(deployment.id)) == 1)
        [alert] = bench.store.alerts.list(deployment.id)
        assert alert.kind == "candidate"
        assert "nowhere.dt" in alert.detail
        answer = bench.send()
        assert answer["version"] == OLD
        row = bench.row(answer)
        assert (row.state, row.propensity) == ("pending", 0.0)  # nobody could have had it
        assert bench.desk.backlog(deployment.id) == 1
        assert call(bench.app, "GET", "/health/ready").status_code == 200
        bench.desk.look()
        assert len(bench.store.alerts.list(deployment.id)) == 1
        bench.desk.shadow._left_s = 0.0
        bench.app.state.registry.add(bench.new, keep=True)
        bench.app.state.registry.promote(OLD)
        row = bench.seen(answer)
        assert row.candidate is not None
        assert row.incumbent is not None


def test_the_backlog_of_a_process_that_ended_drains_from_the_kept_pictures(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_new=False, is_started=False) as bench:
        deployment = begin(bench.store)
        bench.desk.refresh()
        answers = [bench.send(content) for content in (RED, GREEN, BLUE) for _ in range(3)]
        assert bench.desk.backlog(deployment.id) == 9
    with rollout_bench(tmp_path, new=NEW_SAYS, is_started=False) as bench:
        bench.desk.shadow._left_s = 0.0
        bench.desk.start()
        poll(lambda: bench.desk.backlog(deployment.id) == 0)
        rows = [bench.row(answer) for answer in answers]
        assert [row.candidate["label"] for row in rows if row.candidate] == ["amber"] * 3 + ["blue"] * 3 + ["amber"] * 3
        poll(lambda: bench.metric("drivetrain_rollout_backlog", deployment="colours") == 0)


def test_the_shadow_waits_for_callers_and_never_changes_an_answer(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, new={"red": "blue"}) as bench:
        plain = bench.send()
        begin(bench.store)
        bench.desk.refresh()
        shadowed = bench.send()
        same = {name: value for name, value in plain.items() if name != "prediction_id"}
        assert {name: value for name, value in shadowed.items() if name != "prediction_id"} == same


def test_the_shadow_runs_with_as_few_threads_as_its_model_has(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        bench.new.tuning = Tuning(workers=1, sessions=1, session_threads=3, alone_threads=2)
        used: list[int] = []
        run = bench.new.run
        bench.new.run = lambda pixels, threads=1: (used.append(threads), run(pixels))[1]  # type: ignore[method-assign]
        begin(bench.store)
        bench.desk.refresh()
        bench.seen(bench.send())
        assert used == [2]


def test_once_it_is_live_the_candidate_answers_and_nothing_is_routed(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.move("live")
        poll(lambda: bench.send()["version"] == NEW)
        assert bench.desk.find(None, None) is None
    with rollout_bench(tmp_path) as bench:  # started with the old one first, as its command line says
        poll(lambda: bench.send()["version"] == NEW)


def test_once_it_is_taken_back_the_incumbent_answers(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.move("expanding", 1.0)
        assert bench.send()["version"] == NEW
        bench.move("rolled_back", 0.0)
        assert bench.send()["version"] == OLD
        assert bench.desk.find(None, None) is None


def test_the_protocol_is_routed_too(tmp_path: Path) -> None:
    def infer(bench: Bench, content: bytes = RED) -> dict[str, object]:
        reply = call(
            bench.app,
            "POST",
            "/v2/models/colours/infer",
            content=content,
            headers=HEADERS | {"Inference-Header-Content-Length": "0"},
        )
        assert reply.status_code == 200, reply.text
        outputs = {one["name"]: one["data"] for one in reply.json()["outputs"]}
        return dict(json.loads(outputs["answer"][0]))

    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.move("expanding", 1.0)
        answer = infer(bench)
        assert answer["version"] == NEW
        assert bench.seen(answer).decided_by == "candidate"


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-Drivetrain-Key", "x" * 256), ("X-Drivetrain-Attr-9", "a"), ("X-Drivetrain-Attr-Site", "")],
)
def test_what_a_request_says_of_itself_is_checked(tmp_path: Path, name: str, value: str) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.desk.refresh()
        reply = call(bench.app, "POST", "/predict", content=picture(), headers=HEADERS | {name: value})
        assert reply.status_code == 422
        assert reply.json()["code"] == "invalid_input"
        assert name.lower().startswith(reply.json()["field"].lower()[:17])


def test_who_does_not_obey_a_settings_column_is_seen(tmp_path: Path) -> None:
    """Two people where the share says so."""
    with rollout_bench(tmp_path, new=NEW_SAYS) as bench:
        begin(bench.store, second_share=1.0)
        bench.desk.refresh()
        answer = bench.send(GREEN)
        bench.seen(answer)
        assert [task.people for task in bench.tasks(answer)] == [2]


def test_feedback_asks_a_person_and_is_no_evidence(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        deployment = begin(bench.store, audit_share=1e-9)
        bench.desk.refresh()
        answer = bench.send()
        bench.seen(answer)
        assert bench.tasks(answer) == []
        path = f"/feedback/{answer['prediction_id']}"
        assert call(bench.app, "POST", path, json={"verdict": "right"}).status_code == 200
        assert bench.tasks(answer) == []
        assert call(bench.app, "POST", path, json={"verdict": "wrong", "label": "blue"}).status_code == 200
        [task] = bench.tasks(answer)
        assert (task.why, task.deployment_id, task.due_at) == ("feedback", deployment.id, None)
        bench.label(answer, "blue")
        [(_, review, truth)] = bench.store.requests.outcomes(deployment.id)
        assert (review, truth) == ("none", None)
