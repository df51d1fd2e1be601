from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from drivetrain.errors import MissingExtra, Unavailable
from drivetrain.learn.onnx_export import check_parity, import_onnx, make_pixels

PIXELS = np.linspace(-1, 1, 3 * 4, dtype=np.float32).reshape(1, 3, 2, 2)


@pytest.fixture(scope="module")
def doubling() -> bytes:
    """A model whose outputs are its pixels twice over, and their square."""
    shape = ["n", 3, 2, 2]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["pixels"] * 2, ["twice"]), helper.make_node("Mul", ["pixels"] * 2, ["square"])],
        "doubling",
        [value("pixels", TensorProto.FLOAT, shape)],
        [value("twice", TensorProto.FLOAT, shape), value("square", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def test_what_agrees_passes(doubling: bytes) -> None:
    check_parity(doubling, PIXELS, {"square": PIXELS**2, "twice": PIXELS * 2 + 9e-5})
    large = PIXELS * 1000  # 0.1 is little beside 2000, and much beside 2
    check_parity(doubling, large, {"twice": large * 2 + 0.1})
    small = PIXELS / 1000
    check_parity(doubling, small, {"twice": small * 2 + 5e-5})
    with pytest.raises(Unavailable, match="the output twice"):
        check_parity(doubling, small, {"twice": small * 2 + 5e-5}, floor=0.1)


@pytest.mark.parametrize("off", [3e-4, np.nan, np.inf])
def test_what_disagrees_is_named(doubling: bytes, off: float) -> None:
    expected = {"twice": PIXELS * 2, "square": PIXELS**2 + np.float32(off)}
    want = r"exported network: got the output square .* away from torch's; want at most 1e-04\. Install"
    with pytest.raises(Unavailable, match=want):
        check_parity(doubling, PIXELS, expected)


def test_noise_is_the_same_each_time() -> None:
    import torch

    assert make_pixels(8).shape == (3, 3, 8, 8)
    assert torch.equal(make_pixels(8), make_pixels(8))


def test_an_absent_onnx_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"writing a model: .*'onnx'.*pip install 'drivetrain\[train\]'"):
        import_onnx("writing a model")
