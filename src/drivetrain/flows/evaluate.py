"""Evaluate: a bundle against labelled pictures, through the very path that serves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.items import Item, Items, read_items
from drivetrain.data.lineage import digest_items
from drivetrain.errors import InvalidInput, UnreadablePicture
from drivetrain.progress import Progress
from drivetrain.runtime.prediction import Prediction
from drivetrain.runtime.predictor import Predictor
from drivetrain.trust.evaluation import Evaluation, evaluate_predictions

__all__ = ["EvaluateResult", "evaluate", "evaluate_answers", "stack_probabilities"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateResult:
    """Numbers, and every prediction behind them."""

    version: str
    evaluation: Evaluation
    predictions: tuple[tuple[Item, Prediction], ...]
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
                {"path": item.path, "truth": item.label, **prediction.as_json()}
                for item, prediction in self.predictions
            ],
        }


def evaluate(predictor: Predictor, data: Path, *, progress: Progress) -> EvaluateResult:
    """Predict every readable picture of DATA and compare with its label.

    Where the data marks a part as test, only that is read: the rest trained the model. Raises InvalidInput, naming it,
    for a label that the model does not know: it is no error of the model, nor can it be left out in silence.
    """
    items = read_items(data)
    notes = items.note_left_out()
    if any(item.split == "test" for item in items):
        kept = items.keep([item for item in items if item.split == "test"])
        notes.append(f"Only the pictures marked test were read: {len(kept):,} of {len(items):,}.")
        items = kept
    unknown = sorted(set(items.classes) - set(predictor.classes))
    if unknown:
        raise InvalidInput(
            "DATA",
            got=f"labels the model does not know: {', '.join(map(repr, unknown))}",
            want="labels among " + ", ".join(map(repr, predictor.classes)),
            hint="Evaluate without them, or train with them.",
        )
    predictions: list[tuple[Item, Prediction]] = []
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
    missing = sorted(set(predictor.classes) - {item.label for item, _ in predictions})
    if missing:
        notes.append(f"No readable picture of {', '.join(missing)}: nothing is known about these.")
    if _has_learned(predictor, items, [item for item, _ in predictions]):
        notes.append("These are the very pictures the model was made from: the numbers flatter it, others will tell.")
    index_of = {name: i for i, name in enumerate(predictor.classes)}
    labels = np.array([index_of[item.label] for item, _ in predictions], dtype=np.int64)
    return EvaluateResult(
        version=predictor.version,
        evaluation=evaluate_answers([answer for _, answer in predictions], labels, predictor.classes),
        predictions=tuple(predictions),
        unreadable=tuple(sorted(unreadable)),
        notes=tuple(notes),
    )


def evaluate_answers(answers: Sequence[Prediction], labels: IntArray, classes: Sequence[str]) -> Evaluation:
    """The numbers of answers (n) to pictures of known labels (n,), decisions and all, as they were given."""
    return evaluate_predictions(
        stack_probabilities(answers),
        labels,
        classes=classes,
        accepted=np.array([answer.decision == "accept" for answer in answers]),
        flagged=np.array(["unknown" in answer.reasons for answer in answers]),
    )


def stack_probabilities(answers: Sequence[Prediction]) -> FloatArray:
    """(n, k), the classes in the bundle's order."""
    return np.array([list(answer.probabilities.values()) for answer in answers])


def _has_learned(predictor: Predictor, items: Items, read: list[Item]) -> bool:
    """Whether these pictures and labels are, all in all, those that the model was trained and calibrated on."""
    training = predictor.manifest.training
    counts = [n for side in ("n_train", "n_valid") if isinstance(n := training.get(side), int)]
    if sum(counts) != len(read):
        return False  # most often: then no file has to be read a second time
    digest = digest_items((item, hashlib.sha256(items.file(item).read_bytes()).digest()) for item in read)
    return bool(digest == predictor.manifest.lineage.get("data_digest"))
