"""Answers that are held for a while, and the queue as it looks from outside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from drivetrain.errors import Conflict
from drivetrain.store.review_queue import (
    count_answers,
    count_waiting,
    find_held,
    find_holder,
    find_last,
    list_gold,
    was_noted,
)
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store, open_store

from .conftest import Clock
from .made import AT, asked, deployment, one_person, stored, task


@pytest.fixture
def bears(store: Store) -> str:
    return deployment(store).id


def claim(store: Store, by: str, **changed: Any) -> Task | None:
    return store.reviews.claim(by, **{"order": "deadline", "lease_s": 300.0, **changed})


def hold(store: Store, given: Task, by: str, answer: str = "black") -> Task:
    return store.reviews.answer(given.id, by, answer, settle=one_person, seconds=1.0, saw_model=False, hold_s=10.0)


def settle(store: Store, before: float) -> list[Task]:
    return store.reviews.settle_held(before=before, settle=lambda _, said: one_person(said))


def test_a_held_answer_settles_nothing_until_it_is_let_stand(store: Store, bears: str, clock: Clock) -> None:
    given = asked(store, bears)
    claim(store, "ann")
    assert hold(store, given, "ann") == given
    assert store.reviews.get(given.id) == given
    store.reviews.release(given.id, "ann")  # no longer hers to give back
    assert claim(store, "bob") is None
    assert settle(store, AT - 1) == []
    clock.now += 1000
    (done,) = settle(store, AT)
    assert (done.id, done.state, done.truth) == (given.id, "labelled", "black")
    assert store.reviews.get(given.id) == done
    assert settle(store, AT) == []


def test_one_that_stays_open_is_free_again(store: Store, bears: str) -> None:
    given = asked(store, bears, people=2)
    claim(store, "ann")
    hold(store, given, "ann")
    assert store.reviews.settle_held(before=AT, settle=lambda *_: ("open", None)) == []
    assert claim(store, "ann") is None
    assert claim(store, "bob") == given


def test_a_held_answer_came_in_time(store: Store, bears: str) -> None:
    answered, claimed = asked(store, bears, due_at=AT + 5), asked(store, bears, due_at=AT + 6)
    assert claim(store, "ann") == answered
    hold(store, answered, "ann")
    assert claim(store, "ann") == claimed
    assert store.reviews.expire(AT + 99) == 1
    assert [one.id for one in settle(store, AT)] == [answered.id]
    second = asked(store, bears, due_at=AT + 5, people=2)
    assert claim(store, "ann") == second
    hold(store, second, "ann")
    store.reviews.settle_held(before=AT, settle=lambda *_: ("open", None))
    assert store.reviews.expire(AT + 99) == 1  # the other answer did not


def test_taken_back(store: Store, bears: str, clock: Clock) -> None:
    given = asked(store, bears)
    claim(store, "ann")
    hold(store, given, "ann")
    for by, since in (("bob", AT - 1), ("ann", AT)):
        with pytest.raises(Conflict, match="whose answer stands; want your last one"):
            store.reviews.take_back(given.id, by, since=since, lease_s=50)
    clock.now += 5
    assert store.reviews.take_back(given.id, "ann", since=AT - 1, lease_s=50) == given
    assert store.reviews.answers(given.id) == []
    assert find_holder(store.reviews, given.id) == ("ann", AT + 55)
    assert settle(store, AT + 99) == []
    hold(store, given, "ann", "polar")
    settle(store, clock.now)
    with pytest.raises(Conflict, match="whose answer stands"):
        store.reviews.take_back(given.id, "ann", since=AT - 1, lease_s=50)


def test_two_servers_let_it_stand_once(store: Store, url: str, bears: str) -> None:
    tasks = [asked(store, bears) for _ in range(8)]
    for given in tasks:
        assert claim(store, "ann", skip=[one.id for one in tasks if one.id != given.id]) == given
        hold(store, given, "ann")
    with open_store(url, clock=store.reviews.clock) as second, ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: settle((store, second)[i % 2], AT), range(6)))
    assert sorted(one.id for each in found for one in each) == sorted(one.id for one in tasks)


def test_an_undo_and_a_settling_at_once(store: Store, url: str, bears: str) -> None:
    """One of the two wins; an answer that was taken back has settled nothing."""

    def undo(given: Task) -> bool:
        try:
            store.reviews.take_back(given.id, "ann", since=AT - 1, lease_s=50)
        except Conflict:
            return False
        return True

    with open_store(url, clock=store.reviews.clock) as second, ThreadPoolExecutor(2) as pool:
        for _ in range(12):
            given = asked(store, bears)
            assert claim(store, "ann", skip=find_held(store.reviews, "ann")) == given
            hold(store, given, "ann")
            was_undone, settled = pool.submit(undo, given), pool.submit(settle, second, AT)
            assert was_undone.result() != bool(settled.result())
            after = store.reviews.get(given.id)
            assert after is not None
            assert (after.state == "open") == was_undone.result() == (store.reviews.answers(given.id) == [])


def test_claims_of_one_kind(store: Store, bears: str) -> None:
    cats = deployment(store, "cats").id
    real = asked(store, bears)
    other = asked(store, cats)
    for model, label in (("bears", "polar"), ("cats", "tabby")):
        answer = stored(model=model, sha256=label[0] * 64)
        store.predictions.add(answer)
        store.predictions.flush()
        store.reviews.ask(task(answer.id, why="gold", gold=label))
    assert list_gold(store.reviews, "bears") == {"p" * 64: "polar"}
    for given, wanted in (
        ({"is_gold": True, "model": "cats"}, "tabby"),
        ({"is_gold": True, "model": "bears"}, "polar"),
        ({"is_gold": False, "deployment_id": cats}, other),
        ({"is_gold": False, "deployment_id": bears}, real),
        ({"is_gold": False}, None),
        ({"is_gold": True, "model": "dogs"}, None),
    ):
        found = claim(
            store, "ann" if isinstance(wanted, str | Task) else "bob", skip=find_held(store.reviews, "ann"), **given
        )
        assert (found.gold if isinstance(wanted, str) else found) == wanted  # type: ignore[union-attr]
    assert len(find_held(store.reviews, "ann")) == 4
    assert find_held(store.reviews, "bob") == []


def test_what_waits(store: Store, bears: str, clock: Clock) -> None:
    first = asked(store, bears, due_at=AT + 50, people=2)
    asked(store, bears, due_at=AT - 1)
    asked(store, bears, due_at=None, asked_at=AT + 1)
    store.reviews.ask(task(first.prediction_id, why="gold", gold="black"))
    claim(store, "ann", skip=[one.id for one in store.reviews.of("x")], order="deadline")
    waiting = count_waiting(store.reviews, by="ann", soon_s=60)
    assert (waiting.open, waiting.for_others, waiting.due_soon, waiting.late, waiting.oldest_at) == (3, 0, 1, 1, AT)
    assert count_waiting(store.reviews, by="ann", soon_s=40).due_soon == 0
    assert count_waiting(store.reviews, by="ann", soon_s=60, deployment_id="nope").open == 0
    for held in find_held(store.reviews, "ann"):
        store.reviews.release(held, "ann")
    while claim(store, "bob", is_gold=False) not in (first, None):
        (held,) = find_held(store.reviews, "bob")
        store.reviews.answer(held, "bob", "black", settle=one_person, seconds=1, saw_model=False)
    store.reviews.answer(first.id, "bob", "black", settle=lambda _: ("open", None), seconds=1, saw_model=False)
    assert count_waiting(store.reviews, by="bob", soon_s=60).for_others == 1
    assert count_waiting(store.reviews, by="ann", soon_s=60).for_others == 0
    assert count_answers(store.reviews, "bob") == 2
    assert count_answers(store.reviews, "bob", since=AT + 1) == 0


def test_the_last_answer(store: Store, bears: str, clock: Clock) -> None:
    first, second = asked(store, bears, due_at=AT + 1), asked(store, bears, due_at=AT + 2)
    assert find_last(store.reviews, "ann", since=0) is None
    for given in (first, second):
        assert claim(store, "ann") == given
        hold(store, given, "ann")
        clock.now += 3
    last = find_last(store.reviews, "ann", since=AT)
    assert last is not None
    assert last[0] == second
    assert find_last(store.reviews, "ann", since=AT + 3) is None
    assert find_last(store.reviews, "bob", since=0) is None
    settle(store, AT + 99)
    assert find_last(store.reviews, "ann", since=0) is None


def test_what_was_noted(store: Store) -> None:
    store.audit("review.why", by="user:ann", subject="t1")
    noted = {"action": "review.why", "by": "user:ann", "subject": "t1"}
    assert was_noted(store.reviews, **noted)
    for name in noted:
        assert not was_noted(store.reviews, **{**noted, name: "other"})
