from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.errors import Conflict, InvalidConfig
from drivetrain.learn.optimizer import (
    adamw,
    build_optimizer,
    capture_optimizer,
    read_rates,
    restore_optimizer,
    set_rates,
)


def groups() -> list[list[nn.Parameter]]:
    torch.manual_seed(0)
    return [
        list(nn.Linear(3, 2).parameters()),
        list(nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last).parameters()),
    ]


def build(made: list[list[nn.Parameter]], opt_func: Any = adamw, **options: Any) -> torch.optim.Optimizer:
    return build_optimizer(made, opt_func, **({"lr": 0.1, "wd": 0.2} | options))


def step(opt: torch.optim.Optimizer) -> None:
    for group in opt.param_groups:
        for weight in group["params"]:
            weight.grad = torch.ones_like(weight)
    opt.step()


def test_scales_and_biases_do_not_decay() -> None:
    opt = build(groups())
    assert [(group["params"][0].ndim, group["weight_decay"]) for group in opt.param_groups] == [
        (2, 0.2),
        (1, 0.0),
        (4, 0.2),
        (1, 0.0),
    ]
    all_decay = build(groups(), wd_bn_bias=True)
    assert [group["weight_decay"] for group in all_decay.param_groups] == [0.2, 0.2]
    assert opt.defaults["betas"] == (0.9, 0.99)
    assert opt.defaults["eps"] == 1e-5


def test_rates_go_to_their_groups() -> None:
    opt = build(groups(), wd=0.0)
    set_rates(opt, (1.0, 2.0), mom=0.5, wd=0.3)
    assert [group["lr"] for group in opt.param_groups] == [1.0, 1.0, 2.0, 2.0]
    assert {group["betas"] for group in opt.param_groups} == {(0.5, 0.99)}
    assert [group["weight_decay"] for group in opt.param_groups] == [0.3, 0.0] * 2
    assert read_rates(opt) == (2.0, 0.5)
    set_rates(opt)
    assert read_rates(opt) == (2.0, 0.5)


def test_momentum_of_sgd_where_it_has_one() -> None:
    with_momentum = build(groups(), partial(torch.optim.SGD, momentum=0.9))
    set_rates(with_momentum, mom=0.5)
    assert read_rates(with_momentum) == (0.1, 0.5)
    without = build(groups(), torch.optim.SGD)
    set_rates(without, mom=0.5)
    assert read_rates(without) == (0.1, 0.0)


def test_state_comes_back_to_the_last_bit_and_as_the_weights_lie() -> None:
    weights = groups()
    opt = build(weights)
    step(opt)
    kept = capture_optimizer(opt)
    copy = groups()
    with torch.no_grad():
        for a, b in zip([w for g in copy for w in g], [w for g in weights for w in g], strict=True):
            a.copy_(b)
    other = build(copy, lr=0.7)
    restore_optimizer(other, kept)
    conv = copy[1][0]
    assert other.state[conv]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    assert read_rates(other)[0] == 0.1
    step(opt)
    step(other)
    assert all(torch.equal(a, b) for x, y in zip(weights, copy, strict=True) for a, b in zip(x, y, strict=True))


def test_state_of_other_groups_is_refused() -> None:
    kept = capture_optimizer(build(groups()))
    with pytest.raises(Conflict, match="got 4 groups of weights; want 2"):
        restore_optimizer(build(groups()[:1]), kept)


def test_what_makes_no_optimiser() -> None:
    with pytest.raises(InvalidConfig, match="opt_func: got 3"):
        build(groups(), lambda made, lr: 3)
    with pytest.raises(InvalidConfig, match="wd: got -1"):
        build(groups(), wd=-1)
