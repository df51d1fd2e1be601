"""POST /feedback/{prediction_id}: a caller says whether an answer was right. It queues a look; it is no label."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from drivetrain.errors import InvalidInput, NotFound, Unavailable
from drivetrain.serve.answers import caller_id_of, find_remembered
from drivetrain.serve.auth.caller import caller_of
from drivetrain.serve.auth.refusals import Forbidden
from drivetrain.serve.bodies import ClientGone, body_kind, read_all
from drivetrain.serve.errors import UnsupportedMedia
from drivetrain.serve.json_body import JsonLimits, kind_of, parse_json, plain_text
from drivetrain.serve.openapi import FEEDBACK
from drivetrain.serve.routes.predict import CLIENT_CLOSED_REQUEST
from drivetrain.serve.service import encode_json, service_of
from drivetrain.serve.state import rollouts_of, store_of

__all__ = ["router"]

_VERDICTS = ("right", "wrong", "unsure")
_KEYS = ("verdict", "label", "note")
_BODY_MAX_BYTES = 65_536
_LIMITS = JsonLimits(values=5_000, brackets=100)  # a note may hold commas
_LABEL_MAX_CHARS, _NOTE_MAX_CHARS = 200, 2_000

router = APIRouter(tags=["predict"])


@router.post("/feedback/{prediction_id}", response_class=Response, **FEEDBACK)
async def feedback(request: Request) -> Response:
    """Say whether an answer was right, wrong (perhaps with what is right), or that it cannot be told.

    By the caller who asked, or one with the role review. Said twice by the same caller, the last counts. A verdict is a
    voice, never a label.
    """
    store = store_of(request)
    if store is None:
        hint = "Start it with --db to keep them."
        raise Unavailable("feedback", got="a server that keeps no predictions", want="one with memory", hint=hint)
    try:
        verdict, label, note = _check(await _read(request))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    prediction_id = request.path_params["prediction_id"]
    stored = await find_remembered(store, prediction_id)
    if stored is None:
        raise NotFound("prediction_id", got=prediction_id, want="one that an answer of this server held")
    _check_voice(request, stored.caller_id)
    if label is not None:
        _check_label(label, stored.answer)
    kept = await asyncio.to_thread(
        store.feedback.add, prediction_id, verdict, label=label, by=caller_id_of(request), note=note
    )
    request.app.state.metrics.feedback(verdict)
    rollouts = rollouts_of(request)
    if rollouts is not None and verdict != "right":
        await asyncio.to_thread(rollouts.ask_for_feedback, prediction_id)
    told = {"prediction_id": prediction_id, "verdict": verdict, "label": label, "at": kept.at}
    return Response(encode_json(told), headers={"Cache-Control": "no-store"}, media_type="application/json")


def _check_voice(request: Request, asker: str) -> None:
    """Who asked may speak of the answer, and who reviews; another key's voice would pass for its caller's."""
    if caller_id_of(request) == asker or caller_of(request).may("review"):
        return
    hint = "Send the key that asked for it, or one with the role review beside predict."
    raise Forbidden("prediction_id", got="an answer that another caller was given", want="one of yours", hint=hint)


async def _read(request: Request) -> dict[str, Any]:
    if body_kind(request) != "json":
        raise UnsupportedMedia("content-type", got=request.headers["content-type"], want="application/json")
    service = service_of(request)
    with service.memory.lease() as lease:
        body = await read_all(request, _BODY_MAX_BYTES, service.limits.idle_s, lease)
    found = parse_json(body, _LIMITS)
    if not isinstance(found, dict):
        raise InvalidInput("body", got=kind_of(found), want='{"verdict": ...}')
    return found


def _check(body: dict[str, Any]) -> tuple[Any, str | None, str]:
    """Verdict, label and note."""
    if extra := body.keys() - set(_KEYS):
        raise InvalidInput("body", got=f"the key {min(extra)!r}", want=f"keys among {', '.join(_KEYS)}")
    verdict = body.get("verdict")
    if verdict not in _VERDICTS or not isinstance(verdict, str):
        got = verdict if isinstance(verdict, str) else kind_of(verdict) if "verdict" in body else "nothing"
        raise InvalidInput("verdict", got=got, want=f"one of {', '.join(_VERDICTS)}")
    note = plain_text(body.get("note", ""), "note", max_chars=_NOTE_MAX_CHARS)
    if "label" not in body:
        return verdict, None, note
    if verdict != "wrong":
        raise InvalidInput("label", got=f"one beside the verdict {verdict}", want="a label with wrong alone")
    return verdict, plain_text(body["label"], "label", max_chars=_LABEL_MAX_CHARS), note


def _check_label(label: str, answer: Mapping[str, Any]) -> None:
    """A class that the model knows, and not the one it said; of a model that measures, a number for each value."""
    if "values" in answer:
        n, given = len(answer["values"]), label.split(";")
        if len(given) != n or not all(map(_is_number, given)):
            want = "a number, as text" if n == 1 else f"{n} numbers as text, apart by ;"
            raise InvalidInput("label", got=label, want=want)
        return
    known = list(answer.get("probabilities", {}))
    if not known:
        hint = "The label is theirs: GET /predictions/{prediction_id}. Say what you think of it in note."
        raise InvalidInput("label", got=label, want="none, of a picture that people decide", hint=hint)
    if label not in known:
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        hint = "If it is none of them, leave label out and say so in note."
        raise InvalidInput("label", got=label, want=f"one of {shown}", hint=hint)
    if label == answer.get("label"):
        raise InvalidInput("label", got=f"{label}, which was the answer", want="another one, or the verdict right")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
