from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection

from drivetrain.errors import Conflict, InvalidInput, NotFound, Unavailable
from drivetrain.store import predictions
from drivetrain.store.ids import is_id, new_id, time_of
from drivetrain.store.predictions import Predictions, Stored
from drivetrain.store.store import Store, open_store

from .conftest import Clock


def answer(id_: str | None = None, **changed: object) -> Stored:
    values: dict[str, object] = {
        "id": id_ or Predictions.new_id(),
        "at": 1_700_000_000.25,
        "model": "bears",
        "version": "bears@0123456789ab",
        "caller_id": "local",
        "request_id": "r1",
        "name": "grizzly.jpg",
        "sha256": "0" * 64,
        "answer": {"label": "grizzly", "probability": 0.98, "probabilities": {"grizzly": 0.98, "schwarzbär": 0.02}},
    }
    return Stored(**{**values, **changed})  # type: ignore[arg-type]


def until(is_so: object, *, wait_s: float = 30.0) -> None:
    deadline = time.monotonic() + wait_s
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_an_answer_comes_back_as_it_was_given(store: Store) -> None:
    given = answer()
    store.predictions.add(given)
    assert store.predictions.get(given.id) == given  # also a moment after
    assert store.predictions.get("no such id") is None


def test_ids_rise_and_are_safe_in_an_address() -> None:
    ids = [Predictions.new_id() for _ in range(5_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5_000
    assert all(len(id_) == 26 and id_.isalnum() and id_.islower() | id_.isdigit() for id_ in ids)
    with ThreadPoolExecutor(8) as pool:
        many = [
            id_ for part in pool.map(lambda _: [Predictions.new_id() for _ in range(500)], range(8)) for id_ in part
        ]
    assert len(set(many)) == 4_000


def test_ids_sort_by_time() -> None:
    before = Predictions.new_id()
    time.sleep(0.005)
    assert before[:10] < Predictions.new_id()[:10]


def test_eight_threads_write_and_none_waits_for_the_disk(store: Store) -> None:
    def work(thread: int) -> None:
        for number in range(250):
            store.predictions.add(answer(name=f"{thread}-{number}"))
            if number % 50 == 0:
                store.audit("tick", by=f"thread {thread}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    store.predictions.flush()
    assert store.predictions.count() == 2_000
    assert len(store.audit.list(limit=1_000)) == 40
    assert {one.name for one in store.predictions.recent(limit=2_000)} == {
        f"{t}-{n}" for t in range(8) for n in range(250)
    }


def test_answers_of_a_moment_are_written_together_and_nobody_waits_for_that_moment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "_GATHER_S", 600.0)  # whoever waited for it would fail
    sizes: list[int] = []
    insert = Predictions._insert

    def count(self: Predictions, batch: list[Stored]) -> None:
        sizes.append(len(batch))
        insert(self, batch)

    monkeypatch.setattr(Predictions, "_insert", count)
    with open_store(url, queue_max=40) as store:
        given = [answer() for _ in range(70)]
        for one in given[:30]:
            store.predictions.add(one)
        assert store.predictions.waiting == 30
        assert store.predictions.get(given[7].id) == given[7]
        assert sizes == [30]
        for one in given[30:]:  # as many as have room: the queue is full, and is written at once
            store.predictions.add(one)
        until(lambda: not store.predictions.waiting)
        assert sizes == [30, 40]
        store.predictions.flush()
        last = answer()
        store.predictions.add(last)
        assert store.predictions.waiting == 1  # a flush of nothing hurries nobody
    with open_store(url) as store:
        assert store.predictions.count() == 71


def test_another_process_may_still_hold_a_young_answer() -> None:
    made = new_id()
    assert 0.0 < Predictions.settled_in_s(made) <= 0.3
    assert abs(time_of(made) - time.time()) < 60
    old = "00" + made[2:]
    assert time_of(old) < time_of(made) - 1e6
    assert Predictions.settled_in_s(old) == 0.0
    assert Predictions.settled_in_s("7" + made[1:]) == 0.0  # of a clock that goes before ours
    assert is_id(made)
    assert not is_id(made[1:])
    assert not is_id("u" * 26)


def test_the_newest_come_first(store: Store) -> None:
    for number in range(5):
        store.predictions.add(answer(name=str(number)))
    store.predictions.flush()
    assert [one.name for one in store.predictions.recent(limit=3)] == ["4", "3", "2"]


def hold(store: Store, db: Connection) -> None:
    """Keep the writer waiting until this transaction ends."""
    if not store.database.is_sqlite:  # SQLite has one writer anyway
        db.exec_driver_sql("LOCK TABLE prediction IN ACCESS EXCLUSIVE MODE")


def fill(store: Store) -> None:
    for _ in range(20):
        store.predictions.add(answer(), wait_s=0.1)


def test_a_full_queue_waits_and_then_says_so(url: str) -> None:
    with open_store(url, queue_max=3) as store:
        late = answer(name="late")
        waiter = threading.Thread(target=store.predictions.add, args=(late,), kwargs={"wait_s": 60})
        with store.database.write() as db:
            hold(store, db)
            with pytest.raises(Unavailable, match=r"db: got [3-6] answers that it did not take yet"):
                fill(store)
            assert not store.predictions.has_room
            taken = store.predictions.waiting
            waiter.start()
        waiter.join(60)
        store.predictions.flush()
        assert store.predictions.count() == taken + 1
        assert store.predictions.get(late.id) == late


def test_flush_has_a_deadline(url: str) -> None:
    with open_store(url) as store:
        with store.database.write() as db:
            hold(store, db)
            store.predictions.add(answer())
            with pytest.raises(Unavailable, match="1 answers unwritten after 0 s"):
                store.predictions.flush(wait_s=0.05)
        store.predictions.flush()
        assert store.predictions.count() == 1


def test_a_database_that_fails_for_a_while_loses_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with store.database.write() as db:
        db.exec_driver_sql("ALTER TABLE prediction RENAME TO away")
    with caplog.at_level(logging.ERROR, "drivetrain.store"):
        store.predictions.add(answer(name="kept"))
        until(lambda: store.predictions.problem is not None)
    assert "answers cannot be written, and wait" in caplog.text
    with store.database.write() as db:
        db.exec_driver_sql("ALTER TABLE away RENAME TO prediction")
    store.predictions.flush()
    assert store.predictions.problem is None
    assert [one.name for one in store.predictions.recent()] == ["kept"]


def test_one_answer_that_cannot_be_kept_does_not_hold_up_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    twice = answer()
    with caplog.at_level(logging.ERROR, "drivetrain.store"):
        for one in (twice, answer(), twice, answer()):
            store.predictions.add(one)
        store.predictions.flush()
    assert store.predictions.count() == 3
    assert f"the answer {twice.id} was not written" in caplog.text


def test_hostile_names_are_kept(store: Store) -> None:
    names = ["<script>alert(1)</script>", "'; DROP TABLE prediction; --", "a\0b", "\udcff", "ä" * 300, ""]
    for name in names:
        store.predictions.add(answer(name=name))
    store.predictions.flush()
    kept = [one.name for one in reversed(store.predictions.recent())]
    assert kept == [*names[:2], "ab", "?", *names[4:]]


def test_close_writes_what_waits(url: str) -> None:
    store = open_store(url)
    for _ in range(700):
        store.predictions.add(answer())
    store.close()
    with pytest.raises(Unavailable, match="after the store was closed"):
        store.predictions.add(answer())
    with open_store(url) as again:
        assert again.predictions.count() == 700


def test_what_could_not_be_written_at_the_end_is_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(url)
    with store.database.write() as db:
        db.exec_driver_sql("ALTER TABLE prediction RENAME TO away")
    for _ in range(3):
        store.predictions.add(answer())
    until(lambda: store.predictions.problem is not None)
    with caplog.at_level(logging.ERROR, "drivetrain.store"):
        store.close()
    assert store.predictions.waiting == 3  # not acknowledged
    assert "3 answers could not be written before the end" in caplog.text


WRITER = """
import sys
from drivetrain.store import predictions
from drivetrain.store.ids import is_id, new_id, time_of
from drivetrain.store.predictions import Predictions, Stored
from drivetrain.store.store import open_store
store = open_store(sys.argv[1])
while True:
    ids = []
    for _ in range(20):
        one = Stored(id=Predictions.new_id(), at=1.0, model="m", version="v", caller_id="c", request_id="r", name="n",
                     sha256="0" * 64, answer={})
        store.predictions.add(one)
        ids.append(one.id)
    store.predictions.flush()
    print("\\n".join(ids), flush=True)
"""


def test_a_killed_writer_loses_nothing_that_flush_acknowledged(url: str) -> None:
    told: list[str] = []
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told += [process.stdout.readline().strip() for _ in range(60)]
            process.send_signal(signal.SIGKILL)
            told += [line.strip() for line in process.stdout if len(line) == 27]  # a torn line was not told
    with open_store(url) as store:
        kept = {one.id for one in store.predictions.recent(limit=1_000_000)}
    assert len(told) >= 180
    assert set(told) <= kept


def test_feedback_is_kept_beside_its_answer(store: Store, clock: Clock) -> None:
    given = answer()
    store.predictions.add(given)
    note = store.feedback.add(given.id, "wrong", label="black", by="key:k1", note="<b>look</b>")
    assert (note.verdict, note.label, note.at) == ("wrong", "black", clock.now)
    assert store.feedback.list(given.id) == [note]
    assert store.feedback.counts() == {"right": 0, "wrong": 1, "unsure": 0}


def test_who_changes_their_mind_counts_once(store: Store) -> None:
    given, other = answer(), answer()
    for one in (given, other):
        store.predictions.add(one)
    for verdict in ("wrong", "unsure", "right"):
        store.feedback.add(given.id, verdict, by="user:ann")  # type: ignore[arg-type]
    store.feedback.add(given.id, "wrong", by="user:bob")
    store.feedback.add(other.id, "wrong", by="user:ann")
    assert store.feedback.counts() == {"right": 1, "wrong": 2, "unsure": 0}
    assert len(store.feedback.list(given.id)) == 4


def test_feedback_that_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="prediction_id: got nope"):
        store.feedback.add("nope", "right", by="x")
    given = answer()
    store.predictions.add(given)
    for changed, said in (
        ({"verdict": "great"}, "verdict: got great; want one of right, wrong, unsure"),
        ({"label": ""}, "label: got 0 characters"),
        ({"label": "x" * 201}, "label: got 201 characters"),
        ({"label": "a\nb"}, "label: got control characters"),
        ({"note": "x" * 2001}, "note: got 2001 characters"),
        ({"note": "a\0b"}, "note: got control characters"),
    ):
        with pytest.raises(InvalidInput, match=said):
            store.feedback.add(given.id, **{"verdict": "right", "by": "x", **changed})  # type: ignore[arg-type]
    for _ in range(20):
        store.feedback.add(given.id, "right", by="x")
    with pytest.raises(Conflict, match="20 notes on this answer"):
        store.feedback.add(given.id, "right", by="x")


def test_the_audit_says_who_did_what(store: Store, clock: Clock) -> None:
    store.audit(
        "key.create", by="user:ann", subject="k1", detail={"roles": ["admin"]}, address="10.0.0.1", request_id="r"
    )
    clock.now += 5
    store.audit("session.begin", by="user:bob")
    newest, oldest = store.audit.list()
    assert (newest.action, newest.by, newest.at) == ("session.begin", "user:bob", clock.now)
    assert (oldest.subject, oldest.detail, oldest.address, oldest.request_id) == (
        "k1",
        {"roles": ["admin"]},
        "10.0.0.1",
        "r",
    )
    assert store.audit.list(action="key.create") == [oldest]
    assert store.audit.list(limit=1) == [newest]
    assert json.dumps(dict(oldest.detail))
