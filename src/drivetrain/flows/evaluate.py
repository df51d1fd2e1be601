"""Evaluate: a bundle against labelled pictures, through the very path that serves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import Item, Items, read_items
from drivetrain.data.lineage import digest_items
from drivetrain.data.targets import LABEL_COLUMNS, split_labels, split_values
from drivetrain.errors import InvalidInput, UnreadablePicture
from drivetrain.inspect.interpretation import (
    AnyInterpretation,
    Interpretation,
    LabelInterpretation,
    ValueInterpretation,
)
from drivetrain.progress import Progress
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.runtime.predictor import Predictor
from drivetrain.task import Task
from drivetrain.trust.evaluation import Evaluation, evaluate_predictions
from drivetrain.trust.label_evaluation import MultiLabelEvaluation, evaluate_labels
from drivetrain.trust.value_evaluation import ValueEvaluation, evaluate_values

__all__ = [
    "AnyEvaluation",
    "EvaluateResult",
    "evaluate",
    "evaluate_answers",
    "interpret_answers",
    "stack_answers",
    "stack_probabilities",
]

AnyEvaluation = Evaluation | MultiLabelEvaluation | ValueEvaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateResult:
    """Numbers, and every prediction behind them."""

    version: str
    evaluation: AnyEvaluation
    predictions: tuple[tuple[Item, Answer], ...]
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "version": self.version,
            **self.evaluation.as_json(),
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "notes": list(self.notes),
            "predictions": [
                {"path": item.path, "truth": _tell_truth(item, prediction), **prediction.as_json()}
                for item, prediction in self.predictions
            ],
        }


def evaluate(predictor: Predictor, data: Path, *, progress: Progress) -> EvaluateResult:
    """Predict every readable picture of DATA and compare with its label.

    Where the data marks a part as test, only that is read: the rest trained the model. Raises InvalidInput where the
    data is of another task than the model; and, naming it, for a label that the model does not know: it is no error of
    the model, nor can it be left out in silence.
    """
    items = read_items(data)
    _check_task(items, predictor)
    notes = items.note_left_out()
    if any(item.split == "test" for item in items):
        kept = items.keep([item for item in items if item.split == "test"])
        notes.append(f"Only the pictures marked test were read: {len(kept):,} of {len(items):,}.")
        items = kept
    unknown = sorted(set(items.classes) - set(predictor.classes))
    if unknown and predictor.task != "regression":
        raise InvalidInput(
            "DATA",
            got=f"labels the model does not know: {', '.join(map(repr, unknown))}",
            want="labels among " + ", ".join(map(repr, predictor.classes)),
            hint="Evaluate without them, or train with them.",
        )
    predictions: list[tuple[Item, Answer]] = []
    unreadable = [*items.unusable]
    with progress.task("Predicting", total=len(items)) as advance:
        answers = predictor.predict_many([items.file(item) for item in items])
        for item, answer in zip(items, answers, strict=True):
            if isinstance(answer, UnreadablePicture):
                unreadable.append((item.path, answer.reason))
            else:
                predictions.append((item, answer))
            advance(1)
    if not predictions:
        got = f"{len(unreadable)} pictures, none of which can be read"
        raise InvalidInput("DATA", got=got, want="one readable picture at least")
    read = [item for item, _ in predictions]
    missing = sorted(set(predictor.classes) - {name for item in read for name in items.labels_of(item)})
    if missing and predictor.task != "regression":
        notes.append(f"No readable picture of {', '.join(missing)}: nothing is known about these.")
    if _has_learned(predictor, items, read):
        notes.append("These are the very pictures the model was made from: the numbers flatter it, others will tell.")
    targets = items.targets(read, classes=predictor.classes)
    return EvaluateResult(
        version=predictor.version,
        evaluation=evaluate_answers([answer for _, answer in predictions], targets, predictor.classes),
        predictions=tuple(predictions),
        unreadable=tuple(sorted(unreadable)),
        notes=tuple(notes),
    )


@overload
def evaluate_answers(answers: Sequence[Prediction], targets: IntArray, classes: Sequence[str]) -> Evaluation: ...


@overload
def evaluate_answers(
    answers: Sequence[Answer], targets: IntArray | FloatArray, classes: Sequence[str]
) -> AnyEvaluation: ...


def evaluate_answers(
    answers: Sequence[Answer], targets: IntArray | FloatArray, classes: Sequence[str]
) -> AnyEvaluation:
    """The numbers of answers (n), decisions and all, as they were given, to pictures whose targets are known.

    All answers are of one kind, which is that of the evaluation. targets are (n,) of classes, (n, k) of 0 and 1, or
    (n, m) values; classes name the outputs.
    """
    if not answers:
        raise InvalidInput("answers", got="none", want="one at least")
    flagged = np.array(["unknown" in answer.reasons for answer in answers])
    accepted = np.array([answer.decision == "accept" for answer in answers])
    numbers = np.asarray(targets, dtype=np.float64)
    if isinstance(answers[0], MultiLabelPrediction):
        return evaluate_labels(
            stack_answers(answers),
            numbers,
            classes=classes,
            guessed=_mark_labels(answers, lambda answer, name: name in answer.labels),
            decided=_mark_labels(answers, lambda answer, name: answer.decisions[name] != "defer"),
            flagged=flagged,
        )
    if isinstance(answers[0], ValuePrediction):
        return evaluate_values(
            stack_answers(answers),
            numbers,
            classes=classes,
            intervals=_stack_intervals(answers),
            accepted=accepted,
            flagged=flagged,
        )
    return evaluate_predictions(
        stack_answers(answers), targets.astype(np.int64), classes=classes, accepted=accepted, flagged=flagged
    )


@overload
def interpret_answers(
    answers: Sequence[Prediction], targets: IntArray, *, paths: Sequence[str], classes: Sequence[str]
) -> Interpretation: ...


@overload
def interpret_answers(
    answers: Sequence[Answer], targets: IntArray | FloatArray, *, paths: Sequence[str], classes: Sequence[str]
) -> AnyInterpretation: ...


def interpret_answers(
    answers: Sequence[Answer], targets: IntArray | FloatArray, *, paths: Sequence[str], classes: Sequence[str]
) -> AnyInterpretation:
    """The same answers and targets, picture by picture, for the report."""
    rows = stack_answers(answers)
    if isinstance(answers[0], MultiLabelPrediction):
        guessed = _mark_labels(answers, lambda answer, name: name in answer.labels)
        return LabelInterpretation(probs=rows, targets=targets, guessed=guessed, paths=paths, classes=classes)
    if isinstance(answers[0], ValuePrediction):
        bounds = _stack_intervals(answers)
        return ValueInterpretation(values=rows, targets=targets, intervals=bounds, paths=paths, classes=classes)
    return Interpretation(probs=rows, labels=targets.astype(np.int64), paths=paths, classes=classes)


def stack_answers(answers: Sequence[Answer]) -> FloatArray:
    """(n, k) probabilities, or (n, m) values, the outputs in the bundle's order."""
    return np.array(
        [
            list((answer.values if isinstance(answer, ValuePrediction) else answer.probabilities).values())
            for answer in answers
        ]
    )


