"""Where a model goes wrong: which classes it mixes up, on which pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.evaluation import count_confusion
from drivetrain.trust.reliability import check_probabilities, log_losses

__all__ = ["Interpretation", "TopLoss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopLoss:
    """One picture, what it is and what the model said."""

    path: str
    label: str  # the truth
    prediction: str
    probability: float  # of the prediction
    loss: float  # -ln of the probability of the truth


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
        if k is not None and k < 0:
            raise InvalidInput("k", got=k, want="an integer of at least 0, or None for all")
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
