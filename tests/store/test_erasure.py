from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from sqlalchemy import event

from drivetrain.errors import InvalidInput
from drivetrain.store.erasure import forget, measure_forget
from drivetrain.store.requests import ReviewState
from drivetrain.store.store import Store, open_store
from drivetrain.store.upkeep import upgrade

from .conftest import Clock
from .made import add, asked, deployment, review, routed, stored, task

NAME, KEY, NOTE = "Anna-Schmidt-passport.jpg", "anna.schmidt@example.org", "this is Anna Schmidt"
WORDS = (b"Anna-Schmidt", b"anna.schmidt", b"Anna Schmidt", b"Anna's request")


def fill(store: Store, bears: str, *, at: float) -> tuple[str, str]:
    """A labelled request with names all over it; (prediction, picture)."""
    sha256 = store.images.put(b"a picture of Anna %f" % at)
    answer = stored(name=NAME, sha256=sha256, at=at, request_id="Anna's request")
    given = routed(answer.id, bears, at=at, key=KEY, image_sha256=sha256, wants_label=True)
    store.requests.add(given, answer, task=task(answer.id, bears, asked_at=at))
    review(store, "ann", "black")
    store.feedback.add(answer.id, "wrong", label="polar", by="key:k1", note=NOTE)
    body = b'{"name": "Anna-Schmidt-passport.jpg", "prediction_id": "%s"}' % answer.id.encode()
    store.idempotency.begin("key:k1", f"k {answer.id}", "0" * 64)
    store.idempotency.finish("key:k1", f"k {answer.id}", status=200, headers=[], body=body)
    return answer.id, sha256


def told(store: Store, bears: str) -> list[tuple[int, object, ReviewState, str | None]]:
    """All that evidence is counted from."""
    return [(row.seq, row.candidate, state, truth) for row, state, truth in store.requests.outcomes(bears)]


def test_one_picture_is_forgotten_and_what_it_told_is_not(store: Store, clock: Clock) -> None:
    bears = deployment(store).id
    first, gone = fill(store, bears, at=clock.now)
    second, kept = fill(store, bears, at=clock.now + 1)
    before, verdicts = told(store, bears), store.feedback.counts()
    found = measure_forget(store, image=gone)
    assert (found.pictures, found.answers, found.notes, found.reviews) == (1, 1, 1, 0)
    assert store.images.get(gone) is not None  # it only measured
    clock.now += 60
    done = forget(store, image=gone)
    assert (done.pictures, done.answers, done.notes, done.reviews) == (1, 1, 1, 0)
    assert store.images.get(gone) is None
    assert told(store, bears) == before
    assert store.feedback.counts() == verdicts

    answer, row, [note] = store.predictions.get(first), store.requests.get(first), store.feedback.list(first)
    assert answer is not None
    assert row is not None
    assert (answer.name, answer.request_id, answer.sha256) == ("", "", gone)
    assert (row.key, row.attributes) == (f"forgotten:{first}", {"site": "north"})
    assert (note.verdict, note.label, note.note) == ("wrong", "polar", "")
    assert store.idempotency.begin("key:k1", f"k {first}", "0" * 64) == "new"

    answer, row, [note] = store.predictions.get(second), store.requests.get(second), store.feedback.list(second)
    assert answer is not None
    assert row is not None
    assert (answer.name, row.key, note.note) == (NAME, KEY, NOTE)
    assert store.images.get(kept) is not None
    assert store.idempotency.begin("key:k1", f"k {second}", "0" * 64) != "new"
    again = forget(store, image=gone)
    assert (again.pictures, again.answers, again.notes, again.reviews) == (0, 0, 0, 0)


def test_all_before_a_time_is_forgotten(store: Store, clock: Clock) -> None:
    bears = deployment(store).id
    first, gone = fill(store, bears, at=clock.now)
    clock.now += 1_000
    second, kept = fill(store, bears, at=clock.now)
    plain = stored(name=NAME, at=clock.now - 1)  # of a model without a roll-out
    store.predictions.add(plain)
    before = told(store, bears)
    found = measure_forget(store, before=clock.now)
    done = forget(store, before=clock.now)
    for one in (found, done):
        assert (one.pictures, one.answers, one.notes) == (1, 2, 1)
    assert [store.predictions.get(id_).name for id_ in (first, plain.id, second)] == ["", "", NAME]  # type: ignore[union-attr]
    assert [store.images.get(one) is not None for one in (gone, kept)] == [False, True]
    assert told(store, bears) == before
    assert store.idempotency.begin("key:k1", f"k {first}", "0" * 64) == "new"
    assert store.idempotency.begin("key:k1", f"k {second}", "0" * 64) != "new"


