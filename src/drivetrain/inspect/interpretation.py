"""Where a model goes wrong: which classes it mixes up, which labels it misses, how far off it measures, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.evaluation import count_confusion
from drivetrain.trust.reliability import check_probabilities, log_losses

__all__ = ["AnyInterpretation", "Interpretation", "LabelInterpretation", "TopLoss", "ValueInterpretation"]

_SMALLEST = float(np.finfo(np.float64).eps)  # a probability of 0 costs 36, not infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class TopLoss:
    """One picture, what it is and what the model said."""

    path: str
    label: str  # the truth
    prediction: str
    probability: float  # of the prediction; where a value is measured, the share of pictures that are no further off
    loss: float  # -ln of the probability of the truth, over all labels; or the distance from the true value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interpretation:
    """Predictions beside the truth; the method names are fastai's.

    probs is (n, k), rows summing to 1; labels is (n,), each in [0, k); paths are the n pictures,
    relative to their root; classes are the k names.
    """

    probs: FloatArray
    labels: IntArray
    paths: Sequence[str]
    classes: Sequence[str]

    def __post_init__(self) -> None:
        n, k = check_probabilities(self.probs, self.labels).shape
        if len(self.paths) != n:
            raise InvalidInput("paths", got=f"{len(self.paths)} paths", want=f"{n}, one for each row of probs")
        if len(self.classes) != k:
            raise InvalidInput("classes", got=f"{len(self.classes)} names", want=f"{k}, one for each column of probs")

    def confusion_matrix(self) -> IntArray:
        """Counts (k, k): row the true class, column the predicted one."""
        return count_confusion(self._predicted(), self.labels, classes=len(self.classes))

    def most_confused(self, min_count: int = 1) -> list[tuple[str, str, int]]:
        """(truth, prediction, count) of the mistakes made at least `min_count` times, most frequent first."""
        counts = self.confusion_matrix()
        np.fill_diagonal(counts, 0)
        rows, columns = np.nonzero(counts >= max(1, min_count))
        order = np.argsort(-counts[rows, columns], kind="stable")
        return [
            (self.classes[i], self.classes[j], int(counts[i, j]))
            for i, j in zip(rows[order], columns[order], strict=True)
        ]

    def top_losses(self, k: int | None = None) -> list[TopLoss]:
        """The k pictures with the largest loss, worst first; None gives all."""
        _check_count(k)
        losses = log_losses(self.probs, self.labels)
        predicted = self._predicted()
        order = np.argsort(-losses, kind="stable")[:k]
        return [
            TopLoss(
                path=self.paths[i],
                label=self.classes[self.labels[i]],
                prediction=self.classes[predicted[i]],
                probability=float(self.probs[i, predicted[i]]),
                loss=float(losses[i]),
            )
            for i in order
        ]

    def _predicted(self) -> IntArray:
        predicted: IntArray = self.probs.argmax(axis=1)
        return predicted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelInterpretation:
    """Predictions of any number of labels beside the truth.

    probs is (n, k), a probability for each label by itself; targets is (n, k) of 0 and 1; guessed (n, k) says which
    labels the best guess holds; paths are the n pictures, classes the k names.
    """

    probs: FloatArray
    targets: FloatArray | IntArray
    guessed: BoolArray
    paths: Sequence[str]
    classes: Sequence[str]

    def __post_init__(self) -> None:
        _check_shapes(self.probs, self.paths, self.classes, targets=self.targets, guessed=self.guessed)

    def top_losses(self, k: int | None = None) -> list[TopLoss]:
        """The k pictures with the largest loss, summed over labels, worst first; None gives all."""
        _check_count(k)
        is_there = np.asarray(self.targets) > 0.5
        said = np.where(is_there, self.probs, 1.0 - self.probs)  # probability of each label's truth
        losses = -np.log(np.clip(said, _SMALLEST, 1.0)).sum(axis=1)
        of_guess = np.where(self.guessed, self.probs, 1.0 - self.probs)
        return [
            TopLoss(
                path=self.paths[i],
                label=self._join(is_there[i]),
                prediction=self._join(self.guessed[i]),
                probability=float(of_guess[i].min()),
                loss=float(losses[i]),
            )
            for i in np.argsort(-losses, kind="stable")[:k].tolist()
        ]

    def find_wrong(self, label: int, *, missed: bool, k: int) -> list[tuple[str, float]]:
        """(path, probability) of pictures where a label was missed, or was seen wrongly; the plainest first."""
        is_there = np.asarray(self.targets)[:, label] > 0.5
        said = self.guessed[:, label]
        rows = np.flatnonzero(is_there & ~said if missed else ~is_there & said)
        probs = self.probs[rows, label]
        order = np.argsort(probs if missed else -probs, kind="stable")[:k]
        return [(self.paths[int(rows[at])], float(probs[at])) for at in order]

    def _join(self, marks: BoolArray) -> str:
        return ", ".join(self.classes[at] for at in np.flatnonzero(marks).tolist()) or "no label"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValueInterpretation:
    """Measured values beside the truth.

    values and targets are (n, m); intervals (n, m, 2), low and high, NaN where there is none, or None; paths are the n
    pictures, classes the names of the m values.
    """

    values: FloatArray
    targets: FloatArray | IntArray
    intervals: FloatArray | None
    paths: Sequence[str]
    classes: Sequence[str]

    def __post_init__(self) -> None:
        _check_shapes(self.values, self.paths, self.classes, targets=self.targets)

    def top_losses(self, k: int | None = None) -> list[TopLoss]:
        """The k pictures furthest from the truth, worst first; None gives all.

        Of several values, the one that is furthest off in standard deviations of the truth.
        """
        _check_count(k)
        gaps = np.abs(np.asarray(self.values, dtype=np.float64) - self.targets)
        spread = np.asarray(self.targets, dtype=np.float64).std(axis=0)
        shares = gaps / np.where(spread > 0, spread, 1.0)
        rank = shares.max(axis=1)
        worst = shares.argmax(axis=1)
        order = np.argsort(-rank, kind="stable")
        return [
            TopLoss(
                path=self.paths[i],
                label=self._join(np.asarray(self.targets)[i]),
                prediction=self._join(self.values[i]),
                probability=1.0 - place / len(order),
                loss=float(gaps[i, worst[i]]),
            )
            for place, i in enumerate(order[:k].tolist())
        ]

    def _join(self, row: FloatArray | IntArray) -> str:
        return ", ".join(f"{float(value):.4g}" for value in row)


AnyInterpretation = Interpretation | LabelInterpretation | ValueInterpretation


def _check_count(k: int | None) -> None:
    if k is not None and k < 0:
        raise InvalidInput("k", got=k, want="an integer of at least 0, or None for all")


def _check_shapes(
    rows: FloatArray, paths: Sequence[str], classes: Sequence[str], **others: FloatArray | IntArray | BoolArray
) -> None:
    if rows.ndim != 2 or rows.shape != (len(paths), len(classes)):
        raise InvalidInput("answers", got=f"shape {rows.shape}", want=f"({len(paths)}, {len(classes)})")
    for name, other in others.items():
        if other.shape != rows.shape:
            raise InvalidInput(name, got=f"shape {other.shape}", want=f"{rows.shape}")
