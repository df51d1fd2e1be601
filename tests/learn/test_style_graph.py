"""What a model's graph collects of style is what numpy does."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from tests.imaging.test_style import photograph

from drivetrain.bundle.onnx_guard import check_onnx
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.imaging.style_measures import StyledPreprocess, find_style_kernel
from drivetrain.learn.style_graph import SEEN, join_style


def _make_graph(size: int) -> onnx.ModelProto:
    """The means of the pixels as `frozen`."""
    info = helper.make_tensor_value_info
    axes = onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["pixels", "axes"], ["frozen"], keepdims=0)],
        "g",
        [info("pixels", TensorProto.FLOAT, ["n", 3, size, size])],
        [info("frozen", TensorProto.FLOAT, ["n", 3])],
        [axes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("size", [3, 5, 16, 32, 96, 224, 260])
@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.45, 0.22), (0.0, 1.0)])
def test_the_graph_collects_what_numpy_does(size: int, mean: float, std: float) -> None:
    preprocess = Preprocess(declare_preprocess(size, mean=[mean] * 3, std=[std] * 3))
    kernel = find_style_kernel(preprocess)
    assert kernel is not None
    model = _make_graph(size)
    join_style(onnx, model.graph, kernel)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    check_onnx(data)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    pictures = [photograph(seed) for seed in range(3)]
    pixels = np.stack([preprocess.from_image(picture) for picture in pictures])
    frozen, seen = session.run(["frozen", SEEN], {"pixels": pixels})
    assert seen.shape == (3, 3 + kernel.count)
    assert session.get_outputs()[-1].shape == ["n", 3 + kernel.count]
    np.testing.assert_allclose(seen[:, :3], frozen)
    styled = StyledPreprocess(preprocess)
    for picture, row, one in zip(pictures, seen, pixels, strict=True):
        np.testing.assert_allclose(row[3:], kernel.collect(one), rtol=1e-4, atol=1e-4)
        want = styled.from_image(picture)[1]
        np.testing.assert_allclose(kernel.tell(row[3:], float(want[-1])), want, atol=2e-3)


def test_what_tells_nothing_has_no_kernel() -> None:
    """Too small, or numbers that do not come back to light."""
    assert find_style_kernel(Preprocess(declare_preprocess(2, mean=[0.5] * 3, std=[0.5] * 3))) is None
    assert find_style_kernel(Preprocess(declare_preprocess(64, mean=[1e30] * 3, std=[1e20] * 3))) is None
