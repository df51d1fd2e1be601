"""What the routes share: the model, the limits and the threads; and how an answer is waited for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial

from fastapi import Request
from starlette.types import Receive

from drivetrain.errors import Unavailable, UnreadablePicture
from drivetrain.settings import Settings

from .bodies import ClientGone, Limits, Memory, Upload
from .errors import DeadlinePassed
from .model import ServedModel
from .workers import WorkerPool

__all__ = ["Service", "encode_json", "service_of"]

_STUCK_AFTER_TIMEOUTS = 2  # a thread on one picture for so many deadlines will not come back
_MEMORY_MIN_BYTES = 512_000_000  # bodies in hand over all requests; more where one request may be larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One model behind one queue."""

    model: ServedModel | None
    limits: Limits
    memory: Memory
    pool: WorkerPool
    timeout_s: float

    @classmethod
    def of(cls, model: ServedModel | None, settings: Settings) -> Service:
        limits = Limits.of(settings)
        return cls(
            model=model,
            limits=limits,
            memory=Memory(max(limits.request_bytes, _MEMORY_MIN_BYTES)),
            pool=WorkerPool(
                threads=settings.worker_threads,
                queue_max=settings.queue_max_pictures,
                stuck_after_s=_STUCK_AFTER_TIMEOUTS * settings.request_timeout_s,
            ),
            timeout_s=settings.request_timeout_s,
        )

    def why_not_ready(self) -> str | None:
        """None when pictures can be answered; else the reason, for a person."""
        return "no model is loaded" if self.model is None else self.pool.why_not_ready()

    def require_model(self) -> ServedModel:
        """The model, or Unavailable."""
        if self.model is None:
            raise Unavailable("model", got="none loaded", want="one", hint="Start again with `drivetrain serve M.dt`.")
        return self.model

    async def answer(self, uploads: list[Upload], receive: Receive) -> list[bytes | BaseException]:
        """The JSON of each prediction, or its error, in order.

        Raises Overloaded with nothing queued, DeadlinePassed, or ClientGone; then whatever has not begun is dropped.
        """
        model = self.require_model()
        calls = [partial(_predict, model, one, one.name or f"picture {i}") for i, one in enumerate(uploads, 1)]
        futures = self.pool.submit(calls)
        answers = futures[0] if len(futures) == 1 else asyncio.ensure_future(asyncio.wait(futures))
        gone = asyncio.ensure_future(_client_leaves(receive))
        try:
            await asyncio.wait((answers, gone), timeout=self.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                return [_outcome(future) for future in futures]
            if gone.done():
                raise ClientGone
            raise DeadlinePassed(
                "request",
                got=f"no answer in {self.timeout_s:.0f} s",
                want="one in that time",
                hint="Send it again with fewer pictures, or raise request_timeout_s.",
            )
        finally:
            answers.cancel()
            gone.cancel()
            for future in futures:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # seen, or asyncio would log it as forgotten


def service_of(request: Request) -> Service:
    """The service of the app that got this request."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def encode_json(value: object) -> bytes:
    """Compact UTF-8; NaN and infinity, which are not JSON, are refused."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _predict(model: ServedModel, upload: Upload, called: str) -> bytes:
    """One picture's work, done in a thread; encoded there too, so that an answer that is not JSON fails alone."""
    if not upload.content:
        raise UnreadablePicture(called, reason="an empty file")
    answer = model.predict(upload.content, name=called).as_json()
    return encode_json({"name": upload.name} | answer if upload.name else answer)


def _outcome(future: asyncio.Future[bytes]) -> bytes | BaseException:
    if future.cancelled():
        return Unavailable("server", got="a picture that was still waiting", want="one before shutdown")
    return future.exception() or future.result()


async def _client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
