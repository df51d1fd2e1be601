"""A backbone and a head as one network, for training."""

from __future__ import annotations

from itertools import pairwise
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drivetrain.errors import InvalidInput

from .backbones import Backbone
from .head import Head

__all__ = ["Network", "RootLinear", "build_network", "root_features"]

_GROUPS = 3  # of the backbone's weights; the head is one more
_STEEPEST = 1e-3  # below it the root's slope stays what it is here, 16: at 0 it would be infinite


def root_features(x: Tensor) -> Tensor:
    """sign(x) * sqrt(|x|), the very numbers of `head.embed_features`, with a slope that stays finite at 0."""
    rooted = x.sign() * x.abs().sqrt()
    if not (torch.is_grad_enabled() and x.requires_grad):
        return rooted
    slope = 0.5 / x.detach().abs().clamp_min(_STEEPEST).sqrt()
    return rooted.detach() + (x - x.detach()) * slope  # the second term is 0: it carries the gradient alone


class RootLinear(nn.Module):
    """Features (n, f) to logits (n, k): the root of each, dropout while training, a linear layer."""

    def __init__(self, feature_count: int, n_out: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(feature_count, n_out)

    def forward(self, features: Tensor) -> Tensor:
        return self.classify(self.embed(features))

    def embed(self, features: Tensor) -> Tensor:
        """(n, f) float32, also under mixed precision: halves round small roots away."""
        return root_features(features.float())

    def classify(self, embedding: Tensor) -> Tensor:
        """(n, k)."""
        logits: Tensor = self.linear(F.dropout(embedding, self.dropout, self.training))
        return logits


class Network(nn.Module):
    """Pixels (n, 3, h, w) to logits (n, k).

    `cut` None: the output `frozen` is what `embed` makes of this network's own feature map; a piece number: the mean
    over the picture of what that piece is given, so that it stays put while later pieces are trained.
    Batch norms keep their statistics: `train()` leaves them in evaluation mode.
    """

    def __init__(self, backbone: Backbone, head: RootLinear, *, cut: int | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.cut = cut

    @property
    def cut(self) -> int | None:
        return self._cut

    @cut.setter
    def cut(self, cut: int | None) -> None:
        if cut is not None and cut not in self.backbone.cuts:
            want = f"one of {list(self.backbone.cuts)}" if self.backbone.cuts else "None: this backbone has no parts"
            raise InvalidInput("cut", got=cut, want=want)
        if cut is not None and cut > min(self.backbone.layout.head_pieces, default=cut):
            want = f"at most {min(self.backbone.layout.head_pieces)}: the head reads what that piece is given"
            raise InvalidInput("cut", got=cut, want=want)
        self._cut = cut

    def forward(self, pixels: Tensor) -> Tensor:
        return self.run_from(pixels, 0)

    def run_from(self, x: Tensor, piece: int) -> Tensor:
        """Logits from what `piece` is given: pixels for 0, kept activations after it."""
        logits: Tensor = self.head(self.backbone.run_features(x, start=piece)[0])
        return logits

    def outputs(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(logits (n, k), embedding (n, f), frozen (n, channels at the cut, or of the last map), feature_map)."""
        if self.cut is None:
            features, feature_map = self.backbone.run_features(pixels)
            frozen = features[:, : self.backbone.layout.last]
        else:
            half = self.backbone.run(pixels, stop=self.cut)
            frozen = self.backbone.pool(half)
            features, feature_map = self.backbone.run_features(half, start=self.cut)
        embedding = self.head.embed(features)
        return self.head.classify(embedding), embedding, frozen, feature_map

    def groups(self) -> list[list[nn.Parameter]]:
        """The weights from the stem to the head, four lists or fewer, each once; the last is the head's.

        Pieces are shared out evenly, so that the first third is the stem and what lies next to it.
        """
        units = _list_units(self.backbone)
        count = min(_GROUPS, len(units))
        edges = [round(len(units) * index / count) for index in range(count + 1)]
        groups = [[p for unit in units[low:high] for p in unit] for low, high in pairwise(edges)]
        return [*groups, list(self.head.parameters())]

    def train(self, mode: bool = True) -> Self:
        """As torch's, but batch norms stay in evaluation mode: few pictures tell less than ImageNet's statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 -- the class all of them share
                module.eval()
        return self


def build_network(backbone: Backbone, *, n_out: int, head: Head | None = None, dropout: float = 0.0) -> Network:
    """A network of `n_out` outputs on `backbone`, which it takes over: its own classifier is dropped.

    head gives the last layer its weight and bias; None leaves torch's random ones. dropout acts on the embedding.
    Raises InvalidInput where the head has another shape.
    """
    backbone.drop_classifier()
    layer = RootLinear(backbone.layout.head_count, n_out, dropout=dropout)
    if head is not None:
        want = tuple(layer.linear.weight.shape)
        if head.weight.shape != want or head.bias.shape != want[:1]:
            got = f"weight {head.weight.shape} and bias {head.bias.shape}"
            raise InvalidInput("head", got=got, want=f"weight {want} and bias {want[:1]}, as backbone and n_out say")
        with torch.no_grad():
            layer.linear.weight.copy_(torch.from_numpy(head.weight))
            layer.linear.bias.copy_(torch.from_numpy(head.bias))
    return Network(backbone, layer).eval()


def _list_units(backbone: Backbone) -> list[list[nn.Parameter]]:
    """What groups are made of: the weights of each piece; where those are few, of each layer that has weights."""
    units = [unit for piece in range(len(backbone.pieces)) if (unit := backbone.piece_parameters(piece))]
    if len(units) < _GROUPS:
        units = [own for module in backbone.modules() if (own := list(module.parameters(recurse=False)))]
    first = {p: index for index, unit in reversed([*enumerate(units)]) for p in unit}  # a shared weight's first owner
    return [own for index, unit in enumerate(units) if (own := [p for p in dict.fromkeys(unit) if first[p] == index])]
