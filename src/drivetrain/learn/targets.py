"""What a model is to answer: the task, the targets in numbers, and what its outputs mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drivetrain.errors import InvalidInput
from drivetrain.task import Task

from .blocks import Categorize, MultiCategorize, ToFloat
from .data_loaders import DataLoaders
from .datasets import Dataset

__all__ = [
    "Deviations",
    "decode_answers",
    "describe_items",
    "find_task",
    "output_names",
    "read_targets",
    "shape_targets",
    "tell_answer",
    "to_answers",
]

_TASKS: dict[type, Task] = {Categorize: "classification", MultiCategorize: "multilabel", ToFloat: "regression"}


def find_task(dls: DataLoaders) -> Task:
    """What kind of answer the target block of `dls` asks for. Raises InvalidInput unless there is one picture in and
    one target out, of a kind we can train for.
    """
    columns = dls.train_ds.columns
    targets = columns[dls.n_inp :]
    is_plain = dls.n_inp == 1 and columns[0].is_picture and len(targets) == 1
    task = _TASKS.get(type(targets[0].encoder)) if is_plain else None
    if task is None:
        raise InvalidInput(
            "dls",
            got=f"{dls.n_inp} inputs and {len(targets)} targets" if not is_plain else "a target of a kind of its own",
            want="one picture in; one label, several labels, or numbers out",
            hint="Take blocks=(ImageBlock, CategoryBlock), MultiCategoryBlock or RegressionBlock.",
        )
    return task


def output_names(dls: DataLoaders, task: Task) -> list[str]:
    """A name for each output of the network: the labels, or "value", or "value 1", "value 2", ..."""
    if task != "regression":
        return [str(label) for label in dls.vocab]
    return ["value"] if dls.c == 1 else [f"value {number}" for number in range(1, dls.c + 1)]


def read_targets(dataset: Dataset, task: Task) -> np.ndarray[Any, Any]:
    """int64 (n,), float32 (n, k) of 0 and 1, or float32 (n, m), by task; no picture is opened."""
    rows = [dataset.value(at, dataset.n_inp) for at in range(len(dataset))]
    targets = np.asarray(rows, dtype=np.int64 if task == "classification" else np.float32)
    return targets.reshape(len(rows), -1) if task == "regression" else targets


def shape_targets(targets: Tensor, task: Task) -> Tensor:
    """A batch's targets as read_targets has them: one number a picture becomes (n, 1)."""
    return targets.reshape(len(targets), -1).float() if task == "regression" else targets


def to_answers(logits: Tensor, task: Task) -> Tensor:
    """Logits (n, k) to what a person reads, float32: probabilities, or values as they are."""
    logits = logits.float()
    if task == "classification":
        return logits.softmax(1)
    return logits.sigmoid() if task == "multilabel" else logits


def decode_answers(answers: Tensor, task: Task, *, thresh: float = 0.5) -> Tensor:
    """The label's number (n,), which labels are above `thresh` (n, k) bool, or the values."""
    if task == "classification":
        return answers.argmax(1)
    return answers > thresh if task == "multilabel" else answers


def tell_answer(decoded: Tensor, task: Task, vocab: Any) -> Any:
    """What a person reads of one picture's decoded answer: a label, a list of labels, a number or a list of them."""
    if task == "classification":
        return vocab[int(decoded)]
    if task == "multilabel":
        return [label for label, is_on in zip(vocab, decoded.tolist(), strict=True) if is_on]
    values = decoded.tolist()
    return values[0] if len(values) == 1 else values


def describe_items(dataset: Dataset, targets: np.ndarray[Any, Any]) -> str:
    """A digest of file names and targets, in order; folders may move."""
    digest = hashlib.sha256(np.ascontiguousarray(targets).tobytes())
    for at in range(len(dataset)):
        digest.update(Path(dataset.name(at)).name.encode() + b"\0")
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Deviations:
    """Values told as standard deviations from the training items' mean, so that any unit trains alike.

    Outside of training a network answers in the labels' units. While one is fitted its last layer works in deviations:
    under `inside` its weights are turned over, and back at the end, whatever happens.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]  # 1 where all training items have one value

    @classmethod
    def of(cls, targets: np.ndarray[Any, Any]) -> Deviations:
        """From training targets (n, m)."""
        wide = targets.astype(np.float64)
        std = wide.std(axis=0)
        return cls(tuple(wide.mean(axis=0).tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))

    def from_units(self, values: Tensor) -> Tensor:
        """Units to deviations, (n, m) float32."""
        return ((values.double() - self._like(self.mean, values)) / self._like(self.std, values)).float()

    def to_units(self, values: Tensor) -> Tensor:
        """Deviations to units, (n, m) float32."""
        return (values.double() * self._like(self.std, values) + self._like(self.mean, values)).float()

    @contextmanager
    def inside(self, layer: nn.Linear) -> Iterator[None]:
        """Let `layer` answer in deviations for a while."""
        self.turn(layer.weight, layer.bias, to_units=False)
        try:
            yield
        finally:
            self.turn(layer.weight, layer.bias, to_units=True)

    @torch.no_grad()
    def turn(self, weight: Tensor, bias: Tensor, *, to_units: bool) -> None:
        """Rewrite the weights (m, f) and (m,) of a last layer in place."""
        mean, std = self._like(self.mean, bias), self._like(self.std, bias)
        if to_units:
            weight.copy_(weight.double() * std[:, None])
            bias.copy_(bias.double() * std + mean)
        else:
            weight.copy_(weight.double() / std[:, None])
            bias.copy_((bias.double() - mean) / std)

    def _like(self, numbers: tuple[float, ...], values: Tensor) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=values.device)
