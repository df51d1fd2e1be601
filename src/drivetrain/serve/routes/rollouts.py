"""Pages for those who take the steps of a roll-out: how each stands, what is missing, and the acts, each with a reason.

The gatekeeper lets those who review see all, hold and roll back; the rest is for those who approve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from drivetrain.errors import Conflict, DrivetrainError, InvalidInput, NotFound
from drivetrain.serve.answers import caller_id_of
from drivetrain.serve.auth.caller import LOCAL, Caller
from drivetrain.serve.auth.csrf import read_form_fields
from drivetrain.serve.errors import error_response, request_id_of
from drivetrain.serve.page.render import render_page
from drivetrain.serve.page.rollouts import DONE, RolloutShelf, list_cards, list_version_rows, read_log, state_of
from drivetrain.serve.state import rollouts_of, store_of
from drivetrain.settings import Settings

if TYPE_CHECKING:
    from drivetrain.store.store import Store

__all__ = ["make_router"]

_MOVES = ("advance", "hold", "resume", "rollback")
_PART = "now"  # `?part=now` is what a script fetches anew
_REPORT_POLICY = (  # one file that carries its own style and runs nothing
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REFUSED = {  # what was off -> what is said
    "by": "Who does it? Give a name that may approve here.",
    "reason": "Say why: the reason is kept.",
    "confirm": "Mark the box, so that it is clear that you mean it.",
    "answer": "Nothing new was written.",
    "db": "The database cannot take it just now, so nothing was done.",
}
_log = logging.getLogger("drivetrain.serve")
_Fields = Mapping[str, str]
_Act = Callable[["Store", _Fields, str], str]  # (store, form, who) -> which of DONE it came to


def make_router(settings: Settings) -> APIRouter:
    """`/rollouts`, `/rollouts/NAME` with its acts, report and log, and `/versions`."""
    router = APIRouter(include_in_schema=False)
    shelf = RolloutShelf()

    async def show_all(request: Request) -> Response:
        store = store_of(request)
        told = {} if store is None else await asyncio.to_thread(list_cards, store, shelf)
        template = "rollouts_now.html" if request.query_params.get("part") == _PART and store else "rollouts.html"
        return render_page(request, template, page="rollouts", has_store=store is not None, **told)

    async def show_one(request: Request) -> Response:
        store = _need_store(request)
        facts = await asyncio.to_thread(shelf.describe, store, request.path_params["name"])
        if request.query_params.get("part") == _PART:
            return render_page(
                request, "rollout_now.html", status=200, page="rollouts", facts=facts, state=state_of(facts)
            )
        return _show(request, facts, done=DONE.get(request.query_params.get("done", ""), ""))

    async def show_report(request: Request) -> Response:
        from drivetrain.flows.rollout_report import gather_report
        from drivetrain.inspect.rollout_report import render_rollout_report

        store, name = _need_store(request), request.path_params["name"]

        def make() -> str:
            return render_rollout_report(gather_report(store, name), back=f"../{name}")

        body = await asyncio.to_thread(make)
        headers = {"Content-Security-Policy": _REPORT_POLICY, "Cache-Control": "no-store"}
        return Response(body, headers=headers, media_type="text/html")

    async def show_log(request: Request) -> Response:
        told = await asyncio.to_thread(read_log, _need_store(request), request.path_params["name"])
        return render_page(request, "rollout_log.html", page="rollouts", **told)

    async def show_versions(request: Request) -> Response:
        store = store_of(request)
        models = [] if store is None else await asyncio.to_thread(list_version_rows, store)
        return render_page(request, "versions.html", page="rollouts", has_store=store is not None, models=models)

    def acting(name: str, act: _Act) -> Callable[[Request], Any]:
        async def run(request: Request) -> Response:
            return await _act(request, shelf, name, act)

        return run

    for path, endpoint in (
        ("/rollouts", show_all),
        ("/rollouts/{name}", show_one),
        ("/rollouts/{name}/report", show_report),
        ("/rollouts/{name}/log", show_log),
        ("/versions", show_versions),
    ):
        router.add_api_route(path, endpoint, methods=["GET", "HEAD"], response_class=Response)
    acts: dict[str, _Act] = {name: _moving(name, settings) for name in _MOVES}
    acts |= {"premortem": _answer_premortem, "alerts": _close_alert}
    for name, act in acts.items():
        path = f"/rollouts/{{name}}/{name}"
        router.add_api_route(path, acting(name, act), methods=["POST"], response_class=Response)
    return router


async def _act(request: Request, shelf: RolloutShelf, action: str, act: _Act) -> Response:
    """Do it, tell the servers, and lead back to the page; where it cannot be done, the page says why."""
    store, name = _need_store(request), request.path_params["name"]
    fields = await read_form_fields(request.headers, request.receive)
    try:
        done = await asyncio.to_thread(act, store, {**fields, "rollout": name}, _signer(request, fields))
    except NotFound:
        raise
    except DrivetrainError as exc:
        facts = await asyncio.to_thread(shelf.describe, store, name)
        status = error_response(exc, request_id_of(request)).status_code
        said, missing = _explain(exc, action, facts)
        return _show(request, facts, status=status, said=said, missing=missing, tried=action, fields=fields)
    await asyncio.to_thread(_after, request, store, action, name)
    back = await asyncio.to_thread(lambda: store.deployments.get(name))
    where = name if back is None or back.ended_at is not None else back.name
    headers = {"Location": f"../{where}?done={done}", "Cache-Control": "no-store"}
    return Response(status_code=303, headers=headers)


def _after(request: Request, store: Store, action: str, name: str) -> None:
    """The servers read it at once; who did it, from which session, goes into the audit beside the ledger."""
    desk = rollouts_of(request)
    if desk is not None:
        desk.refresh()
    try:
        store.audit(f"rollout.{action}", by=caller_id_of(request), subject=name, request_id=request_id_of(request))
    except DrivetrainError as exc:  # it is done and stands in the ledger, or in the file of a rollback
        _log.warning("an act on the roll-out %s was not audited: %s", name, exc.message)


def _moving(action: str, settings: Settings) -> _Act:
    def move(store: Store, fields: _Fields, by: str) -> str:
        from drivetrain.flows import rollout
        from drivetrain.flows.rollout_marker import find_marker_folder

        name, reason = fields["rollout"], _need_reason(fields)
        if action == "rollback":
            url = store.url if settings.db == "none" else settings.db
            folder = find_marker_folder(url, cache_dir=settings.cache_dir)
            moved = rollout.rollback(store, name, by=by, reason=reason, marker_folder=folder)
            return "rollback" if moved.marker is None else "marker"
        if action == "hold":  # to stop is meant wherever it stands by now
            rollout.hold(store, name, by=by, reason=reason)
        else:
            step = rollout.advance if action == "advance" else rollout.resume
            step(store, name, by=by, reason=reason, revision=_seen(fields))
        return action

    return move


def _seen(fields: _Fields) -> int:
    """The revision that stood on the page: of two who take the same step, one is told, and no second step is taken."""
    try:
        return int(fields.get("revision", ""))
    except ValueError:
        raise InvalidInput("revision", got=fields.get("revision", "")[:40], want="the one of the page") from None


def _answer_premortem(store: Store, fields: _Fields, by: str) -> str:
    """Keep what is new among the answers."""
    from drivetrain.flows.premortem import QUESTIONS, answer_premortem
    from drivetrain.flows.rollout import get_deployment

    deployment = get_deployment(store, fields["rollout"], is_open=True)
    kept = store.deployments.premortem(deployment.id)
    given = {name: fields.get(name, "").replace("\r\n", "\n").strip() for name in QUESTIONS}
    new = {name: text for name, text in given.items() if text and text != kept.get(name, {}).get("answer")}
    if not new:
        raise InvalidInput("answer", got="nothing new", want="an answer to one of the questions")
    answer_premortem(store, deployment, new, by=by)
    return "premortem"


def _close_alert(store: Store, fields: _Fields, by: str) -> str:
    from drivetrain.flows.rollout import close_alert, get_deployment

    deployment = get_deployment(store, fields["rollout"])
    reason, alert = _need_reason(fields), fields.get("alert", "")
    if alert not in {one.id for one in store.alerts.list(deployment.id, only_open=False)}:
        raise InvalidInput("alert", got=alert[:40], want="one of this roll-out")
    close_alert(store, alert, by=by, reason=reason)
    return "alerts"


def _need_reason(fields: _Fields) -> str:
    reason = fields.get("reason", "").strip()
    if not reason:
        raise InvalidInput("reason", got="none", want="why; it is kept")
    if fields.get("confirm") != "yes":
        raise InvalidInput("confirm", got="no", want="a mark in the box: it is meant")
    return reason


def _signer(request: Request, fields: _Fields) -> str:
    """Who signs: a person by name, a key by its tag; at this machine, where nobody signs in, whoever is named."""
    caller = _caller(request)
    if caller.kind == "user":
        return caller.name
    return caller.tag if caller.kind == "key" else fields.get("by", "").strip()


def _caller(request: Request) -> Caller:
    found = request.scope.get("state", {}).get("caller")
    return found if isinstance(found, Caller) else LOCAL


def _explain(exc: DrivetrainError, action: str, facts: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(what is said, what is missing) of an act that was refused."""
    if isinstance(exc, Conflict) and exc.field == "gate":
        missing = [one["sentence"] for one in facts["gate"] if not one["is_met"]]
        return str(facts["distance"]), missing
    if isinstance(exc, Conflict) and exc.field in ("deployment", "roll-out", action) and facts["last_event"]:
        last = facts["last_event"]
        told = f"Another change came first: {last['action']} by {last['by']} (“{last['reason']}”)."
        return f"{told} It stands at {facts['stands']} now. Nothing was done on your behalf; look again.", []
    return _REFUSED.get(exc.field, exc.message), []


def _show(
    request: Request,
    facts: Mapping[str, Any],
    *,
    status: int = 200,
    done: str = "",
    said: str = "",
    missing: list[str] | None = None,
    tried: str = "",
    fields: _Fields | None = None,
) -> Response:
    caller = _caller(request)
    return render_page(
        request,
        "rollout.html",
        status,
        page="rollouts",
        facts=facts,
        state=state_of(facts),
        done=done,
        said=said,
        missing=missing or [],
        tried=tried,
        fields=fields or {},
        may_approve=caller.may("approve"),
        must_name=caller.kind not in ("user", "key"),
    )


def _need_store(request: Request) -> Store:
    store = store_of(request)
    if store is None:
        raise NotFound("roll-out", got="a server without a database", want="one", hint="Set DRIVETRAIN_DB.")
    return store
