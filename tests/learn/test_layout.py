"""What stands where in the features, and that torch, ONNX and kept maps tell the same there."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput
from drivetrain.learn.activations import cut_trunk
from drivetrain.learn.backbones import (
    Backbone,
    EfficientNetLite,
    TrunkModule,
    load_backbone,
    measure_pieces,
    summarise,
)
from drivetrain.learn.head import embed_features, scale_features
from drivetrain.learn.layout import FeatureLayout, Tap, choose_cut, plan_layout
from drivetrain.learn.network import build_network
from drivetrain.learn.trunk import BACKBONES, BackboneSpec, Trunk
from drivetrain.runtime.session import Session

Maps = dict[int, tuple[int, int]]
TAPS = ((17, 320), (16, 192), (13, 192), (12, 112), (9, 80), (6, 40), (4, 24))  # of lite0
SMALL = FeatureLayout(last=5, taps=(Tap(piece=3, channels=4), Tap(piece=1, channels=2)), head_taps=1)


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return load_backbone("efficientnet_lite0")


def make_pixels(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 96, 96, generator=torch.Generator().manual_seed(1))


# what it tells


def test_the_layout_of_lite0(lite0: Backbone, trunk: Trunk) -> None:
    layout = lite0.layout
    assert tuple((tap.piece, tap.channels) for tap in layout.taps) == TAPS
    assert (layout.last, layout.head_taps) == (1280, 3)
    assert layout.blocks == (1280, 320, 320, 192, 192, 192, 192)
    assert (layout.head_count, layout.count) == (1280 + 2 * 704, 3200)
    assert layout.head_pieces == (13, 16, 17)
    assert trunk.layout == layout


@pytest.mark.parametrize("side", [96, 160])
def test_pictures_of_another_size_have_the_same_layout(lite0: Backbone, side: int) -> None:
    maps = measure_pieces(lite0, side=side)
    assert tuple(maps) == lite0.cuts
    assert maps[13] == (192, (side // 32) ** 2)
    assert plan_layout(maps, last=1280, side=side) == lite0.layout


def test_where_the_means_stand() -> None:
    assert (SMALL.count, SMALL.head_count, SMALL.blocks, SMALL.head_pieces) == (17, 13, (5, 4, 4), (3,))
    assert SMALL.find_means(3) == slice(5, 9)
    assert SMALL.find_means(1) == slice(13, 15)  # behind the spreads of piece 3
    assert SMALL.find_means(2) is None
    alone = FeatureLayout(last=5)
    assert (alone.count, alone.head_count, alone.blocks, alone.head_pieces) == (5, 5, (5,), ())
    assert alone.find_means(1) is None


def test_it_is_read_as_it_was_written() -> None:
    for layout in (SMALL, FeatureLayout(last=1280)):
        assert FeatureLayout.from_json(json.loads(json.dumps(layout.as_json()))) == layout


@pytest.mark.parametrize(
    "told",
    [
        {"last": 5, "taps": []},
        {"last": 5, "head_taps": 0},
        {"last": None, "taps": [], "head_taps": 0},
        {"last": 5, "taps": 3, "head_taps": 0},
        {"last": 5, "taps": [3], "head_taps": 0},
        {"last": 5, "taps": [{"piece": 3}], "head_taps": 0},
        [5],
    ],
)
def test_something_else_is_not_read(told: Any) -> None:
    with pytest.raises((KeyError, TypeError)):
        FeatureLayout.from_json(told)


# the plan


@pytest.mark.parametrize(
    ("maps", "taps", "head_taps"),
    [
        pytest.param({}, (), 0, id="none"),
        pytest.param({2: (8, 64)}, ((2, 8),), 0, id="one alone"),
        pytest.param({1: (8, 256)}, (), 0, id="one alone, too fine"),
        pytest.param(dict.fromkeys(range(1, 9), (8, 49)), ((8, 8), (7, 8)), 2, id="one resolution throughout"),
        pytest.param(
            {1: (8, 64), 2: (8, 64), 3: (16, 64), 4: (16, 16), 5: (16, 16), 6: (24, 16)},
            ((6, 24), (5, 16), (4, 16), (3, 16), (2, 8)),
            3,
            id="the last of each shape, and the cut",
        ),
        pytest.param(
            {1: (8, 256), 2: (8, 256), 3: (8, 64), 4: (16, 16)}, ((4, 16), (3, 8)), 1, id="too fine ones are left out"
        ),
        pytest.param(
            {1: (8, 256), 2: (12, 64), 3: (12, 64)}, ((3, 12), (2, 12)), 2, id="of one resolution but for the finest"
        ),
        pytest.param(
            {1: (8, 256), 2: (8, 256), 3: (12, 256), 4: (12, 256)}, ((4, 12),), 1, id="all too fine but the cut"
        ),
        pytest.param({2: (8, 64), 5: (16, 16)}, ((5, 16), (2, 8)), 1, id="tokens between"),
    ],
)
def test_what_is_tapped(maps: Maps, taps: tuple[tuple[int, int], ...], head_taps: int) -> None:
    layout = plan_layout(dict(reversed(maps.items())), last=7, side=32)  # in whatever order they are told
    assert tuple((tap.piece, tap.channels) for tap in layout.taps) == taps
    assert (layout.last, layout.head_taps) == (7, head_taps)
    cut = choose_cut(maps)
    if cut is not None:  # where training begins: its means are kept, and the head reads nothing before it
        assert layout.find_means(cut) is not None
        assert layout.head_pieces[0] == cut


@pytest.mark.parametrize(
    ("maps", "cut"),
    [
        ({1: (8, 256), 2: (12, 64), 3: (12, 64)}, 2),
        ({1: (8, 64), 2: (8, 64), 3: (8, 64), 4: (8, 64)}, 4),
        (dict.fromkeys(range(1, 13), (8, 64)), 10),
        ({3: (8, 16), 1: (8, 64), 2: (8, 64)}, 3),
        ({1: (8, 64)}, None),
        ({}, None),
    ],
)
def test_where_a_network_is_cut(maps: Maps, cut: int | None) -> None:
    assert choose_cut(maps) == cut


def test_measuring_leaves_a_network_as_it_was() -> None:
    """Symptom before: norms in training took in a blank picture, or failed on its map of one place."""
    spec = dataclasses.replace(
        BACKBONES["efficientnet_lite0"], name="tiny", width=0.25, depth=0.3, feature_count=16, size=32
    )
    backbone = EfficientNetLite(spec).train()
    backbone.blocks[1].eval()
    modes = [module.training for module in backbone.modules()]
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    assert measure_pieces(backbone, side=32)[9] == (80, 1)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


# the features


def watch_maps(backbone: EfficientNetLite, pixels: Tensor) -> dict[int, FloatArray]:
    """What each tap's piece is given, heard from the block before it."""
    heard: dict[int, FloatArray] = {}
    hooks = [
        backbone.blocks[piece - 2].register_forward_hook(
            lambda _module, _given, out, piece=piece: heard.update({piece: out.double().numpy()})
        )
        for piece, _ in TAPS
    ]
    with torch.inference_mode():
        heard[18] = backbone.feature_map(pixels).double().numpy()
    for hook in hooks:
        hook.remove()
    return heard


