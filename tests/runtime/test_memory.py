"""The collector of garbage, kept out of the way of answers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from drivetrain.runtime.memory import rarer_searches, settle_memory


class Circle:
    """Held by itself alone."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_lives_is_out_of_later_searches() -> None:
    mine = Circle()
    settle_memory()
    assert gc.get_freeze_count() > 1000
    assert all(one is not mine for one in gc.get_objects())


def test_a_circle_of_the_model_before_is_found_when_the_next_is_opened() -> None:
    mine = Circle()
    settle_memory()
    kept = weakref.ref(mine)
    del mine
    gc.collect()
    assert kept() is not None
    settle_memory()
    assert kept() is None


def test_searches_are_rarer_until_the_block_ends() -> None:
    gc.set_threshold(700, 10, 10)
    with rarer_searches():
        assert gc.get_threshold() == (5_000, 10, 10)
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("set_before", [0, 50_000])
def test_whoever_wants_fewer_or_none_keeps_that(set_before: int) -> None:
    gc.set_threshold(set_before, 10, 10)
    with rarer_searches():
        assert gc.get_threshold() == (set_before, 10, 10)


def test_what_was_set_within_the_block_stays() -> None:
    gc.set_threshold(700, 10, 10)
    with rarer_searches():
        gc.set_threshold(900, 10, 10)
    assert gc.get_threshold() == (900, 10, 10)
