"""`drivetrain evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import JsonFlag, ThreadsOption, limits_of, open_progress, open_settings, print_json

__all__ = ["run"]


def run(
    model: Annotated[Path, typer.Argument(help="A model, NAME.dt.")],
    data: Annotated[Path, typer.Argument(help="Labelled pictures it has never seen, as for `train`.")],
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say how good a model is on labelled pictures.

    Accuracy with its interval, for each class too; how often it decides alone, and is wrong there; how well its
    probabilities are calibrated. Where DATA marks pictures as test, only those are read.
    """
    from drivetrain.flows.evaluate import evaluate
    from drivetrain.runtime.predictor import load

    settings = open_settings(threads=threads)
    predictor = load(model, limits=limits_of(settings), threads=settings.worker_threads)
    result = evaluate(predictor, data, progress=open_progress(as_json=as_json))
    if as_json:
        print_json(result.as_json())
        return
    from drivetrain.cli.tables import show_evaluation

    show_evaluation(result)