def tell(heard: dict[int, FloatArray]) -> FloatArray:
    """All features by numpy: (n, 3200)."""
    parts = [heard[18].mean(axis=(2, 3))]
    for piece, _ in TAPS:
        parts += [heard[piece].mean(axis=(2, 3)), heard[piece].std(axis=(2, 3))]
    return np.concatenate(parts, axis=1)


def test_the_features_are_what_numpy_says_of_the_maps(lite0: EfficientNetLite, trunk: Trunk) -> None:
    pixels = make_pixels()
    heard = watch_maps(lite0, pixels)
    expected = tell(heard)
    assert expected.shape == (2, 3200)
    assert all(heard[piece].std(axis=(2, 3)).mean() > 0.05 for piece, _ in TAPS)  # there are spreads to tell
    with torch.inference_mode():
        read, feature_map = lite0.run_features(pixels)
        every, exported = TrunkModule(lite0, layout=lite0.layout)(pixels)
    np.testing.assert_allclose(read, expected[:, :2688], atol=1e-3)
    np.testing.assert_allclose(every, expected, atol=1e-3)
    np.testing.assert_array_equal(feature_map, heard[18])
    assert torch.equal(exported, feature_map)
    frozen, _ = Session(trunk.model).run(["frozen", "feature_map"], pixels.numpy())
    np.testing.assert_allclose(frozen, every, atol=1e-3)


@pytest.mark.parametrize("start", [0, 4, 12, 13])
def test_the_features_go_on_from_a_piece(lite0: EfficientNetLite, start: int) -> None:
    with torch.inference_mode():
        whole = lite0.run_features(make_pixels())
        rest = lite0.run_features(lite0.run(make_pixels(), stop=start), start=start)
    assert all(torch.equal(a, b) for a, b in zip(rest, whole, strict=True))


@pytest.mark.parametrize(("dtype", "gap"), [(np.float32, 1e-3), (np.float16, 2e-2)])
def test_kept_maps_tell_what_the_trunk_does(lite0: EfficientNetLite, trunk: Trunk, dtype: type, gap: float) -> None:
    pixels = make_pixels().numpy()
    (maps,) = Session(cut_trunk(trunk, 13)).run(["activation"], pixels)
    kept = maps.astype(dtype).astype(np.float32)
    (frozen,) = Session(trunk.model).run(["frozen"], pixels)
    with torch.inference_mode():
        read, _ = lite0.run_features(torch.from_numpy(kept), start=13)
    np.testing.assert_allclose(read, frozen[:, :2688], atol=gap)
    means = trunk.layout.find_means(13)
    assert means is not None
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), frozen[:, means], atol=1e-4)


