"""Forward and backward through one batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .learner_state import LearnerState

__all__ = ["differentiate"]


def differentiate(learn: LearnerState, forward: Callable[[Tensor], Tensor], at_once: int) -> Tensor:
    """Gradients of the loss of `learn.xb` and `learn.yb`, from so many pictures at a time; gives the loss.

    The parts add up to what the batch gives as a whole. Sets `learn.pred`.
    """
    assert learn.opt is not None
    assert learn.xb is not None
    assert learn.yb is not None
    learn.opt.zero_grad(set_to_none=True)
    losses, outputs = [], []
    n = len(learn.xb)
    for start in range(0, n, at_once):
        x, y = learn.xb[start : start + at_once], learn.yb[start : start + at_once]
        with learn.precision.autocast(learn.device):
            raw = forward(x)
        loss = learn.loss_of(learn.loss_func, raw, y) * (len(x) / n)
        learn.precision.backward(loss)
        losses.append(loss.detach())
        outputs.append(learn.to_units(raw.detach()))
    learn.pred = torch.cat(outputs)
    return torch.stack(losses).sum()
