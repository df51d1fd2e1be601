"""A store for each kind of database, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivetrain.store.store import Store, open_store


class Clock:
    """Seconds since 1970 that move when they are told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def store(url: str, clock: Callable[[], float], tmp_path: Path) -> Iterator[Store]:
    with open_store(url, clock=clock, images=f"{tmp_path}/pictures") as opened:
        yield opened
