"""Weights that were trained with batch norms folded, put back into a network whose norms stand by themselves.

So a network keeps its structure whatever trained it: the same names in a saved file, the same layers to go on with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .batch_norm import find_pairs
from .network import Network

__all__ = ["Unfolder"]


class Unfolder:
    """Copies the trained pieces and the head of a folded copy of `network` into it; what lies below stays as it is."""

    def __init__(self, network: Network) -> None:
        self.network = network
        backbone = network.backbone
        size, device = backbone.spec.size, next(backbone.parameters()).device
        self._norm_of = dict(find_pairs(backbone, torch.zeros(1, 3, size, size, device=device)))

    @torch.no_grad()
    def take(self, folded: Network) -> None:
        """Let the network answer as `folded` does, whose pieces from its cut on were trained.

        A folded convolution has its norm's scale in its weights. Here the norm is made to change nothing but to add
        the bias: y = (x - 0) / sqrt((1 - eps) + eps) * 1 + bias.
        """
        assert folded.cut is not None
        own, theirs = self.network.backbone, folded.backbone
        pieces = range(folded.cut, len(theirs.pieces))
        trained = {id(p) for piece in pieces for p in theirs.piece_parameters(piece)}
        done: set[int] = set()
        for conv_name, norm_name in self._norm_of.items():
            conv = theirs.get_submodule(conv_name)
            assert isinstance(conv, nn.Conv2d)
            if id(conv.weight) not in trained or _is_norm(theirs.get_submodule(norm_name)):
                continue
            assert conv.bias is not None
            _set_conv(own.get_submodule(conv_name), own.get_submodule(norm_name), conv.weight, conv.bias)
            done |= {id(conv.weight), id(conv.bias)}
        kept = dict(own.named_parameters())
        for name, weight in theirs.named_parameters():
            if id(weight) in trained and id(weight) not in done:
                kept[name].copy_(weight)
        self.network.head.load_state_dict(folded.head.state_dict())


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 -- the class all of them share


def _set_conv(conv: nn.Module, norm: nn.Module, weight: Tensor, bias: Tensor) -> None:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight.copy_(weight)
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    if norm.affine:
        norm.weight.fill_(1)
        norm.bias.copy_(bias)
        if conv.bias is not None:
            conv.bias.zero_()
    elif conv.bias is not None:
        conv.bias.copy_(bias)
    else:
        norm.running_mean.copy_(-bias)