def stack_probabilities(answers: Sequence[Prediction]) -> FloatArray:
    """(n, k), the classes in the bundle's order."""
    return stack_answers(answers)


def _mark_labels(answers: Sequence[Answer], is_so: Callable[[MultiLabelPrediction, str], bool]) -> BoolArray:
    """(n, k)."""
    return np.array(
        [
            [is_so(answer, name) for name in answer.decisions]
            for answer in answers
            if isinstance(answer, MultiLabelPrediction)
        ]
    )


def _stack_intervals(answers: Sequence[Answer]) -> FloatArray:
    """(n, m, 2), NaN where there is none."""
    nothing = (float("nan"), float("nan"))
    return np.array(
        [
            [nothing if ends is None else ends for ends in answer.intervals.values()]
            for answer in answers
            if isinstance(answer, ValuePrediction)
        ]
    )


def _tell_truth(item: Item, answer: Answer) -> Any:
    """The truth as JSON, in the shape of the answer."""
    if isinstance(answer, MultiLabelPrediction):
        return list(split_labels(item.label, task="multilabel"))
    if isinstance(answer, ValuePrediction):
        values = split_values(item.label)
        return values[0] if len(values) == 1 else list(values)
    return item.label


def _check_task(items: Items, predictor: Predictor) -> None:
    """Raise where the data says another kind of thing than the model answers."""
    column = {task: column for column, task in LABEL_COLUMNS.items()}
    if items.task != predictor.task:
        raise InvalidInput(
            "DATA",
            got=f"data for {_WORDS[items.task]}",
            want=f"data for {_WORDS[predictor.task]}, as {predictor.name} was made for",
            hint=f"That is a column `{column[predictor.task]}` in labels.csv."
            + (" Or a folder per class." if predictor.task == "classification" else ""),
        )
    if items.task == "regression" and len(items.classes) != len(predictor.classes):
        got, want = (f"{len(of)} for each picture" for of in (items.classes, predictor.classes))
        raise InvalidInput("DATA, values", got=got, want=want)


_WORDS: dict[Task, str] = {
    "classification": "telling classes apart",
    "multilabel": "finding labels",
    "regression": "measuring values",
}


def _has_learned(predictor: Predictor, items: Items, read: list[Item]) -> bool:
    """Whether these pictures and labels are, all in all, those that the model was trained and calibrated on."""
    training = predictor.manifest.training
    counts = [n for side in ("n_train", "n_valid") if isinstance(n := training.get(side), int)]
    if sum(counts) != len(read):
        return False  # most often: then no file has to be read a second time
    digest = digest_items((item, hashlib.sha256(items.file(item).read_bytes()).digest()) for item in read)
    return bool(digest == predictor.manifest.lineage.get("data_digest"))
