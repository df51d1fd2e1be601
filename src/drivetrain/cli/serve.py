"""`drivetrain serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import ThreadsOption, limits_of, open_settings
from drivetrain.settings import Settings

__all__ = ["run", "serve_model", "tune_models"]


def run(
    models: Annotated[list[Path], typer.Argument(help="Models, NAME.dt; the first is the default.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    threads: ThreadsOption = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the port and divide the threads.")] = None,
    models_folder: Annotated[
        Path | None, typer.Option("--models", help="A folder from which an admin may have models loaded.")
    ] = None,
    db: Annotated[str | None, typer.Option(help="What it remembers: sqlite:///FILE, postgresql://..., none.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; cuda that is not there is an error.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="First try for two seconds how each model runs best here; it is kept.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let whoever reaches it ask for answers, without a key.")
    ] = False,
    log_format: Annotated[str | None, typer.Option(help="The log on stderr: text, or json.")] = None,
) -> None:
    """Answer over HTTP, with a page for people.

    Drop a picture on the page, or take one with the phone; programs POST to /predict.
    """
    settings = open_settings(
        host=host,
        port=port,
        threads=threads,
        workers=workers,
        models=models_folder,
        db=db,
        device=device,
        insecure=1 if insecure else None,
        log_format=log_format,
    )
    if tune:
        tune_models(*models, settings=settings)
    code = serve_model(*models, settings=settings)
    if code:
        raise typer.Exit(code)


def tune_models(*models: Path, settings: Settings) -> None:
    """Measure, keep and tell how each is run best by one process on this machine. Raises what loading raises."""
    from drivetrain.runtime.ready import tune_bundle

    for model in models:
        tuned = tune_bundle(
            model,
            limits=limits_of(settings),
            threads=max(1, settings.worker_threads // settings.workers),  # as Launch.share gives each of them
            device=settings.device,
            cache_dir=settings.cache_dir,
        )
        sys.stderr.write(f"{tuned.statement}\n")


def serve_model(*models: Path, settings: Settings) -> int:
    """Listen at once, load and prove behind; the exit code once it was stopped. Raises what loading raises."""
    from drivetrain.serve.logs import check_log_format
    from drivetrain.serve.process.launch import Launch, serve_here
    from drivetrain.serve.process.listen import listen_on, url_of

    check_log_format(settings.log_format)
    launch = Launch(bundles=models, settings=settings)
    listener = listen_on(settings.host, settings.port)
    url = url_of(listener)

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    def tell(versions: tuple[str, ...]) -> None:
        several = f", {settings.workers} processes" if settings.workers > 1 else ""
        sys.stderr.write(f"{', '.join(versions)} answers at {url}  (Ctrl-C stops it{several})\n")

    if settings.workers == 1:
        return serve_here(launch, listener, on_ready=tell, say=say)
    from drivetrain.serve.process.supervisor import serve_processes

    return serve_processes(launch, listener, on_ready=tell, say=say)
