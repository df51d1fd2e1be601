from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from drivetrain.errors import InvalidInput
from drivetrain.learn.backbones import EfficientNetLite
from drivetrain.learn.head import embed_features
from drivetrain.learn.network import Network, RootLinear, build_network, root_features
from drivetrain.learn.trunk import BACKBONES

LITE0 = BACKBONES["efficientnet_lite0"]
TINY = dataclasses.replace(LITE0, name="tiny", width=0.25, depth=0.3, feature_count=16, size=64)  # 10 pieces
HEAD = 16 + 2 * (80 + 48 + 48)  # the last map, and what pieces 9, 8 and 7 are given
RNG = np.random.default_rng(0)


def make_network(*, n_out: int = 3, dropout: float = 0.0) -> Network:
    torch.manual_seed(0)
    return build_network(EfficientNetLite(TINY), n_out=n_out, dropout=dropout)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def head_of(weight: np.ndarray, bias: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(weight=weight, bias=bias)


def test_a_fitted_head_gives_its_logits() -> None:
    weight, bias = RNG.normal(size=(4, HEAD)).astype(np.float32), np.array([1, 2, 3, 4], np.float32)
    network = build_network(EfficientNetLite(TINY).eval(), n_out=4, head=head_of(weight, bias))
    with torch.inference_mode():
        logits, embedding, frozen, feature_map = network.outputs(noise(2, 3, 64, 64))
        assert torch.equal(logits, network(noise(2, 3, 64, 64)))
        features, _ = network.backbone.run_features(noise(2, 3, 64, 64))
    assert (feature_map.shape, frozen.shape) == ((2, 16, 2, 2), (2, 16))
    np.testing.assert_allclose(frozen, feature_map.mean((2, 3)), atol=1e-6)
    assert features.shape == (2, HEAD)
    assert torch.equal(features[:, :16], frozen)
    np.testing.assert_allclose(embedding, embed_features(features.numpy()), atol=1e-6)
    np.testing.assert_allclose(logits, embed_features(features.numpy()) @ weight.T + bias, atol=1e-4)
    assert not network.training


@pytest.mark.parametrize(
    ("weight", "bias"),
    [((4, HEAD), (3,)), ((3, HEAD - 1), (3,)), ((3, 16), (3,)), ((3, HEAD), (4,)), ((HEAD,), (3,)), ((3, HEAD), ())],
)
def test_a_head_of_another_shape_is_refused(weight: tuple[int, ...], bias: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"head: got weight .*want weight \(3, 368\) and bias \(3,\)"):
        build_network(EfficientNetLite(TINY), n_out=3, head=head_of(np.zeros(weight), np.zeros(bias)))


def test_goes_on_from_what_any_piece_is_given() -> None:
    network = make_network()
    assert network.backbone.cuts == tuple(range(1, 10))
    with torch.inference_mode():
        whole = network(noise(2, 3, 64, 64))
        for cut in range(1, 8):
            kept = network.backbone.run(noise(2, 3, 64, 64), stop=cut)
            assert torch.equal(network.run_from(kept, cut), whole)
        assert torch.equal(network.run_from(noise(2, 3, 64, 64), 0), whole)
        with pytest.raises(AssertionError):  # what piece 7 is given is gone there, and the head reads it
            network.run_from(network.backbone.run(noise(2, 3, 64, 64), stop=8), 8)
    assert whole.std() > 1e-3


def test_a_cut_moves_frozen_alone() -> None:
    network = make_network()
    with torch.inference_mode():
        before = network.outputs(noise(2, 3, 64, 64))
        network.cut = 5
        logits, embedding, frozen, feature_map = network.outputs(noise(2, 3, 64, 64))
        kept = network.backbone.run(noise(2, 3, 64, 64), stop=5)
    assert torch.equal(frozen, kept.mean((2, 3)))
    assert frozen.shape == (2, kept.shape[1])
    assert torch.equal(logits, before[0])
    assert torch.equal(embedding, before[1])
    assert torch.equal(feature_map, before[3])


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_cut_that_is_none_is_refused(cut: int) -> None:
    with pytest.raises(InvalidInput, match=rf"cut: got {cut}; want one of \[1, 2, 3, 4, 5, 6, 7, 8, 9\]"):
        make_network().cut = cut


@pytest.mark.parametrize("cut", [8, 9])
def test_a_cut_behind_what_the_head_reads_is_refused(cut: int) -> None:
    network = make_network()
    network.cut = 7
    with pytest.raises(InvalidInput, match=rf"cut: got {cut}; want at most 7: the head reads what that piece is given"):
        network.cut = cut
    assert network.cut == 7


def test_norms_keep_their_statistics_while_training() -> None:
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    assert network.train() is network
    assert network.training
    assert network.backbone.training
    assert network.head.training
    network(noise(4, 3, 64, 64)).sum().backward()
    assert len(before) > 20
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    norm = network.backbone.bn0
    assert norm.weight.grad is not None  # their scale is trained all the same
    assert norm.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("dropout", "is_same"), [(0.0, True), (0.5, False)])
def test_dropout_works_while_training_only(dropout: float, is_same: bool) -> None:
    network = make_network(dropout=dropout)
    pixels = noise(2, 3, 64, 64)
    torch.manual_seed(1)
    with torch.no_grad():
        assert torch.equal(network.train()(pixels), network.eval()(pixels)) is is_same


def test_the_root_is_numpys_and_its_slope_stays_finite() -> None:
    x = torch.tensor([-4.0, -1e-9, -0.0, 0.0, 1e-12, 1e-3, 0.25, 9.0], requires_grad=True)
    rooted = root_features(x)
    assert np.array_equal(rooted.detach().numpy(), embed_features(x.detach().numpy()))
    with torch.no_grad():
        assert torch.equal(root_features(x), rooted)
    rooted.sum().backward()
    assert x.grad is not None
    steepest = 0.5 / 1e-3**0.5
    expected = [0.25, *[steepest] * 5, 1.0, 1 / 6]
    assert x.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_root_is_taken_in_single_precision() -> None:
    head = RootLinear(2, 1)
    assert head.embed(torch.tensor([[1e-6, 4.0]], dtype=torch.float16)).dtype == torch.float32


def test_groups_hold_each_weight_once_from_the_stem_to_the_head() -> None:
    network = make_network()
    groups = network.groups()
    assert len(groups) == 4
    flat = [p for group in groups for p in group]
    assert len(flat) == len({id(p) for p in flat})
    assert {id(p) for p in flat} == {id(p) for p in network.parameters()}
    assert groups[0][0] is network.backbone.conv_stem.weight
    assert groups[-2][-1] is network.backbone.bn1.bias
    assert groups[-1] == list(network.head.parameters())
    sizes = [sum(p.numel() for p in group) for group in groups]
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_shared_weight_is_in_one_group() -> None:
    network = make_network()
    network.backbone.blocks[3].project_conv.weight = network.backbone.blocks[2].project_conv.weight
    flat = [p for group in network.groups() for p in group]
    assert len(flat) == len({id(p) for p in flat}) == len(list(network.parameters()))


def test_the_backbones_classifier_is_left_behind() -> None:
    network = make_network()
    assert not [name for name in network.state_dict() if "fc" in name]
    assert isinstance(network.backbone.fc, nn.Identity)
    assert [name for name, _ in network.head.named_parameters()] == ["linear.weight", "linear.bias"]
