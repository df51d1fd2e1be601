from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from drivetrain.errors import Conflict, InvalidInput, NotFound
from drivetrain.store.deployments import Deployment
from drivetrain.store.ids import new_id
from drivetrain.store.store import Store, open_store

from .conftest import Clock
from .made import break_of, deployment, sealing, version


def move(store: Store, made: Deployment, **changed: Any) -> Deployment:
    values: dict[str, Any] = {
        "revision": made.revision,
        "stage": "limited",
        "share": 1.0,
        "is_held": False,
        "seal": sealing(made.id, "advance"),
    }
    return store.deployments.transition(made.id, **{**values, **changed})


def end(store: Store, made: Deployment) -> Deployment:
    return move(store, made, stage="rolled_back", share=0.0, ended_at=store.deployments.clock())


def test_a_deployment_comes_back_as_it_was_started(store: Store) -> None:
    made = deployment(store, config={"bound": 0.05, "scope": "site=north", "levers": [1, 2]})
    assert made.revision == 1
    assert not made.is_held
    assert (
        store.deployments.get(made.id) == store.deployments.get("bears") == store.deployments.open_for("bears") == made
    )
    assert store.deployments.list() == [made]
    assert (store.deployments.get("nope"), store.deployments.open_for("nope")) == (None, None)
    [entry] = store.deployments.ledger(made.id)
    assert (entry["deployment"], entry["number"], entry["action"]) == (made.id, 1, "start")


def test_one_open_deployment_a_name_and_a_model(store: Store) -> None:
    first = deployment(store)
    for name, model in (("bears", "cats"), ("other", "bears")):
        with pytest.raises(
            Conflict, match=r"bears, which rolls out bears@.*\(manual\).*drivetrain rollout rollback bears"
        ):
            deployment(store, name, model=model)
    assert len(store.deployments.list()) == 1
    deployment(store, "cats")
    end(store, first)
    again = deployment(store, started_at=first.started_at + 1)
    assert store.deployments.get("bears") == again  # the newest of that name
    assert store.deployments.get(first.id) == replace(
        first, stage="rolled_back", revision=2, ended_at=store.deployments.clock()
    )


def test_the_open_one_of_a_name_is_found_although_clocks_differ(store: Store) -> None:
    end(store, deployment(store, started_at=2_000.0))
    second = deployment(store, started_at=1_000.0)
    assert store.deployments.get("bears") == second


def test_versions_must_be_registered(store: Store) -> None:
    with pytest.raises(NotFound, match="version: got bears@nothing; want one of `drivetrain versions list`"):
        deployment(store, candidate="bears@nothing")
    with pytest.raises(NotFound, match="version: got bears@nothing"):
        deployment(store, incumbent="bears@nothing")
    assert deployment(store, incumbent=None).incumbent is None  # people


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 65, "bär", "a.b"])
def test_a_name_must_do_for_a_file(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="letters, digits, - and _"):
        deployment(store, name, model="bears")


def test_a_move_is_written_with_its_row_of_the_ledger(store: Store) -> None:
    made = deployment(store)
    moved = move(store, made, is_held=True, share=0.25, stage="expanding", seal=sealing(made.id, "advance", n=950))
    assert moved == replace(made, stage="expanding", share=0.25, is_held=True, revision=2)
    assert store.deployments.get(made.id) == moved
    assert [row["action"] for row in store.deployments.ledger(made.id)] == ["start", "advance"]
    assert store.deployments.ledger(made.id)[1]["evidence"] == {"n": 950}
    assert break_of(store, made.id) is None


def test_who_comes_second_is_told_and_writes_nothing(store: Store) -> None:
    made = deployment(store)
    moved = move(store, made)
    with pytest.raises(Conflict, match=r"bears at revision 2, limited; want revision 1, going on"):
        move(store, made, stage="expanding")
    assert store.deployments.get(made.id) == moved
    ended = end(store, moved)
    with pytest.raises(Conflict, match="at revision 3, rolled_back, over"):
        move(store, ended)
    with pytest.raises(NotFound, match="deployment: got nope"):
        move(store, replace(made, id="nope"))
    assert len(store.deployments.ledger(made.id)) == 3


