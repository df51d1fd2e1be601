"""Between the event loop and the batcher's threads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from starlette.types import Receive

from drivetrain.runtime.prediction import Answer
from drivetrain.settings import Settings

from .bodies import ClientGone

if TYPE_CHECKING:
    from drivetrain.runtime.batch_types import Meter
    from drivetrain.runtime.batcher import Batcher

    from .model import ServedModel

__all__ = ["encode_json", "open_batcher", "wait_for"]

_STUCK_AFTER_TIMEOUTS = 2  # a thread on one picture for so many deadlines will not come back
_WATCH_AFTER_S = 0.2  # most answers are there before: then nobody needs to watch whether the client leaves


def open_batcher(model: ServedModel, settings: Settings, meter: Meter) -> Batcher:
    """The threads of one model, warm. Raises Unavailable where its network cannot run."""
    from drivetrain.runtime.batcher import Batcher, Tuning
    from drivetrain.runtime.parallel import callers_for

    threads = settings.worker_threads
    return Batcher(
        model.predictor,
        tuning=model.tuning or Tuning(workers=callers_for(threads), sessions=threads),
        queue_max=settings.queue_max_pictures,
        meter=meter,
        stuck_after_s=_STUCK_AFTER_TIMEOUTS * settings.request_timeout_s,
    )


async def wait_for(futures: Sequence[Future[Answer]], receive: Receive) -> list[Answer | BaseException]:
    """Each answer or its error, in order; the batcher keeps their deadline. Raises ClientGone.

    However it ends, what has not begun is dropped.
    """
    wait = _Wait(asyncio.get_running_loop(), len(futures), receive)
    for future in futures:
        future.add_done_callback(wait.one_is_there)
    try:
        if not await wait.done:
            raise ClientGone
        return [_outcome(future, is_one_of_many=len(futures) > 1) for future in futures]
    finally:
        wait.close()
        for future in futures:
            future.cancel()


class _Wait:
    """For the last of several futures, or for the client to leave."""

    __slots__ = ("_left", "_loop", "_receive", "_timer", "_watcher", "done")

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int, receive: Receive) -> None:
        self.done: asyncio.Future[bool] = loop.create_future()  # whether all are there; False: the client left
        self._loop = loop
        self._left = count
        self._receive = receive
        self._watcher: asyncio.Future[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER_S, self._watch)

    def one_is_there(self, _: Future[Answer]) -> None:
        """Called in the thread that has the answer."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._count)

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self._end(True)

    def _watch(self) -> None:
        self._watcher = asyncio.ensure_future(_client_leaves(self._receive))
        self._watcher.add_done_callback(lambda _: self._end(False))

    def _end(self, is_all: bool) -> None:
        if not self.done.done():
            self.done.set_result(is_all)


def encode_json(value: object) -> bytes:
    """Compact UTF-8; NaN and infinity, which are not JSON, are refused."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _outcome(future: Future[Answer], *, is_one_of_many: bool) -> Answer | BaseException:
    """The answer or its error. One that is not JSON must not spoil the others; alone, it fails when it is written."""
    error = future.exception()
    if error is not None:
        return error
    answer = future.result()
    if is_one_of_many:
        try:
            encode_json(answer.as_json())
        except ValueError as exc:
            return exc
    return answer


async def _client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
