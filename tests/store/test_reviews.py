from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, NotFound
from drivetrain.rollout.reviewing import settle
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store, open_store

from .conftest import Clock
from .made import AT, asked, deployment, one_person, review, stored, task


@pytest.fixture
def bears(store: Store) -> str:
    return deployment(store).id


def claim(store: Store, by: str, **changed: Any) -> Task | None:
    return store.reviews.claim(by, **{"order": "deadline", "lease_s": 300.0, **changed})


def say(store: Store, given: Task, by: str, answer: str = "black", **changed: Any) -> Task:
    values = {"settle": one_person, "seconds": 1.5, "saw_model": True}
    return store.reviews.answer(given.id, by, answer, **{**values, **changed})


def two_people(answers: list[str]) -> tuple[Any, str | None]:
    verdict = settle(answers, people=2)
    return verdict.state, verdict.label


def test_a_task_comes_back_as_it_was_asked(store: Store, bears: str) -> None:
    given = asked(store, bears, due_at=AT + 60, risk=0.4, people=2, why="disagreement")
    assert store.reviews.get(given.id) == given
    assert store.reviews.of(given.prediction_id) == [given]
    assert store.reviews.get("nope") is None
    assert (store.reviews.open_count(), store.reviews.open_count(bears), store.reviews.open_count("nope")) == (1, 1, 0)
    assert store.reviews.oldest_open() == AT == store.reviews.oldest_open(bears)
    assert store.reviews.oldest_open("nope") is None


def test_one_open_task_a_prediction_and_deployment(store: Store, bears: str) -> None:
    first = asked(store, bears)
    assert store.reviews.ask(task(first.prediction_id, bears, why="disagreement")) == first
    alone = store.reviews.ask(task(first.prediction_id))
    assert alone != first
    assert store.reviews.ask(task(first.prediction_id)) == alone
    assert store.reviews.open_count() == 2
    say(store, first if claim(store, "ann") == first else alone, "ann")
    assert len(store.reviews.of(first.prediction_id)) == 2
    review(store, "ann", "black")
    assert store.reviews.ask(task(first.prediction_id, bears)) not in (first, alone)  # the others are settled


def test_a_look_at_feedback_becomes_the_label_that_is_wanted(store: Store, bears: str) -> None:
    answer = stored()
    store.predictions.add(answer)
    store.predictions.flush()
    first = store.reviews.ask(task(answer.id, bears, why="feedback", due_at=AT + 9, risk=0.2))
    second = store.reviews.ask(task(answer.id, bears, why="audit", due_at=AT + 5, risk=0.1, people=2))
    assert second == replace(first, why="audit", due_at=AT + 5, people=2) == store.reviews.get(first.id)
    assert store.reviews.ask(task(answer.id, bears, why="feedback", people=1)) == second


def test_what_cannot_be_asked(store: Store, bears: str) -> None:
    with pytest.raises(NotFound, match="prediction_id: got nope"):
        store.reviews.ask(task("nope", bears))
    given = asked(store, bears)
    for bad in ({"state": "labelled"}, {"people": 3}, {"risk": 1.1}):
        with pytest.raises(InvalidInput, match="task: got"):
            store.reviews.ask(task(given.prediction_id, bears, **bad))


def test_eight_who_ask_at_once_get_one_task(store: Store, url: str, bears: str) -> None:
    answers = [stored() for _ in range(6)]
    for answer in answers:
        store.predictions.add(answer)
    store.predictions.flush()
    with open_store(url) as second, ThreadPoolExecutor(8) as pool:
        for answer in answers:
            for deployment_id in (bears, None):
                made = list(
                    pool.map(
                        lambda i, a=answer, d=deployment_id: (store, second)[i % 2].reviews.ask(task(a.id, d)).id,
                        range(8),
                    )
                )
                assert len(set(made)) == 1
    assert store.reviews.open_count() == 12


