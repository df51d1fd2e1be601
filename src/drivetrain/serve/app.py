"""Wire the HTTP face together; what it does is in the rooms beside this file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.routing import APIRoute

from drivetrain.errors import InvalidConfig
from drivetrain.runtime.memory import rarer_searches
from drivetrain.settings import Settings

from .access import Access
from .auth.gate import Gate
from .auth.gatekeeper import Gatekeeper
from .batching import open_batcher
from .describe import describe_app
from .edge import Edge
from .errors import install_error_handlers
from .fetch_url import UrlFetcher
from .metrics import Metrics
from .model import ServedModel, open_bundle
from .process.lifecycle import Doorkeeper, Lifecycle
from .registry import ModelRegistry
from .routes import docs, feedback, health, login, pages, predict, predictions, repository, review, rollouts, v2
from .routes import metrics as metrics_page
from .service import Service
from .shortcut import Shortcut

if TYPE_CHECKING:
    from drivetrain.store.store import Store

    from .rollout.desk import Rollouts

__all__ = ["create_app", "make_registry"]


def make_registry(settings: Settings, metrics: Metrics) -> ModelRegistry:
    """An empty registry, whose models answer as the settings say and are counted there."""
    return ModelRegistry(
        open_model=lambda path: open_bundle(path, settings),
        open_batcher=lambda model: open_batcher(model, settings, metrics.meter(model.name, model.version)),
        folder=None if settings.models == "none" else Path(settings.models),
    )


def create_app(model: ServedModel | None, settings: Settings, *, store: Store | None = None) -> FastAPI:
    """The app for one model; without one it runs, and says that it is not ready. Others go to `app.state.registry`.

    Without a store it remembers nothing: answers bear no id. Who opened the store closes it, after the app.
    """
    if settings.queue_max_pictures < settings.request_max_pictures:
        raise InvalidConfig(
            "queue_max_pictures",
            got=settings.queue_max_pictures,
            want=f"at least request_max_pictures, {settings.request_max_pictures}",
            hint="Else a request of allowed size could never find room.",
        )
    gate = Gate(settings, store)
    metrics = Metrics()
    registry = make_registry(settings, metrics)
    if model is not None:
        registry.add(model)
    rollouts = _open_rollouts(settings, store=store, registry=registry, metrics=metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        registry.open()
        if rollouts is not None:
            await asyncio.to_thread(rollouts.start)
        with rarer_searches():
            try:
                yield
            finally:
                if rollouts is not None:
                    await asyncio.to_thread(rollouts.close)
                await asyncio.to_thread(registry.close, drain_s=settings.shutdown_grace_s)
                app.state.url_fetcher.close()

    app = FastAPI(
        title="drivetrain",
        summary="Pictures in, answers out, and it says when it does not know.",
        version=version("drivetrain"),
        docs_url=None,  # FastAPI's documentation pages load scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.service = Service.of(settings)
    app.state.registry = registry
    app.state.store = store
    app.state.url_fetcher = UrlFetcher.of(settings)
    app.state.metrics = metrics
    app.state.rollouts = rollouts
    app.state.lifecycle = Lifecycle()
    app.openapi = lambda: describe_app(app)  # type: ignore[method-assign]
    install_error_handlers(app)
    _add_doors(app, gate, settings)
    _add_routes(app, gate, settings)
    return app


def _open_rollouts(
    settings: Settings, *, store: Store | None, registry: ModelRegistry, metrics: Metrics
) -> Rollouts | None:
    if store is None:
        if settings.webhook != "none":
            raise InvalidConfig("webhook", got="an address", want="none on a server without memory (db is none)")
        return None
    from .rollout.desk import Rollouts  # SQLAlchemy: not for a server without memory

    return Rollouts(store, registry=registry, metrics=metrics, settings=settings)


def _add_doors(app: FastAPI, gate: Gate, settings: Settings) -> None:
    """What every request passes before its route; the last one added is the outermost."""
    often = [route for route in predict.router.routes if isinstance(route, APIRoute)]
    app.add_middleware(Shortcut, routes=often)
    app.add_middleware(Gatekeeper, gate=gate)
    app.add_middleware(Doorkeeper, lifecycle=app.state.lifecycle)
    app.add_middleware(v2.OneSlash)  # around whatever judges by the path
    app.add_middleware(Edge, embed_from=settings.embed_from)
    app.add_middleware(Access, metrics=app.state.metrics, described=app)  # stays last: it counts what all others answer


def _add_routes(app: FastAPI, gate: Gate, settings: Settings) -> None:
    for router in (
        login.make_router(gate),
        predict.router,
        predictions.router,
        feedback.router,
        v2.router,
        repository.router,
        health.router,
        docs.router,
        metrics_page.make_router(app.state.metrics),
        pages.make_router(settings),
        review.make_router(app.state.store, settings),
        rollouts.make_router(settings),
    ):
        app.include_router(router)
