"""`drivetrain`: finds the verb, and turns errors into one message and an exit code."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from drivetrain.errors import DrivetrainError, InvalidConfig, MissingExtra, Unavailable

__all__ = ["VERBS", "main"]

# verb -> the module whose `run` it is; loaded only when called, so that `predict` does not wait for `serve`
VERBS = {
    "demo": "drivetrain.cli.demo",
    "gather": "drivetrain.cli.gather",
    "check": "drivetrain.cli.check",
    "train": "drivetrain.cli.train",
    "evaluate": "drivetrain.cli.evaluate",
    "certify": "drivetrain.cli.certify",
    "predict": "drivetrain.cli.predict",
    "serve": "drivetrain.cli.serve",
    "package": "drivetrain.cli.package",
    "undo": "drivetrain.cli.undo",
    "versions": "drivetrain.cli.versions",
    "rollout": "drivetrain.cli.rollout",
    "review": "drivetrain.cli.review",
    "key": "drivetrain.cli.key",
    "user": "drivetrain.cli.user",
    "db": "drivetrain.cli.db",
    "forget": "drivetrain.cli.forget",
}
# module that may be absent -> the extra that brings it
_EXTRA_OF = dict.fromkeys(
    ("matplotlib", "onnx", "onnxscript", "safetensors", "sklearn", "threadpoolctl", "torch"), "train"
)
_FAILED, _MISUSED, _STOPPED = 1, 2, 130
# click's UsageError; some versions of typer carry a click of their own, so it has no import that always holds
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class _Verbs(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        module = import_module(VERBS[cmd_name])
        if hasattr(module, "COMMANDS"):  # a verb of several, such as `key create`
            app.callback(no_args_is_help=True, help=(module.__doc__ or "").partition("\n\n")[2].strip())(lambda: None)
            for name, run in module.COMMANDS.items():
                app.command(name)(_guard(run))
        else:
            app.command(cmd_name)(_guard(module.run))
        return typer.main.get_command(app)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exits 0, 1 (failed), 2 (misused) or 130 (stopped by Ctrl-C)."""
    given = sys.argv[1:] if argv is None else list(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    try:
        code = _run_verb(given)
        sys.stdout.flush()
    except BrokenPipeError:
        code = _close_stdout()
    sys.exit(code)


def _run_verb(argv: list[str]) -> int:
    app = typer.Typer(
        cls=_Verbs, add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    app.callback()(_root)
    try:
        code = typer.main.get_command(app)(args=argv, prog_name="drivetrain", standalone_mode=False)
    except _UsageError as exc:
        if "--json" in argv:
            _print_error(InvalidConfig.code, exc.format_message(), "command line")  # type: ignore[attr-defined]
        exc.show()  # type: ignore[attr-defined]
        return _MISUSED
    return code if isinstance(code, int) else 0


def _guard(run: Callable[..., None]) -> Callable[..., None]:
    """The verb, its expected errors told in one line instead of a traceback."""

    @wraps(run)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            _run_or_name_extra(run, *args, **kwargs)
        except DrivetrainError as exc:
            _tell(exc, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(_MISUSED if isinstance(exc, InvalidConfig) else _FAILED) from None
        except KeyboardInterrupt:
            sys.stderr.write("\nStopped. Nothing is half-written, and what was read stays in the cache.\n")
            raise typer.Exit(_STOPPED) from None
        except BrokenPipeError:
            raise typer.Exit(_close_stdout()) from None
        except OSError as exc:  # a full disk, a folder that is not ours: no fault of the program
            place = str(exc.filename or "files")
            told = Unavailable(place, got=exc.strerror or str(exc), want="a disk and a folder that allow it")
            _tell(told, as_json=bool(kwargs.get("as_json")))
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


def _tell(exc: DrivetrainError, *, as_json: bool) -> None:
    if as_json:
        _print_error(exc.code, exc.message, exc.field)
    sys.stderr.write(f"error: {exc.message}\n")


def _print_error(code: str, message: str, field: str) -> None:
    sys.stdout.write(json.dumps({"error": {"code": code, "message": message, "field": field}}) + "\n")


def _close_stdout() -> int:
    """For `drivetrain predict ... | head`: what reads us has left, and Python would complain of it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _FAILED


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
