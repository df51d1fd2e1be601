"""Harm, files in place of the database, two servers, and what is counted: a roll-out that nobody looks at."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from drivetrain.errors import InvalidConfig, Unavailable
from drivetrain.flows.rollout import OURSELVES, enter_markers
from drivetrain.flows.rollout_evidence import gather_evidence
from drivetrain.flows.rollout_marker import write_marker
from drivetrain.serve.app import create_app
from drivetrain.serve.rollout.fallback import LastKnown
from drivetrain.serve.rollout.turn import is_drawn
from drivetrain.store.database import Database
from drivetrain.store.reviews import Task
from drivetrain.store.store import open_store

from .fakes import call, make_app, settings
from .rollout_bench import BLUE, GREEN, HEADERS, NEW, OLD, RED, Bench, begin, poll, register, rollout_bench
from .tiny import archive, model, tiny_app, write

NEW_SAYS = {"green": "blue", "blue": None}


def refuse(self: object, **given: bool) -> object:
    raise Unavailable("db", got="a disk that is full", want="a database that answers")


def make_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing can be written into a database; it can be read."""
    monkeypatch.setattr(Database, "write", refuse)


def test_harm_is_taken_back_by_itself_at_once(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, new={"red": "blue"}) as bench:
        deployment = begin(bench.store, bound=0.1, margin=0.02)
        bench.move("expanding", 1.0)
        for number in range(60):
            answer = bench.send(key=str(number))
            if answer["version"] == OLD:
                break
            bench.seen(answer)
            bench.label(answer, "amber")  # the old one was right
        poll(lambda: bench.send()["version"] == OLD)
        last = bench.store.deployments.ledger(deployment.id)[-1]
        assert (last["action"], last["by"]) == ("rollback", OURSELVES)
        assert bench.metric("drivetrain_rollout_rollbacks_total", deployment="colours") == 1
        assert bench.metric("drivetrain_rollout_stage", deployment="colours", stage="rolled_back") == 1
        assert bench.metric("drivetrain_rollout_stage", deployment="colours", stage="expanding") == 0


def test_a_candidate_that_gives_no_answers_is_taken_back_without_a_label(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, new={"red": "!"}) as bench:
        deployment = begin(bench.store, fail_max=0.01)
        bench.move("expanding", 1.0)
        for _ in range(40):
            assert bench.send()["version"] == OLD
        poll(lambda: bench.store.deployments.get(deployment.id).stage == "rolled_back")  # type: ignore[union-attr]


def test_a_good_candidate_is_left_alone(tmp_path: Path) -> None:
    with rollout_bench(tmp_path) as bench:
        deployment = begin(bench.store, audit_share=1.0)
        bench.move("expanding", 1.0)
        for _ in range(10):
            answer = bench.send()
            bench.seen(answer)
            bench.label(answer, "amber")
        bench.desk._harm._judge(deployment)
        assert bench.send()["version"] == NEW


def test_what_the_server_keeps_is_what_is_counted(tmp_path: Path) -> None:
    """Labels of all disagreements, of drawn audits, and of nothing else; the counts by hand."""
    with rollout_bench(tmp_path, new=NEW_SAYS) as bench:
        deployment = begin(bench.store, audit_share=0.3)
        bench.desk.refresh()
        answers = [bench.send(content) for content in [RED] * 12 + [GREEN] * 6 + [BLUE] * 4]
        n_audits = 0
        for number, answer in enumerate(answers):
            row = bench.seen(answer)
            drawn = is_drawn(row.prediction_id, salt="salt", share=0.3)
            if number < 12:
                n_audits += drawn
                if drawn:
                    bench.label(answer, "amber")
            elif number < 18:
                bench.label(answer, "blue" if number % 2 else "amber")
        found = gather_evidence(bench.store, deployment)
        assert (found.n, found.n_waiting, found.n_failed) == (22, 0, 0)
        assert (found.n_deferred, found.n_automatic) == (4, 18)
        assert (found.wins, found.losses, found.ties) == (3, 3, 12)
        assert (found.n_labelled, found.n_wrong, found.n_untold) == (n_audits + 6, 3, 0)
        assert found.classes == {"amber": 12, "blue": 6}


def test_with_people_as_incumbent_all_is_counted(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, has_old=False, new=NEW_SAYS) as bench:
        deployment = begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        for content in (RED, GREEN, BLUE, RED):
            answer = bench.send(content)
            bench.seen(answer)
            bench.label(answer, "amber")
        waiting = bench.send(RED)
        bench.seen(waiting)
        found = gather_evidence(bench.store, deployment)
        assert (found.n, found.n_waiting, found.n_deferred, found.n_automatic) == (4, 1, 1, 3)
        assert (found.n_labelled, found.n_wrong, found.floor) == (3, 1, 1.0)


