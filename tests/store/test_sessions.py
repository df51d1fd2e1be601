from __future__ import annotations

import pytest

from drivetrain.errors import InvalidInput
from drivetrain.store.store import Store

from .conftest import Clock

LIMITS = {"idle_s": 600.0, "max_s": 3600.0}


@pytest.fixture
def ann(store: Store) -> str:
    return store.users.add("ann", password="three green bottles", roles=["review", "approve"], by="test").id


def test_a_session_is_its_holders(store: Store, ann: str) -> None:
    token = store.sessions.create(user_id=ann, address="10.0.0.1")
    found = store.sessions.find(token, **LIMITS)
    assert found is not None
    assert (found.kind, found.holder_id, found.name, found.roles) == ("user", ann, "ann", {"review", "approve"})
    with store.database.read() as db:
        assert token not in repr(db.exec_driver_sql("SELECT * FROM session").fetchall())
    assert store.sessions.find(token[:-1], **LIMITS) is None
    assert store.sessions.find("", **LIMITS) is None


def test_an_idle_session_is_over(store: Store, ann: str, clock: Clock) -> None:
    token = store.sessions.create(user_id=ann)
    for _ in range(5):  # whoever is at work stays
        clock.now += 500
        assert store.sessions.find(token, **LIMITS) is not None
    clock.now += 601
    assert store.sessions.find(token, **LIMITS) is None


def test_a_session_ends_after_its_longest_time_however_busy(store: Store, ann: str, clock: Clock) -> None:
    token = store.sessions.create(user_id=ann)
    seen = 0
    for _ in range(20):
        clock.now += 300
        seen += store.sessions.find(token, **LIMITS) is not None
    assert seen == 11  # 3,300 s; at 3,600 s it is over


def test_short_idle_times_are_kept_too(store: Store, ann: str, clock: Clock) -> None:
    token = store.sessions.create(user_id=ann)
    for _ in range(10):
        clock.now += 20
        assert store.sessions.find(token, idle_s=30, max_s=3600) is not None


def test_a_session_that_ended_is_gone(store: Store, ann: str) -> None:
    token, other = (store.sessions.create(user_id=ann) for _ in range(2))
    assert store.sessions.end(token)
    assert not store.sessions.end(token)
    assert store.sessions.find(token, **LIMITS) is None
    assert store.sessions.find(other, **LIMITS) is not None


def test_a_key_may_hold_one_as_long_as_it_holds(store: Store, clock: Clock) -> None:
    key, _ = store.keys.create("kiosk", roles=["predict"], by="test", expires_at=clock.now + 100)
    other, _ = store.keys.create("kiosk 2", roles=["predict"], by="test")
    token, second = (store.sessions.create(api_key_id=id_) for id_ in (key.id, other.id))
    found = store.sessions.find(token, **LIMITS)
    assert found is not None
    assert (found.kind, found.holder_id, found.name, found.roles) == ("key", key.id, "kiosk", {"predict"})
    store.keys.revoke(other.id)
    assert store.sessions.find(second, **LIMITS) is None
    clock.now += 100
    assert store.sessions.find(token, **LIMITS) is None


def test_a_session_has_one_holder(store: Store, ann: str) -> None:
    key, _ = store.keys.create("kiosk", roles=["predict"], by="test")
    for holders in ({}, {"user_id": ann, "api_key_id": key.id}):
        with pytest.raises(InvalidInput, match="no holder, or two"):
            store.sessions.create(**holders)


def test_what_is_over_is_cleared_away(store: Store, ann: str, clock: Clock) -> None:
    store.sessions.create(user_id=ann)
    clock.now += 601
    kept = store.sessions.create(user_id=ann)
    assert store.sessions.prune(**LIMITS) == 1
    assert store.sessions.find(kept, **LIMITS) is not None
