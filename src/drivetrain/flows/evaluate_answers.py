"""Answers as they were given, beside the truth: rows, marks, and the numbers of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, overload

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import Item
from drivetrain.data.targets import split_labels, split_values
from drivetrain.errors import InvalidInput
from drivetrain.inspect.interpretation import (
    AnyInterpretation,
    Interpretation,
    LabelInterpretation,
    ValueInterpretation,
)
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.trust.evaluation import Evaluation, evaluate_predictions
from drivetrain.trust.label_evaluation import MultiLabelEvaluation, evaluate_labels
from drivetrain.trust.value_evaluation import ValueEvaluation, evaluate_values

__all__ = [
    "AnyEvaluation",
    "Marks",
    "evaluate_answers",
    "interpret_answers",
    "is_right",
    "mark_answers",
    "score_answers",
    "stack_answers",
    "stack_probabilities",
]

AnyEvaluation = Evaluation | MultiLabelEvaluation | ValueEvaluation


class Marks(NamedTuple):
    """What became of each picture, (n,) each."""

    flagged: BoolArray  # called unknown or shifted
    deferred: BoolArray  # left to a person, for whatever reason; of several labels, one at least


def mark_answers(answers: Sequence[Answer]) -> Marks:
    """Of any task."""
    return Marks(
        flagged=np.array([bool({"unknown", "shifted"} & {*answer.reasons}) for answer in answers], dtype=np.bool_),
        deferred=np.array([answer.decision == "defer" for answer in answers], dtype=np.bool_),
    )


def is_right(answer: Answer, item: Item) -> bool:
    """Whether the best guess is the truth, of several labels every one. No value is ever right: ask how far off."""
    if isinstance(answer, Prediction):
        return answer.label == item.label
    assert isinstance(answer, MultiLabelPrediction)
    return {*answer.labels} == {*split_labels(item.label, task="multilabel")}


def score_answers(answers: Sequence[Answer], items: Sequence[Item]) -> FloatArray:
    """One number a picture (n,), higher is better, with the meaning of `trust.compare.score_pictures`."""
    if isinstance(answers[0], ValuePrediction):
        truth = np.array([split_values(item.label) for item in items], dtype=np.float64)
        gaps = np.abs(stack_answers(answers) - truth)
        spread = truth.std(axis=0)
        return np.asarray(-(gaps / np.where(spread > 0, spread, 1.0) if truth.shape[1] > 1 else gaps).mean(axis=1))
    if isinstance(answers[0], MultiLabelPrediction):
        return np.array([_share_right(answer, item) for answer, item in zip(answers, items, strict=True)])
    return np.array([is_right(answer, item) for answer, item in zip(answers, items, strict=True)], dtype=np.float64)


def _share_right(answer: Answer, item: Item) -> float:
    assert isinstance(answer, MultiLabelPrediction)
    wrong = {*answer.labels} ^ {*split_labels(item.label, task="multilabel")}
    return 1 - len(wrong) / len(answer.probabilities)


@overload
def evaluate_answers(
    answers: Sequence[Prediction], targets: IntArray, classes: Sequence[str], groups: IntArray | None = None
) -> Evaluation: ...


@overload
def evaluate_answers(
    answers: Sequence[Answer],
    targets: IntArray | FloatArray,
    classes: Sequence[str],
    groups: IntArray | None = None,
) -> AnyEvaluation: ...


def evaluate_answers(
    answers: Sequence[Answer],
    targets: IntArray | FloatArray,
    classes: Sequence[str],
    groups: IntArray | None = None,
) -> AnyEvaluation:
    """The numbers of answers (n), decisions and all, as they were given, to pictures whose targets are known.

    All answers are of one kind, which is that of the evaluation. targets are (n,) of classes, (n, k) of 0 and 1, or
    (n, m) values; classes name the outputs. Pictures of one number in groups (n,) are alike, and intervals heed it.
    """
    if not answers:
        raise InvalidInput("answers", got="none", want="one at least")
    flagged = np.array(["unknown" in answer.reasons for answer in answers])
    shifted = np.array(["shifted" in answer.reasons for answer in answers])
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
            shifted=shifted,
            groups=groups,
        )
    if isinstance(answers[0], ValuePrediction):
        return evaluate_values(
            stack_answers(answers),
            numbers,
            classes=classes,
            intervals=_stack_intervals(answers),
            accepted=accepted,
            flagged=flagged,
            shifted=shifted,
            groups=groups,
        )
    return evaluate_predictions(
        stack_answers(answers),
        targets.astype(np.int64),
        classes=classes,
        accepted=accepted,
        flagged=flagged,
        shifted=shifted,
        groups=groups,
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
