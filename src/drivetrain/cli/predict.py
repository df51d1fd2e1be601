"""`drivetrain predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import JsonFlag, ThreadsOption, limits_of, open_settings, percent, print_json
from drivetrain.errors import UnreadablePicture

__all__ = ["run"]


def run(
    model: Annotated[Path, typer.Argument(help="A model, NAME.dt.")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Answer for pictures and folders of them; exits 1 if one of them could not be read.

    With --json, a line each: path, label, probability, ood_score, ood_p_value, decision, reasons; or path and error.
    """
    from drivetrain.runtime.predictor import load

    settings = open_settings(threads=threads)
    predictor = load(model, limits=limits_of(settings), threads=settings.worker_threads)
    files = list(_files(paths))
    n_failed = 0
    for file, answer in zip(files, predictor.predict_many(files), strict=True):
        if isinstance(answer, UnreadablePicture):
            n_failed += 1
            if as_json:
                error = {"code": answer.code, "message": answer.message, "field": answer.field}
                print_json({"path": str(file), "error": error}, indent=None)
            else:
                sys.stderr.write(f"{file}: {answer.reason}\n")
        elif as_json:
            print_json({"path": str(file), **answer.as_json()}, indent=None)
        else:
            doubt = "" if answer.decision == "accept" else f"  a person should look ({', '.join(answer.reasons)})"
            sys.stdout.write(f"{file}: {answer.label} {percent(answer.probability)}{doubt}\n")
    if not files:
        sys.stderr.write("no picture found\n")
    if n_failed or not files:
        raise typer.Exit(1)


def _files(paths: list[Path]) -> Iterator[Path]:
    from drivetrain.data.items import picture_files

    for path in paths:
        if path.is_dir():
            yield from picture_files(path)
        else:
            yield path
