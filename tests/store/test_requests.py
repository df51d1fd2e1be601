from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event

from drivetrain.errors import Conflict, InvalidInput, NotFound, Unavailable
from drivetrain.store import request_outcomes
from drivetrain.store.ids import new_id
from drivetrain.store.requests import Routed
from drivetrain.store.store import Store, open_store

from .made import add, asked, deployment, one_person, review, routed, stored, task

FINISH: dict[str, Any] = {"candidate": {"label": "x"}, "seconds": 0.5, "wants_label": False, "label_probability": 0.5}


@pytest.fixture
def bears(store: Store) -> str:
    return deployment(store).id


def test_a_request_comes_back_as_it_was_added(store: Store, bears: str) -> None:
    answer = stored()
    given = routed(answer.id, bears, due_at=12.5, image_sha256="a" * 64, attributes={"site": "nørd", "hour": "7"})
    kept = store.requests.add(given, answer)
    assert kept == replace(given, seq=1) == store.requests.get(answer.id)
    assert store.predictions.get(answer.id) == answer
    assert store.requests.get("nope") is None
    people = add(store, bears, decided_by="people", incumbent=None, candidate=None, candidate_seconds=None)
    assert people.seq == 2
    assert store.requests.get(people.prediction_id) == people


def test_hostile_text_is_kept_as_far_as_it_is_text(store: Store, bears: str) -> None:
    kept = add(store, bears, key="a\0b\udcff", attributes={"si\0te": "\udcff'; DROP TABLE request; --"})
    assert store.requests.get(kept.prediction_id) == kept
    assert (kept.key, kept.attributes) == ("ab?", {"site": "?'; DROP TABLE request; --"})


def test_many_callers_share_a_wait_for_the_disk(store: Store, bears: str) -> None:
    commits: list[Connection] = []
    with store.database.write():  # the writer waits for this, and what is added meanwhile gathers
        if not store.database.is_sqlite:
            hold = store.database.engine.connect()
            hold.exec_driver_sql("LOCK TABLE request IN ACCESS EXCLUSIVE MODE")
        answers = [stored() for _ in range(150)]
        waiting = [store.requests.submit(routed(one.id, bears), one) for one in answers]
        assert not any(one.done() for one in waiting)
        event.listen(store.database.engine, "commit", commits.append)
        if not store.database.is_sqlite:
            hold.close()
    wait(waiting, 60)
    assert [one.result().seq for one in waiting] == list(range(1, 151))  # in the order in which they came
    assert len(commits) <= 4  # this one, the first of them, and the rest together


def test_two_servers_number_without_gap_or_double(store: Store, url: str, bears: str) -> None:
    other = deployment(store, "cats").id

    def work(place: int) -> list[tuple[str, int]]:
        one = (store, second)[place % 2]
        made = [add(one, (bears, other)[i % 2], key=f"{place}-{i}") for i in range(30)]
        for deployment_id in (bears, other):  # who adds after another was told gets a later number
            mine = [row.seq for row in made if row.deployment_id == deployment_id]
            assert mine == sorted(mine)
        return [(row.deployment_id, row.seq) for row in made]

    with open_store(url) as second, ThreadPoolExecutor(6) as pool:
        given = [pair for part in pool.map(work, range(6)) for pair in part]
    for deployment_id in (bears, other):
        assert sorted(seq for id_, seq in given if id_ == deployment_id) == list(range(1, 91))
        rows = [row for row, _, _ in store.requests.outcomes(deployment_id)]
        assert [row.seq for row in rows] == list(range(1, 91))


def test_the_same_once_more_changes_nothing(store: Store, bears: str) -> None:
    """A caller who was not told, for the connection broke after the commit, may ask again."""
    answer = stored()
    first = store.requests.add(routed(answer.id, bears), answer)
    assert store.requests.add(routed(answer.id, bears), answer) == first
    with pytest.raises(Conflict, match=f"prediction_id: got {answer.id} again"):
        store.requests.add(routed(answer.id, bears, key="another"), answer)
    assert [row.seq for row, _, _ in store.requests.outcomes(bears)] == [1]
    assert add(store, bears).seq == 2  # no number was used up