def test_no_one_waits_for_a_picture_that_is_gone(store: Store, clock: Clock) -> None:
    """Else the first request whose label is awaited would hold up all evidence behind it, for ever."""
    bears = deployment(store).id
    gone = store.images.put(b"gone")
    waiting = task("p1", bears)
    add(store, bears, given=waiting, wants_label=True, image_sha256=gone)
    store.reviews.claim("ann", order="risk", lease_s=60)
    unasked = add(store, bears, wants_label=True, image_sha256=gone)
    unseen = add(store, bears, state="pending", candidate=None, image_sha256=gone)
    other = asked(store, bears)
    late = add(store, bears, state="pending", candidate=None)
    assert [state for _, _, state, _ in told(store, bears)] == ["pending"] * 5
    done = forget(store, image=gone)
    assert (done.pictures, done.answers, done.reviews) == (1, 3, 1)
    assert [state for _, _, state, _ in told(store, bears)] == ["unclear", "unclear", "none", "pending", "pending"]
    assert store.requests.unasked(bears, 9) == []
    assert [row.prediction_id for row in store.requests.pending(bears, 9)] == [late.prediction_id]
    row = store.requests.get(unseen.prediction_id)
    assert row is not None
    assert (row.state, row.candidate) == ("done", None)  # taken to have deferred: no harm, and no gain
    assert [one.state for one in store.reviews.of(unasked.prediction_id)] == ["unclear"]
    assert store.reviews.get(other.id) == other
    assert store.reviews.get(waiting.id).state == "unclear"  # type: ignore[union-attr]


def test_nothing_is_left_in_the_file(tmp_path: Path, clock: Clock) -> None:
    """Symptom to avoid: the row says "", and the name is still in a free page or in the log."""
    url = f"sqlite:///{tmp_path}/d.db"
    with open_store(url, clock=clock) as store:
        bears = deployment(store).id
        made = [fill(store, bears, at=clock.now + i) for i in range(40)]
        for path in (tmp_path / "d.db", tmp_path / "d.db-wal"):
            if path.name == "d.db-wal":
                assert any(word in path.read_bytes() for word in WORDS)
        for _, sha256 in made:
            assert forget(store, image=sha256).is_compact
        left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert [word for word in WORDS if word in left] == []
        assert len(told(store, bears)) == 40


def test_nothing_is_left_where_rows_were_moved(tmp_path: Path) -> None:
    """A page that is split leaves a copy of each row that moved; no row points there any more."""
    with open_store(f"sqlite:///{tmp_path}/d.db") as store:
        store.database.engine.dispose()  # some builds of SQLite overwrite what they delete; not all do
        event.listen(
            store.database.engine, "connect", lambda db, _: db.execute("PRAGMA secure_delete = OFF").fetchall()
        )
        for number in range(600):
            store.predictions.add(stored(hashlib.sha256(b"%d" % number).hexdigest()[:32], name=f"{number} {NAME}"))
            if number % 100 == 99:
                store.predictions.flush()
        done = forget(store, image="0" * 64)
        assert (done.answers, done.is_compact) == (600, True)
        left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert [word for word in WORDS if word in left] == []


def test_a_file_in_use_is_told(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivetrain.store.erasure._VACUUM_WAIT_S", 0.05)
    with open_store(f"sqlite:///{tmp_path}/d.db", clock=clock) as store:
        bears = deployment(store).id
        fill(store, bears, at=clock.now)
        with store.database.read() as db:
            db.exec_driver_sql("SELECT * FROM prediction").fetchone()
            done = forget(store, before=clock.now + 9)
        assert (done.pictures, done.is_compact) == (1, False)
        again = forget(store, before=clock.now + 9)
        assert (again.pictures, again.is_compact) == (0, True)


def test_copies_that_still_hold_it_are_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    upgrade(url, to="0001")
    copy = upgrade(url).copy
    with open_store(url) as store:
        assert forget(store, before=1.0).copies == (copy,)


def test_it_is_one_picture_or_a_time(store: Store) -> None:
    for given in ({}, {"image": "0" * 64, "before": 1.0}):
        for use in (forget, measure_forget):
            with pytest.raises(InvalidInput, match="no picture and no time, or both"):
                use(store, **given)
    with pytest.raises(InvalidInput, match="image: got x; want a sha256"):
        forget(store, image="x")