def test_the_order_is_what_was_asked_for(store: Store, bears: str) -> None:
    late = asked(store, bears, due_at=AT + 99, risk=0.1, why="all", asked_at=AT + 2)
    never = asked(store, bears, due_at=None, risk=0.9, why="deferred", asked_at=AT)
    soon = asked(store, bears, due_at=AT + 9, risk=0.1, why="audit", asked_at=AT + 3)
    for order, wanted in (
        ("deadline", [soon, late, never]),
        ("risk", [never, late, soon]),
        ("audit", [soon, never, late]),
    ):
        skip: list[str] = []
        for one in wanted:
            assert claim(store, order, order=order, skip=skip) == one
            store.reviews.release(one.id, order)
            skip.append(one.id)
        assert claim(store, order, order=order, skip=skip) is None
    with pytest.raises(InvalidConfig, match="order: got age; want deadline, risk, audit"):
        claim(store, "ann", order="age")


def test_a_claim_is_one_persons_until_it_ends(store: Store, bears: str, clock: Clock) -> None:
    given = asked(store, bears)
    assert claim(store, "ann") == given
    assert claim(store, "bob") is None
    clock.now += 200
    assert claim(store, "ann") == given  # held anew
    clock.now += 299
    assert claim(store, "bob") is None
    clock.now += 1
    assert claim(store, "bob") == given  # it expired
    with pytest.raises(Conflict, match=r"held by another; want your own claim.*Claim one again"):
        say(store, given, "ann")
    store.reviews.release(given.id, "ann")  # not theirs: nothing
    assert claim(store, "cem") is None
    store.reviews.release(given.id, "bob")
    assert claim(store, "cem", lease_s=10) == given
    clock.now += 10
    with pytest.raises(Conflict, match="not claimed, or no longer"):
        say(store, given, "cem")


def test_what_somebody_holds_comes_first(store: Store, bears: str) -> None:
    first, second = (asked(store, bears, due_at=AT + i) for i in range(2))
    assert claim(store, "ann", skip=[first.id]) == second
    assert claim(store, "ann") == second
    assert claim(store, "ann", skip=[second.id]) == first


def test_an_answer_settles(store: Store, bears: str, clock: Clock) -> None:
    given = asked(store, bears)
    with pytest.raises(Conflict, match="not claimed"):
        say(store, given, "ann")
    claim(store, "ann")
    settled = say(store, given, "ann", "black")
    assert settled == replace(given, state="labelled", truth="black") == store.reviews.get(given.id)
    [answer] = store.reviews.answers(given.id)
    assert (answer.by, answer.answer, answer.at, answer.seconds, answer.saw_model) == (
        "ann", "black", clock.now, 1.5, True,
    )  # fmt: skip
    with pytest.raises(Conflict, match=f"{given.id}, labelled; want one that is open"):
        say(store, given, "ann")
    assert claim(store, "bob") is None
    with pytest.raises(NotFound, match="task: got nope"):
        say(store, replace(given, id="nope"), "ann")