def test_one_that_cannot_be_written_fails_alone(store: Store, bears: str) -> None:
    before = add(store, bears)
    with store.database.write() as db:
        if not store.database.is_sqlite:
            db.exec_driver_sql("LOCK TABLE request IN ACCESS EXCLUSIVE MODE")
        answers = [stored() for _ in range(5)]
        kinds: list[dict[str, Any]] = [{}, {"deployment_id": "nope"}, {}, {"decided_by": "nobody"}, {}]
        waiting = [
            store.requests.submit(routed(one.id, **{"deployment_id": bears, **kind}), one)
            for one, kind in zip(answers, kinds, strict=True)
        ]
        double = store.requests.submit(routed(before.prediction_id, bears, key="x"), stored(before.prediction_id))
    assert [waiting[i].result(60).seq for i in (0, 2, 4)] == [2, 3, 4]
    with pytest.raises(NotFound, match="deployment: got nope"):
        waiting[1].result(60)
    for failed in (waiting[3], double):
        with pytest.raises(Conflict):
            failed.result(60)
    assert [store.predictions.get(one.id) is not None for one in answers] == [True, False, True, False, True]


def test_what_does_not_fit_is_refused_before_it_waits(store: Store, bears: str) -> None:
    with pytest.raises(InvalidInput, match="prediction_id"):
        store.requests.submit(routed("one", bears), stored("other"))
    with pytest.raises(InvalidInput, match="prediction_id"):
        store.requests.submit(routed("one", bears), stored("one"), task=task("other", bears))
    for bad in ({"propensity": 1.1}, {"label_probability": -0.1}):
        with pytest.raises(InvalidInput, match=r"probability: got .*; want 0 to 1"):
            store.requests.submit(routed("one", bears, **bad), stored("one"))


def fill(store: Store, deployment_id: str, taken: list[Future[Routed]]) -> None:
    for _ in range(6):
        one = stored()
        taken.append(store.requests.submit(routed(one.id, deployment_id), one))


def test_a_database_that_does_not_answer_is_told_in_time(url: str) -> None:
    with open_store(url, queue_max=3) as store:
        bears = deployment(store).id
        with store.database.write() as db:
            if not store.database.is_sqlite:
                db.exec_driver_sql("LOCK TABLE deployment IN ACCESS EXCLUSIVE MODE")
            first = stored()
            with pytest.raises(Unavailable, match="no answer in 0 s"):
                store.requests.add(routed(first.id, bears), first, wait_s=0.05)
            taken: list[Future[Routed]] = []
            with pytest.raises(Unavailable, match="3 requests that wait"):
                fill(store, bears, taken)
        assert len([one.result(60) for one in taken]) >= 3
    late = stored()
    with pytest.raises(Unavailable, match="after the store was closed"):
        store.requests.add(routed(late.id, bears), late)


def test_a_failing_database_is_told_and_the_next_request_is_kept(store: Store, bears: str) -> None:
    with store.database.write() as db:
        db.exec_driver_sql("ALTER TABLE request RENAME TO away")
    with pytest.raises(Unavailable):
        add(store, bears)
    assert store.predictions.count() == 0  # all or none
    with store.database.write() as db:
        db.exec_driver_sql("ALTER TABLE away RENAME TO request")
    assert add(store, bears).seq == 1


def test_close_writes_what_waits(url: str) -> None:
    store = open_store(url)
    bears = deployment(store).id
    waiting = []
    for _ in range(300):
        one = stored()
        waiting.append(store.requests.submit(routed(one.id, bears), one))
    store.close()
    assert all(one.done() for one in waiting)
    with open_store(url) as again:
        assert len(list(again.requests.outcomes(bears))) == 300


def test_what_has_still_to_be_seen_is_done_once(store: Store, bears: str) -> None:
    late = [add(store, bears, state="pending", candidate=None, candidate_seconds=None) for _ in range(3)]
    add(store, bears)
    assert store.requests.backlog(bears) == 3
    assert store.requests.pending(bears, 2) == late[:2]
    first = late[0].prediction_id
    assert store.requests.finish(first, **FINISH | {"wants_label": True, "due_at": 9.0})
    done = store.requests.get(first)
    assert done == replace(
        late[0], state="done", candidate={"label": "x"}, candidate_seconds=0.5, wants_label=True,
        label_probability=0.5, due_at=9.0,
    )  # fmt: skip
    assert not store.requests.finish(first, **FINISH | {"candidate": {"label": "y"}, "is_failed": True})
    assert store.requests.get(first) == done
    assert store.requests.finish(late[1].prediction_id, **FINISH | {"candidate": None, "is_failed": True})
    failed = store.requests.get(late[1].prediction_id)
    assert failed is not None
    assert (failed.state, failed.candidate) == ("failed", None)
    assert store.requests.pending(bears, 10) == late[2:]
    with pytest.raises(NotFound, match="prediction_id: got nope"):
        store.requests.finish("nope", **FINISH)


def test_the_incumbent_may_be_the_one_that_comes_later(store: Store, bears: str) -> None:
    late = add(store, bears, state="pending", decided_by="candidate", incumbent=None)
    store.requests.finish(late.prediction_id, **FINISH | {"candidate": None, "incumbent": {"label": "old"}})
    done = store.requests.get(late.prediction_id)
    assert done is not None
    assert (done.incumbent, done.candidate) == ({"label": "old"}, late.candidate)


