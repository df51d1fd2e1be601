from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from drivetrain.errors import Conflict, InvalidInput, NotFound
from drivetrain.store.store import Store, open_store

from .conftest import Clock
from .made import deployment


def test_an_alert_from_opening_to_closing(store: Store, clock: Clock) -> None:
    bears = deployment(store).id
    raised = store.alerts.open(bears, "sample_ratio", "12 % got the candidate, not 5 %")
    assert (raised.at, raised.kind, raised.closed_at) == (clock.now, "sample_ratio", None)
    clock.now += 5
    assert store.alerts.open(bears, "sample_ratio", "again") == raised
    other = store.alerts.open(bears, "drift", "")
    assert store.alerts.list(bears) == [raised, other]
    closed = store.alerts.close(raised.id, "ann", "a test of the cameras")
    assert (closed.closed_at, closed.closed_by, closed.closed_why) == (clock.now, "ann", "a test of the cameras")
    assert store.alerts.list(bears) == [other]
    assert store.alerts.list(bears, only_open=False) == [closed, other]
    with pytest.raises(Conflict, match="closed by ann; want one that is open"):
        store.alerts.close(raised.id, "bob", "too")
    assert store.alerts.open(bears, "sample_ratio", "once more") not in (raised, closed)


def test_what_is_refused(store: Store) -> None:
    bears = deployment(store).id
    with pytest.raises(NotFound, match="deployment: got nope"):
        store.alerts.open("nope", "drift", "")
    with pytest.raises(NotFound, match="alert: got nope"):
        store.alerts.close("nope", "ann", "x")
    with pytest.raises(InvalidInput, match="kind: got 0 characters"):
        store.alerts.open(bears, " ", "")
    raised = store.alerts.open(bears, "drift", "")
    for by, reason in (("", "x"), ("ann", " ")):
        with pytest.raises(InvalidInput):
            store.alerts.close(raised.id, by, reason)
    assert store.alerts.list(bears) == [raised]


def test_two_servers_that_notice_the_same_raise_one(store: Store, url: str) -> None:
    bears = deployment(store).id
    with open_store(url) as second, ThreadPoolExecutor(8) as pool:
        for kind in ("a", "b", "c"):
            made = pool.map(lambda i, kind=kind: (store, second)[i % 2].alerts.open(bears, kind, str(i)).id, range(8))
            assert len(set(made)) == 1
    assert len(store.alerts.list(bears)) == 3
