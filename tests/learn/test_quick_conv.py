"""Faster convolutions answer and learn as torch's do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from drivetrain.learn.backbones import SameConv
from drivetrain.learn.quick_conv import DepthwiseConv, PointwiseConv, quicken


def make_conv(kind: type[nn.Conv2d], *, kernel: int, stride: int, groups: int, padding: int = 0) -> nn.Conv2d:
    torch.manual_seed(kernel + stride)
    return kind(6, 6, kernel, stride, padding=padding, groups=groups)


def run(conv: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out, and what flows back to x from the sum of its squares."""
    x = x.clone().to(memory_format=torch.channels_last).requires_grad_()
    out = conv(x)
    out.square().sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad


@pytest.mark.parametrize("side", [7, 8, 14])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("kind", [SameConv, nn.Conv2d])
def test_a_depthwise_convolution_gives_the_same_and_sends_the_same_back(
    kind: type[nn.Conv2d], kernel: int, stride: int, side: int
) -> None:
    padding = kernel // 2 if kind is nn.Conv2d else 0
    plain = make_conv(kind, kernel=kernel, stride=stride, groups=6, padding=padding)
    x = torch.randn(2, 6, side, side, generator=torch.Generator().manual_seed(0))
    expected, expected_grad = run(plain, x)
    assert plain.bias is not None
    bias_grad, plain.bias.grad = plain.bias.grad, None
    quick = quicken(nn.Sequential(plain))
    assert isinstance(quick[0], DepthwiseConv)
    out, grad = run(quick, x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad, expected_grad)
    assert quick[0].bias is not None
    torch.testing.assert_close(quick[0].bias.grad, bias_grad)
    assert quick[0].weight is plain.weight
    assert plain.weight.grad is None or not plain.weight.requires_grad


def test_a_pointwise_convolution_is_a_matrix_product() -> None:
    plain = make_conv(nn.Conv2d, kernel=1, stride=1, groups=1)
    x = torch.randn(2, 6, 5, 4)
    expected, expected_grad = run(plain, x)
    weight_grad, plain.weight.grad = plain.weight.grad, None
    quick = quicken(nn.Sequential(plain))
    assert isinstance(quick[0], PointwiseConv)
    out, grad = run(quick, x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad, expected_grad)
    torch.testing.assert_close(plain.weight.grad, weight_grad)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3),  # a full convolution
        nn.Conv2d(6, 6, 1, 2),  # strides over pixels
        nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6),
        nn.Conv2d(6, 6, 3, groups=6),  # makes maps smaller
        nn.Conv2d(6, 12, 3, padding=1, groups=6),
        nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),  # its norm is not folded
        nn.Conv2d(6, 6, (3, 5), padding=(1, 2), groups=6),
    ],
)
def test_what_it_does_not_know_stays(conv: nn.Conv2d) -> None:
    assert quicken(nn.Sequential(conv))[0] is conv
    assert conv.weight.requires_grad
