from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from drivetrain.errors import Conflict
from drivetrain.store.idempotency import Kept
from drivetrain.store.store import Store, open_store

from .conftest import Clock

BODY, OTHER = "a" * 64, "b" * 64
HEADERS = [("content-type", "application/json"), ("x-request-id", "r1")]


def test_the_second_gets_the_answer_of_the_first(store: Store) -> None:
    assert store.idempotency.begin("key:k1", "order-1", BODY) == "new"
    assert store.idempotency.begin("key:k1", "order-1", BODY) == "running"
    store.idempotency.finish("key:k1", "order-1", status=200, headers=HEADERS, body=b'{"label":"\xc3\xa4"}\0')
    kept = store.idempotency.begin("key:k1", "order-1", BODY)
    assert kept == Kept(status=200, headers=tuple(HEADERS), body=b'{"label":"\xc3\xa4"}\0')


def test_each_caller_has_keys_of_their_own(store: Store) -> None:
    assert store.idempotency.begin("key:k1", "1", BODY) == "new"
    assert store.idempotency.begin("key:k2", "1", OTHER) == "new"


def test_another_body_is_a_conflict(store: Store) -> None:
    store.idempotency.begin("c", "1", BODY)
    for _ in range(2):
        with pytest.raises(Conflict, match="Idempotency-Key: got one that came with another body before"):
            store.idempotency.begin("c", "1", OTHER)
        store.idempotency.finish("c", "1", status=200, headers=[], body=b"")


def test_a_failed_request_may_be_sent_again(store: Store) -> None:
    store.idempotency.begin("c", "1", BODY)
    store.idempotency.forget("c", "1")
    assert store.idempotency.begin("c", "1", OTHER) == "new"
    store.idempotency.finish("c", "1", status=200, headers=[], body=b"x")
    store.idempotency.forget("c", "1")  # too late: it was answered
    assert isinstance(store.idempotency.begin("c", "1", OTHER), Kept)


def test_a_server_that_died_does_not_hold_a_key_for_ever(store: Store, clock: Clock) -> None:
    store.idempotency.begin("c", "1", BODY)
    clock.now += 119
    assert store.idempotency.begin("c", "1", BODY) == "running"
    clock.now += 2
    assert store.idempotency.begin("c", "1", BODY) == "new"
    assert store.idempotency.begin("c", "1", BODY) == "running"
    clock.now += 11
    assert store.idempotency.begin("c", "1", BODY, lease_s=10) == "new"


def test_a_day_later_it_is_forgotten(store: Store, clock: Clock) -> None:
    store.idempotency.begin("c", "1", BODY)
    store.idempotency.finish("c", "1", status=200, headers=[], body=b"x")
    clock.now += 24 * 3600 - 1
    assert isinstance(store.idempotency.begin("c", "1", BODY), Kept)
    clock.now += 2
    assert store.idempotency.begin("c", "1", OTHER) == "new"


def test_old_ones_are_cleared_away(store: Store, clock: Clock) -> None:
    for number in range(20):
        store.idempotency.begin("c", f"old {number}", BODY)
    clock.now += 25 * 3600
    for number in range(2_000):
        store.idempotency.begin("c", f"new {number % 5}", BODY)
    with store.database.read() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM idempotency").scalar() == 5


def test_long_and_odd_keys_are_told_apart(store: Store) -> None:
    keys = ["x" * 300, "x" * 301, "ä\N{SNOWMAN}", "'; DROP TABLE idempotency"]
    assert [store.idempotency.begin("c", key, BODY) for key in keys] == ["new"] * 4
    assert [store.idempotency.begin("c", key, BODY) for key in keys] == ["running"] * 4


def test_of_many_at_once_one_is_new(url: str) -> None:
    """From several threads and two stores, as two servers on one database."""
    with open_store(url) as one, open_store(url) as two, ThreadPoolExecutor(8) as pool:
        for number in range(20):
            said = list(pool.map(lambda i: (one, two)[i % 2].idempotency.begin("c", str(number), BODY), range(8)))  # noqa: B023
            assert sorted(map(str, said)) == ["new"] + ["running"] * 7
