"""Work beside the answers: a thread that begins when it is first needed, and ends with the server."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Background"]


class Background:
    """`run` loops in a thread of its own until `is_closed`; what it shares with callers is touched under `changed`."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.changed = threading.Condition()
        self.is_closed = False
        self._name, self._run = name, run
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Begin, or look again at what there is to do. Never waits; nothing once it is closed."""
        with self.changed:
            if self.is_closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self.changed.notify_all()

    def pause(self, seconds: float, *, until: Callable[[], object] = lambda: False) -> None:
        """Within `run`: so long at most, less where it is closed or `until` comes true, which is seen at a `wake`."""
        with self.changed:
            self.changed.wait_for(lambda: self.is_closed or until(), seconds)

    def close(self, *, wait_s: float) -> None:
        """No more after what is in hand, which is waited for so long."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()
        if self._thread is not None:
            self._thread.join(wait_s)
