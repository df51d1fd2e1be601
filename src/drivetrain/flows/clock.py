"""Where the time went: a stop watch with named laps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["LapClock"]


class LapClock:
    """Adds up seconds under names; `now` is passed in by tests."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._begun = now()
        self._laps: dict[str, float] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Time what runs inside under `name`."""
        begun = self._now()
        try:
            yield
        finally:
            self._laps[name] = self._laps.get(name, 0.0) + self._now() - begun

    @property
    def laps(self) -> list[tuple[str, float]]:
        """(name, seconds) in the order first seen."""
        return list(self._laps.items())

    @property
    def total(self) -> float:
        """Seconds since the clock was made."""
        return self._now() - self._begun