def test_two_servers_on_one_database_agree(database_url: str, tmp_path: Path) -> None:
    images = str(tmp_path / "pictures")
    with (
        open_store(database_url, images=images) as first,
        open_store(database_url, images=images) as second,
        rollout_bench(tmp_path, store=first) as one,
        rollout_bench(tmp_path, store=second) as other,
    ):
        begin(first)
        one.move("expanding", 0.5)
        poll(lambda: other.desk.find(None, None) is not None)
        poll(lambda: other.desk.find(None, None).deployment.share == 0.5)  # type: ignore[union-attr]
        keys = list(map(str, range(20)))
        assert [one.send(key=key)["version"] for key in keys] == [other.send(key=key)["version"] for key in keys]
        rows = list(first.requests.outcomes(one.desk.find(None, None).deployment.id))  # type: ignore[union-attr]
        assert [row.seq for row, _, _ in rows] == list(range(1, 41))
        one.move("rolled_back", 0.0)
        poll(lambda: other.send()["version"] == OLD and other.desk.find(None, None) is None)


def test_a_rollback_by_file_holds_within_the_second_while_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rollout_bench(tmp_path) as bench:
        deployment = begin(bench.store)
        bench.move("expanding", 1.0)
        assert bench.send()["version"] == NEW
        with monkeypatch.context() as full:
            make_full(full)
            marker = write_marker(tmp_path, "colours", by="bob", reason="misses", at=time.time())
            poll(lambda: bench.desk.find(None, None) is None)
            reply = bench.post()
            assert (reply.status_code, reply.json()["version"]) == (200, OLD)
            assert marker.path.exists()
            assert bench.store.deployments.get(deployment.id).stage == "expanding"  # type: ignore[union-attr]
        poll(lambda: not marker.path.exists())  # the database is back: it is entered
        last = bench.store.deployments.ledger(deployment.id)[-1]
        assert (last["action"], last["by"]) == ("rollback", "bob")
        assert bench.send()["version"] == OLD


