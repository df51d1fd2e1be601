"""The parts of a network as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .learner_state import LearnerState

__all__ = ["NetworkTable", "describe_network"]


class NetworkTable(str):
    """A text that a notebook shows as it is, with its lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def describe_network(learn: LearnerState) -> NetworkTable:
    """A row for each module that has weights of its own or none below it: what it gives for one picture, how many
    weights it has, whether they are trained; then the totals, the loss and the optimiser.
    """
    model = learn.model
    shapes: dict[str, str] = {}
    handles = [
        module.register_forward_hook(_Note(shapes, name))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    x = learn.dls.valid.one_batch()[0][:1]
    learn.place_model()
    model.eval()
    try:
        learn.run_model(x)
    finally:
        for handle in handles:
            handle.remove()
    rows = [("part", "kind", "gives", "weights", "trained")]
    for name, shape in shapes.items():
        module = model.get_submodule(name)
        weights = list(module.parameters())
        trained = "" if not weights else "yes" if any(p.requires_grad for p in weights) else "no"
        count = sum(p.numel() for p in weights)
        rows.append((name, type(module).__name__, shape, f"{count:,}" if count else "", trained))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    total = sum(p.numel() for p in model.parameters())
    trained_total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lines += [
        "",
        f"{model.backbone.spec.name} on {' x '.join(map(str, x.shape[1:]))}: {total:,} weights, "
        f"{trained_total:,} trained ({learn.frozen_groups} of {len(model.groups())} groups frozen)",
        f"loss: {learn.loss_func!r}",
        f"callbacks: {', '.join(type(cb).__name__ for cb in learn.cbs) or 'none'}",
    ]
    return NetworkTable("\n".join(lines))


class _Note:
    """Writes down the shape of what a module gives."""

    def __init__(self, shapes: dict[str, str], name: str) -> None:
        self.shapes, self.name = shapes, name

    def __call__(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        shape = tuple(out.shape) if isinstance(out, Tensor | torch.nn.Parameter) else ()
        self.shapes[self.name] = " x ".join(map(str, shape))
