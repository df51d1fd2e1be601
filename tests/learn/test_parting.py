from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drivetrain.learn.parting import find_steps, first_tensor, merge_steps, run_steps

PIXELS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def run(root: nn.Module, x: Tensor) -> Tensor:
    return first_tensor(root(x))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Wrapped(nn.Module):
    """Gives out a mapping, as transformers' networks do, from a list of layers, and has a pooler behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.layers = nn.ModuleList([Residual(4), Residual(4)])
        self.pooler = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return {"last_hidden_state": x, "pooled": self.pooler(x)}


class Between(nn.Module):
    """Does something between its modules that none of them does."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.between = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))


class AddedInPlace(Residual):
    """As transformers' ResNet does it: who is given what does not show the shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += x
        return self.act(y)


class Demanding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled()

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x, 2.0)


class Scaled(nn.Module):
    def forward(self, x: Tensor, by: float) -> Tensor:
        return x * by


class Tuned(nn.Module):
    """Its layer says one thing when it is told more than the picture, and another when it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Optional()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, by=3.0)


class Optional(nn.Module):
    def forward(self, x: Tensor, by: float = 1.0) -> Tensor:
        return x * by


def test_steps_go_as_deep_as_containers_and_no_deeper() -> None:
    root = Wrapped().eval()
    steps = find_steps(root, run, PIXELS)
    assert steps == ("stem.0", "stem.1", "stem.2", "layers.0", "layers.1")
    with torch.inference_mode():
        assert torch.equal(run_steps(root, steps, PIXELS), run(root, PIXELS))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in root.modules())


def test_an_operation_in_place_at_the_end_is_kept() -> None:
    root = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)).eval()
    assert find_steps(root, run, PIXELS) == ("0", "1", "2")


def test_a_shortcut_that_is_added_in_place_keeps_its_block_whole() -> None:
    root = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(AddedInPlace(4), AddedInPlace(4))).eval()
    assert find_steps(root, run, PIXELS) == ("0", "1.0", "1.1")


def test_modules_without_a_tensor_are_no_steps() -> None:
    class Asking(nn.Module):
        """Has helpers beside its layer that take, or give, something else than tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.size, self.names = nn.Conv2d(3, 4, 3), Told(lambda x: x.shape), Told(lambda _: PIXELS)

        def forward(self, x: Tensor) -> Tensor:
            self.size(x)
            self.names("no tensor")
            return self.layer(x)

    class Told(nn.Module):
        def __init__(self, tell: Callable[[Any], Any]) -> None:
            super().__init__()
            self.tell = tell

        def forward(self, x: Any) -> Any:
            return self.tell(x)

    assert find_steps(Asking(), run, PIXELS) == ("layer",)


def test_what_happens_between_modules_makes_it_one() -> None:
    assert find_steps(Between(torch.relu), run, PIXELS) == ()
    assert find_steps(Between(lambda x: x), run, PIXELS) == ("first", "second")


@pytest.mark.parametrize("root", [Demanding(), Tuned()])
def test_a_module_that_is_told_more_makes_it_one(root: nn.Module) -> None:
    assert find_steps(root, run, PIXELS) == ()


def test_a_piece_begins_with_a_layer_of_weights() -> None:
    root = Wrapped().eval()
    steps = find_steps(root, run, PIXELS)
    assert merge_steps(root, steps) == (("stem.0", "stem.1", "stem.2"), ("layers.0",), ("layers.1",))
    light_first = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    assert merge_steps(light_first, ("0", "1", "2", "3")) == (("0",), ("1", "2"), ("3",))


def test_the_first_tensor_of_what_networks_give() -> None:
    assert first_tensor(PIXELS) is PIXELS
    assert first_tensor((PIXELS, None)) is PIXELS
    assert first_tensor({"pooled": None, "last_hidden_state": PIXELS}) is PIXELS
    with pytest.raises(TypeError, match="a module gave NoneType, not a tensor"):
        first_tensor((None, PIXELS))