def test_a_file_that_another_server_entered_holds_until_the_store_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of the store is from before the rollback: without its file the candidate would decide again."""
    with rollout_bench(tmp_path, is_started=False) as bench:
        begin(bench.store)
        bench.move("expanding", 1.0)
        bench.desk.look()
        assert bench.send()["version"] == NEW
        marker = write_marker(tmp_path, "colours", by="bob", reason="misses", at=time.time())
        bench.desk.read_markers()
        assert bench.send()["version"] == OLD
        assert enter_markers(bench.store, tmp_path) == ["colours"]
        assert not marker.path.exists()
        for _ in range(3):
            bench.desk.read_markers()
            assert bench.send()["version"] == OLD
        with monkeypatch.context() as away:
            away.setattr(type(bench.store.deployments), "list", refuse)
            bench.desk.refresh()  # nothing was read: it holds
            bench.desk.read_markers()
            assert bench.post().json()["version"] == OLD
        bench.desk.refresh()
        assert bench.desk._gone == []
        assert bench.send()["version"] == OLD
        begin(bench.store, name="again")
        bench.move("expanding", 1.0, name="again")
        bench.desk.look()
        assert bench.send()["version"] == NEW  # it held for what was started before


def test_a_file_taken_away_by_hand_lets_it_go_on(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, is_started=False) as bench:
        begin(bench.store)
        bench.move("expanding", 1.0)
        marker = write_marker(tmp_path, "colours", by="bob", reason="misses", at=time.time())
        bench.desk.look()
        assert bench.send()["version"] == OLD
        marker.path.unlink()
        bench.desk.look()
        assert bench.send()["version"] == NEW


def test_what_cannot_be_kept_is_answered_without_the_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with rollout_bench(tmp_path) as bench:
        begin(bench.store)
        bench.move("expanding", 1.0)
        with monkeypatch.context() as full:
            make_full(full)
            for _ in range(2):  # tried, then not tried for a moment
                answer = bench.post().json()
                assert answer["version"] == OLD
                assert "prediction_id" not in answer
        assert bench.metric("drivetrain_rollout_unstored_total", deployment="colours") == 2
        poll(lambda: bench.desk.is_storable)
        assert bench.send()["version"] == NEW
        assert bench.store.predictions.count() == 1


def test_what_people_are_to_decide_is_refused_where_it_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rollout_bench(tmp_path, has_old=False) as bench:
        begin(bench.store, has_incumbent=False)
        bench.desk.refresh()
        with monkeypatch.context() as full:
            make_full(full)
            reply = bench.post()
        assert (reply.status_code, reply.json()["field"]) == (503, "review")


def test_what_was_known_last_holds_while_the_database_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rollout_bench(tmp_path) as bench:
        deployment = begin(bench.store)
        bench.move("expanding", 0.25)
        file = tmp_path / "cache" / "deployments.json"
        [kept] = json.loads(file.read_bytes()).values()
        assert [one["share"] for one in kept["deployments"]] == [0.25]

        def refuse(self: Database) -> object:
            raise Unavailable("db", got="nobody", want="a database that answers")

        with monkeypatch.context() as gone:
            gone.setattr(Database, "read", refuse)
            bench.desk.refresh()
            live = bench.desk.find(None, None)
            assert live is not None
            assert live.deployment.share == 0.25
            with rollout_bench(tmp_path, store=bench.store, is_started=False) as other:  # begun without a database
                other.desk.refresh()
                found = other.desk.find(None, None)
                assert found is not None
                assert (found.deployment.id, found.deployment.share) == (deployment.id, 0.25)


def test_the_file_of_what_was_known_holds_several_databases(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, is_started=False) as bench:
        deployment = begin(bench.store)
    one, other = (LastKnown(tmp_path, url=url) for url in ("sqlite:///a", "sqlite:///b"))
    one.write([deployment], {NEW: "new.dt"})
    other.write([replace(deployment, share=0.5)], {})
    assert one.read() == ([deployment], {NEW: "new.dt"})
    assert other.read()[0][0].share == 0.5
    empty = LastKnown(tmp_path, url="sqlite:///c")
    empty.write([], {})
    assert empty.read() == ([], {})
    assert len(json.loads((tmp_path / "deployments.json").read_bytes())) == 2
    for number in range(20):  # the oldest are no server's any more
        LastKnown(tmp_path, url=f"sqlite:///{number}").write([deployment], {})
    assert len(json.loads((tmp_path / "deployments.json").read_bytes())) == 16
    assert one.read() == ([], {})
    one.write([deployment], {})
    assert one.read()[0] == [deployment]
    (tmp_path / "deployments.json").write_text("{")
    assert one.read() == ([], {})


def test_the_candidate_is_loaded_from_its_file_beside_what_answers(tmp_path: Path) -> None:
    path = write(tmp_path, "new", archive("tiny", seed=7))
    new = model("tiny", seed=7).version
    with tiny_app(tmp_path, cache_dir=tmp_path / "cache") as app:
        store, registry, desk = app.state.store, app.state.registry, app.state.rollouts
        old = registry.get().version
        register(store, old)
        begin(store, name="shapes", candidate=new, incumbent=old, path=str(path))
        desk.look()
        assert {one.version for one in registry.all()} == {old, new}
        assert registry.get().version == old
        assert call(app, "GET", "/health/ready").json()["version"] == old
        bench = Bench(app, store, None, None)  # type: ignore[arg-type]
        bench.move("live", name="shapes")
        desk.look()
        assert registry.get().version == new
        desk.close()


def test_a_file_that_holds_another_version_by_now_is_not_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "new", archive("tiny", seed=9))
    new = model("tiny", seed=7).version
    with tiny_app(tmp_path, cache_dir=tmp_path / "cache") as app:
        store = app.state.store
        old = app.state.registry.get().version
        deployment = begin(store, candidate=new, incumbent=old, path=str(path))
        app.state.rollouts.look()
        assert [one.version for one in app.state.registry.all()] == [old]
        [alert] = store.alerts.list(deployment.id)
        assert new in alert.detail
        app.state.rollouts.close()


def test_the_candidate_is_let_go_when_it_was_taken_back(tmp_path: Path) -> None:
    path = write(tmp_path, "new", archive("tiny", seed=7))
    new = model("tiny", seed=7).version
    with tiny_app(tmp_path, cache_dir=tmp_path / "cache") as app:
        store, registry, desk = app.state.store, app.state.registry, app.state.rollouts
        old = registry.get().version
        begin(store, name="shapes", candidate=new, incumbent=old, path=str(path))
        desk.look()
        Bench(app, store, None, None).move("rolled_back", 0.0, name="shapes")  # type: ignore[arg-type]
        desk.look()
        assert [one.version for one in registry.all()] == [old]
        desk.close()


def test_a_model_that_is_not_served_here_is_another_servers(tmp_path: Path) -> None:
    path = write(tmp_path, "new", archive("other", seed=7))
    new = model("other", seed=7).version
    with tiny_app(tmp_path, cache_dir=tmp_path / "cache") as app:
        begin(app.state.store, candidate=new, has_incumbent=False, path=str(path), incumbent="other@" + "a" * 12)
        app.state.rollouts.look()
        assert app.state.registry.names() == ["tiny"]
        reply = call(app, "POST", "/predict?model=other", content=RED, headers=HEADERS)
        assert reply.status_code == 404
        app.state.rollouts.close()


def test_a_server_without_memory_has_none_and_refuses_a_webhook() -> None:
    assert make_app().state.rollouts is None
    with pytest.raises(InvalidConfig, match="without memory"):
        create_app(None, settings(webhook="https://host/x", webhook_secret="x" * 16))


def test_a_review_that_was_settled_never_fails_whoever_said_it(tmp_path: Path) -> None:
    with rollout_bench(tmp_path, is_started=False) as bench:
        bench.desk.waiting = None  # type: ignore[assignment]
        bench.desk.settled(Task(id="t", prediction_id="p", why="all", asked_at=1.0))
