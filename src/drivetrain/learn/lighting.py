"""Light and colour of a batch: one 4 x 4 matrix a picture, applied in one pass to the logits of its values.

The logit of a value in [0, 1] runs over all numbers, so that whatever is added or multiplied there comes back within
(0, 1): light is pressed towards white instead of being cut off. A matrix stands on the CPU, in float64, and takes (red,
green, blue, 1); `a @ b` does b first.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["brightness_matrices", "contrast_matrices", "relight", "saturation_matrices"]

_EDGE = 1e-7  # of [0, 1]: black and white themselves have no finite logit
_LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look: ITU-R BT.601


def brightness_matrices(levels: Tensor) -> Tensor:
    """(n, 4, 4) that take mid grey to the n levels, each in (0, 1); 0.5 leaves the picture."""
    matrices = torch.eye(4, dtype=levels.dtype).repeat(len(levels), 1, 1)
    matrices[:, :3, 3] = levels.logit()[:, None]
    return matrices


def contrast_matrices(gains: Tensor) -> Tensor:
    """(n, 4, 4) that spread values about mid grey by n gains above 0; 1 leaves the picture."""
    matrices = torch.eye(4, dtype=gains.dtype).repeat(len(gains), 1, 1)
    matrices[:, :3, :3] *= gains[:, None, None]
    return matrices


def saturation_matrices(gains: Tensor) -> Tensor:
    """(n, 4, 4) that spread colours about their grey by n gains of at least 0; 1 leaves them, 0 makes all grey."""
    matrices = contrast_matrices(gains)
    matrices[:, :3, :3] += (1 - gains)[:, None, None] * torch.tensor(_LUMA, dtype=gains.dtype)
    return matrices


def relight(x: Tensor, matrices: Tensor, *, out: Tensor) -> None:
    """x (n, 3, h, w) under matrices (n, 4, 4), into out, within [0, 1]; x where a matrix does nothing."""
    drawn = ((matrices - torch.eye(4, dtype=matrices.dtype)).abs().amax((1, 2)) > 0).nonzero()[:, 0]
    if len(drawn) < len(x):
        torch.clamp(x, 0, 1, out=out)
        if len(drawn):
            out[drawn] = _relit(x[drawn].logit_(_EDGE), matrices[drawn]).sigmoid_()
        return
    torch.sigmoid(_relit(torch.logit(x, _EDGE), matrices), out=out)


def _relit(logits: Tensor, matrices: Tensor) -> Tensor:
    grey = torch.eye(3, dtype=matrices.dtype) * matrices[:, :1, :1]
    mixes = not bool((matrices[:, :3, :3] == grey).all())
    matrices = matrices.to(logits.dtype).to(logits.device, non_blocking=True)
    shift = matrices[:, :3, 3:]
    if mixes:
        return torch.baddbmm(shift, matrices[:, :3, :3], logits.flatten(2)).view_as(logits)
    return torch.addcmul(shift[..., None], logits, matrices[:, :1, :1, None], out=logits)
