"""Batch norms folded into the convolutions before them: the same numbers for less work."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .backbones import Backbone

__all__ = ["find_pairs", "fold_batch_norm"]

_MAX_GAP = 1e-4  # of the feature map, as a share of its largest value


def fold_batch_norm(backbone: Backbone) -> Backbone:
    """A copy in which each norm that follows a convolution is part of it; in evaluation mode, with a bias each.

    Exact but for float32's last digits: y = w * (x - mean) / sqrt(var + eps) + b is linear in x, as the convolution
    is. Trained on, it takes other steps than the unfolded network, whose scale and direction are weights of their own.
    Where the feature map does not stay the same (a convolution read by others than its norm), nothing is folded.
    """
    folded = copy.deepcopy(backbone).eval()
    size = backbone.spec.size
    device = next(backbone.parameters()).device
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    pairs = find_pairs(folded, pixels)
    if not pairs:
        return folded
    with torch.no_grad():
        expected = copy.deepcopy(folded).feature_map(pixels)
        for conv_name, norm_name in pairs:
            _fold(folded, conv_name, norm_name)
        gap = (folded.feature_map(pixels) - expected).abs().max() / expected.abs().max().clamp_min(1.0)
    return folded if gap <= _MAX_GAP else copy.deepcopy(backbone).eval()


def find_pairs(backbone: Backbone, pixels: Tensor) -> list[tuple[str, str]]:
    """(convolution, batch norm) by name where one is given the other's very output; each module at most once."""
    made: list[tuple[Tensor, str]] = []  # keeps the tensors alive, so that none takes another's identity
    pairs: list[tuple[str, str]] = []

    def note(_module: nn.Module, _args: tuple[Any, ...], out: Tensor, *, name: str) -> None:
        made.append((out, name))

    def match(_module: nn.Module, args: tuple[Any, ...], *, name: str) -> None:
        pairs.extend((conv, name) for out, conv in made if out is args[0])

    handles = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(partial(note, name=name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(partial(match, name=name)))
    try:
        with torch.no_grad():
            backbone.feature_map(pixels)
    finally:
        for handle in handles:
            handle.remove()
    convs, norms = [conv for conv, _ in pairs], [norm for _, norm in pairs]
    return [(c, n) for c, n in pairs if convs.count(c) == 1 and norms.count(n) == 1]


def _fold(backbone: Backbone, conv_name: str, norm_name: str) -> None:
    conv, norm = backbone.get_submodule(conv_name), backbone.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() if conv.bias is None else conv.bias.double() - norm.running_mean.double()
    bias = shift * scale + (norm.bias.double() if norm.affine else 0.0)
    weight = conv.weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype))
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype))
    parent, _, name = norm_name.rpartition(".")
    # timm puts the activation into its norms; what is left of such a norm is that
    rest = nn.Sequential(*(part for key in ("drop", "act") if isinstance(part := getattr(norm, key, None), nn.Module)))
    setattr(backbone.get_submodule(parent), name, rest if len(rest) else nn.Identity())
