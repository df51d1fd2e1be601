"""`drivetrain predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import (
    JsonFlag,
    ThreadsOption,
    escape_text,
    limits_of,
    open_settings,
    percent,
    print_json,
    show_number,
)
from drivetrain.errors import DrivetrainError, NotFound, UnreadablePicture
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Reason, ValuePrediction

__all__ = ["run"]

_MOST_OPEN = 5  # labels named that a person should decide
_IN_WORDS: dict[Reason, str] = {
    "unknown": "unlike anything it was trained on",
    "shifted": "the right kind of thing in a style it has not seen",
    "low_confidence": "not sure enough to decide by itself",
}


def run(
    model: Annotated[Path, typer.Argument(help="A model, NAME.dt.")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Answer for pictures, and for folders of them.

    A line for each picture; exits 1 if one of them could not be read. With --json, each line is a JSON object: path,
    label, probability, probabilities, label_set, ood_score, ood_p_value, decision, reasons, version; or path and error.
    A model that knows the styles of its pictures adds shift_p_value and shifted_by.
    Of any number of labels: labels, probabilities, decisions; of a measured value: value, interval, values, intervals.
    """
    from drivetrain.runtime.predictor import load

    settings = open_settings(threads=threads)
    predictor = load(model, limits=limits_of(settings), threads=settings.worker_threads)
    asked = list(_find(paths))
    answers = predictor.predict_many([file for file, error in asked if error is None])
    n_failed = 0
    for file, error in asked:
        answer = next(answers) if error is None else error
        n_failed += isinstance(answer, DrivetrainError)
        _print_answer(file, answer, as_json=as_json)
    if n_failed:
        raise typer.Exit(1)


def _find(paths: list[Path]) -> Iterator[tuple[Path, DrivetrainError | None]]:
    """Each picture to answer for; a path that leads to none, with what is wrong with it."""
    for path in paths:
        files = _list_folder(path) if path.is_dir() else [path]
        if not files:
            yield path, NotFound(str(path), got="a folder without a picture", want="one picture at least")
        for file in files:
            missing = None if file.exists() else NotFound(str(file), got="no such file", want="a picture or a folder")
            yield file, missing


def _list_folder(path: Path) -> list[Path]:
    from drivetrain.data.items import picture_files  # a single picture does not wait for it

    return picture_files(path)


def _print_answer(file: Path, answer: Answer | DrivetrainError, *, as_json: bool) -> None:
    if isinstance(answer, DrivetrainError):
        if as_json:
            error = {"code": answer.code, "message": answer.message, "field": answer.field}
            print_json({"path": str(file), "error": error}, indent=None)
        else:
            reason = answer.reason if isinstance(answer, UnreadablePicture) else answer.got
            sys.stderr.write(f"{escape_text(str(file))}: {escape_text(reason)}\n")
    elif as_json:
        print_json({"path": str(file), **answer.as_json()}, indent=None)
    else:
        sys.stdout.write(f"{escape_text(str(file))}: {_tell(answer)}{_tell_doubt(answer)}\n")


def _tell(answer: Answer) -> str:
    if isinstance(answer, MultiLabelPrediction):
        told = (f"{escape_text(label)} {percent(answer.probabilities[label])}" for label in answer.labels)
        return ", ".join(told) or "no label"
    if isinstance(answer, ValuePrediction):
        is_named = len(answer.values) > 1
        return ", ".join(
            (f"{escape_text(name)} " if is_named else "") + show_number(value) + _tell_interval(answer.intervals[name])
            for name, value in answer.values.items()
        )
    return f"{escape_text(answer.label)} {percent(answer.probability)}"


def _tell_interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f" ({show_number(ends[0])} to {show_number(ends[1])})"


def _tell_doubt(answer: Answer) -> str:
    if answer.decision == "accept":
        return ""
    where = ""
    if isinstance(answer, MultiLabelPrediction) and "unknown" not in answer.reasons:
        names = [escape_text(label) for label in answer.open_labels]
        where = f" at {', '.join(names[:_MOST_OPEN])}" + (
            f" and {len(names) - _MOST_OPEN} more" if len(names) > _MOST_OPEN else ""
        )
    return f"  a person should look{where} ({'; '.join(_tell_reason(reason, answer) for reason in answer.reasons)})"


def _tell_reason(reason: Reason, answer: Answer) -> str:
    """The reason's name, as `--json` has it, and what it means."""
    told = _IN_WORDS[reason]
    if reason == "shifted":
        if "unknown" in answer.reasons:  # whether it is the right kind of thing cannot be told then
            told = "a style it has not seen"
        told += f": {' and '.join(answer.shifted_by)} than the pictures it knows" if answer.shifted_by else ""
    return f"{reason}, {told}"
