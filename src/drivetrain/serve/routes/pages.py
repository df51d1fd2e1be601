"""The page for people and its files, all from memory: they are few and small, and do not change while we run."""

from __future__ import annotations

import hashlib
import math
import mimetypes
from collections.abc import Mapping
from importlib.resources import files

import jinja2
from fastapi import APIRouter, Request, Response

from drivetrain.errors import NotFound
from drivetrain.serve.model import ServedModel
from drivetrain.settings import Settings
from drivetrain.task import Task

__all__ = ["accuracy_in_words", "make_router"]

_CHIPS_SHOWN = 24  # more classes than this fold away
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


def make_router(model: ServedModel | None, settings: Settings) -> APIRouter:
    """Routes for `/` and `/static/{version}/{name}`."""
    static = _read_static()
    digest = hashlib.sha256(b"".join(name.encode() + body for name, body in sorted(static.items()))).hexdigest()[:12]
    page = _render(model, settings, static_path=f"static/{digest}").encode()
    page_tag = f'"{hashlib.sha256(page).hexdigest()[:16]}"'
    router = APIRouter(include_in_schema=False)

    async def show_page(request: Request) -> Response:
        headers = {"Cache-Control": "no-cache", "ETag": page_tag}
        if request.headers.get("if-none-match") == page_tag:
            return Response(status_code=304, headers=headers)
        return Response(page, headers=headers, media_type="text/html")

    async def show_static(request: Request) -> Response:
        name, asked = request.path_params["name"], request.path_params["version"]
        body = static.get(name)
        if body is None:
            raise NotFound("path", got=request.url.path, want=f"one of {', '.join(sorted(static))}")
        # The version stands in the path so that a script's own imports carry it; an old one must not be kept.
        cache = _FOREVER if asked == digest else "no-cache"
        return Response(body, headers={"Cache-Control": cache}, media_type=_media_type(name))

    for path, endpoint in (("/", show_page), ("/static/{version}/{name}", show_static)):
        router.add_api_route(path, endpoint, methods=["GET", "HEAD"], response_class=Response)
    return router


def accuracy_in_words(evaluation: object, task: Task = "classification") -> str:
    """One sentence on held-out pictures; a bundle's manifest is not trusted to hold numbers."""
    if task == "multilabel":
        return _labels_in_words(evaluation)
    if task == "regression":
        return _values_in_words(evaluation)
    numbers = _numbers(evaluation, "accuracy", "accuracy_low", "accuracy_high", "n")
    if numbers is None:
        return "Nobody has measured it on held-out pictures yet, so nobody knows how often it is right."
    accuracy, low, high, n = numbers
    return (
        f"Right on {_percent(accuracy)} of {n:,.0f} pictures held out of its training; "
        f"its true accuracy is likely between {_percent(low)} and {_percent(high)}."
    )


def _labels_in_words(evaluation: object) -> str:
    numbers = _numbers(evaluation, "exact", "exact_low", "exact_high", "n")
    if numbers is None:
        return "Nobody has measured it on held-out pictures yet, so nobody knows how often its labels are right."
    exact, low, high, n = numbers
    scores = _numbers(evaluation, "macro_f1")
    more = f" Its mean F1 is {scores[0]:.2f}, of 1." if scores else ""
    return (
        f"Every label right on {_percent(exact)} of {n:,.0f} pictures held out of its training; "
        f"likely between {_percent(low)} and {_percent(high)}.{more}"
    )


def _values_in_words(evaluation: object) -> str:
    rows = evaluation.get("per_value") if isinstance(evaluation, Mapping) else None
    first = rows[0] if isinstance(rows, list | tuple) and rows else None
    numbers, n = _numbers(first, "mae", "mae_low", "mae_high"), _numbers(evaluation, "n")
    if numbers is None or n is None:
        return "Nobody has measured it on held-out pictures yet, so nobody knows how far off it is."
    mae, low, high = (f"{number:.4g}" for number in numbers)
    what = first.get("name") if isinstance(first, Mapping) and len(rows or ()) > 1 else None
    return (
        f"Off by {mae} on average{f' in {what}' if isinstance(what, str) else ''}, on {n[0]:,.0f} pictures held out of "
        f"its training; likely between {low} and {high}."
    )


def _numbers(section: object, *names: str) -> list[float] | None:
    """Those of a section, or None unless all are there and are numbers."""
    found = [section.get(name) for name in names] if isinstance(section, Mapping) else []
    numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
    return numbers if len(numbers) == len(names) and all(map(math.isfinite, numbers)) else None


def _knows_in_words(model: ServedModel | None) -> str:
    """What the chips below are."""
    n = len(model.classes) if model else 0
    if model is not None and model.task == "multilabel":
        return f"It looks for {n} {'label' if n == 1 else 'labels'}"
    if model is not None and model.task == "regression":
        return f"It measures {n} {'value' if n == 1 else 'values'}"
    return f"It knows {n} {'kind' if n == 1 else 'kinds'} of picture"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _render(model: ServedModel | None, settings: Settings, *, static_path: str) -> str:
    source = files("drivetrain.serve").joinpath("web/templates/page.html").read_text("utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
    statement = model.policy.get("statement") if model else None
    classes = model.classes if model else ()
    if classes == ("value",):  # no one named it
        classes = ()
    return template.render(
        static=static_path,
        is_loaded=model is not None,
        name=model.name if model else "No model",
        version=model.version if model else "",
        accuracy=accuracy_in_words(model.evaluation, model.task) if model else "",
        statement=statement.replace(" %", "\N{NO-BREAK SPACE}%") if isinstance(statement, str) else "",
        classes_shown=classes[:_CHIPS_SHOWN],
        classes_folded=classes[_CHIPS_SHOWN:],
        knows=_knows_in_words(model),
        max_bytes=settings.image_max_bytes,
    )


def _read_static() -> dict[str, bytes]:
    folder = files("drivetrain.serve").joinpath("web/static")
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


def _media_type(name: str) -> str:
    suffix = name[name.rfind(".") :]
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
