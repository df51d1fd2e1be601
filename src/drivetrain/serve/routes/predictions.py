"""GET /predictions/{prediction_id}: what became of it, for who asked."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from drivetrain.errors import NotFound, Unavailable
from drivetrain.serve.answers import caller_id_of, find_remembered
from drivetrain.serve.auth.caller import caller_of
from drivetrain.serve.bodies import ClientGone
from drivetrain.serve.openapi import PREDICTION_STATE
from drivetrain.serve.rollout.facts import read_wait_s
from drivetrain.serve.routes.predict import CLIENT_CLOSED_REQUEST
from drivetrain.serve.service import encode_json
from drivetrain.serve.state import rollouts_of, store_of

__all__ = ["router"]

_RETRY_AFTER_S = "5"

router = APIRouter(tags=["predict"])


@router.get("/predictions/{prediction_id}", response_class=Response, **PREDICTION_STATE)
async def prediction(request: Request) -> Response:
    """How an answer stands: decided, by whom; or how far the people are to whom it was left.

    For the caller who asked, and whoever has the role review or admin.
    """
    store, rollouts = store_of(request), rollouts_of(request)
    if store is None or rollouts is None:
        hint = "Start it with --db to keep them."
        raise Unavailable("predictions", got="a server that keeps none", want="one with memory", hint=hint)
    from drivetrain.serve.rollout.waiting import wait_for_label

    wait_s, id_ = read_wait_s(request), request.path_params["prediction_id"]
    stored = await find_remembered(store, id_)
    is_theirs = stored is not None and stored.caller_id == caller_id_of(request)
    if stored is None or not (is_theirs or caller_of(request).may("review")):
        # the same for what is another's: an id must not tell whether somebody asked
        raise NotFound("prediction_id", got=id_, want="one that an answer to you held")
    try:
        standing = await wait_for_label(request, store, rollouts.waiting, stored, wait_s=wait_s)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    headers = {"Cache-Control": "no-store"}
    if standing.state == "pending":
        headers["Retry-After"] = _RETRY_AFTER_S
    return Response(encode_json(standing.as_json()), headers=headers, media_type="application/json")
