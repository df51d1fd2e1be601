"""`drivetrain`: finds the verb, and turns errors into one message and an exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from drivetrain.errors import DrivetrainError, InvalidConfig, MissingExtra

__all__ = ["VERBS", "main"]

# verb -> the module whose `run` it is; loaded only when called, so that `predict` does not wait for `serve`
VERBS = {
    "demo": "drivetrain.cli.demo",
    "train": "drivetrain.cli.train",
    "evaluate": "drivetrain.cli.evaluate",
    "predict": "drivetrain.cli.predict",
    "serve": "drivetrain.cli.serve",
}
# module that may be absent -> the extra that brings it
_EXTRA_OF = dict.fromkeys(("onnx", "onnxscript", "safetensors", "sklearn", "threadpoolctl", "torch"), "train")
_FAILED, _MISUSED, _STOPPED = 1, 2, 130


class _Verbs(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(cmd_name)(_guard(import_module(VERBS[cmd_name]).run))
        return typer.main.get_command(app)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exits 0, 1 (failed), 2 (misused) or 130 (stopped by Ctrl-C)."""
    app = typer.Typer(
        cls=_Verbs, add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    app.callback()(_root)
    typer.main.get_command(app)(args=None if argv is None else list(argv), prog_name="drivetrain")


def _guard(run: Callable[..., None]) -> Callable[..., None]:
    """The verb, its expected errors told in one line instead of a traceback."""

    @wraps(run)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            _run_or_name_extra(run, *args, **kwargs)
        except DrivetrainError as exc:
            if kwargs.get("as_json"):
                error = {"code": exc.code, "message": exc.message, "field": exc.field}
                sys.stdout.write(json.dumps({"error": error}) + "\n")
            sys.stderr.write(f"error: {exc.message}\n")
            raise typer.Exit(_MISUSED if isinstance(exc, InvalidConfig) else _FAILED) from None
        except KeyboardInterrupt:
            sys.stderr.write("\nStopped. Nothing is half-written, and what was read stays in the cache.\n")
            raise typer.Exit(_STOPPED) from None
        except BrokenPipeError:  # `drivetrain predict ... | head`: Python would complain again when it closes stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_FAILED) from None

    return guarded


def _run_or_name_extra(run: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    try:
        run(*args, **kwargs)
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in _EXTRA_OF:
            raise
        verb = run.__module__.rpartition(".")[2]
        raise MissingExtra(f"`drivetrain {verb}`", package=package, extra=_EXTRA_OF[package]) from None


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"drivetrain {version('drivetrain')}")
        raise typer.Exit


def _root(
    is_asked: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """From a folder of pictures to a model in production that can be trusted.

    Start with `drivetrain demo`; then `drivetrain train FOLDER -o NAME.dt` with pictures of your own.
    """


if __name__ == "__main__":  # pragma: no cover - `python -m drivetrain.cli.main`
    main()