def test_a_move_whose_row_cannot_be_made_is_no_move(store: Store) -> None:
    made = deployment(store)

    def fail(_: Mapping[str, Any] | None) -> Mapping[str, Any]:
        raise ZeroDivisionError

    def of(**changed: Any) -> Callable[[Mapping[str, Any] | None], Mapping[str, Any]]:
        return lambda last: {**sealing(made.id, "advance")(last), **changed}

    for seal, error in (
        (fail, ZeroDivisionError),
        (of(number=7), InvalidInput),
        (of(previous="f" * 64), InvalidInput),
        (of(deployment="another"), InvalidInput),
        (of(reason="a\0b"), InvalidInput),
        (of(evidence={"x": float("inf")}), InvalidInput),
        (of(evidence={10: 1, 9: 1}), InvalidInput),
    ):
        with pytest.raises(error):
            move(store, made, seal=seal)
        with pytest.raises(error):
            store.deployments.note(made.id, seal=seal)
    assert store.deployments.get(made.id) == made
    assert len(store.deployments.ledger(made.id)) == 1
    bad = replace(made, id=new_id(), name="cats", model="cats")
    with pytest.raises(ZeroDivisionError):
        store.deployments.start(bad, seal=fail)
    assert store.deployments.get("cats") is None


def test_the_ledger_keeps_what_its_digest_covers(store: Store) -> None:
    evidence = {"rate": 0.1 + 0.2, "text": "bär \0 \udc80", "deep": {"b": [1, 2.5e-300, None, True]}, "": ()}
    made = deployment(store)
    store.deployments.note(made.id, seal=sealing(made.id, "note", **evidence))
    assert break_of(store, made.id) is None
    with store.database.write() as db:
        db.exec_driver_sql("UPDATE stage_event SET evidence = '{}' WHERE number = 2")
    assert break_of(store, made.id) == "entry 2 was changed after it was written"


def test_of_two_approvers_at_once_one_wins(store: Store, url: str) -> None:
    made = deployment(store)
    both = threading.Barrier(2)

    def approve(one: Store) -> str:
        both.wait(60)
        try:
            return f"won {move(one, made).revision}"
        except Conflict as exc:
            return f"told: another change came first{'' if 'came first' in exc.message else exc.message}"

    with open_store(url) as second, ThreadPoolExecutor(2) as pool:
        for revision in range(1, 16):
            made = replace(made, revision=revision)
            told = sorted(pool.map(approve, (store, second)))
            assert told == ["told: another change came first", f"won {revision + 1}"]
    assert len(store.deployments.ledger(made.id)) == 16
    assert break_of(store, made.id) is None


def test_of_eight_starts_at_once_one_wins(store: Store, url: str) -> None:
    for number in (1, 2):
        store.versions.register(version(number))

    def start(place: int) -> bool:
        try:
            deployment((store, second)[place % 2])
        except Conflict:
            return False
        return True

    with open_store(url) as second, ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(8))) == 1
    [made] = store.deployments.list()
    assert len(store.deployments.ledger(made.id)) == 1


def test_notes_of_many_at_once_make_one_chain(store: Store, url: str) -> None:
    made = deployment(store)
    with open_store(url) as second, ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda i: (store, second)[i % 2].deployments.note(made.id, seal=sealing(made.id, f"note {i}")),
                range(40),
            )
        )
    assert break_of(store, made.id) is None
    rows = store.deployments.ledger(made.id)
    assert {row["action"] for row in rows} == {"start", *(f"note {i}" for i in range(40))}
    assert store.deployments.get(made.id) == made  # no move
    with pytest.raises(NotFound):
        store.deployments.note("nope", seal=sealing("nope", "note"))


def test_the_pre_mortem_keeps_the_last_answer(store: Store, clock: Clock) -> None:
    made = deployment(store)
    assert store.deployments.premortem(made.id) == {}
    store.deployments.answer_premortem(made.id, "who is harmed?", " the bear ", "ann")
    clock.now += 5
    store.deployments.answer_premortem(made.id, "who is harmed?", "the ranger", "bob")
    store.deployments.answer_premortem(made.id, "who can stop it?", "ann", "ann")
    assert store.deployments.premortem(made.id) == {
        "who can stop it?": {"answer": "ann", "by": "ann", "at": clock.now},
        "who is harmed?": {"answer": "the ranger", "by": "bob", "at": clock.now},
    }
    for question, answer in (("", "x"), ("x", " "), ("x" * 129, "x"), ("x", "a\0b")):
        with pytest.raises(InvalidInput):
            store.deployments.answer_premortem(made.id, question, answer, "ann")
    with pytest.raises(NotFound):
        store.deployments.answer_premortem("nope", "q", "a", "ann")


def test_a_share_is_a_share(store: Store) -> None:
    with pytest.raises(InvalidInput, match=r"share: got 1\.5; want 0 to 1"):
        deployment(store, share=1.5)
    made = deployment(store)
    with pytest.raises(InvalidInput, match=r"share: got -0\.1; want 0 to 1"):
        move(store, made, share=-0.1)
    assert store.deployments.get(made.id) == made
