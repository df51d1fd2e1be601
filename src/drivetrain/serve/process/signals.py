"""Ctrl-C and SIGTERM while the server is still being made: kept until there is something that can end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

__all__ = ["END_SIGNALS", "EarlySignals"]

END_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class EarlySignals:
    """A context in which a signal breaks off nothing: it is noted, and ends the server once there is one.

    Without it Ctrl-C would be raised wherever the start then stood, half-way through a migration of the store, say.
    Whoever presses Ctrl-C twice does not want to wait for that. Only for the main thread; a server inside may set
    handlers of its own, and must put these back.
    """

    def __init__(self) -> None:
        self._has_come = False
        self._end: Callable[[], None] | None = None

    def pass_to(self, end: Callable[[], None]) -> None:
        """Call `end` for a signal that came or comes; it must stand being called twice."""
        self._end = end
        if self._has_come:
            end()

    def __enter__(self) -> EarlySignals:
        self._before = {number: signal.signal(number, self._note) for number in END_SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._end is not None:
            self._end()
        elif self._has_come and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._has_come = True