def test_a_trunk_gives_what_its_cuts_and_its_taps_ask_for(lite0: EfficientNetLite) -> None:
    layout = FeatureLayout(last=1280, taps=(Tap(piece=13, channels=192),), head_taps=1)
    with torch.inference_mode():
        frozen, _, early, late = TrunkModule(lite0, layout=layout, cuts=[9, 13])(make_pixels())
        assert torch.equal(early, lite0.run(make_pixels(), stop=9))
        assert torch.equal(late, lite0.run(make_pixels(), stop=13))
        assert torch.equal(frozen[:, 1280:], torch.cat(summarise(late), dim=1))
    assert frozen.shape == (2, 1280 + 2 * 192)


def test_a_map_that_is_the_same_all_over_has_a_slope() -> None:
    flat = torch.full((1, 2, 3, 3), 2.0, requires_grad=True)
    mean, spread = summarise(flat)
    assert mean.tolist() == [[2.0, 2.0]]
    assert spread.detach().numpy() == pytest.approx(np.full((1, 2), 1e-3))
    spread.sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
    assert summarise(flat.detach().half())[1].dtype == torch.float32


class Tokens(Backbone):
    """Patches in a row: 16 tokens of 6 between its pieces, and no map before the last."""

    def __init__(self, *, is_parted: bool) -> None:
        super().__init__(BackboneSpec(name="tokens", package="", size=16, feature_count=6))
        self.patches, self.mix = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 6)
        self.is_parted = is_parted

    @property
    def pieces(self) -> list[Any]:
        if not self.is_parted:
            return [lambda x: self.to_map(self.to_tokens(x))]
        return [self.to_tokens, self.mix, self.to_map]

    def piece_parameters(self, piece: int) -> list[nn.Parameter]:
        whole = list(self.parameters())
        return [[*self.patches.parameters()], [*self.mix.parameters()], []][piece] if self.is_parted else whole

    def to_tokens(self, x: Tensor) -> Tensor:
        return self.patches(x).flatten(2).transpose(1, 2)

    def to_map(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).reshape(-1, 6, 4, 4)


@pytest.mark.parametrize("is_parted", [True, False])
def test_tokens_have_the_mean_of_the_last_map_alone(is_parted: bool) -> None:
    backbone = Tokens(is_parted=is_parted)
    assert backbone.cuts == ((1, 2) if is_parted else ())
    assert backbone.layout == FeatureLayout(last=6)
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network = build_network(backbone, n_out=3)
    assert network.head.linear.in_features == 6
    with torch.inference_mode():
        features, feature_map = backbone.run_features(pixels)
        assert torch.equal(features, backbone.embed(feature_map))
        assert torch.equal(network.outputs(pixels)[2], features)
        if is_parted:
            network.cut = 2
            assert torch.equal(network.outputs(pixels)[2], backbone.run(pixels, stop=2).mean(1))


# what is made of them for a head


def make_features() -> FloatArray:
    """Three kinds of features, each of its own size."""
    features: FloatArray = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    return features * np.repeat(np.array([1, 1e4, 1e-4], np.float32), (5, 3, 2))


def test_each_block_is_scaled_by_itself() -> None:
    features, parts = make_features(), (slice(0, 5), slice(5, 8), slice(8, 10))
    scaled, centre, spread = scale_features(features, (5, 3, 2))
    assert {array.dtype for array in (scaled, centre, spread)} == {np.dtype(np.float32)}
    assert scaled.mean(axis=0) == pytest.approx(np.zeros(10), abs=1e-5)
    assert [np.square(scaled[:, part]).mean() for part in parts] == pytest.approx([1, 1, 1], rel=1e-4)
    assert [len(set(spread[part].tolist())) for part in parts] == [1, 1, 1]
    np.testing.assert_allclose(scaled * spread + centre, embed_features(features), rtol=1e-4, atol=1e-5)
    whole, _, one = scale_features(features)
    assert np.square(whole).mean() == pytest.approx(1, rel=1e-4)
    assert len(set(one.tolist())) == 1
    assert np.square(whole[:, parts[2]]).mean() < 1e-3  # a kind of small numbers would not be heard
    assert np.array_equal(whole, scale_features(features, (10,))[0])


def test_a_block_that_says_nothing_stays_at_nought() -> None:
    features = make_features()
    features[:, 5:8] = 3
    scaled, _, spread = scale_features(features, (5, 3, 2))
    assert not scaled[:, 5:8].any()
    assert spread[5:8].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("blocks", "total"), [((5, 3, 1), 9), ((5, 3, 3), 11), ((), 0)])
def test_blocks_that_do_not_fit_are_refused(blocks: tuple[int, ...], total: int) -> None:
    with pytest.raises(InvalidInput, match=rf"blocks: got widths that sum to {total}; want to 10"):
        scale_features(make_features(), blocks)
