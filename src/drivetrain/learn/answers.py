"""What a model answers to the pictures of a loader, with the loss where there are targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drivetrain.errors import InvalidInput

from .data_loader import DataLoader
from .learner_state import LearnerState
from .losses import item_losses
from .targets import shape_targets, to_answers

__all__ = ["Answers", "answer", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """On the CPU, in the loader's order."""

    outputs: Tensor  # (n, k) float32: logits, or values in the labels' units
    targets: Tensor | None
    loss: float | None  # mean over the items
    losses: Tensor | None  # (n,), if asked for
    inputs: Tensor | None  # (n, 3, h, w), if asked for


@torch.no_grad()
def answer(
    learn: LearnerState,
    dl: DataLoader,
    *,
    with_inputs: bool = False,
    with_losses: bool = False,
    call: Callable[[str], None] = lambda event: None,
    advance: Callable[[int], None] = lambda steps: None,
) -> Answers:
    """Run the model over `dl` once, nothing trained; `call` is told of before_batch and after_batch.

    Where several processes train, each answers for its share and all get all, the shares one behind the other.
    """
    learn.place_model()
    was_training, learn.training = learn.training, False
    learn.model.eval()
    parts: dict[str, list[Tensor]] = {"outputs": [], "targets": [], "losses": [], "inputs": []}
    total = 0.0
    try:
        for batch in dl.batches(0, share=learn.processes.share):
            learn.xb, learn.yb = batch[0], shape_targets(batch[1], learn.task) if len(batch) > 1 else None
            call("before_batch")
            raw = learn.run_model(learn.xb)
            learn.pred = learn.to_units(raw)
            if learn.yb is not None:
                learn.loss = float(learn.loss_of(learn.loss_func, raw, learn.yb))
                total += learn.loss * len(raw)
                parts["targets"].append(learn.yb.cpu())
                if with_losses:
                    parts["losses"].append(learn.loss_of(_by_item(learn), raw, learn.yb).cpu())
            if with_inputs:
                parts["inputs"].append(learn.xb.cpu().clone())  # the loader's memory is used again
            parts["outputs"].append(learn.pred.float().cpu())
            call("after_batch")
            advance(1)
    finally:
        learn.training = was_training
        learn.xb = learn.yb = learn.pred = None
    return _join(learn, parts, total)


def measure(learn: LearnerState, answers: Answers) -> list[float]:
    """[loss, *metrics]. Raises InvalidInput where the pictures had no labels."""
    if answers.targets is None or answers.loss is None:
        hint = "Make the loader with test_dl(items, with_labels=True)."
        raise InvalidInput("validate", got="pictures without labels", want="labels", hint=hint)
    preds = to_answers(answers.outputs, learn.task)
    return [answers.loss, *(float(metric(preds, answers.targets)) for metric in learn.metrics)]


def _by_item(learn: LearnerState) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, targets: item_losses(learn.loss_func, logits, targets)


def _join(learn: LearnerState, parts: dict[str, list[Tensor]], total: float) -> Answers:
    own = {name: torch.cat(tensors) for name, tensors in parts.items() if tensors}
    shares = [share for share in learn.processes.gather((own, total)) if share[0]]
    joined = {name: torch.cat([part[name] for part, _ in shares]) for name in shares[0][0]}
    loss = sum(sum_ for _, sum_ in shares) / len(joined["outputs"]) if "targets" in joined else None
    return Answers(
        outputs=joined["outputs"],
        targets=joined.get("targets"),
        loss=loss,
        losses=joined.get("losses"),
        inputs=joined.get("inputs"),
    )
