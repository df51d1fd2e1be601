"""Batch transforms: shape, range, shares, and every option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.imaging.preprocess import Op, Preprocess
from drivetrain.learn.augment import (
    Augment,
    BatchTransform,
    Brightness,
    Contrast,
    Dihedral,
    Flip,
    Normalize,
    RandomResizedCropGPU,
    Rotate,
    Saturation,
    Warp,
    Zoom,
    aug_transforms,
    imagenet_stats,
)

MANY = 600
NOTHING = {"do_flip": False, "max_rotate": 0.0, "max_zoom": 1.0, "max_lighting": 0.0, "max_warp": 0.0}
# each alone: what it is called with to touch a share p of the pictures
SINGLES: dict[str, Callable[..., Any]] = {
    "Flip": Flip,
    "Rotate": lambda p, **how: Rotate(40, p, **how),
    "Zoom": lambda p, **how: Zoom(1.2, 1.5, p, **how),
    "Warp": lambda p, **how: Warp(0.3, p, **how),
    "Brightness": lambda p, **how: Brightness(0.4, p, **how),
    "Contrast": lambda p, **how: Contrast(0.4, p, **how),
    "Saturation": lambda p, **how: Saturation(0.4, p, **how),
    "Dihedral": Dihedral,
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 4, height: int = 12, width: int = 12) -> Tensor:
    return torch.rand(n, 3, height, width, generator=rng(7))


def copies(n: int, height: int = 8, width: int = 8) -> Tensor:
    return pictures(1, height, width).expand(n, -1, -1, -1).contiguous()


def run(tfms: list[BatchTransform], x: Tensor, seed: int = 0) -> Tensor:
    draws = rng(seed)
    for tfm in tfms:
        x = tfm(x, draws)
    return x


def share_touched(tfm: Any, x: Tensor) -> float:
    return float((tfm(x, rng(3)) != x).flatten(1).any(1).float().mean())


def distinct(x: Tensor) -> int:
    return len({tuple(one.flatten().tolist()) for one in x})


# -- every transform


@given(
    name=st.sampled_from(sorted(SINGLES)),
    p=st.floats(0, 1),
    n=st.integers(1, 5),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    seed=st.integers(0, 1000),
    contrast=st.floats(0, 1),
    mode=st.sampled_from(["bilinear", "nearest"]),
    pad_mode=st.sampled_from(["zeros", "border", "reflection"]),
)
@settings(max_examples=150, deadline=None)
def test_shape_dtype_and_range_are_kept(
    name: str, p: float, n: int, height: int, width: int, seed: int, contrast: float, mode: str, pad_mode: str
) -> None:
    x = ((torch.rand(n, 3, height, width, generator=rng(seed)) - 0.5) * 4 * contrast + 0.5).clamp(0, 1)
    before = x.clone()
    moves = name in {"Flip", "Dihedral", "Rotate", "Zoom", "Warp"}
    out = SINGLES[name](p, **({"mode": mode, "pad_mode": pad_mode} if moves else {}))(x, rng(seed))
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert 0 <= out.min() <= out.max() <= 1
    assert torch.equal(x, before)  # what was given is never written to


@given(
    mult=st.floats(0, 2),
    seed=st.integers(0, 1000),
    size=st.one_of(st.none(), st.integers(1, 30)),
    min_scale=st.floats(0.1, 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    flip_vert=st.booleans(),
    batch=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=100, deadline=None)
def test_the_whole_chain_keeps_shape_dtype_and_range(
    mult: float,
    seed: int,
    size: int | None,
    min_scale: float,
    height: int,
    width: int,
    flip_vert: bool,
    batch: bool,
    dtype: torch.dtype,
) -> None:
    x = (torch.rand(3, 3, height, width, generator=rng(seed)) * 1.5 - 0.25).clamp(0, 1).to(dtype)
    scale = 1.0 if size is None else min_scale
    out = run(aug_transforms(mult, flip_vert=flip_vert, size=size, min_scale=scale, batch=batch), x, seed)
    assert out.shape == (3, 3, *((height, width) if size is None else (size, size)))
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.parametrize("name", sorted(SINGLES))
def test_p_is_the_share_touched(name: str) -> None:
    x = copies(MANY)
    most = 7 / 8 if name == "Dihedral" else 1.0  # as it lies is one of the eight
    assert share_touched(SINGLES[name](0.0), x) == 0
    assert share_touched(SINGLES[name](0.3), x) == pytest.approx(0.3 * most, abs=0.06)
    assert share_touched(SINGLES[name](1.0), x) == pytest.approx(most, abs=0.0 if most == 1 else 0.05)


@pytest.mark.parametrize("name", sorted(SINGLES))
def test_what_is_not_touched_stays_as_it_is(name: str) -> None:
    x = copies(MANY)
    out = SINGLES[name](0.5)(x, rng())
    same = (out - x).abs().flatten(1).amax(1) < 1e-6
    assert 0.3 < same.float().mean() < 0.7
    assert SINGLES[name](0.0)(x, rng()) is x  # nothing drawn, nothing made


@pytest.mark.parametrize("name", sorted(SINGLES))
def test_batch_draws_once_for_all(name: str) -> None:
    x = copies(64)
    assert distinct(SINGLES[name](1.0, batch=False)(x, rng())) > 1 or name == "Flip"
    counts = {distinct(SINGLES[name](0.5, batch=True)(x, rng(seed))) for seed in range(8)}
    assert counts == {1}


def test_batch_flips_all_or_none() -> None:
    shares = [share_touched(tfm, copies(16)) for tfm in (Flip(0.5, batch=True), Flip(0.5, batch=False))]
    assert shares[0] in (0.0, 1.0)
    assert 0 < shares[1] < 1


@pytest.mark.parametrize("name", sorted(SINGLES))
def test_the_generator_alone_decides(name: str) -> None:
    x = pictures(8)
    first, again, other = (SINGLES[name](0.7)(x, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(99)
    assert torch.equal(SINGLES[name](0.7)(x, rng(1)), first)


def test_the_number_of_threads_changes_nothing() -> None:
    x, threads = pictures(9, 200, 200), torch.get_num_threads()  # several chunks
    try:
        torch.set_num_threads(1)
        alone = run(aug_transforms(), x)
        torch.set_num_threads(3)
        assert torch.equal(run(aug_transforms(), x), alone)
        assert torch.get_num_threads() == 3  # as it was: the threads' own limit is theirs alone
    finally:
        torch.set_num_threads(threads)


# -- single transforms


def test_a_flip_is_a_mirror() -> None:
    x = pictures()
    assert torch.equal(Flip(1.0)(x, rng()), x.flip(-1))


def test_a_dihedral_draws_all_eight() -> None:
    assert distinct(Dihedral(1.0)(copies(200), rng())) == 8


def test_a_rotation_reaches_its_limit_and_no_further() -> None:
    matrices = Rotate(25, 1.0).matrices(MANY, (8, 8), rng())
    degrees = torch.rad2deg(torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert -25 <= degrees.min() < -23
    assert 23 < degrees.max() <= 25


def test_a_zoom_reaches_its_limits_and_no_further() -> None:
    matrices = Zoom(0.8, 2.0, 1.0).matrices(MANY, (8, 8), rng())
    zoom = 1 / matrices[:, 0, 0]
    assert 0.8 <= zoom.min() < 0.83
    assert 1.95 < zoom.max() <= 2.0
    assert (matrices[:, :2, 2].abs() <= (1 - matrices[:, :1, 0]).abs() + 1e-12).all()  # never beyond the picture


def test_a_warp_reaches_its_magnitude_and_no_further() -> None:
    tilt = Warp(0.3, 1.0).matrices(MANY, (8, 8), rng())[:, 2, :2]
    assert (tilt.abs() <= 0.3).all()
    assert (tilt.abs().amax(0) > 0.29).all()


@pytest.mark.parametrize("max_lighting", [0.1, 0.5])
def test_brightness_moves_mid_grey_as_far_as_it_says(max_lighting: float) -> None:
    levels = Brightness(max_lighting, 1.0)(torch.full((MANY, 3, 2, 2), 0.5), rng())[:, 0, 0, 0]
    assert float(levels.min()) == pytest.approx((1 - max_lighting) / 2, abs=0.01)
    assert float(levels.max()) == pytest.approx((1 + max_lighting) / 2, abs=0.01)


def test_contrast_spreads_about_mid_grey() -> None:
    x = torch.tensor([0.5, 0.75]).view(1, 1, 1, 2).expand(MANY, 3, 1, 2).contiguous()
    out = Contrast(0.5, 1.0)(x, rng())
    assert torch.allclose(out[..., 0], torch.tensor(0.5))
    gains = out[:, 0, 0, 1].logit() / torch.tensor(0.75).logit()
    assert float(gains.min()) == pytest.approx(0.5, abs=0.02)
    assert float(gains.max()) == pytest.approx(2.0, abs=0.05)


def test_saturation_leaves_greys_and_moves_colours() -> None:
    grey = torch.rand(5, 1, 4, 4, generator=rng()).expand(5, 3, 4, 4).contiguous()
    torch.testing.assert_close(Saturation(0.5, 1.0)(grey, rng()), grey, atol=1e-5, rtol=0)
    x = torch.tensor([0.8, 0.5, 0.3]).view(1, 3, 1, 1).expand(MANY, 3, 1, 1).contiguous()
    red, _, blue = Saturation(0.5, 1.0)(x, rng()).logit().unbind(1)
    gains = (red - blue) / (x[:, 0].logit() - x[:, 2].logit())
    assert float(gains.min()) == pytest.approx(0.5, abs=0.02)
    assert float(gains.max()) == pytest.approx(2.0, abs=0.05)


def test_lights_join_in_the_order_given() -> None:
    x = pictures()
    both = Augment((), (Brightness(0.5, 1.0), Contrast(0.5, 1.0)))
    draws = rng()
    apart = Contrast(0.5, 1.0)(Brightness(0.5, 1.0)(x, draws), draws)
    torch.testing.assert_close(both(x, rng()), apart, atol=1e-6, rtol=0)


def test_moves_join_in_the_order_given() -> None:
    parts = (Rotate(40, 1.0), Zoom(1.2, 2.0, 1.0))
    draws = rng()
    apart = [part.matrices(4, (12, 12), draws) for part in parts]
    seen: list[Tensor] = []

    @dataclass(frozen=True)
    class Both(Rotate):
        def matrices(self, n: int, size: tuple[int, int], rng: torch.Generator) -> Tensor:
            seen.append(apart[0] @ apart[1])
            return seen[0]

    assert torch.equal(Augment(parts)(pictures(), rng()), Augment((Both(),))(pictures(), rng()))


@given(
    height=st.integers(20, 60),
    width=st.integers(20, 60),
    min_scale=st.floats(0.1, 0.6),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_random_crop_lies_within_its_bounds(height: int, width: int, min_scale: float, seed: int) -> None:
    crop = RandomResizedCropGPU(16, min_scale, (3 / 4, 4 / 3))
    matrices = crop.matrices(50, (height, width), rng(seed))
    wide, tall = matrices[:, 0, 0], matrices[:, 1, 1]
    shape = min(max(width / height, 3 / 4), 4 / 3)
    largest = min(1.0, shape * height / width) * min(1.0, width / height / shape)  # a strip has no larger part
    assert (wide * tall >= min(min_scale, largest) - 1e-9).all()
    assert (wide * tall <= 1 + 1e-9).all()
    ratio = wide * width / (tall * height)
    assert (ratio >= 3 / 4 - 1e-9).all()
    assert (ratio <= 4 / 3 + 1e-9).all()
    assert (wide + matrices[:, 0, 2].abs() <= 1 + 1e-9).all()
    assert (tall + matrices[:, 1, 2].abs() <= 1 + 1e-9).all()


def test_a_random_crop_covers_its_bounds() -> None:
    matrices = RandomResizedCropGPU(16, 0.2, (3 / 4, 4 / 3)).matrices(4000, (32, 32), rng())
    wide, tall = matrices[:, 0, 0], matrices[:, 1, 1]
    assert (wide * tall).min() < 0.22
    assert (wide * tall).max() > 0.95
    assert (wide / tall).min() < 0.76
    assert (wide / tall).max() > 1.32
    assert matrices[:, :2, 2].amin() < -0.4
    assert matrices[:, :2, 2].amax() > 0.4


def test_a_crop_that_fits_nowhere_is_the_middle() -> None:
    strip = RandomResizedCropGPU(8, 0.9, (1.0, 1.0)).matrices(5, (10, 100), rng())
    torch.testing.assert_close(strip, torch.diag(torch.tensor([0.1, 1, 1])).double().expand(5, 3, 3))


# -- aug_transforms, option by option


def test_nothing_asked_for_is_nothing_done() -> None:
    assert aug_transforms(**NOTHING) == []
    assert aug_transforms(p_affine=0, p_lighting=0, do_flip=False)[0](x := pictures(), rng()) is x


def test_do_flip() -> None:
    x = copies(64)
    assert distinct(run(aug_transforms(**NOTHING | {"do_flip": True}), x)) == 2
    plain = aug_transforms(do_flip=False, max_warp=0, max_rotate=0, max_lighting=0)
    left_is_dark = torch.linspace(0, 1, 8).expand(64, 3, 8, 8).contiguous()
    for seed in range(5):
        out = run(plain, left_is_dark, seed)
        assert (out[..., -1] > out[..., 0]).all()


def test_flip_vert() -> None:
    x = copies(300)
    assert distinct(run(aug_transforms(**NOTHING | {"do_flip": True}, flip_vert=True), x)) == 8
    assert aug_transforms(**NOTHING, flip_vert=True) == []  # as in fastai: without do_flip there is none


@pytest.mark.parametrize(
    ("option", "kind"),
    [("max_rotate", Rotate), ("max_warp", Warp), ("max_lighting", Brightness), ("max_zoom", Zoom), ("min_zoom", Zoom)],
)
@pytest.mark.parametrize("mult", [0.5, 1.0, 2.0])
def test_magnitudes_reach_their_part_times_mult(option: str, kind: type, mult: float) -> None:
    value = {"max_rotate": 30.0, "max_warp": 0.1, "max_lighting": 0.3, "max_zoom": 1.4, "min_zoom": 0.7}[option]
    (chain,) = aug_transforms(mult, **NOTHING | {option: value})
    assert isinstance(chain, Augment)
    (part,) = [part for part in (*chain.geometry, *chain.lighting) if isinstance(part, kind)]
    field = {Rotate: "max_deg", Warp: "magnitude", Brightness: "max_lighting", Zoom: option}[kind]
    want = 1 + (value - 1) * mult if kind is Zoom else value * mult
    assert getattr(part, field) == pytest.approx(want)


def test_turns_and_tilts_stop_where_mult_would_take_them_too_far() -> None:
    """Symptom before: aug_transforms(mult=3) was refused, because 3 x max_warp is 0.6."""
    (chain,) = aug_transforms(mult=3)
    assert isinstance(chain, Augment)
    parts = {type(part): part for part in (*chain.geometry, *chain.lighting)}
    assert parts[Warp] == Warp(0.49, 0.75)
    assert parts[Rotate] == Rotate(30.0, 0.75)
    assert parts[Brightness].max_lighting == pytest.approx(0.6)
    third = parts[Warp].matrices(2_000, (8, 8), rng())[:, 2]
    assert (third[:, 2] - third[:, :2].abs().sum(1)).min() > 0.01  # nothing behind the camera is shown
    (turned,) = aug_transforms(**NOTHING | {"max_rotate": 100}, mult=2)
    assert isinstance(turned, Augment)
    assert turned.geometry == (Rotate(180.0, 0.75),)


def test_max_lighting_is_brightness_and_contrast() -> None:
    (chain,) = aug_transforms(**NOTHING | {"max_lighting": 0.3})
    assert isinstance(chain, Augment)
    assert chain.lighting == (Brightness(0.3, 0.75), Contrast(0.3, 0.75))


def test_mult_of_zero_leaves_the_flip_alone() -> None:
    assert distinct(run(aug_transforms(0), copies(64))) == 2


def test_p_affine() -> None:
    parts = {"max_rotate": 30.0}
    for p in (0.0, 0.4, 1.0):
        tfms = aug_transforms(**NOTHING | parts, p_affine=p)
        assert share_touched(tfms[0], copies(MANY)) == pytest.approx(p, abs=0.06)
    untouched = aug_transforms(p_affine=0, do_flip=False, max_lighting=0)
    assert share_touched(untouched[0], copies(16)) == 0  # warp, rotate and zoom alike


def test_p_lighting() -> None:
    for p in (0.0, 0.4, 1.0):
        tfms = aug_transforms(**NOTHING | {"max_lighting": 0.5}, p_lighting=p)
        assert share_touched(tfms[0], copies(MANY)) == pytest.approx(1 - (1 - p) ** 2, abs=0.06)


def test_size_and_min_scale() -> None:
    x = pictures(2, 30, 40)
    (chain,) = aug_transforms(**NOTHING, size=16)
    assert chain(x, rng()).shape == (2, 3, 16, 16)
    resize = {"op": "resize", "mode": "squish", "size": 16, "filter": "bilinear", "antialias": True}
    assert chain.valid_ops() == [resize]
    (part,) = aug_transforms(**NOTHING, size=16, min_scale=0.5)
    assert part(x, rng()).shape == (2, 3, 16, 16)
    assert part.valid_ops() == [{**resize, "mode": "crop"}]
    assert not torch.allclose(part(x, rng(1)), part(x, rng(2)), atol=0.05)  # another part each time
    assert torch.equal(chain(x, rng(1)), chain(x, rng(2)))
    assert aug_transforms()[0].valid_ops() == []


@pytest.mark.parametrize("min_scale", [1.0, 0.5])
def test_the_ops_of_validation_are_ops_that_run(min_scale: float) -> None:
    (chain,) = aug_transforms(size=16, min_scale=min_scale)
    ends = [{"op": "scale", "by": 1 / 255}, {"op": "layout", "to": "NCHW"}]
    ops = [{"op": "decode", "mode": "RGB", "jpeg_min_side": None}, *chain.valid_ops(), *ends]
    assert Preprocess(ops).from_array(torch.zeros(20, 30, 3, dtype=torch.uint8).numpy()).shape == (3, 16, 16)


def test_a_strong_shrink_looks_at_every_pixel() -> None:
    x = torch.zeros(1, 3, 64, 64)
    x[..., ::8, ::8] = 1.0  # on the points alone that a grid of 8 x 8 would read, or on none of them
    out = run(aug_transforms(**NOTHING, size=8), x)
    assert float(out.mean()) == pytest.approx(1 / 64, abs=0.003)


def test_mode() -> None:
    x = pictures()
    moved = [run(aug_transforms(**NOTHING | {"max_rotate": 30}, mode=mode), x) for mode in ("bilinear", "nearest")]
    values = set(x.flatten().tolist())
    assert not set(moved[0].flatten().tolist()) <= values
    assert set(moved[1].flatten().tolist()) <= values


def test_pad_mode() -> None:
    x = pictures().clamp(0.2, 1)
    zoomed = NOTHING | {"min_zoom": 0.5, "max_zoom": 0.6, "p_affine": 1.0}
    zeros, border, mirror = (
        run(aug_transforms(**zoomed, pad_mode=mode), x) for mode in ("zeros", "border", "reflection")
    )
    assert float(zeros.min()) == 0
    assert float(border.min()) >= 0.2 - 1e-6
    assert float(mirror.min()) >= 0.2 - 1e-6
    assert not torch.equal(border, mirror)


def test_align_corners() -> None:
    x = pictures()
    turned = NOTHING | {"max_rotate": 30}
    assert not torch.equal(*(run(aug_transforms(**turned, align_corners=aligned), x) for aligned in (True, False)))


def test_batch() -> None:
    assert distinct(run(aug_transforms(batch=True, flip_vert=True), copies(16))) == 1
    assert distinct(run(aug_transforms(size=6, min_scale=0.3, batch=True), copies(16))) == 1
    assert distinct(run(aug_transforms(batch=False), copies(16))) == 16


def test_pictures_are_drawn_one_by_one() -> None:
    assert distinct(run(aug_transforms(), copies(50))) == 50


@dataclass(frozen=True)
class Black:
    on_valid: ClassVar[bool] = False
    order: ClassVar[int] = 50

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return torch.zeros_like(x)

    def valid_ops(self) -> list[Op]:
        return []


def test_extra_transforms_join_in_or_follow() -> None:
    extras = [Rotate(90, 1.0), Saturation(0.5), Black()]
    chain, last = aug_transforms(xtra_tfms=extras)
    assert isinstance(chain, Augment)
    assert chain.geometry[-1] == extras[0]
    assert chain.lighting[-1] == extras[1]
    assert last == extras[2]
    assert aug_transforms(**NOTHING, xtra_tfms=Black()) == [Black()]
    assert run([chain, last], pictures()).max() == 0


def test_an_extra_crop_brings_its_size() -> None:
    (chain,) = aug_transforms(xtra_tfms=[RandomResizedCropGPU(6)])
    assert run([chain], pictures()).shape == (4, 3, 6, 6)


# -- Normalize


def test_normalize_and_back() -> None:
    tfm = Normalize.from_stats(*imagenet_stats)
    x = pictures()
    out = tfm(x, rng())
    assert float(out[0, 1, 0, 0]) == pytest.approx((float(x[0, 1, 0, 0]) - 0.456) / 0.224, abs=1e-5)
    torch.testing.assert_close(tfm.decode(out), x, atol=1e-6, rtol=0)
    assert tfm.on_valid
    assert tfm.valid_ops() == []
    assert tfm.order > aug_transforms()[0].order


# -- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p_affine": 1.5}, "p_affine: got 1.5; want a number from 0 to 1"),
        ({"p_lighting": -0.1}, "p_lighting: got -0.1; want a number from 0 to 1"),
        ({"p_affine": float("nan")}, "p_affine: got nan"),
        ({"max_rotate": -5}, "max_rotate: got -5; want a number from 0 to 180"),
        ({"max_rotate": 200}, "max_rotate: got 200; want a number from 0 to 180"),
        ({"max_warp": 0.5}, "max_warp: got 0.5; want a number from 0 to 0.49"),
        ({"mult": 5}, "max_lighting x mult: got 1.0; want a number from 0 to 0.99. Lower mult, or max_lighting"),
        ({"mult": "2"}, "mult: got '2'; want a number"),
        ({"mult": -1}, "mult: got -1; want a number from 0 to 100"),
        ({"max_lighting": 1}, "max_lighting: got 1; want a number from 0 to 0.99"),
        ({"max_warp": True}, "max_warp: got True; want a number"),
        ({"min_zoom": 1.5, "max_zoom": 1.2}, "min_zoom: got 1.5; want at most max_zoom, which is 1.2"),
        ({"min_zoom": 0}, "min_zoom: got 0; want a number from 0.05"),
        ({"min_zoom": 0.5, "mult": 2}, "min_zoom, scaled by mult: got 0.0; want a number from 0.05"),
        ({"max_zoom": 12, "mult": 2}, "max_zoom, scaled by mult: got 23"),
        ({"pad_mode": "wrap"}, "pad_mode: got wrap; want one of zeros, border, reflection"),
        ({"mode": "bicubic"}, "mode: got bicubic; want one of bilinear, nearest"),
        ({"size": 0}, "size: got 0; want a whole number from 1 to 4096"),
        ({"size": 12.5}, "size: got 12.5; want a whole number"),
        ({"min_scale": 0.5}, "size: got nothing; want the side of what comes out, in pixels: min_scale is below 1"),
        ({"min_scale": 1.5, "size": 8}, "min_scale: got 1.5"),
        ({"size": 8, "xtra_tfms": RandomResizedCropGPU(4)}, "size: got 8, and 4 in xtra_tfms; want one size"),
        ({"xtra_tfms": [print]}, "xtra_tfms: got <built-in function print>; want batch transforms"),
    ],
)
def test_what_is_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        aug_transforms(**options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flip(2), "Flip.p: got 2"),
        (lambda: Dihedral(-1), "Dihedral.p: got -1"),
        (lambda: Rotate(-1), "Rotate.max_deg: got -1"),
        (lambda: Rotate(10, 2), "Rotate.p: got 2"),
        (lambda: Zoom(0, 2), "Zoom.min_zoom: got 0"),
        (lambda: Zoom(1, 99), "Zoom.max_zoom: got 99"),
        (lambda: Zoom(2, 1), "Zoom.min_zoom: got 2; want at most max_zoom, which is 1"),
        (lambda: Zoom(1, 2, 3), "Zoom.p: got 3"),
        (lambda: Warp(0.5), "Warp.magnitude: got 0.5; want a number from 0 to 0.49"),
        (lambda: Warp(0.1, 2), "Warp.p: got 2"),
        (lambda: Brightness(1), "Brightness.max_lighting: got 1"),
        (lambda: Contrast(0.2, 2), "Contrast.p: got 2"),
        (lambda: Saturation(-1), "Saturation.max_lighting: got -1"),
        (RandomResizedCropGPU, "RandomResizedCropGPU.size: got nothing"),
        (lambda: RandomResizedCropGPU(8, 0), "RandomResizedCropGPU.min_scale: got 0"),
        (lambda: RandomResizedCropGPU(8, ratio=(0, 1)), "RandomResizedCropGPU.ratio[0]: got 0"),
        (lambda: RandomResizedCropGPU(8, ratio=(2, 1)), "RandomResizedCropGPU.ratio[1]: got 1"),
        (
            lambda: Normalize.from_stats([0.5, 0.5], [1, 1]),
            "Normalize.mean: got (0.5, 0.5); want three finite numbers.",
        ),
        (lambda: Normalize.from_stats([0, 0, 0], [1, 0, 1]), "Normalize.std: got (1.0, 0.0, 1.0); want three finite"),
    ],
)
def test_a_single_transform_refuses_it_too(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        make()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3, 4), "batch: got shape (2, 3, 4); want shape (n, 3, height, width)"),
        (torch.zeros(2, 1, 4, 4), "batch: got shape (2, 1, 4, 4)"),
        (torch.zeros(0, 3, 4, 4), "batch: got shape (0, 3, 4, 4)"),
        (torch.zeros(2, 3, 0, 4), "batch: got shape (2, 3, 0, 4)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "batch: got torch.uint8; want torch.float32 or torch.float64"),
        (
            torch.full((2, 3, 4, 4), 255.0),
            "batch: got values from 255 to 255; want values in [0, 1]. Put Normalize last.",
        ),
        (torch.full((2, 3, 4, 4), float("nan")), "batch: got values from nan to nan"),
        ([1, 2], "batch: got list; want a torch.Tensor"),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused(x: Any, message: str) -> None:
    for tfm in (Rotate(10, 1.0), Brightness(0.2, 1.0)):
        with pytest.raises(InvalidInput) as caught:
            tfm(x, rng())
        assert str(caught.value).startswith(message)


def test_a_generator_is_needed() -> None:
    with pytest.raises(InvalidInput, match=r"rng: got 42; want a torch.Generator of the CPU"):
        Flip()(pictures(), 42)  # type: ignore[arg-type]


def test_rounding_beyond_the_range_is_cut() -> None:
    x = pictures() * 1.001 - 0.0005
    for tfm in (Flip(1.0), Brightness(0.2, 0.5)):
        out = tfm(x, rng())
        assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_device_changes_nothing_but_the_device() -> None:
    x = pictures(8, 40, 40)
    there = run(aug_transforms(xtra_tfms=Saturation()), x.cuda())
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), run(aug_transforms(xtra_tfms=Saturation()), x), atol=1e-4, rtol=0)
