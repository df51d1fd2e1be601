"""Wire the HTTP face together; what it does is in the rooms beside this file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from drivetrain.errors import InvalidConfig
from drivetrain.settings import Settings

from .edge import Edge
from .errors import install_error_handlers
from .model import ServedModel
from .routes import health, pages, predict
from .service import Service

__all__ = ["create_app"]


def create_app(model: ServedModel | None, settings: Settings) -> FastAPI:
    """The app for one model; without one it runs, and says that it is not ready."""
    if settings.queue_max_pictures < settings.request_max_pictures:
        raise InvalidConfig(
            "queue_max_pictures",
            got=settings.queue_max_pictures,
            want=f"at least request_max_pictures, {settings.request_max_pictures}",
            hint="Else a request of allowed size could never find room.",
        )
    service = Service.of(model, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.pool.open()
        try:
            yield
        finally:
            service.pool.close()

    app = FastAPI(
        title="drivetrain",
        summary="Pictures in, answers out, and it says when it does not know.",
        version=version("drivetrain"),
        docs_url=None,  # FastAPI's documentation pages load scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(Edge)
    install_error_handlers(app)
    app.include_router(predict.router)
    app.include_router(health.router)
    app.include_router(pages.make_router(model, settings))
    return app
