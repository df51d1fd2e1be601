"""What the routes share: the limits of a request, and how its pictures are answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from starlette.types import Receive

from drivetrain.arrays import FloatArray
from drivetrain.runtime.prediction import Answer
from drivetrain.settings import Settings

from .batching import encode_json, wait_for
from .bodies import Limits, Memory, Upload
from .registry import Served

__all__ = ["Service", "encode_json", "service_of"]

_MEMORY_MIN_BYTES = 512_000_000  # bodies in hand over all requests; more where one request may be larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What bounds a request, whichever model it asks."""

    limits: Limits
    memory: Memory
    timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> Service:
        limits = Limits.of(settings)
        memory = Memory(max(limits.request_bytes, _MEMORY_MIN_BYTES))
        return cls(limits=limits, memory=memory, timeout_s=settings.request_timeout_s)

    async def answer(self, served: Served, uploads: Sequence[Upload], receive: Receive) -> list[Answer | BaseException]:
        """The answer for each upload, or its error, in order; DeadlinePassed is one of them.

        Raises Overloaded with nothing queued, Unavailable while the model closes, or ClientGone; then whatever has not
        begun is dropped.
        """
        from drivetrain.runtime.batch_types import PictureJob

        jobs = [PictureJob(one.content, one.name or f"picture {i}") for i, one in enumerate(uploads, 1)]
        return await wait_for(served.batcher.submit(jobs, deadline_s=self.timeout_s), receive)

    async def answer_pixels(self, served: Served, pixels: FloatArray, receive: Receive) -> list[Answer | BaseException]:
        """As `answer`, for rows (n, 3, h, w) that are preprocessed already."""
        return await wait_for(served.batcher.submit_pixels(pixels, deadline_s=self.timeout_s), receive)


def service_of(request: Request) -> Service:
    """The service of the app that got this request."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
