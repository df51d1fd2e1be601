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
_WATCH_AFTER_S = 0.05  # most answers are there before: then nobody needs to watch whether the client leaves


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
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()  # whether all are there; False: the client left
    left = len(futures)
    watcher: asyncio.Future[None] | None = None

    def one_more() -> None:
        nonlocal left
        left -= 1
        if not left and not done.done():
            done.set_result(True)

    def watch() -> None:
        nonlocal watcher
        watcher = asyncio.ensure_future(_client_leaves(receive))
        watcher.add_done_callback(left_alone)

    def left_alone(_: asyncio.Future[None]) -> None:
        if not done.done():
            done.set_result(False)

    def tell(_: Future[Answer]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(one_more)

    timer = loop.call_later(_WATCH_AFTER_S, watch)
    for future in futures:
        future.add_done_callback(tell)
    try:
        if not await done:
            raise ClientGone
        return [_outcome(future, is_one_of_many=len(futures) > 1) for future in futures]
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
        for future in futures:
            future.cancel()


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
