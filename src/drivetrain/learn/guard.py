"""What keeps a training alive or stops it in time: too little memory for a batch, and a loss that is no number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from drivetrain.errors import InvalidInput, Unavailable

__all__ = ["GoodWeights", "LossNotFinite", "MemoryGuard", "find_culprits"]

_Out = TypeVar("_Out")
_NAMED = 200  # files listed in an error; `files` has all
_CPU_TOO_LITTLE = ("can't allocate memory", "not enough memory")  # torch's words, which has no class for it


class LossNotFinite(InvalidInput):
    """The loss became inf or nan; `files` are those of the batch, `culprits` those that do so with good weights too."""

    shown_chars = 20_000

    def __init__(self, loss: float, *, at: str, files: Sequence[str], culprits: Sequence[str], kept: str) -> None:
        self.files = tuple(files)
        self.culprits = tuple(culprits)
        if culprits:
            told = f"With the last good weights {len(culprits)} of them give no finite loss either: {_list(culprits)}. "
            told += "Look at these pictures and their labels."
        else:
            told = "With the last good weights all of them give a finite loss, so the steps were too large: "
            told += "take a lower learning rate (lr_find shows one), or bf16 or fp32 in place of fp16."
        super().__init__(
            f"the loss at {at}",
            got=f"{loss} from {len(files)} pictures: {_list(files)}" if files else f"{loss}",
            want="a finite number",
            hint=f"{told if files else 'Take a lower learning rate; lr_find shows one.'} The model has {kept} again.",
        )


class GoodWeights:
    """A copy of the weights that are trained, of a moment when all was well."""

    def __init__(self, model: nn.Module, *, kept: str) -> None:
        self.kept = kept  # a person's name for the moment
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        buffers = {name for name, _ in model.named_buffers()}
        self._state = {
            name: value.detach().to("cpu", copy=True)
            for name, value in model.state_dict().items()
            if name in trained or name in buffers
        }

    def give_back(self, model: nn.Module) -> None:
        """Put them into the model again."""
        model.load_state_dict(self._state, strict=False)


class MemoryGuard:
    """Runs work on a batch in as many parts as fit into memory: half as many pictures at once each time they do not."""

    def __init__(self, say: Callable[[str], None], *, comfort: str, is_alone: bool = True) -> None:
        self.at_once: int | None = None  # pictures; None: as many as come
        self._say = say
        self._is_alone = is_alone  # one of several that tried again would wait for the others for ever
        self._comfort = comfort  # what a person is told of the consequences

    def run(self, work: Callable[[int], _Out], count: int, device: torch.device) -> _Out:
        """work(pictures at once) on `count` pictures; again from its start, with half as many, where memory ran out.

        Raises Unavailable where one picture is too much.
        """
        while True:
            at_once = min(count, self.at_once or count)
            try:
                return work(at_once)
            except RuntimeError as exc:  # torch.OutOfMemoryError is one
                if not _is_memory(exc):
                    raise
            # out here nothing holds the frames of what failed, nor their tensors
            if device.type == "cuda":  # pragma: no cover -- needs a GPU
                torch.cuda.empty_cache()
            if at_once == 1 or not self._is_alone:
                raise Unavailable(
                    f"memory on {device}",
                    got=f"too little for {'one picture' if at_once == 1 else f'{at_once:,} pictures'}",
                    want="room for one at least" if at_once == 1 else "room for them in each of several processes",
                    hint="Take a smaller bs, picture size or backbone, freeze more of it, or to_bf16().",
                )
            self.at_once = (at_once + 1) // 2
            self._say(
                f"Out of memory on {device} with {at_once:,} pictures at once: going on with {self.at_once:,}. "
                + self._comfort
            )


def find_culprits(losses: Tensor, files: Sequence[str]) -> list[str]:
    """The files whose loss (n,) is not finite."""
    return [file for file, loss in zip(files, losses.tolist(), strict=False) if not math.isfinite(loss)]


def _is_memory(exc: RuntimeError) -> bool:
    return isinstance(exc, torch.OutOfMemoryError) or any(words in str(exc) for words in _CPU_TOO_LITTLE)


def _list(files: Sequence[str]) -> str:
    more = f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else ""
    return ", ".join(files[:_NAMED]) + more
