"""Templates and static files, read once; and the frame that every page stands in."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from urllib.parse import urlencode

import jinja2
from fastapi import Request, Response

from drivetrain.serve.page.caller import visitor_of

__all__ = ["STATIC_TYPES", "find_static", "render_page", "render_part", "static_digest"]

STATIC_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@cache
def _static() -> dict[str, bytes]:
    folder = files("drivetrain.serve").joinpath("web/static")
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


@cache
def static_digest() -> str:
    """Stands in the path of every static file, so that a script's own imports carry it too."""
    content = b"".join(name.encode() + body for name, body in sorted(_static().items()))
    return hashlib.sha256(content).hexdigest()[:12]


def find_static(name: str) -> tuple[bytes, str] | None:
    """(bytes, media type) of a static file."""
    body = _static().get(name)
    suffix = name[name.rfind(".") :]
    kind = STATIC_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return None if body is None else (body, kind)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.PackageLoader("drivetrain.serve", "web/templates"),
    )


def render_page(request: Request, template: str, status: int = 200, **told: object) -> Response:
    """A whole page for who asks; not sent again while it stays the same."""
    body = _render(request, template, told).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"Cache-Control": "private, no-cache", "ETag": tag, "Vary": "Cookie"}
    if status == 200 and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, status, headers=headers, media_type="text/html")


def render_part(request: Request, template: str, **told: object) -> Response:
    """A piece of /admin that is fetched again and again; its links are read from that page's address."""
    body = _render(request, template, told, depth=0)
    return Response(body, headers={"Cache-Control": "no-store"}, media_type="text/html")


def _render(request: Request, template: str, told: Mapping[str, object], *, depth: int | None = None) -> str:
    """Links are relative, so that a proxy may put us below a path of its own."""
    up = "../" * (request.url.path.count("/") - 1 if depth is None else depth)
    model = request.query_params.get("model")
    shared: dict[str, object] = {
        "root": up or "./",
        "static": f"{up}static/{static_digest()}",
        "query": f"?{urlencode({'model': model})}" if model else "",
        "visitor": visitor_of(request),
    }
    return _environment().get_template(template).render(shared | dict(told))
