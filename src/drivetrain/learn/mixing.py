"""Callbacks that train on mixtures of pictures, with labels mixed alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drivetrain.errors import InvalidConfig

from .callbacks import Callback

__all__ = ["CutMix", "MixUp"]


class _Mix(Callback):
    """Mixes the pictures of a training batch with those of the same batch in another order.

    Labels become shares (n, k) that sum to 1, so the loss must take probabilities, as ours and torch's cross-entropy
    do; several labels and values are averaged. What is drawn hangs on torch's generator alone, which a training seeds
    by its place, so that a resumed one draws alike. Held-out pictures are never mixed.
    """

    default_alpha: float

    def __init__(self, alpha: float | None = None) -> None:
        self.alpha = self.default_alpha if alpha is None else alpha
        if not 0 < self.alpha < float("inf"):
            raise InvalidConfig(f"{type(self).__name__}(alpha)", got=alpha, want="a number above 0")

    def before_batch(self, learn: Any) -> None:
        if not learn.training:
            return
        rng = np.random.default_rng(int(torch.randint(2**62, (1,))))
        order = torch.from_numpy(rng.permutation(len(learn.xb))).to(learn.xb.device)
        learn.xb, own = self.mix(learn.xb, order, rng)
        learn.yb = _mix_targets(learn.yb, order, own, classes=learn.dls.c)

    def mix(self, x: Tensor, order: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mixed pictures (n, 3, h, w), and the share of each that is its own, float32 (n,)."""
        raise NotImplementedError


class MixUp(_Mix):
    """Two pictures laid over one another, by a share drawn for each from Beta(alpha, alpha): 0.4, more mixes more.

    Source: Zhang et al. 2018, arXiv:1710.09412; the larger share is a picture's own, as in fastai.
    """

    default_alpha = 0.4

    def mix(self, x: Tensor, order: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        drawn = rng.beta(self.alpha, self.alpha, len(x))
        own = torch.from_numpy(np.maximum(drawn, 1 - drawn)).to(x.device, torch.float32)
        return x[order].lerp(x, own[:, None, None, None].to(x.dtype)), own


class CutMix(_Mix):
    """A rectangle of another picture in each, the same place in all; its area is drawn from Beta(alpha, alpha): 1.

    Source: Yun et al. 2019, arXiv:1905.04899.
    """

    default_alpha = 1.0

    def mix(self, x: Tensor, order: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        height, width = x.shape[-2:]
        side = float(np.sqrt(1 - rng.beta(self.alpha, self.alpha)))  # of the rectangle, as a share of the picture's
        top, bottom = _cut_span(rng, height, side)
        left, right = _cut_span(rng, width, side)
        mixed = x.clone()  # the loader's memory is used again
        mixed[..., top:bottom, left:right] = x[order][..., top:bottom, left:right]
        own = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, torch.full((len(x),), own, device=x.device)


def _cut_span(rng: np.random.Generator, length: int, side: float) -> tuple[int, int]:
    """From where to where, around any pixel; cut off at the picture's edge."""
    half, middle = round(length * side) / 2, rng.integers(length) + 0.5
    return max(0, round(middle - half)), min(length, round(middle + half))


def _mix_targets(targets: Tensor, order: Tensor, own: Tensor, *, classes: int) -> Tensor:
    """(n, k): labels as shares, marks and values averaged."""
    shares = targets if targets.is_floating_point() else F.one_hot(targets, classes).float()
    return shares[order].lerp(shares, own.reshape(-1, *[1] * (shares.ndim - 1)).to(shares.dtype))
