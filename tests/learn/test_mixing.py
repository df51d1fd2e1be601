"""Mixed pictures: the labels are mixed as the pictures are, and the same place in a training draws the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from drivetrain.errors import InvalidConfig
from drivetrain.learn.mixing import CutMix, MixUp

N, K = 64, 64


def make_batch(targets: torch.Tensor | None = None, *, training: bool = True) -> Any:
    """Picture i is i everywhere, and its label is i: what a mixture is made of can be read off."""
    x = torch.arange(float(N))[:, None, None, None].expand(N, 3, 16, 24).clone()
    y = torch.arange(N) if targets is None else targets
    return SimpleNamespace(xb=x, yb=y, training=training, dls=SimpleNamespace(c=K))


def mix(callback: MixUp | CutMix, learn: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    callback.before_batch(learn)
    return learn


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_labels_are_mixed_as_the_pictures_are(kind: type[MixUp | CutMix]) -> None:
    learn = mix(kind(), make_batch())
    assert learn.yb.shape == (N, K)
    assert torch.allclose(learn.yb.sum(1), torch.ones(N))
    assert int((learn.yb > 0).sum(1).max()) == 2
    # the mean of a picture is the mean of the labels' numbers, each by its share
    assert torch.allclose(learn.xb.mean((1, 2, 3)), learn.yb @ torch.arange(float(K)), atol=1e-3)


def test_mixup_lays_pictures_over_one_another() -> None:
    learn = mix(MixUp(), make_batch())
    assert torch.equal(learn.xb.amax((1, 2, 3)), learn.xb.amin((1, 2, 3)))
    shares = learn.yb.diagonal()
    assert (shares >= 0.5).all()  # a picture is at least half itself
    assert shares.unique().numel() > N / 2  # a share for each


def test_cutmix_sets_one_rectangle_into_each() -> None:
    x = make_batch().xb
    for seed in range(20):
        learn = mix(CutMix(), make_batch(), seed)
        foreign = (learn.xb != x)[:, 0]
        moved = foreign.flatten(1).any(1)
        if not moved.any():
            continue
        one = foreign[moved][0]
        assert (foreign[moved] == one).all()  # the same place in all
        rows, columns = one.any(1).nonzero(), one.any(0).nonzero()
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert int(one.sum()) == int(area)
        assert torch.allclose(learn.yb.diagonal()[moved], 1 - area / (16 * 24))  # its own share


@pytest.mark.parametrize(("kind", "low", "high"), [(MixUp, 0.05, 20.0), (CutMix, 0.05, 20.0)])
def test_alpha_says_how_evenly(kind: type[MixUp | CutMix], low: float, high: float) -> None:
    def spread(alpha: float) -> float:
        mixed = [mix(kind(alpha), make_batch(), seed).yb.amax(1) for seed in range(30)]
        return float(torch.cat(mixed).mean())

    assert spread(low) > 0.8  # nearly all of one
    assert spread(high) < 0.75


def test_default_alphas_are_those_of_fastai() -> None:
    assert (MixUp().alpha, CutMix().alpha, MixUp(0.2).alpha) == (0.4, 1.0, 0.2)
    for alpha in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InvalidConfig, match=r"CutMix\(alpha\)"):
            CutMix(alpha)


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_several_labels_and_values_are_averaged(kind: type[MixUp | CutMix]) -> None:
    own = mix(kind(), make_batch()).yb  # what share of what
    for targets in (F.one_hot(torch.arange(N) % 5, 5).float(), torch.randn(N, 1), torch.randn(N)):
        learn = mix(kind(), make_batch(targets))
        assert learn.yb.shape == targets.shape
        assert torch.allclose(learn.yb, own @ targets, atol=1e-5)


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_the_same_place_draws_the_same_and_another_others(kind: type[MixUp | CutMix]) -> None:
    one, again, other = (mix(kind(), make_batch(), seed).xb for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_held_out_pictures_are_not_mixed_and_memory_is_not_written_to(kind: type[MixUp | CutMix]) -> None:
    learn = make_batch(training=False)
    x, y = learn.xb, learn.yb
    mix(kind(), learn)
    assert learn.xb is x
    assert learn.yb is y
    learn.training = True
    mix(kind(), learn)
    assert torch.equal(x, make_batch().xb)
    assert learn.xb is not x


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_pictures_keep_their_type_and_labels_their_precision(kind: type[MixUp | CutMix]) -> None:
    learn = make_batch()
    learn.xb = learn.xb.to(torch.bfloat16)
    mix(kind(), learn)
    assert learn.xb.dtype == torch.bfloat16
    assert torch.equal(learn.yb, mix(kind(), make_batch()).yb)
