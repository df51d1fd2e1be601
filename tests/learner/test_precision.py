from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.errors import InvalidConfig
from drivetrain.learn.callbacks import Callback
from drivetrain.learn.precision import MixedPrecision

from .conftest import MakeLearner
from .makers import weights_of


class Types(Callback):
    """What the network computes in."""

    def __init__(self) -> None:
        self.found: set[torch.dtype] = set()

    def before_fit(self, learn: Any) -> None:
        learn.model.backbone.parts[1].register_forward_hook(lambda module, args, out: self.found.add(out.dtype))


@pytest.mark.parametrize(
    ("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_the_network_computes_in_it_and_weights_stay(learner: MakeLearner, name: str, dtype: torch.dtype) -> None:
    types = Types()
    learn = learner(cbs=types).to_bf16()
    learn = getattr(learn, f"to_{name}")()
    before = learn.validate()[0]
    learn.fit_one_cycle(4, 0.02)
    assert types.found == {dtype}
    assert learn.training_record()["precision"] == name
    assert {value.dtype for value in weights_of(learn).values() if value.is_floating_point()} == {torch.float32}
    assert learn.validate()[0] < before
    assert learn.get_preds()[0].dtype == torch.float32


def test_float16_scales_its_losses() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    opt = torch.optim.SGD([weight], lr=1.0)
    mixed = MixedPrecision("fp16")
    mixed.backward((weight * 3).sum())
    assert weight.grad is not None
    scale = mixed.state_dict()["scale"]
    assert weight.grad.item() == 3 * scale > 3
    mixed.step(opt, torch.device("cpu"))
    assert weight.item() == -2
    weight.grad = torch.tensor([float("inf")])
    mixed.step(opt, torch.device("cpu"))  # left out
    assert weight.item() == -2
    assert mixed.state_dict()["scale"] == scale / 2
    again = MixedPrecision("fp16")
    again.load_state_dict(mixed.state_dict())
    assert again.state_dict() == mixed.state_dict()
    again.backward((weight * 3).sum())
    assert again.state_dict()["scale"] == scale / 2


def test_others_scale_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    mixed = MixedPrecision("bf16")
    mixed.backward((weight * 3).sum())
    assert weight.grad is not None
    assert weight.grad.item() == 3
    assert mixed.state_dict() == {}
    with pytest.raises(InvalidConfig, match="precision: got fp8; want fp32, bf16 or fp16"):
        MixedPrecision("fp8")  # type: ignore[arg-type]
