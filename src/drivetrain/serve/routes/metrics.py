"""GET /metrics: the counters, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from drivetrain.serve.metrics import METRICS_TYPE, Metrics

__all__ = ["make_router"]


def make_router(metrics: Metrics) -> APIRouter:
    """The route, for these counters."""
    router = APIRouter(tags=["health"])

    async def show_metrics() -> Response:
        """Counters of all processes of this server, in Prometheus's text form."""
        body = await run_in_threadpool(metrics.render)  # several processes: files are read
        return Response(body, headers={"Cache-Control": "no-store"}, media_type=METRICS_TYPE)

    router.add_api_route("/metrics", show_metrics, methods=["GET"], response_class=Response)
    return router
