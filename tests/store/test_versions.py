from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from drivetrain.errors import Conflict, InvalidInput, NotFound
from drivetrain.store.store import Store, open_store

from .made import AT, version


def test_a_version_comes_back_as_it_was_given(store: Store) -> None:
    given = version(facts={"evaluation": {"accuracy": 0.1 + 0.2, "classes": ["bär", "\0"]}, "n": None}, parent="x")
    assert store.versions.register(given) == given
    assert store.versions.get(given.version) == given
    assert store.versions.get("bears@nothing") is None


def test_the_same_digest_again_gives_the_first(store: Store) -> None:
    first = store.versions.register(version())
    again = store.versions.register(version(path="/elsewhere.dt", registered_by="bob", registered_at=AT + 99))
    assert again == first
    assert store.versions.list() == [first]


def test_they_are_listed_by_age_and_model(store: Store) -> None:
    third, first, other = version(3), version(1), version(2, model="cats")
    for one in (third, first, other):
        store.versions.register(one)
    assert store.versions.list() == [first, other, third]
    assert store.versions.list("bears") == [first, third]


def test_a_version_that_moved_is_found_again(store: Store) -> None:
    store.versions.register(version())
    moved = store.versions.move(version().version, "/new/place.dt")
    assert moved == replace(version(), path="/new/place.dt") == store.versions.get(moved.version)
    with pytest.raises(NotFound, match="version: got bears@x"):
        store.versions.move("bears@x", "/y")


def test_names_that_are_no_version_of_the_digest(store: Store) -> None:
    for bad in ({"version": "bears"}, {"version": "bears@000000000000"}, {"version": "@" + version().digest[:12]}):
        with pytest.raises(InvalidInput, match="first 12 digits"):
            store.versions.register(version(**bad))
    with pytest.raises(InvalidInput, match=r"json: got .*want finite numbers"):
        store.versions.register(version(facts={"accuracy": float("nan")}))
    with pytest.raises(InvalidInput, match="text as names"):
        store.versions.register(version(facts={10: 1, 9: 2}))


def test_two_bundles_of_one_short_name_are_told_apart(store: Store) -> None:
    store.versions.register(version())
    with pytest.raises(Conflict, match="which another bundle has"):
        store.versions.register(version(digest=version().digest[:12] + "f" * 52))


def test_eight_who_register_at_once_get_one(store: Store, url: str) -> None:
    with open_store(url) as second, ThreadPoolExecutor(8) as pool:
        for number in range(10):
            made = list(
                pool.map(
                    lambda i, number=number: (store, second)[i % 2].versions.register(
                        version(number, registered_by=f"caller {i}")
                    ),
                    range(8),
                )
            )
            assert len({one.registered_by for one in made}) == 1
    assert len(store.versions.list()) == 10
