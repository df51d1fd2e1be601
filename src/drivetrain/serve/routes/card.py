"""GET /card: what a model is, what was measured, and what it promises."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from drivetrain.serve.page.card import view_card
from drivetrain.serve.page.render import render_page
from drivetrain.serve.page.shelf import PageShelf
from drivetrain.serve.page.views import view_model
from drivetrain.serve.routes.predict import asked_model
from drivetrain.serve.state import registry_of

__all__ = ["make_router"]


def make_router(shelf: PageShelf) -> APIRouter:
    """The route; `shelf` reads what stands in the bundle and nowhere else."""
    router = APIRouter(include_in_schema=False)

    async def show_card(request: Request) -> Response:
        registry = registry_of(request)
        with registry.hold(*asked_model(request)) as served:
            leaf = await asyncio.to_thread(shelf.read, served)
            told = await asyncio.to_thread(view_card, served.model, leaf)
            return render_page(
                request,
                "card.html",
                page="card",
                model=view_model(served.model),
                names=registry.names(),
                card=told,
            )

    router.add_api_route("/card", show_card, methods=["GET", "HEAD"], response_class=Response)
    return router
