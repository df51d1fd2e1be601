"""`drivetrain serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import ThreadsOption, limits_of, open_settings
from drivetrain.settings import Settings

__all__ = ["run", "serve_model"]


def run(
    model: Annotated[Path, typer.Argument(help="A model, NAME.dt.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    threads: ThreadsOption = None,
) -> None:
    """Answer over HTTP, with a page for people.

    Drop a picture on the page, or take one with the phone; programs POST to /predict.
    """
    serve_model(model, settings=open_settings(host=host, port=port, threads=threads))


def serve_model(model: Path, *, settings: Settings) -> None:
    """Load, prove, listen; returns when stopped."""
    from drivetrain.runtime.predictor import load
    from drivetrain.serve.app import create_app
    from drivetrain.serve.model import PredictorModel
    from drivetrain.serve.server import serve

    predictor = load(model, limits=limits_of(settings), threads=settings.worker_threads)

    def tell(url: str) -> None:
        sys.stderr.write(f"{predictor.version} answers at {url}  (Ctrl-C stops it)\n")

    serve(create_app(PredictorModel(predictor), settings), settings.host, settings.port, on_ready=tell)