def test_of_many_who_finish_one_at_once_one_does(store: Store, url: str, bears: str) -> None:
    late = add(store, bears, state="pending", candidate=None)
    gate = threading.Barrier(8)

    def finish(place: int) -> bool:
        gate.wait(60)
        wanted = task(late.prediction_id, bears)
        return (store, second)[place % 2].requests.finish(
            late.prediction_id, **FINISH | {"candidate": {"by": place}, "wants_label": True, "task": wanted}
        )

    with open_store(url) as second, ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(finish, range(8))) == 1
    assert len(store.reviews.of(late.prediction_id)) == 1


def test_a_request_and_its_task_are_there_together_or_not(store: Store, bears: str) -> None:
    wanted = asked(store, bears)
    assert store.reviews.of(wanted.prediction_id) == [wanted]
    bad = task(new_id(), "nope")
    with pytest.raises(NotFound):
        add(store, bears, given=bad, wants_label=True)
    assert store.requests.get(bad.prediction_id) is None
    late = add(store, bears, state="pending", candidate=None)
    with pytest.raises(NotFound):
        store.requests.finish(late.prediction_id, **FINISH | {"task": task(late.prediction_id, "nope")})
    assert store.requests.get(late.prediction_id) == late


def test_a_label_that_was_never_asked_for_is_found(store: Store, bears: str) -> None:
    forgotten = add(store, bears, wants_label=True)
    asked(store, bears)
    add(store, bears)
    add(store, bears, state="pending", wants_label=True)
    assert store.requests.unasked(bears, 10) == [forgotten]
    store.reviews.ask(task(forgotten.prediction_id, bears))
    assert store.requests.unasked(bears, 10) == []


def test_outcomes_say_how_far_each_review_is(store: Store, bears: str) -> None:
    add(store, bears)  # no label wanted
    labelled, unclear, overdue, waiting = (asked(store, bears, due_at=float(i)) for i in range(1, 5))
    add(store, bears, wants_label=True)  # not asked for yet
    add(store, bears, state="pending", candidate=None)
    failed = add(store, bears, state="failed", candidate=None)
    assert review(store, "ann", "black") is not None
    assert review(store, "ann", "cannot tell", settle=lambda _: ("unclear", None)) is not None
    assert store.reviews.expire(3.5) == 1
    told = list(store.requests.outcomes(bears))
    assert [(row.seq, state, truth) for row, state, truth in told] == [
        (1, "none", None),
        (2, "labelled", "black"),
        (3, "unclear", None),
        (4, "overdue", None),
        (5, "pending", None),
        (6, "pending", None),
        (7, "pending", None),
        (8, "none", None),
    ]
    assert [row.prediction_id for row, _, _ in told[1:5]] == [
        one.prediction_id for one in (labelled, unclear, overdue, waiting)
    ]
    assert told[-1][0] == failed
    assert [row.seq for row, _, _ in store.requests.outcomes(bears, after_seq=6)] == [7, 8]
    assert list(store.requests.outcomes("nope")) == []


def test_outcomes_come_whole_however_many_pages(store: Store, bears: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [asked(store, bears) if i % 3 == 0 else add(store, bears) for i in range(10)]
    review(store, "ann", "black")
    whole = list(store.requests.outcomes(bears))
    monkeypatch.setattr(request_outcomes, "_PAGE", 3)
    assert list(store.requests.outcomes(bears)) == whole
    assert [row.prediction_id for row, _, _ in whole] == [one.prediction_id for one in wanted]


def test_the_first_label_stands_and_gold_is_none(store: Store, bears: str) -> None:
    """What is asked later, for a caller said so or to check a reviewer, does not change what was counted."""
    first = asked(store, bears)
    review(store, "ann", "black")
    store.reviews.ask(task(first.prediction_id, bears, why="feedback"))
    review(store, "bob", "grizzly")
    assert [row.truth for row in store.reviews.of(first.prediction_id)] == ["black", "grizzly"]
    [(_, state, truth)] = store.requests.outcomes(bears)
    assert (state, truth) == ("labelled", "black")
    second = add(store, bears, wants_label=True)
    gold = store.reviews.ask(task(second.prediction_id, bears, why="gold", gold="polar"))
    claimed = store.reviews.claim("ann", order="audit", lease_s=9)
    assert claimed == gold
    store.reviews.answer(gold.id, "ann", "polar", settle=one_person, seconds=1, saw_model=False)
    assert [state for _, state, _ in store.requests.outcomes(bears)] == ["labelled", "pending"]
