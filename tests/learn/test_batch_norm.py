from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drivetrain.learn.backbones import Backbone, EfficientNetLite, load_backbone
from drivetrain.learn.batch_norm import fold_batch_norm
from drivetrain.learn.trunk import BACKBONES, BackboneSpec

SPEC = BackboneSpec(name="two", package="", size=16, feature_count=4)


class NormWithAct(nn.BatchNorm2d):
    """A norm that brings its activation along, as timm's do."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return self.act(super().forward(input))


class TwoConvs(Backbone):
    """conv -> norm -> conv -> norm; `is_shared` lets the first convolution's output by, past its norm."""

    def __init__(self, *, norm: type[nn.BatchNorm2d] = nn.BatchNorm2d, is_shared: bool = False) -> None:
        super().__init__(SPEC)
        self.first, self.norm1 = nn.Conv2d(3, 4, 3), norm(4)
        self.second = nn.Conv2d(4, 4, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(4, affine=False) if norm is nn.BatchNorm2d else norm(4)
        self.is_shared = is_shared

    @property
    def pieces(self) -> list[nn.Module]:
        return [self.whole]

    def whole(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.norm1(x)
        return self.norm2(self.second(F.relu(y + x if self.is_shared else y)))


def shake(backbone: nn.Module) -> nn.Module:
    """Weights and statistics that are not those of a new network."""
    torch.manual_seed(0)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return backbone.eval()


def norms_of(backbone: nn.Module) -> list[nn.Module]:
    return [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]


def gap_of(a: Backbone, b: Backbone, size: int) -> float:
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = b.feature_map(pixels)
        assert expected.std() > 0.01
        return float((a.feature_map(pixels) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_a_folded_network_says_the_same(name: str) -> None:
    backbone = load_backbone(name)
    before = copy.deepcopy(backbone.state_dict())
    folded = fold_batch_norm(backbone)
    assert norms_of(folded) == []
    assert len(norms_of(backbone)) >= 49
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in before.items())  # a copy was folded
    assert gap_of(folded, backbone, 96) <= 1e-5
    assert (folded.cuts, folded.spec) == (backbone.cuts, backbone.spec)
    assert {"conv_stem.bias", "blocks.1.expand_conv.bias", "conv_head.bias"} <= set(folded.state_dict())


def test_what_a_piece_is_given_stays_the_same() -> None:
    tiny = dataclasses.replace(BACKBONES["efficientnet_lite0"], width=0.25, depth=0.3, feature_count=16, size=32)
    backbone = shake(EfficientNetLite(tiny))
    folded = fold_batch_norm(backbone)
    x = y = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for cut in backbone.cuts:
            x, y = backbone.run(x, start=cut - 1, stop=cut), folded.run(y, start=cut - 1, stop=cut)
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, NormWithAct])
def test_bias_scaleless_norm_and_activation_are_minded(norm: type[nn.BatchNorm2d]) -> None:
    backbone = shake(TwoConvs(norm=norm))
    folded = fold_batch_norm(backbone)
    assert norms_of(folded) == []
    assert gap_of(folded, backbone, 16) <= 1e-5


def test_a_convolution_that_others_read_is_left_alone() -> None:
    backbone = shake(TwoConvs(is_shared=True))
    left = fold_batch_norm(backbone)
    assert len(norms_of(left)) == 2
    assert gap_of(left, backbone, 16) == 0


def test_a_norm_without_statistics_is_left_alone() -> None:
    backbone = TwoConvs().eval()
    backbone.norm1 = nn.BatchNorm2d(4, track_running_stats=False)
    assert len(norms_of(fold_batch_norm(backbone))) == 1


def test_a_folded_network_can_be_trained() -> None:
    folded = fold_batch_norm(shake(TwoConvs()))
    folded.feature_map(torch.randn(2, 3, 16, 16)).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in folded.named_parameters()}
    assert set(grads) == {"first.weight", "first.bias", "second.weight", "second.bias"}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads.values())


def test_an_unfolded_network_has_nothing_registered_on_it() -> None:
    backbone = shake(TwoConvs())
    folded = fold_batch_norm(backbone)
    for module in (*backbone.modules(), *folded.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
