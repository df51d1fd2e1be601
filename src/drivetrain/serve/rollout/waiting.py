"""Callers who wait for a person's label, told as soon as it is there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi import Request

from drivetrain.serve.bodies import ClientGone
from drivetrain.store.predictions import Stored

from .standing import Standing, read_standing

if TYPE_CHECKING:
    from drivetrain.store.store import Store

__all__ = ["Waiting", "wait_for_label"]

_LOOK_S = 0.5  # another process may have settled it, and tells nobody here


class Waiting:
    """Who waits for which prediction; told from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listening: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    @contextmanager
    def listen(self, prediction_id: str) -> Iterator[asyncio.Event]:
        """An event that `tell` sets; for an event loop."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listening.setdefault(prediction_id, set()).add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                left = self._listening[prediction_id]
                left.discard(entry)
                if not left:
                    del self._listening[prediction_id]

    def tell(self, prediction_id: str) -> None:
        """It was settled."""
        with self._lock:
            found = list(self._listening.get(prediction_id, ()))
        for loop, event in found:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


async def wait_for_label(
    request: Request, store: Store, waiting: Waiting, stored: Stored, *, wait_s: float
) -> Standing:
    """How it stands once it is no longer pending, or after `wait_s`. Raises ClientGone."""
    until = time.monotonic() + wait_s
    with waiting.listen(stored.id) as told:
        while True:
            told.clear()
            standing = await asyncio.to_thread(read_standing, store, stored)
            left_s = until - time.monotonic()
            is_ending = request.app.state.lifecycle.phase == "draining"
            if standing.state != "pending" or left_s <= 0 or is_ending:
                return standing
            try:
                async with asyncio.timeout(min(left_s, _LOOK_S)):
                    await told.wait()
            except TimeoutError:
                if await request.is_disconnected():
                    raise ClientGone from None
