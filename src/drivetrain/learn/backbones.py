"""What every backbone offers, and EfficientNet-Lite 0, 1 and 2 in torch, from one table, with their pretrained weights.

Source: Tan & Le 2019, arXiv:1905.11946, table 1; the Lite changes (ReLU6, no squeeze-excite, stem, head and the
repeats of the first and last stage not scaled) from the makers' repository, BackboneSpec.source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layout import FeatureLayout, plan_layout
from .trunk import BackboneSpec, find_backbone, find_weights, is_foreign

__all__ = [
    "Backbone",
    "Block",
    "EfficientNetLite",
    "Piece",
    "SameConv",
    "TrunkModule",
    "load_backbone",
    "measure_pieces",
]

Piece = Callable[[Tensor], Tensor]

_STEM_CHANNELS = 32
_FLATTEST = 1e-6  # variance: below it a spread says nothing, and its root would have no slope
_CLASSES = 1000  # of ImageNet, in the pretrained last layer


class _Stage(NamedTuple):
    kernel: int
    stride: int  # of its first block; 1 in the others
    expand: int
    channels: int
    repeats: int


_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)


class Backbone(nn.Module):
    """A pretrained network without its classifier: pixels (n, 3, h, w), normalised by the spec, to a feature map.

    It runs as `pieces`, one behind the other; what piece c is given can be kept and gone on from, for each c of `cuts`.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def pieces(self) -> Sequence[Piece]:
        """What runs one behind the other, from pixels to the feature map (n, c, h, w)."""
        raise NotImplementedError

    @property
    def cuts(self) -> tuple[int, ...]:
        """The pieces before which activations may be kept; () where the network cannot be parted."""
        return tuple(range(1, len(self.pieces)))

    def piece_parameters(self, piece: int) -> list[nn.Parameter]:
        """The weights that piece number `piece` works with."""
        raise NotImplementedError

    def run(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        """Pieces `start` up to, not including, `stop`."""
        for piece in self.pieces[start:stop]:
            x = piece(x)
        return x

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(n, c, h, w)."""
        return self.run(pixels)

    def embed(self, feature_map: Tensor) -> Tensor:
        """The mean over the picture: (n, c)."""
        return feature_map.mean((2, 3))

    @cached_property
    def layout(self) -> FeatureLayout:
        """What stands where in the features; the same for pictures of any size."""
        side = self.spec.size
        return plan_layout(measure_pieces(self, side=side), last=self.spec.feature_count, side=side)

    def run_features(self, x: Tensor, *, start: int = 0) -> tuple[Tensor, Tensor]:
        """What the head reads (n, layout.head_count) and the feature map, from what piece `start` is given.

        `start` must not come after the first of the head's taps.
        """
        told: list[Tensor] = []
        assert start <= min(self.layout.head_pieces, default=start)  # else a later map would pass for the tap's
        for piece in self.layout.head_pieces:
            x = self.run(x, start=start, stop=piece)
            start = piece
            told = [*summarise(x), *told]
        feature_map = self.run(x, start=start)
        return torch.cat([self.embed(feature_map), *told], dim=1), feature_map

    def pool(self, activation: Tensor) -> Tensor:
        """The mean over the picture of what a piece is given, (n, c, h, w) or (n, tokens, c): (n, c)."""
        return activation.mean((2, 3)) if activation.ndim == 4 else activation.mean(1)

    def drop_classifier(self) -> None:
        """Let go of pretrained weights that no piece uses."""


def summarise(activation: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation over the places of (n, c, h, w): (n, c) each, float32."""
    x = activation.float()  # halves lose small spreads
    mean = x.mean((2, 3))
    variance = (x - mean[:, :, None, None]).square().mean((2, 3))
    return mean, (variance + _FLATTEST).sqrt()


@torch.inference_mode()
def measure_pieces(backbone: Backbone, *, side: int) -> dict[int, tuple[int, int]]:
    """piece -> (channels, places) of the map it is given, where the network may be cut; tokens make no map."""
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    shapes, x = {}, torch.zeros(1, 3, side, side, device=device)
    start = 0
    in_training = [module for module in backbone.modules() if module.training]
    backbone.eval()  # else norms would take the blank picture into their statistics, and dropout a draw
    try:
        for cut in backbone.cuts:
            x = backbone.run(x, start=start, stop=cut)
            start = cut
            if x.ndim == 4:
                shapes[cut] = x.shape[1], x.shape[2] * x.shape[3]
    finally:
        for module in in_training:
            module.training = True
    return shapes


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: where the padding is odd, the right and the bottom get more.

    Padding both sides alike, as torch does, shifts every picture of even size by a pixel at each stride of 2.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the name in torch's own signature
        top, bottom = self._padding(input.shape[2], 0)
        left, right = self._padding(input.shape[3], 1)
        if top == bottom and left == right:  # one pass over the picture less than a pad of its own
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)

    def _padding(self, length: int, axis: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
        return total // 2, total - total // 2


class Block(nn.Module):
    """Inverted bottleneck: widen, convolve each channel, narrow; added to its input where the shapes agree."""

    def __init__(self, *, kernel: int, stride: int, expand: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        middle = channels_in * expand
        self.is_expanded = expand != 1
        self.is_residual = stride == 1 and channels_in == channels_out
        if self.is_expanded:
            self.expand_conv = _conv(channels_in, middle, 1)
            self.bn0 = _norm(middle)
        self.depthwise_conv = _conv(middle, middle, kernel, stride=stride, groups=middle)
        self.bn1 = _norm(middle)
        self.project_conv = _conv(middle, channels_out, 1)
        self.bn2 = _norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn0(self.expand_conv(x))) if self.is_expanded else x
        y = F.relu6(self.bn1(self.depthwise_conv(y)))
        out: Tensor = self.bn2(self.project_conv(y))
        return out + x if self.is_residual else out


class EfficientNetLite(Backbone):
    """pixels (n, 3, h, w), float32, normalised with the spec's mean and std, to logits (n, classes).

    In parts, for methods that stop or go on half-way: forward = classify(embed(feature_map(pixels))), and
    feature_map = finish(run_blocks(stem(pixels))). `stages` holds the range of `blocks` of each stage, in order.
    """

    def __init__(self, spec: BackboneSpec, *, classes: int = _CLASSES) -> None:
        super().__init__(spec)
        self.conv_stem = _conv(3, _STEM_CHANNELS, 3, stride=2)
        self.bn0 = _norm(_STEM_CHANNELS)
        self.blocks = nn.ModuleList()
        channels, starts = _STEM_CHANNELS, [0]
        for index, stage in enumerate(_STAGES):
            channels_out = _scale_channels(stage.channels, spec.width)
            is_fixed = index in (0, len(_STAGES) - 1)
            for repeat in range(stage.repeats if is_fixed else math.ceil(stage.repeats * spec.depth)):
                block = Block(
                    kernel=stage.kernel,
                    stride=1 if repeat else stage.stride,
                    expand=stage.expand,
                    channels_in=channels,
                    channels_out=channels_out,
                )
                self.blocks.append(block)
                channels = channels_out
            starts.append(len(self.blocks))
        self.stages = tuple(range(start, stop) for start, stop in pairwise(starts))
        self.conv_head = _conv(channels, spec.feature_count, 1)
        self.bn1 = _norm(spec.feature_count)
        self.fc: nn.Module = nn.Linear(spec.feature_count, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classify(self.embed(self.feature_map(pixels)))

    def stem(self, pixels: Tensor) -> Tensor:
        """What the first block is given: (n, 32, h/2, w/2)."""
        return F.relu6(self.bn0(self.conv_stem(pixels)))

    def run_blocks(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        """Blocks `start` up to, not including, `stop`."""
        for index in range(*slice(start, stop).indices(len(self.blocks))):
            x = self.blocks[index](x)
        return x

    def finish(self, x: Tensor) -> Tensor:
        """From the last block to the feature map."""
        return F.relu6(self.bn1(self.conv_head(x)))

    @property
    def pieces(self) -> Sequence[Piece]:
        """The stem, each block, and the last convolution: 18 for lite0, 23 for lite1 and lite2.

        The feature map is (n, 1280, h/32, w/32), each value in [0, 6]; sides are rounded up.
        """
        return [self.stem, *self.blocks, self.finish]

    def piece_parameters(self, piece: int) -> list[nn.Parameter]:
        """The weights that piece number `piece` works with."""
        last = len(self.blocks) + 1
        number = range(last + 1)[piece]
        modules = {0: [self.conv_stem, self.bn0], last: [self.conv_head, self.bn1]}
        owners = modules[number] if number in modules else [self.blocks[number - 1]]
        return [parameter for owner in owners for parameter in owner.parameters()]

    def drop_classifier(self) -> None:
        """Let go of the layer that tells ImageNet's classes apart: `classify` then gives the embedding back."""
        self.fc = nn.Identity()

    def classify(self, embedding: Tensor) -> Tensor:
        """Logits; drops out features while training."""
        logits: Tensor = self.fc(F.dropout(embedding, self.spec.dropout, self.training))
        return logits


class TrunkModule(nn.Module):
    """The frozen part as it is exported: pixels to (frozen, feature_map, what each piece of `cuts` is given).

    `frozen` (n, layout.count) are all features of the layout.
    """

    def __init__(self, backbone: Backbone, *, layout: FeatureLayout, cuts: Sequence[int] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.layout = layout
        self.cuts = tuple(cuts)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x, start, kept, told = pixels, 0, [], list[Tensor]()
        taps = {tap.piece for tap in self.layout.taps}
        for piece in sorted({*self.cuts, *taps}):
            x = self.backbone.run(x, start=start, stop=piece)
            start = piece
            if piece in self.cuts:
                kept.append(x)
            if piece in taps:
                told = [*summarise(x), *told]
        feature_map = self.backbone.run(x, start=start)
        return torch.cat([self.backbone.embed(feature_map), *told], dim=1), feature_map, *kept


def load_backbone(name: str) -> Backbone:
    """Backbone `name` with its pretrained weights, in evaluation mode: one of BACKBONES, timm:NAME or hf:REPO.

    Raises InvalidConfig for another name, MissingExtra if its package is not installed, Unavailable if its weights
    cannot be fetched.
    """
    if is_foreign(name):
        from .foreign_backbones import load_foreign_backbone

        return load_foreign_backbone(name)
    spec = find_backbone(name)
    state = torch.load(find_weights(spec), weights_only=True, map_location="cpu")
    backbone = EfficientNetLite(spec)
    # The file's names carry an underscore before each component: _blocks.0._bn1.weight.
    backbone.load_state_dict({re.sub(r"(^|\.)_", r"\1", key): value for key, value in state.items()}, strict=True)
    return backbone.eval()


def _scale_channels(channels: int, width: float) -> int:
    """The multiple of 8 nearest to channels * width, never more than a tenth below it."""
    wanted = channels * width
    scaled = max(8, int(wanted + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * wanted else scaled


def _conv(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> SameConv:
    return SameConv(channels_in, channels_out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
