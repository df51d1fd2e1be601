"""GET /docs: every route for people, made on the server from /openapi.json; no script, nothing from outside."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response

from drivetrain.serve.docs_view import view_docs
from drivetrain.serve.page.render import render_page

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


async def show_docs(request: Request) -> Response:
    """The page."""
    app = request.app
    assert isinstance(app, FastAPI)
    described = app.openapi()
    base = str(request.base_url)
    return render_page(
        request,
        "docs.html",
        page="docs",
        query="",
        groups=view_docs(described, base=base),
        api_version=described["info"]["version"],
    )


router.add_api_route("/docs", show_docs, methods=["GET", "HEAD"], response_class=Response)
