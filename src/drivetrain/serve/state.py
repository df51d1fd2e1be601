"""What the app holds for its routes, each by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request

from .fetch_url import UrlFetcher
from .registry import ModelRegistry

if TYPE_CHECKING:
    from drivetrain.store.store import Store

    from .rollout.desk import Rollouts

__all__ = ["registry_of", "rollouts_of", "store_of", "url_fetcher_of"]


def registry_of(request: Request) -> ModelRegistry:
    """The models of the app that got this request."""
    registry = request.app.state.registry
    assert isinstance(registry, ModelRegistry)
    return registry


def rollouts_of(request: Request) -> Rollouts | None:
    """The roll-outs that it obeys; None where it remembers nothing."""
    rollouts: Rollouts | None = request.app.state.rollouts
    return rollouts


def store_of(request: Request) -> Store | None:
    """Its memory; None where it remembers nothing."""
    store: Store | None = request.app.state.store
    return store


def url_fetcher_of(request: Request) -> UrlFetcher:
    """What fetches for callers, if that is allowed."""
    fetcher = request.app.state.url_fetcher
    assert isinstance(fetcher, UrlFetcher)
    return fetcher
