from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from drivetrain.bundle.onnx_guard import check_onnx
from drivetrain.errors import InvalidInput
from drivetrain.learn import trunk as trunk_module
from drivetrain.learn.export import attach_head, export_network
from drivetrain.learn.head import embed_features
from drivetrain.learn.trunk import BACKBONES, Trunk

if TYPE_CHECKING:
    from drivetrain.learn.network import Network

RNG = np.random.default_rng(0)
COUNT, HEAD, LAST = 3200, 2688, 1280  # features of the trunk, those the head reads by itself, and the last map's
WEIGHT = RNG.normal(size=(3, HEAD)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 100.0], np.float32)


def _run(model: bytes, n: int) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    pixels = np.random.default_rng(1).normal(size=(n, 3, 96, 96)).astype(np.float32)
    return dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


@pytest.mark.parametrize(("n", "count"), [(1, HEAD), (4, HEAD), (2, LAST), (2, LAST + 1), (2, COUNT)])
def test_gives_what_numpy_gives(trunk: Trunk, n: int, count: int) -> None:
    weight = np.random.default_rng(2).normal(size=(3, count)).astype(np.float32)
    out = _run(attach_head(trunk.model, weight=weight, bias=BIAS), n)
    assert list(out) == ["logits", "embedding", "frozen", "feature_map"]
    alone = _run(trunk.model.read_bytes(), n)
    assert alone["frozen"].shape == (n, COUNT)
    np.testing.assert_allclose(out["frozen"], alone["frozen"][:, :LAST], atol=1e-6)
    np.testing.assert_allclose(out["frozen"], out["feature_map"].mean(axis=(2, 3)), atol=1e-5)
    np.testing.assert_allclose(out["feature_map"], alone["feature_map"], atol=1e-6)
    np.testing.assert_allclose(out["embedding"], embed_features(alone["frozen"][:, :count]), atol=1e-5)
    np.testing.assert_allclose(out["logits"], out["embedding"] @ weight.T + BIAS, atol=1e-3)
    assert out["logits"].shape == (n, 3)


def test_model_is_valid_and_its_shapes_are_told(trunk: Trunk) -> None:
    model = onnx.load_model_from_string(attach_head(trunk.model, weight=WEIGHT, bias=BIAS))
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    assert shapes == {
        "logits": ["n", 3],
        "embedding": ["n", HEAD],
        "frozen": ["n", LAST],
        "feature_map": ["n", 1280, 3, 3],
    }


