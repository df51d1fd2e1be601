"""From pictures to answers that are told: asked of one model, remembered, and each failing by itself."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from fastapi import Request

from drivetrain.arrays import FloatArray
from drivetrain.errors import DrivetrainError, InvalidInput, Unavailable
from drivetrain.runtime.prediction import Answer
from drivetrain.store.ids import is_id

from .bodies import Upload
from .errors import DeadlinePassed, Overloaded, error_item, internal_item, request_id_of
from .registry import Served
from .service import Service

if TYPE_CHECKING:
    from drivetrain.store.predictions import Stored
    from drivetrain.store.store import Store

__all__ = [
    "Told",
    "answer_pixels",
    "answer_uploads",
    "caller_id_of",
    "find_remembered",
    "remember",
    "sha256_of",
    "tell_outcome",
]

_HASH_ASIDE_BYTES = 1_000_000  # hashing more than this would hold up the event loop for a millisecond

_log = logging.getLogger("drivetrain.serve")


@dataclass(frozen=True, slots=True)
class Told:
    """What one picture gets: its answer as told, or its error."""

    name: str
    answer: Answer | None
    error: DrivetrainError | None  # of the client's making; None with no answer: a fault of ours, already logged
    review: Mapping[str, object] | None = None  # in place of an answer: people decide, and this is how far they are

    def as_json(self, request_id: str) -> dict[str, object]:
        """Plain values; an error stands in an object of its own."""
        name = {"name": self.name} if self.name else {}
        if self.review is not None:
            return name | dict(self.review)
        if self.answer is not None:
            return name | self.answer.as_json()
        if self.error is not None:
            item = error_item(self.error.code, self.error.message, self.error.field)
        else:
            item = internal_item("picture", request_id)
        return {"name": self.name, "error": item}


async def answer_uploads(
    request: Request, service: Service, served: Served, items: Sequence[Upload | tuple[str, DrivetrainError]]
) -> list[Told]:
    """One for each item, in order; what came as an error passes through.

    Raises Overloaded with nothing queued, DeadlinePassed, Unavailable, or ClientGone.
    """
    uploads = [item for item in items if isinstance(item, Upload)]
    outcomes = iter(await service.answer(served, uploads, request.receive) if uploads else [])
    told = []
    for item in items:
        if isinstance(item, Upload):
            told.append(tell_outcome(item.name, next(outcomes), request))
        else:
            told.append(Told(item[0], None, item[1]))
    return told


async def remember(
    request: Request, store: Store, served: Served, items: Sequence[Upload | object], told: Sequence[Told]
) -> list[Told]:
    """The same, each answer with its prediction_id. Raises Unavailable where the store takes no more."""
    from drivetrain.store.predictions import Stored

    kept = []
    for item, one in zip(items, told, strict=True):
        if one.answer is None or not isinstance(item, Upload):
            kept.append(one)
            continue
        answer = replace(one.answer, prediction_id=store.predictions.new_id())
        stored = Stored(
            id=str(answer.prediction_id),
            at=time.time(),
            model=served.name,
            version=served.version,
            caller_id=caller_id_of(request),
            request_id=request_id_of(request),
            name=item.name,
            sha256=await sha256_of(item.content),
            answer=answer.as_json(),
        )
        if store.predictions.has_room:
            store.predictions.add(stored)
        else:
            await asyncio.to_thread(store.predictions.add, stored)
        kept.append(replace(one, answer=answer))
    return kept


async def find_remembered(store: Store, prediction_id: str) -> Stored | None:
    """The answer of this id, whichever process gave it; None where there is none."""
    if not is_id(prediction_id):
        return None
    found = await asyncio.to_thread(store.predictions.get, prediction_id)
    if found is None and (wait_s := store.predictions.settled_in_s(prediction_id)):
        await asyncio.sleep(wait_s)
        found = await asyncio.to_thread(store.predictions.get, prediction_id)
    return found


async def sha256_of(content: bytes) -> str:
    """In hexadecimal; of much in a thread."""
    if len(content) < _HASH_ASIDE_BYTES:
        return hashlib.sha256(content).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())


def caller_id_of(request: Request) -> str:
    """Who asks, as auth found it: `local`, or the kind and id of a key or a person."""
    return str(getattr(getattr(request.state, "caller", None), "tag", "local"))


async def answer_pixels(request: Request, service: Service, served: Served, pixels: FloatArray) -> list[Told]:
    """One for each row of preprocessed pixels (n, 3, h, w); without the file, no style is judged."""
    outcomes = await service.answer_pixels(served, pixels, request.receive)
    return [tell_outcome("", outcome, request) for outcome in outcomes]


def tell_outcome(name: str, outcome: Answer | BaseException, request: Request) -> Told:
    """As the caller is told it; a fault of ours is logged here."""
    if not isinstance(outcome, BaseException):
        return Told(name, outcome, None)
    # Unavailable from a network's run holds onnxruntime's words; only what the queue says is for the client
    if isinstance(outcome, InvalidInput | Overloaded | DeadlinePassed) or _is_shutdown(outcome):
        return Told(name, None, cast(DrivetrainError, outcome))
    _log.error("request %s failed on a picture", request_id_of(request), exc_info=outcome)
    return Told(name, None, None)


def _is_shutdown(outcome: BaseException) -> bool:
    return isinstance(outcome, Unavailable) and outcome.field == "server"
