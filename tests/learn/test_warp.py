"""The geometry: matrices say where each pixel is read, and one interpolation reads it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drivetrain.learn.warp import (
    crop_matrices,
    dihedral_matrices,
    resample,
    rotate_matrices,
    sampling_grid,
    warp_matrices,
    zoom_matrices,
)

SIDES = st.integers(2, 17)
SHARES = st.floats(0, 1)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def where(matrices: Tensor, x: float, y: float) -> list[float]:
    """The place in the picture that the place (x, y) of what comes out shows."""
    u, v, w = (matrices[0] @ torch.tensor([x, y, 1.0], dtype=torch.float64)).tolist()
    return [u / w, v / w]


def picture(height: int, width: int, *, n: int = 1) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(height * 100 + width))


def ramp(height: int, width: int) -> Tensor:
    """A picture whose red grows from left to right and green from top to bottom: interpolation is exact on it."""
    down, across = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([across, down, torch.zeros_like(down)])[None]


@given(
    st.floats(-180, 180), st.floats(0.5, 2), SHARES, SHARES, st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), SIDES, SIDES
)
@settings(max_examples=60, deadline=None)
def test_the_chain_is_the_product_of_its_parts(
    degrees: float, zoom: float, across: float, down: float, tilt_x: float, tilt_y: float, height: int, width: int
) -> None:
    turn = rotate_matrices(one(degrees), height=height, width=width)
    closer = zoom_matrices(one(zoom), one(across), one(down))
    tilt = warp_matrices(one(tilt_x), one(tilt_y))
    grid = sampling_grid(tilt @ turn @ closer, (height, width))
    for row, column in [(0, 0), (0, width - 1), (height - 1, 0), (height // 2, width // 3)]:
        x, y = 2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1
        x, y = where(closer, x, y)
        x, y = where(turn, x, y)
        if 1 + tilt_x * x + tilt_y * y < 0.01:
            continue  # behind the horizon, where no place is
        x, y = where(tilt, x, y)
        assert grid[0, row, column].tolist() == pytest.approx([x, y], abs=1e-9)


@given(st.floats(-0.49, 0.49), st.floats(-0.49, 0.49))
@settings(deadline=None)
def test_a_warp_puts_the_corners_where_its_formula_says(x: float, y: float) -> None:
    tilt = warp_matrices(one(x), one(y))
    for u, v in [(-1, -1), (-1, 1), (1, -1), (1, 1)]:
        assert where(tilt, u, v) == pytest.approx([u - u * v * y, v - u * v * x], abs=1e-9)


def test_a_warp_is_the_one_kornia_solves_for() -> None:
    from kornia.geometry.transform import get_perspective_transform

    x, y = 0.3, -0.15
    corners = torch.tensor([[[-1.0, -1], [-1, 1], [1, 1], [1, -1]]], dtype=torch.float64)
    u, v = corners.unbind(2)
    shown = torch.stack([u - u * v * y, v - u * v * x], 2)
    torch.testing.assert_close(get_perspective_transform(corners, shown), warp_matrices(one(x), one(y)))


@pytest.mark.parametrize(("degrees", "shown"), [(0, (1, 0)), (90, (0, 1)), (180, (-1, 0)), (-90, (0, -1))])
def test_a_turn_is_counter_clockwise(degrees: float, shown: tuple[float, float]) -> None:
    turn = rotate_matrices(one(degrees), height=8, width=8)
    assert where(turn, 1, 0) == pytest.approx(shown, abs=1e-9)  # after 90 degrees the bottom (0, 1) is at the right


@given(st.floats(-180, 180), SIDES, SIDES)
@settings(deadline=None)
def test_a_turn_keeps_distances_in_pixels(degrees: float, height: int, width: int) -> None:
    u, v = where(rotate_matrices(one(degrees), height=height, width=width), 1, 0)
    assert math.hypot(u * width, v * height) == pytest.approx(width)


@pytest.mark.parametrize(
    ("across", "down", "corner"), [(0, 0, (-1, -1)), (1, 0, (1, -1)), (0, 1, (-1, 1)), (1, 1, (1, 1))]
)
def test_a_zoom_can_look_into_each_corner(across: float, down: float, corner: tuple[float, float]) -> None:
    assert where(zoom_matrices(one(2), one(across), one(down)), *corner) == pytest.approx(corner)
    u, v = where(zoom_matrices(one(2), one(across), one(down)), -corner[0], -corner[1])
    assert (u, v) == pytest.approx((0, 0))


def test_a_crop_shows_its_share() -> None:
    part = crop_matrices(one(0.5), one(0.25), one(0.5), one(1))
    assert where(part, -1, -1) == pytest.approx([-0.5, 0.5])
    assert where(part, 1, 1) == pytest.approx([0.5, 1])


@pytest.mark.parametrize("turn", range(8))
def test_a_plain_turn_moves_pixels_and_agrees_with_the_grid(turn: int) -> None:
    x = picture(9, 9, n=2)
    matrices = dihedral_matrices(torch.tensor([turn, turn]), height=9, width=9)
    moved = resample(x, matrices, (9, 9))
    assert set(moved.flatten().tolist()) == set(x.flatten().tolist())  # not one value is new
    nudge = torch.eye(3, dtype=torch.float64) * 1.0
    nudge[0, 2] = 1e-9  # enough to be interpolated
    torch.testing.assert_close(resample(x, matrices @ nudge, (9, 9)), moved, atol=1e-5, rtol=0)


def test_the_eight_turns_are_eight() -> None:
    matrices = dihedral_matrices(torch.arange(8), height=5, width=5)
    seen = resample(picture(5, 5).expand(8, -1, -1, -1), matrices, (5, 5))
    assert len({tuple(turned.flatten().tolist()) for turned in seen}) == 8
    torch.testing.assert_close(seen[1], picture(5, 5)[0].flip(-1), atol=0, rtol=0)
    torch.testing.assert_close(seen[2], picture(5, 5)[0].flip(-2), atol=0, rtol=0)


def test_a_mirror_does_not_need_a_square() -> None:
    moved = resample(picture(4, 7), dihedral_matrices(torch.tensor([1]), height=4, width=7), (4, 7))
    torch.testing.assert_close(moved, picture(4, 7).flip(-1), atol=0, rtol=0)


@given(SIDES, SIDES, st.sampled_from(["zeros", "border", "reflection"]))
@settings(deadline=None)
def test_the_identity_leaves_the_picture(height: int, width: int, pad_mode: str) -> None:
    x = picture(height, width)
    still = torch.eye(3, dtype=torch.float64)[None]
    assert torch.equal(resample(x, still, (height, width), pad_mode=pad_mode), x)
    beside = torch.cat([x, x])  # the other picture is turned, so that a grid is made
    turned = torch.cat([still, rotate_matrices(one(20), height=height, width=width)])
    assert torch.equal(resample(beside, turned, (height, width), pad_mode=pad_mode)[0], x[0])


@pytest.mark.parametrize("align_corners", [True, False])
def test_align_corners_says_where_the_edge_is(align_corners: bool) -> None:
    still = torch.eye(3, dtype=torch.float64)[None]
    grid = sampling_grid(still, (4, 8), align_corners=align_corners)
    assert grid[0, 0, 0].tolist() == pytest.approx([-1, -1] if align_corners else [-7 / 8, -3 / 4])
    x = ramp(8, 8)
    seen = resample(x, still, (4, 4), align_corners=align_corners)
    assert seen[0, 0, 0].tolist() == pytest.approx(
        [0, 1 / 3, 2 / 3, 1] if align_corners else [1 / 14, 5 / 14, 9 / 14, 13 / 14]
    )


@pytest.mark.parametrize(
    ("pad_mode", "row"),
    [("zeros", [0, 0, 0, 1, 0]), ("border", [0, 0, 0, 1, 1]), ("reflection", [0.5, 0.25, 0, 1, 0.75])],
)
def test_beyond_the_edge(pad_mode: str, row: list[float]) -> None:
    shift = torch.eye(3, dtype=torch.float64)[None].repeat(2, 1, 1)
    shift[:, 0, 2] = torch.tensor([-1.0, 0.5])  # two pixels to the left, one to the right
    seen = resample(ramp(5, 5).expand(2, -1, -1, -1), shift, (5, 5), pad_mode=pad_mode)
    assert [*seen[0, 0, 0, :3].tolist(), *seen[1, 0, 0, 3:].tolist()] == pytest.approx(row, abs=1e-6)


def test_nearest_makes_no_new_values() -> None:
    x = picture(9, 9)
    turn = rotate_matrices(one(30), height=9, width=9)
    values = set(x.flatten().tolist())
    assert set(resample(x, turn, (9, 9), mode="nearest").flatten().tolist()) <= values
    assert not set(resample(x, turn, (9, 9), mode="bilinear").flatten().tolist()) <= values


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1)])
def test_a_picture_of_one_pixel(size: tuple[int, int]) -> None:
    turn = warp_matrices(one(0.2), one(0.3)) @ rotate_matrices(one(33), height=size[0], width=size[1])
    seen = resample(torch.full((1, 3, *size), 0.25), turn, size)
    torch.testing.assert_close(seen, torch.full((1, 3, *size), 0.25))


def test_what_lies_behind_the_horizon_is_finite() -> None:
    far = warp_matrices(one(0.49), one(0.49)) @ zoom_matrices(one(0.05), one(0.5), one(0.5))
    assert sampling_grid(far, (33, 33)).isfinite().all()
    assert resample(picture(33, 33), far, (33, 33)).isfinite().all()