def test_same_head_gives_the_same_bytes(trunk: Trunk) -> None:
    first = attach_head(trunk.model, weight=WEIGHT, bias=BIAS)
    assert attach_head(trunk.model, weight=WEIGHT, bias=BIAS) == first
    wide = np.asfortranarray(WEIGHT.astype(np.float64))  # another type and layout, the same numbers
    assert attach_head(trunk.model, weight=wide, bias=BIAS.astype(np.float64)) == first
    assert attach_head(trunk.model, weight=WEIGHT, bias=BIAS + 1) != first


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (WEIGHT[:, : LAST - 1], BIAS, r"weight: got shape \(3, 1279\); want shape \(classes, 1280 to 3200\)"),
        (np.ones((3, COUNT + 1)), BIAS, r"weight: got shape \(3, 3201\); want shape \(classes, 1280 to 3200\)"),
        (WEIGHT[0], BIAS, r"weight: got shape \(2688,\)"),
        (WEIGHT[:0], BIAS[:0], r"weight: got shape \(0, 2688\)"),
        (WEIGHT, BIAS[:2], r"bias: got shape \(2,\); want shape \(3,\)"),
        (WEIGHT, BIAS[:, None], r"bias: got shape \(3, 1\)"),
        (WEIGHT, BIAS * np.float32(np.nan), "bias: got values that are not finite"),
        (WEIGHT.astype(np.float64) * 1e300, BIAS, "weight: got values that are not finite"),
    ],
)
def test_bad_head_is_refused(trunk: Trunk, weight: np.ndarray, bias: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        attach_head(trunk.model, weight=weight, bias=bias)


def test_other_files_are_refused(trunk: Trunk, tmp_path: Path) -> None:
    file = tmp_path / "other.onnx"
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(InvalidInput, match=r"other\.onnx: got a file that is not ONNX"):
        attach_head(file, weight=WEIGHT, bias=BIAS)
    file.write_bytes(attach_head(trunk.model, weight=WEIGHT, bias=BIAS))
    with pytest.raises(InvalidInput, match=r"outputs \['logits', .*want an ONNX file made by prepare_trunk"):
        attach_head(file, weight=WEIGHT, bias=BIAS)


def test_import_is_light() -> None:
    code = "import sys, drivetrain.learn.export; print([n for n in ('torch', 'onnx') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


TINY = dataclasses.replace(
    BACKBONES["efficientnet_lite0"], name="tiny", width=0.25, depth=0.3, feature_count=16, size=64
)  # 10 pieces


def make_network(*, seed: int = 0, cut: int | None = None) -> Network:
    """A small network of random weights, those of its norms too."""
    import torch

    from drivetrain.learn.backbones import EfficientNetLite
    from drivetrain.learn.network import build_network

    torch.manual_seed(seed)
    network = build_network(EfficientNetLite(TINY), n_out=3)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_var" in name or name.endswith(("bn0.weight", "bn1.weight", "bn2.weight")):
                value.uniform_(0.5, 2.0)
            elif "conv" in name:  # as it is for signals to reach the end, and be told from one another
                torch.nn.init.kaiming_normal_(value)
            elif "running_mean" in name or name.endswith(("bn0.bias", "bn1.bias", "bn2.bias")):
                value.normal_(0.5, 0.2)
    network.cut = cut
    return network


@pytest.fixture(scope="module")
def tiny_trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trunk of a small network whose weights are others than make_network's own."""
    path = tmp_path_factory.mktemp("trunks") / "tiny.onnx"
    data, _ = trunk_module._export("tiny", TINY.size, make_network(seed=7).backbone)
    path.write_bytes(data)
    return path


def _run_on(model: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


@pytest.mark.parametrize("cut", [None, 5])
def test_a_network_is_written_as_torch_has_it(tiny_trunk: Path, cut: int | None) -> None:
    import torch

    network = make_network(cut=cut).train()  # as it comes out of a training
    before = copy.deepcopy(network.state_dict())
    data = export_network(network, size=64, trunk=tiny_trunk)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    pixels = np.random.default_rng(3).normal(size=(5, 3, 64, 64)).astype(np.float32)
    got = _run_on(data, pixels)
    with torch.inference_mode():
        expected = network.eval().outputs(torch.from_numpy(pixels))
    assert list(got) == ["logits", "embedding", "frozen", "feature_map"]
    for (name, array), tensor in zip(got.items(), expected, strict=True):
        assert array.shape == tuple(tensor.shape), name
        assert tensor.std() > 1e-3, name  # not all one number
        np.testing.assert_allclose(array, tensor.numpy(), atol=1e-4, err_msg=name)
    assert got["frozen"].shape == ((5, 16) if cut is None else (5, network.backbone.blocks[3].bn2.num_features))
    assert [n.shape[0] for n in _run_on(data, pixels[:1]).values()] == [1] * 4
    check_onnx(data)


def test_a_filled_trunk_is_the_traced_network_byte_for_byte(tiny_trunk: Path) -> None:
    network = make_network(cut=7)
    assert export_network(network, size=64, trunk=tiny_trunk) == export_network(network, size=64)


def test_the_same_weights_give_the_same_bytes(tiny_trunk: Path) -> None:
    first = export_network(make_network(), size=64, trunk=tiny_trunk)
    assert export_network(make_network(), size=64, trunk=tiny_trunk) == first
    assert export_network(make_network(seed=1), size=64, trunk=tiny_trunk) != first
    assert export_network(make_network(cut=1), size=64, trunk=tiny_trunk) != first


def test_a_trunk_that_does_not_fit_is_done_without(tiny_trunk: Path, trunk: Trunk, tmp_path: Path) -> None:
    network = make_network()
    expected = export_network(network, size=64, trunk=tiny_trunk)
    assert export_network(network, size=64, trunk=trunk.model) == expected  # weights of other shapes
    model = onnx.load(tiny_trunk)
    node = next(node for node in model.graph.node if node.op_type == "Clip")  # the same weights, another function
    node.op_type = "Identity"
    del node.input[1:]
    other = tmp_path / "other.onnx"
    onnx.save(model, other)
    assert export_network(network, size=64, trunk=other) == expected


def test_the_file_is_lean_and_folded(tiny_trunk: Path) -> None:
    model = onnx.load_model_from_string(export_network(make_network(cut=5), size=64, trunk=tiny_trunk))
    onnx.checker.check_model(model, full_check=True)
    ops = {node.op_type for node in model.graph.node}
    spreads = {"ReduceMean", "Unsqueeze", "Sub", "Pow", "Add", "Sqrt", "Concat"}
    assert ops == {"Conv", "Clip", "Slice", "Sign", "Abs", "Mul", "Gemm"} | spreads
    assert (len(model.graph.value_info), len(model.metadata_props), model.producer_name) == (0, 0, "drivetrain")
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "n", 3, 64, 64,
    ]  # fmt: skip


def test_a_diverged_network_is_refused(tiny_trunk: Path) -> None:
    import torch

    network = make_network()
    with torch.no_grad():
        network.backbone.blocks[2].bn1.weight[3] = torch.nan
    with pytest.raises(InvalidInput, match=r"network: got 1 weights that are not finite, such as backbone\.blocks\.2"):
        export_network(network, size=64, trunk=tiny_trunk)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_every_backbone_can_be_trained_cut_and_written(name: str, shared_cache: Path) -> None:
    import torch

    from drivetrain.learn.backbones import load_backbone
    from drivetrain.learn.network import build_network
    from drivetrain.learn.trunk import open_cuts, prepare_trunk
    from drivetrain.progress import SilentProgress

    trunk = prepare_trunk(name, size=96, cache_dir=shared_cache, progress=SilentProgress())
    network = build_network(load_backbone(name), n_out=3)
    pixels = np.random.default_rng(3).normal(size=(2, 3, 96, 96)).astype(np.float32)
    cut = network.backbone.layout.head_pieces[0]  # the last it can be cut at
    kept = _run_on(open_cuts(trunk, [cut]), pixels)[f"piece_{cut}"]
    with torch.inference_mode():
        logits = network.run_from(torch.from_numpy(kept), cut).numpy()
        np.testing.assert_allclose(logits, network(torch.from_numpy(pixels)).numpy(), atol=1e-4)
        for parameter in network.parameters():
            parameter.mul_(1 + 0.02 * torch.randn_like(parameter))
        expected = network(torch.from_numpy(pixels)).numpy()
    network.cut = cut
    got = _run_on(export_network(network, size=96, trunk=trunk.model), pixels)
    np.testing.assert_allclose(got["logits"], expected, atol=1e-3)
    assert got["frozen"].shape == (2, kept.shape[1])
