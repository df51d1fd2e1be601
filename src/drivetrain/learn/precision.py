"""Numbers of 16 bits where they do no harm: bfloat16, or float16 with its losses scaled."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from drivetrain.errors import InvalidConfig

__all__ = ["MixedPrecision", "Precision"]

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class MixedPrecision:
    """Runs the network under `name`; weights, losses and optimiser stay float32.

    float16 reaches down to 6e-8 only: there the loss is scaled up before it is differentiated, by as much as the
    gradients bear, and a step whose gradients overflow is left out.
    """

    def __init__(self, name: Precision = "fp32") -> None:
        if name not in _DTYPES:
            raise InvalidConfig("precision", got=name, want="fp32, bf16 or fp16")
        self.name = name
        self._scaler: torch.amp.GradScaler | None = None
        self._state: dict[str, Any] = {}

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Within it the network computes in 16 bits where it can."""
        return torch.autocast(device.type, dtype=_DTYPES[self.name], enabled=self.name != "fp32")

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled where need be."""
        self._scaler_for(loss.device).scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, opt: torch.optim.Optimizer, device: torch.device) -> None:
        """Let the optimiser step on the gradients, scaled back."""
        scaler = self._scaler_for(device)
        scaler.step(opt)
        scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; {} where nothing is scaled."""
        return dict(self._scaler.state_dict()) if self._scaler is not None else self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state, self._scaler = state, None

    def _scaler_for(self, device: torch.device) -> torch.amp.GradScaler:
        if self._scaler is None:
            self._scaler = torch.amp.GradScaler(device.type, enabled=self.name == "fp16")
            if self._state:
                self._scaler.load_state_dict(self._state)
        return self._scaler
