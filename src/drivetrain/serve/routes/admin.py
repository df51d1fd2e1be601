"""GET /admin and its parts: models, traffic, keys, and who did what. The gatekeeper lets only admins here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from drivetrain.errors import DrivetrainError, InvalidInput, NotFound
from drivetrain.serve.answers import caller_id_of
from drivetrain.serve.auth.csrf import read_form_fields
from drivetrain.serve.errors import error_response, request_id_of
from drivetrain.serve.metrics import Metrics
from drivetrain.serve.page.render import render_page, render_part
from drivetrain.serve.page.traffic import Traffic, TrafficWatch
from drivetrain.serve.registry import ModelRegistry
from drivetrain.serve.state import registry_of, store_of

if TYPE_CHECKING:
    from drivetrain.store.store import Store

__all__ = ["make_router"]

_AUDIT_SHOWN = 20
_KEYS_SHOWN = 100
_HTMX = "HX-Request"  # sent by the script where it fetches a part


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One line of the models: a version that answers, or a file that could."""

    name: str
    version: str
    state: str
    reason: str
    file: str  # without its suffix; empty where it does not lie in the folder of models
    loaded: str
    is_default: bool


def make_router() -> APIRouter:
    """The page, the parts that it fetches anew, and its two acts."""
    router = APIRouter(include_in_schema=False)
    watch = TrafficWatch()
    parts: dict[str, Callable[[Request], Any]] = {
        "models": _models,
        "traffic": lambda request: _traffic(request, watch),
        "keys": _keys,
        "audit": _audit,
    }

    async def show_admin(request: Request) -> Response:
        told: dict[str, Any] = {}
        for part in parts.values():
            told |= await part(request)
        return render_page(request, "admin.html", page="admin", names=registry_of(request).names(), said="", **told)

    async def show_part(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in parts:
            raise NotFound("part", got=name, want=f"one of {', '.join(parts)}")
        return render_part(request, f"admin_{name}.html", said="", **await parts[name](request))

    async def load(request: Request) -> Response:
        async def act(registry: ModelRegistry, name: str) -> tuple[str, str]:
            served = await asyncio.to_thread(registry.load_named, name)
            return "model.load", served.version

        return await _act(request, act, "{} answers now.")

    async def unload(request: Request) -> Response:
        async def act(registry: ModelRegistry, name: str) -> tuple[str, str]:
            gone = await asyncio.to_thread(registry.unload, *_name_and_version(name))
            return "model.unload", ", ".join(one.version for one in gone)

        return await _act(request, act, "{} answers no more.")

    router.add_api_route("/admin", show_admin, methods=["GET", "HEAD"], response_class=Response)
    router.add_api_route("/admin/parts/{name}", show_part, methods=["GET"], response_class=Response)
    router.add_api_route("/admin/load", load, methods=["POST"], response_class=Response)
    router.add_api_route("/admin/unload", unload, methods=["POST"], response_class=Response)
    return router


async def _act(request: Request, act: Callable[..., Any], done: str) -> Response:
    """Do it, write it down, and show the models as they are now: the part where a script asked, else the whole page."""
    name = (await read_form_fields(request.headers, request.receive)).get("name", "")
    status = 200
    try:
        if not name:
            raise InvalidInput("name", got="none", want="a model's name")
        action, subject = await act(registry_of(request), name)
        await _note(request, action, subject)
        said = done.format(subject)
    except DrivetrainError as exc:
        status, said = error_response(exc, request_id_of(request)).status_code, exc.message
    if request.headers.get(_HTMX):  # it puts only what came with 2xx into the page
        return render_part(request, "admin_models.html", said=said, **await _models(request))
    if status == 200:
        return Response(status_code=303, headers={"Location": "../admin", "Cache-Control": "no-store"})
    told = await _models(request)
    for part in (_keys, _audit):
        told |= await part(request)
    told |= await _traffic(request, TrafficWatch())
    names = registry_of(request).names()
    return render_page(request, "admin.html", status, page="admin", names=names, said=said, **told)


async def _note(request: Request, action: str, subject: str) -> None:
    store = store_of(request)
    if store is None:
        return
    by, request_id = caller_id_of(request), request_id_of(request)
    await asyncio.to_thread(lambda: store.audit(action, by=by, subject=subject, request_id=request_id))


async def _models(request: Request) -> dict[str, Any]:
    registry = registry_of(request)
    rows = await asyncio.to_thread(_list_models, registry)
    return {"models": rows, "has_folder": registry.folder is not None}


def _list_models(registry: ModelRegistry) -> list[_Row]:
    names = registry.names()
    loaded_at = {(one.name, one.digest): one.loaded_at for one in registry.all()}
    return [
        _Row(
            name=row.name,
            version=row.version,
            state=row.state,
            reason=row.reason,
            file=row.file,
            loaded=_at(loaded_at[row.name, row.version]) if (row.name, row.version) in loaded_at else "",
            is_default=bool(names) and row.name == names[0] and bool(row.version),
        )
        for row in registry.index()
    ]


async def _traffic(request: Request, watch: TrafficWatch) -> dict[str, Any]:
    metrics, registry, store = request.app.state.metrics, registry_of(request), store_of(request)
    assert isinstance(metrics, Metrics)
    metrics.tell_models((one, one.batcher.why_not_ready() is None) for one in registry.all())
    traffic: Traffic = watch.look((await asyncio.to_thread(metrics.render)).decode())
    verdicts = await asyncio.to_thread(store.feedback.counts) if store is not None else {}
    return {"traffic": traffic, "verdicts": verdicts}


async def _keys(request: Request) -> dict[str, Any]:
    store = store_of(request)
    return {"keys": None if store is None else await asyncio.to_thread(_list_keys, store)}


def _list_keys(store: Store) -> list[dict[str, str]]:
    now = time.time()
    return [
        {
            "id": key.id,
            "name": key.name,
            "roles": ", ".join(sorted(key.roles)),
            "state": key.why_not(now) or "holds",
            "is_live": "yes" if key.why_not(now) is None else "",
            "made": _at(key.created_at),
            "used": "never" if key.used_at is None else _at(key.used_at),
            "ends": "never" if key.expires_at is None else _at(key.expires_at),
        }
        for key in store.keys.list()[-_KEYS_SHOWN:]
    ]


async def _audit(request: Request) -> dict[str, Any]:
    store = store_of(request)
    if store is None:
        return {"audit": None}
    events = await asyncio.to_thread(lambda: store.audit.list(limit=_AUDIT_SHOWN))
    rows = [{"at": _at(one.at), "action": one.action, "by": one.by, "subject": one.subject} for one in events]
    return {"audit": rows}


def _name_and_version(written: str) -> tuple[str, str | None]:
    """`bears@0123456789ab`, or a name alone: then all its versions."""
    name, at, version = written.rpartition("@")
    return (name, version) if at else (written, None)


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
