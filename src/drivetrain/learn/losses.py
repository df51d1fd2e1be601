"""What training makes small, for each task. All take logits (n, k) and targets, and give the mean over the items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drivetrain.errors import InvalidConfig
from drivetrain.task import Task

from .blocks import name_of

__all__ = [
    "BinaryCrossEntropy",
    "ClassWeights",
    "CrossEntropy",
    "Huber",
    "ItemLoss",
    "LossFunc",
    "SquaredError",
    "balanced_weights",
    "choose_loss",
    "describe_loss",
    "item_losses",
]

LossFunc = Callable[[Tensor, Tensor], Tensor]
ClassWeights = Literal["balanced"] | Sequence[float] | np.ndarray[Any, Any] | None


class ItemLoss:
    """A loss that is a mean over items, so that parts of a batch add up to what the whole batch gives."""

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.per_item(logits, targets).mean()

    def per_item(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(n,)."""
        raise NotImplementedError


@dataclass(frozen=True)
class CrossEntropy(ItemLoss):
    """-log p of the label; targets (n,) in [0, k), or probabilities (n, k), such as mixed pictures have.

    `weights` multiply the loss of an item by its label's. Unlike in torch, the sum is divided by the number of items,
    not by that of weights: a batch of rare labels then counts for more, as it should.
    """

    weights: tuple[float, ...] | None = None  # by label
    label_smoothing: float = 0.0  # share of the probability that goes to all labels alike

    def per_item(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        if self.weights is None:
            return losses
        weights = logits.new_tensor(self.weights)
        return losses * (weights[targets] if targets.ndim == 1 else targets @ weights)


@dataclass(frozen=True)
class BinaryCrossEntropy(ItemLoss):
    """A yes or no for each label, averaged over the labels; targets (n, k) in [0, 1]."""

    weights: tuple[float, ...] | None = None  # how much more a yes counts than a no, by label

    def per_item(self, logits: Tensor, targets: Tensor) -> Tensor:
        weights = None if self.weights is None else logits.new_tensor(self.weights)
        losses = F.binary_cross_entropy_with_logits(
            logits, targets.to(logits.dtype), pos_weight=weights, reduction="none"
        )
        return losses.mean(1)


@dataclass(frozen=True)
class SquaredError(ItemLoss):
    """Mean squared distance, in standard deviations where the Learner standardises."""

    def per_item(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(logits, targets, reduction="none").mean(1)


@dataclass(frozen=True)
class Huber(ItemLoss):
    """Squared up to `delta` away, straight beyond: a few wrong labels pull less."""

    delta: float = 1.0  # in standard deviations where the Learner standardises

    def per_item(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.huber_loss(logits, targets, reduction="none", delta=self.delta).mean(1)


def choose_loss(
    task: Task,
    given: LossFunc | None,
    *,
    targets: np.ndarray[Any, Any],
    n_out: int,
    class_weights: ClassWeights = None,
    label_smoothing: float = 0.0,
) -> LossFunc:
    """`given`, else the task's own: cross-entropy, a yes or no per label, squared error.

    targets are those of the training items. Raises InvalidConfig for an option that the loss does not have.
    """
    asked = {"class_weights": class_weights is not None, "label_smoothing": label_smoothing != 0}
    refused = {
        "class_weights": given is not None or task == "regression",
        "label_smoothing": given is not None or task != "classification",
    }
    for name, is_refused in refused.items():
        if asked[name] and is_refused:
            raise InvalidConfig(
                name,
                got=f"it beside loss_func={name_of(given)}" if given is not None else f"it for {task}",
                want="labels to tell apart, and the loss that goes with them",
                hint=f"A loss of your own takes care of it: CrossEntropy({name.removeprefix('class_')}=...)."
                if given is not None
                else "",
            )
    if not 0 <= label_smoothing < 1:
        raise InvalidConfig("label_smoothing", got=label_smoothing, want="a share, 0 to below 1")
    if given is not None:
        _check_func(given)
        return given
    if task == "regression":
        return SquaredError()
    weights = _read_weights(class_weights, targets, n_out)
    if task == "multilabel":
        return BinaryCrossEntropy(weights)
    return CrossEntropy(weights, label_smoothing=label_smoothing)


def balanced_weights(targets: np.ndarray[Any, Any], n_out: int) -> tuple[float, ...]:
    """Weights under which all labels together count alike.

    Targets (n,): n / (k n_c), whose mean over the items is 1. Targets (n, k): the pictures without the label over
    those with it. A label that no item has weighs 1.
    """
    n = len(targets)
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=n_out)
        present = max(1, int((counts > 0).sum()))
        return tuple(float(n / (present * count)) if count else 1.0 for count in counts)
    counts = targets.sum(axis=0)
    return tuple(float((n - count) / count) if 0 < count < n else 1.0 for count in counts)


def item_losses(loss_func: LossFunc, logits: Tensor, targets: Tensor) -> Tensor:
    """(n,): the loss of each item by itself, of any loss function."""
    if isinstance(loss_func, ItemLoss):
        return loss_func.per_item(logits, targets)
    return torch.stack([loss_func(logits[at : at + 1], targets[at : at + 1]) for at in range(len(logits))])


def describe_loss(loss_func: LossFunc) -> dict[str, Any]:
    """Name and options, as plain values."""
    options = asdict(loss_func) if isinstance(loss_func, ItemLoss) else {}  # type: ignore[call-overload]
    return {"name": name_of(loss_func), **options}


def _check_func(given: object) -> None:
    if not callable(given) or isinstance(given, type):
        hint = f"Call it: {given.__name__}()." if isinstance(given, type) else ""
        raise InvalidConfig("loss_func", got=given, want="a function (logits, targets) -> a number", hint=hint)


def _read_weights(given: ClassWeights, targets: np.ndarray[Any, Any], n_out: int) -> tuple[float, ...] | None:
    if given is None:
        return None
    if isinstance(given, str):
        if given != "balanced":
            raise InvalidConfig("class_weights", got=given, want=f'"balanced", or {n_out} numbers')
        return balanced_weights(targets, n_out)
    weights = tuple(float(weight) for weight in given)
    if len(weights) != n_out or not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise InvalidConfig("class_weights", got=list(weights), want=f'"balanced", or {n_out} numbers of at least 0')
    return weights
