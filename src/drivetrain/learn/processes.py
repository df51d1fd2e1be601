"""One process, or several that train one model together, a GPU each; several stand on Hugging Face Accelerate."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from drivetrain.errors import MissingExtra

__all__ = ["AcceleratedProcesses", "OneProcess", "Processes", "find_processes"]

_Part = TypeVar("_Part")


class Processes(Protocol):
    """Who trains."""

    @property
    def share(self) -> tuple[int, int]:
        """(which one this is, how many there are)."""
        ...

    @property
    def device(self) -> torch.device | None:
        """Where this one works; None: where the loaders put their batches."""
        ...

    def wrap(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """The model with gradients averaged over all."""
        ...

    def is_true_for_all(self, claim: bool) -> bool:
        """Whether each of them says so."""
        ...

    def mean(self, value: Tensor) -> Tensor:
        """A number averaged over all."""
        ...

    def gather(self, part: _Part) -> list[_Part]:
        """What each of them has, in order."""
        ...


class OneProcess:
    """Alone."""

    share = (0, 1)
    device = None

    def wrap(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        return model

    def is_true_for_all(self, claim: bool) -> bool:
        return claim

    def mean(self, value: Tensor) -> Tensor:
        return value

    def gather(self, part: _Part) -> list[_Part]:
        return [part]


class AcceleratedProcesses:
    """As `accelerate launch` or torchrun started them. Raises MissingExtra without Accelerate."""

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
        except ModuleNotFoundError as exc:
            raise MissingExtra("training on several GPUs", package=exc.name or "accelerate", extra="gpus") from None
        self._accelerator = Accelerator(mixed_precision="no")  # precision is ours, the same for one process or more
        self.share = (self._accelerator.process_index, self._accelerator.num_processes)
        self.device: torch.device | None = self._accelerator.device

    def wrap(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        return cast("Callable[[Tensor], Tensor]", self._accelerator.prepare_model(model))

    def is_true_for_all(self, claim: bool) -> bool:
        said = torch.tensor([float(claim)], device=self.device)
        total: Any = self._accelerator.reduce(said, reduction="sum")
        return bool(total.item() == self.share[1])

    def mean(self, value: Tensor) -> Tensor:
        return cast("Tensor", self._accelerator.reduce(value.detach(), reduction="mean"))

    def gather(self, part: _Part) -> list[_Part]:
        from accelerate.utils import gather_object

        return cast("list[_Part]", gather_object([part]))


def find_processes(environ: Mapping[str, str] = os.environ) -> Processes:
    """One, unless a launcher has started several."""
    return AcceleratedProcesses() if int(environ.get("WORLD_SIZE", "1")) > 1 else OneProcess()
