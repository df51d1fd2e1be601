"""What `drivetrain serve` was asked for, and how it becomes a running app: alike in one process and in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from drivetrain.serve.process.signals import EarlySignals
from drivetrain.settings import Settings

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

__all__ = ["Launch", "serve_here"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The models and the settings; heavy imports wait until `open_app`."""

    bundles: tuple[Path, ...]
    settings: Settings

    def share(self) -> Launch:
        """What one of `workers` processes gets: its part of the threads and of the queue."""
        settings, count = self.settings, self.settings.workers
        queue = max(settings.request_max_pictures, -(-settings.queue_max_pictures // count))
        threads = max(1, settings.worker_threads // count)
        return replace(self, settings=replace(settings, threads=threads, queue_max_pictures=queue))

    @contextmanager
    def open_app(self, *, say: Callable[[str], None]) -> Iterator[FastAPI]:
        """The app without its models, on its store; both are closed after. `say` gets what must be said aloud.

        Raises InvalidConfig where strangers could reach a server that asks nobody who they are.
        """
        from drivetrain.serve.app import create_app
        from drivetrain.serve.auth.exposure import check_exposure

        with ExitStack() as held:
            store = None
            if self.settings.db != "none":
                from drivetrain.store.store import open_store

                store = held.enter_context(open_store(self.settings.db, images=self.settings.images))
            for line in check_exposure(self.settings, store):
                say(line)
            yield create_app(None, self.settings, store=store)

    def load(self, app: FastAPI) -> tuple[str, ...]:
        """Read, prove and warm each bundle; the versions that answer now. Raises NotFound or BundleRefused."""
        return tuple(app.state.registry.load(path, keep=True).version for path in self.bundles)


def serve_here(
    launch: Launch,
    listener: socket.socket,
    *,
    on_ready: Callable[[tuple[str, ...]], None],
    say: Callable[[str], None],
) -> int:
    """Serve in this process until a signal ends it; the exit code. Raises what loading raises."""
    from drivetrain.serve.logs import open_logs
    from drivetrain.serve.server import ServerOptions, serve_on

    with EarlySignals() as early, open_logs(launch.settings.log_format), launch.open_app(say=say) as app:
        return serve_on(
            listener,
            app,
            options=ServerOptions.of(launch.settings),
            load=lambda: on_ready(launch.load(app)),
            on_server=early.pass_to,
        )
