"""The optimiser of a training: weights in groups with rates of their own, decay only where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from drivetrain.errors import Conflict, InvalidConfig

__all__ = [
    "OptimizerMaker",
    "adamw",
    "build_optimizer",
    "capture_optimizer",
    "read_rates",
    "restore_optimizer",
    "set_rates",
]

OptimizerMaker = Callable[..., torch.optim.Optimizer]  # (groups, lr=...) -> optimiser, such as torch.optim.SGD
_GROUP = "layer_group"  # key in the optimiser's groups: which of Network.groups() a set of weights is of
_DECAYS = "decays"


def adamw(params: Any, *, lr: float) -> torch.optim.Optimizer:
    """AdamW with fastai's numbers for its Adam: betas (0.9, 0.99), epsilon 1e-5. Source: arXiv:1711.05101."""
    return torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.99), eps=1e-5)


def build_optimizer(
    groups: Sequence[Sequence[nn.Parameter]],
    opt_func: OptimizerMaker,
    *,
    lr: float,
    wd: float,
    wd_bn_bias: bool = False,
) -> torch.optim.Optimizer:
    """An optimiser over Network.groups(); a group's scales and biases (one axis or none) do not decay unless said so.

    Raises InvalidConfig where `opt_func` makes something else.
    """
    if not 0 <= wd < float("inf"):
        raise InvalidConfig("wd", got=wd, want="a number of at least 0")
    made: list[dict[str, Any]] = []
    for number, group in enumerate(groups):
        for decays in (True, False):
            weights = [p for p in group if (p.ndim > 1 or wd_bn_bias) == decays]
            if weights:
                made.append({"params": weights, "lr": lr, "weight_decay": wd if decays else 0.0})
                made[-1] |= {_GROUP: number, _DECAYS: decays}
    opt = opt_func(made, lr=lr)
    if not isinstance(opt, torch.optim.Optimizer):
        raise InvalidConfig("opt_func", got=opt, want="a function (groups, lr=...) that gives a torch optimiser")
    return opt


def set_rates(
    opt: torch.optim.Optimizer,
    lrs: Sequence[float] | None = None,
    *,
    mom: float | None = None,
    wd: float | None = None,
) -> None:
    """Set the rate of each of Network.groups(), the momentum (Adam's first beta), and the decay where there is one."""
    for group in opt.param_groups:
        if lrs is not None:
            group["lr"] = lrs[group[_GROUP]]
        if wd is not None and group[_DECAYS]:
            group["weight_decay"] = wd
        if mom is None:
            continue
        if "betas" in group:
            group["betas"] = (mom, *group["betas"][1:])
        elif group.get("momentum"):
            group["momentum"] = mom


def read_rates(opt: torch.optim.Optimizer) -> tuple[float, float]:
    """(learning rate, momentum) of the head's weights; 0 for the momentum where the optimiser has none."""
    group = opt.param_groups[-1]
    mom = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
    return float(group["lr"]), float(mom)


def capture_optimizer(opt: torch.optim.Optimizer) -> dict[str, Any]:
    """What `restore_optimizer` takes: the options of each group, the state of each weight by its number."""
    whole = opt.state_dict()
    options = [{name: value for name, value in group.items() if name != "params"} for group in whole["param_groups"]]
    return {"groups": options, "state": {str(number): of_weight for number, of_weight in whole["state"].items()}}


def restore_optimizer(opt: torch.optim.Optimizer, kept: dict[str, Any]) -> None:
    """Give an optimiser of the same weights its state back, each tensor laid out in memory as its weight is.

    Raises Conflict where it was one of other groups.
    """
    if len(kept["groups"]) != len(opt.param_groups):
        raise Conflict(
            "the optimiser's state",
            got=f"{len(kept['groups'])} groups of weights",
            want=f"{len(opt.param_groups)}, as this model has",
            hint="Load with with_opt=False.",
        )
    weights = [p for group in opt.param_groups for p in group["params"]]
    for group, options in zip(opt.param_groups, kept["groups"], strict=True):
        group.update(options)
    opt.state.clear()
    for number, of_weight in kept["state"].items():
        weight = weights[int(number)]
        opt.state[weight] = {name: _own(value, weight) for name, value in of_weight.items()}


def _own(value: Any, weight: nn.Parameter) -> Any:
    """A copy, laid out as the weight is where it is of the weight's shape."""
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value.clone()
