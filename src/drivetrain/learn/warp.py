"""Geometry of a batch: one 3 x 3 matrix a picture, and one interpolation however many moves it stands for.

A matrix takes a place in the picture that comes out to the place in the picture that goes in. Both are counted from -1
(left, top) to 1 (right, bottom). `a @ b` is what a shows, seen through b. Matrices stand on the CPU, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "crop_matrices",
    "dihedral_matrices",
    "resample",
    "rotate_matrices",
    "sampling_grid",
    "warp_matrices",
    "zoom_matrices",
]

# turn -> the picture's (x, y) from those of what comes out; 0 leaves it, 1 to 3 mirror, 4 to 7 swap the axes
_TURNS = (
    ((1, 0), (0, 1)),
    ((-1, 0), (0, 1)),
    ((1, 0), (0, -1)),
    ((-1, 0), (0, -1)),
    ((0, 1), (1, 0)),
    ((0, -1), (1, 0)),
    ((0, 1), (-1, 0)),
    ((0, -1), (-1, 0)),
)
_HORIZON = 1e-3  # the least third coordinate: on the horizon it is 0, and a place there infinitely far away


def dihedral_matrices(turns: Tensor, *, height: int, width: int) -> Tensor:
    """(n, 3, 3) for n whole numbers in [0, 8): 0 leaves the picture, 1 mirrors it left to right, 2 top to bottom."""
    return _linear(torch.tensor(_TURNS, dtype=torch.float64)[turns], height=height, width=width)


def rotate_matrices(degrees: Tensor, *, height: int, width: int) -> Tensor:
    """(n, 3, 3) for n angles, counter-clockwise; circles stay circles in a picture that is not square."""
    angle = torch.deg2rad(degrees)
    cos, sin = angle.cos(), angle.sin()
    return _linear(torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2), height=height, width=width)


def zoom_matrices(zoom: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """(n, 3, 3): `zoom` above 1 looks closer; across and down in [0, 1] say where, from the left and from the top."""
    return crop_matrices(1 / zoom, 1 / zoom, across, down)


def crop_matrices(width: Tensor, height: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """(n, 3, 3) that show a part: width and height as shares of the picture, across and down of what is left of it."""
    matrices = torch.eye(3, dtype=width.dtype).repeat(len(width), 1, 1)
    matrices[:, 0, 0], matrices[:, 0, 2] = width, (1 - width) * (2 * across - 1)
    matrices[:, 1, 1], matrices[:, 1, 2] = height, (1 - height) * (2 * down - 1)
    return matrices


def warp_matrices(x: Tensor, y: Tensor) -> Tensor:
    """(n, 3, 3): the picture tilted, by x about one axis and by y about the other; |x| + |y| must be below 1.

    The corner (u, v) of what comes out shows the place (u - u v y, v - u v x) of the picture, as with fastai's Warp.
    There, and in kornia.geometry.get_perspective_transform, eight equations are solved for each picture; for these
    corners the solution has a closed form.
    """
    one = torch.ones_like(x)
    cells = [1 - y * y, -x * y, x, -x * y, 1 - x * x, y, x, y, one]
    return torch.stack(cells, 1).view(-1, 3, 3)


def sampling_grid(matrices: Tensor, size: Sequence[int], *, align_corners: bool = True) -> Tensor:
    """(n, h, w, 2): the place (x, y) in the picture where each pixel of what comes out is read.

    Its device and dtype are those of matrices (n, 3, 3), and all of it is finite.
    """
    across, down = (_centres(count, align_corners, like=matrices) for count in (size[1], size[0]))
    # x varies along a row and y along a column, so that a sum of the two is enough: no matrix product a pixel. The axes
    # stand before the pixels, which grid_sample reads faster than pairs
    places = matrices[:, :, :1, None] * across + (matrices[:, :, 1:2] * down + matrices[:, :, 2:])[..., None]
    if places.shape[1] == 3:
        if not _keeps_off_horizon(matrices):
            places[:, 2].clamp_min_(_HORIZON)
        places = places[:, :2].div_(places[:, 2:])
    return places.permute(0, 2, 3, 1)


def resample(
    x: Tensor,
    matrices: Tensor,
    size: Sequence[int],
    *,
    mode: str = "bilinear",
    pad_mode: str = "reflection",
    align_corners: bool = True,
) -> Tensor:
    """x (n, c, h, w) seen through matrices (n, 3, 3), as (n, c, *size), new, in the range of x but for rounding.

    Where nothing but a mirror or a quarter turn is asked for, pixels are moved and not interpolated.

    kornia.geometry.warp_perspective does the same in nearly twice the time (docs/benchmarks.md): it inverts and
    rescales each matrix and makes a grid of pairs by a matrix product. It also takes 0.4 s to import.
    """
    turns = _plain_turns(matrices, x.shape[-2:]) if tuple(size) == tuple(x.shape[-2:]) else [-1] * len(x)
    moved = [at for at, turn in enumerate(turns) if turn < 0]
    if len(moved) == len(x):
        return _sample(x, matrices, size, mode, pad_mode, align_corners)
    out = torch.empty_like(x)
    if moved:
        out[moved] = _sample(x[moved], matrices[moved], size, mode, pad_mode, align_corners)
    for turn in sorted(set(turns) - {-1}):
        chosen = [at for at, other in enumerate(turns) if other == turn]
        out[chosen] = _turned(x[chosen], turn)
    return out


def _sample(x: Tensor, matrices: Tensor, size: Sequence[int], mode: str, pad_mode: str, align_corners: bool) -> Tensor:
    if bool((matrices[:, 2] == matrices.new_tensor([0.0, 0.0, 1.0])).all()):
        matrices = matrices[:, :2]  # no tilt in any: the third coordinate is 1 everywhere
    matrices = matrices.to(x.dtype).to(x.device, non_blocking=True)  # in this order: not every device knows float64
    grid = sampling_grid(matrices, size, align_corners=align_corners)
    return F.grid_sample(x, grid, mode=mode, padding_mode=pad_mode, align_corners=align_corners)


def _plain_turns(matrices: Tensor, size: Sequence[int]) -> list[int]:
    """For each picture which of the eight turns it is, or -1: a turn that swaps the axes needs a square."""
    height, width = size
    plain = dihedral_matrices(torch.arange(8 if height == width else 4), height=height, width=width)
    same = (matrices[:, None] - plain).abs().amax((2, 3)) < 1e-12
    return [int(turn) if found else -1 for found, turn in zip(same.any(1), same.int().argmax(1), strict=True)]


def _turned(x: Tensor, turn: int) -> Tensor:
    (xx, xy), (yx, yy) = _TURNS[turn]
    if xx == 0:
        x, xx, yy = x.transpose(-1, -2), yx, xy
    backwards = [dim for dim, way in ((-1, xx), (-2, yy)) if way < 0]
    return x.flip(backwards) if backwards else x


def _linear(turned: Tensor, *, height: int, width: int) -> Tensor:
    """(n, 2, 2) that count in pixels, as (n, 3, 3) that count in shares of a picture that need not be square."""
    matrices = torch.eye(3, dtype=turned.dtype).repeat(len(turned), 1, 1)
    matrices[:, :2, :2] = turned
    matrices[:, 0, 1] *= height / width
    matrices[:, 1, 0] *= width / height
    return matrices


def _keeps_off_horizon(matrices: Tensor) -> bool:
    """Whether the third coordinate is clear of 0 in all corners, so everywhere; on a device nobody waits to know."""
    if matrices.device.type != "cpu":
        return False
    return bool((matrices[:, 2, 2] - matrices[:, 2, :2].abs().sum(1) > _HORIZON).all())


def _centres(count: int, align_corners: bool, *, like: Tensor) -> Tensor:
    end = 0.0 if count == 1 else 1.0 if align_corners else 1 - 1 / count
    return torch.linspace(-end, end, count, dtype=like.dtype, device=like.device)
