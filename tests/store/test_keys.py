from __future__ import annotations

import re

import pytest

from drivetrain.errors import Conflict, InvalidInput, NotFound
from drivetrain.store.store import Store

from .conftest import Clock


def test_a_key_is_shown_once_and_kept_as_a_digest(store: Store) -> None:
    key, token = store.keys.create("camera 3", roles=["predict"], by="command line:ann")
    assert re.fullmatch(rf"dt_{key.id}_[0-9a-f]{{64}}", token)
    assert (key.name, key.roles, key.created_by) == ("camera 3", {"predict"}, "command line:ann")
    secret = token.rpartition("_")[2]
    with store.database.read() as db:
        kept = repr(db.exec_driver_sql("SELECT * FROM api_key").fetchall())
    assert secret not in kept
    assert token not in repr(store.keys.list())
    found = store.keys.check(token)
    assert found == key


def test_two_keys_of_one_name_are_two(store: Store) -> None:
    first, second = (store.keys.create("same", roles=["predict"], by="x") for _ in range(2))
    assert first[0].id != second[0].id
    assert first[1] != second[1]
    assert {key.id for key in store.keys.list()} == {first[0].id, second[0].id}


def test_what_is_no_key_opens_nothing(store: Store) -> None:
    key, token = store.keys.create("a", roles=["predict"], by="x")
    _, other = store.keys.create("b", roles=["admin"], by="x")
    mixed = f"dt_{key.id}_{other.rpartition('_')[2]}"
    for wrong in (
        "",
        "dt__",
        token[:-1],
        token + "0",
        token.upper(),
        token.replace(key.id, "k" * 10),
        mixed,
        f" {token}",
    ):
        assert store.keys.check(wrong) is None, wrong


def test_an_expired_and_a_revoked_key_say_so(store: Store, clock: Clock) -> None:
    key, token = store.keys.create("a", roles=["predict"], by="x", expires_at=clock.now + 60)
    assert key.why_not(clock.now + 59) is None
    assert key.why_not(clock.now + 60) == "expired"
    clock.now += 100
    gone = store.keys.revoke(key.id)
    assert gone.revoked_at == clock.now
    found = store.keys.check(token)
    assert found is not None
    assert found.why_not(clock.now) == "revoked"
    with pytest.raises(Conflict, match="revoked already"):
        store.keys.revoke(key.id)
    with pytest.raises(NotFound, match="drivetrain key list"):
        store.keys.revoke("nobody")


def test_use_is_noted_to_the_minute(store: Store, clock: Clock) -> None:
    key, _ = store.keys.create("a", roles=["predict"], by="x")
    assert key.used_at is None
    first = clock.now
    store.keys.touch(key.id)
    clock.now += 30
    store.keys.touch(key.id)
    assert store.keys.find(key.id).used_at == first
    clock.now += 31
    store.keys.touch(key.id)
    assert store.keys.find(key.id).used_at == clock.now


@pytest.mark.parametrize("roles", [[], ["root"], ["predict", "Admin"]])
def test_roles_are_the_four(store: Store, roles: list[str]) -> None:
    with pytest.raises(InvalidInput, match=r"roles: got .*; want one or more of predict, review, approve, admin"):
        store.keys.create("a", roles=roles, by="x")
    assert store.keys.count() == 0


@pytest.mark.parametrize("name", ["", "  ", "x" * 129, "a\nb", "a\x1b[2J"])
def test_names_are_for_people(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="name: got"):
        store.keys.create(name, roles=["predict"], by="x")


def test_a_key_is_not_born_expired(store: Store, clock: Clock) -> None:
    with pytest.raises(InvalidInput, match="expires: got a time that has passed"):
        store.keys.create("a", roles=["predict"], by="x", expires_at=clock.now)


def test_a_revoked_key_still_counts(store: Store) -> None:
    """Else revoking the last one would open the server to whoever sits at its machine."""
    assert not store.has_callers()
    key, _ = store.keys.create("a", roles=["predict"], by="x")
    store.keys.revoke(key.id)
    assert store.has_callers()
