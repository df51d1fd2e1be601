"""The numbers that style is told from, as a part of a model's own graph: what `StyleKernel.collect` does in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from drivetrain.imaging.style_measures import StyleKernel

__all__ = ["SEEN", "join_style"]

SEEN = "seen"  # the output: frozen features, and after them what the kernel collects


def join_style(onnx: Any, graph: Any, kernel: StyleKernel) -> None:
    """Add the output `seen` (n, f + kernel.count) to a graph with `pixels` and `frozen` (n, f)."""
    node, step = onnx.helper.make_node, kernel.step_plane
    constants = {
        "weights": kernel.weights,
        "bias": kernel.bias,
        "within": np.array([2, 3], np.int64),
        "rows": np.array([0, -1], np.int64),
        "from": np.array([step], np.int64),
        "to": np.array([step + 1], np.int64),
        "axis": np.array([1], np.int64),
        "limit": np.array(kernel.limit, np.float32),
    }
    for name, value in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value, f"style.{name}"))
    tile = [1, kernel.tile]
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Conv", ["pixels", "style.weights", "style.bias"], "places",
         {"strides": list(kernel.strides), "kernel_shape": [3, 3]}),
        ("ReduceSumSquare", ["style.places", "style.within"], "squares", {"keepdims": 0}),
        ("ReduceMean", ["style.places", "style.within"], "means", {"keepdims": 0}),
        ("Slice", ["style.places", "style.from", "style.to", "style.axis"], "steps", {}),
        ("Abs", ["style.steps"], "sizes", {}),
        ("Min", ["style.sizes", "style.limit"], "cut", {}),
        ("ReduceMean", ["style.cut", "style.within"], "even", {"keepdims": 0}),
        ("AveragePool", ["style.sizes"], "tiles", {"kernel_shape": tile, "strides": tile}),
        ("Reshape", ["style.tiles", "style.rows"], "calm", {}),
    ]  # fmt: skip
    graph.node.extend(
        node(kind, inputs, [f"style.{name}"], f"style.{name}", **settings) for kind, inputs, name, settings in steps
    )
    parts = ["frozen", *(f"style.{name}" for name in ("squares", "means", "even", "calm"))]
    graph.node.append(node("Concat", parts, [SEEN], SEEN, axis=1))
    frozen = next(value for value in graph.output if value.name == "frozen")
    width = frozen.type.tensor_type.shape.dim[1].dim_value + kernel.count
    graph.output.append(onnx.helper.make_tensor_value_info(SEEN, onnx.TensorProto.FLOAT, ["n", width]))