def test_an_answer_that_cannot_be_settled_is_not_kept(store: Store, bears: str) -> None:
    given = asked(store, bears)
    claim(store, "ann")

    def fail(_: list[str]) -> tuple[Any, str | None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        say(store, given, "ann", settle=fail)
    for verdict in (("labelled", None), ("unclear", "x"), ("overdue", None)):
        with pytest.raises(InvalidInput, match="settle: got"):
            say(store, given, "ann", settle=lambda _, verdict=verdict: verdict)
    for bad in ("", "x" * 501, "a\0b"):
        with pytest.raises(InvalidInput, match="answer: got"):
            say(store, given, "ann", bad)
    assert store.reviews.answers(given.id) == []
    assert say(store, given, "ann").state == "labelled"  # the claim still holds


def test_two_people_and_a_third_where_they_differ(store: Store, bears: str) -> None:
    given = asked(store, bears, people=2)
    assert claim(store, "ann") == given
    assert say(store, given, "ann", "black", settle=two_people).state == "open"
    assert claim(store, "ann") is None  # never one that this person answered
    assert claim(store, "bob") == given
    assert say(store, given, "bob", "grizzly", settle=two_people).state == "open"
    assert claim(store, "bob") is None
    assert claim(store, "cem") == given
    assert say(store, given, "cem", "grizzly", settle=two_people) == replace(given, state="labelled", truth="grizzly")
    assert [row.answer for row in store.reviews.answers(given.id)] == ["black", "grizzly", "grizzly"]
    assert store.reviews.pairs(bears) == [("black", "grizzly")]
    alone = asked(store, bears, people=1)
    for by in ("ann", "bob"):
        assert claim(store, by) == alone
        say(store, alone, by, settle=lambda _: ("open", None))
    assert store.reviews.pairs(bears) == [("black", "grizzly")]  # not of one that a single person was to see


def test_many_reviewers_at_once_never_hold_the_same(store: Store, url: str, bears: str) -> None:
    tasks = [asked(store, bears, people=2) for _ in range(12)]
    done: Counter[str] = Counter()
    lock = threading.Lock()

    def work(place: int) -> None:
        one, by = (store, second)[place % 2], f"person {place}"
        for _ in range(100):
            given = claim(one, by)
            if given is None:
                if one.reviews.open_count() == 0 or all(
                    by in {row.by for row in one.reviews.answers(t.id)} for t in tasks
                ):
                    return
                continue
            say(one, given, by, settle=two_people)
            with lock:
                done[given.id] += 1

    with open_store(url, clock=store.reviews.clock) as second, ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert done == {one.id: 2 for one in tasks}  # two agree, so no third; none was lost or doubled
    for one in tasks:
        assert len({row.by for row in store.reviews.answers(one.id)}) == 2
    assert store.reviews.open_count() == 0


def test_of_two_claims_on_one_task_one_holds(store: Store, url: str, bears: str) -> None:
    gate = threading.Barrier(8)

    def take(place: int) -> str | None:
        gate.wait(60)
        given = claim((store, second)[place % 2], f"person {place}")
        return None if given is None else given.id

    with open_store(url, clock=store.reviews.clock) as second, ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            given = asked(store, bears)
            got = [one for one in pool.map(take, range(8)) if one is not None]
            assert got == [given.id]
            store.reviews.expire(AT + 1)
            with store.database.write() as db:
                db.exec_driver_sql("UPDATE review_task SET state = 'unclear', claimed_until = NULL")


def test_what_is_past_due_is_overdue(store: Store, bears: str) -> None:
    past, now, later, never = (asked(store, bears, due_at=at) for at in (AT + 1, AT + 2, AT + 3, None))
    claim(store, "ann")
    assert store.reviews.expire(AT + 2) == 1
    assert [store.reviews.get(one.id).state for one in (past, now, later, never)] == ["overdue", *["open"] * 3]  # type: ignore[union-attr]
    with pytest.raises(Conflict, match="overdue; want one that is open"):
        say(store, past, "ann")
    assert store.reviews.expire(AT + 2) == 0
    assert store.reviews.open_count(bears) == 3


def test_load_and_gold(store: Store, bears: str, clock: Clock) -> None:
    for seconds, answer in ((1.0, "black"), (9.0, "grizzly"), (None, "black"), (2.0, "black")):
        asked(store, bears, why="gold", gold="black")
        review(store, "ann", answer, seconds=seconds)
        clock.now += 10
    asked(store, bears)
    review(store, "bob", "polar", seconds=None)
    assert store.reviews.load(0) == [("ann", 4, 2.0), ("bob", 1, None)]
    assert store.reviews.load(clock.now - 20) == [("ann", 2, 2.0), ("bob", 1, None)]
    assert store.reviews.load(clock.now + 1) == []
    right = [("black", "black"), ("grizzly", "black"), ("black", "black"), ("black", "black")]
    assert store.reviews.gold_pairs() == right == store.reviews.gold_pairs("ann")
    assert store.reviews.gold_pairs("bob") == []
    assert store.reviews.pairs(bears) == []  # of tasks that two people see
