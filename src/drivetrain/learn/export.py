"""A trunk and a fitted head joined into the bundle's model.onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput, MissingExtra

__all__ = ["attach_head"]


def attach_head(trunk: Path, *, weight: FloatArray, bias: FloatArray) -> bytes:
    """The bytes of a model from `pixels` to `logits`, `embedding`, `frozen` and `feature_map`, in this order.

    trunk is a file of prepare_trunk; embedding is head.embed_features(frozen), logits = embedding @ weight.T + bias,
    with weight (k, d) and bias (k,), both finite, kept as float32. Same input, same bytes.
    Raises InvalidInput if a shape is off or trunk is not such a file.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ModuleNotFoundError as exc:
        raise MissingExtra("writing a model", package="onnx", extra="train") from exc
    model = _read_trunk(onnx, trunk)
    graph = model.graph
    frozen, feature_map = graph.output
    feature_count = frozen.type.tensor_type.shape.dim[1].dim_value
    _check_head(weight, bias, feature_count)
    for name, array in (("head.weight", weight), ("head.bias", bias)):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))
    graph.node.extend(
        [
            helper.make_node("Sign", ["frozen"], ["head.sign"], "head.sign"),
            helper.make_node("Abs", ["frozen"], ["head.abs"], "head.abs"),
            helper.make_node("Sqrt", ["head.abs"], ["head.root"], "head.root"),
            helper.make_node("Mul", ["head.sign", "head.root"], ["embedding"], "embedding"),
            helper.make_node("Gemm", ["embedding", "head.weight", "head.bias"], ["logits"], "head", transB=1),
        ]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", weight.shape[0]])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", feature_count])
    outputs = [logits, embedding, _copy(frozen), _copy(feature_map)]
    del graph.output[:]
    graph.output.extend(outputs)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _read_trunk(onnx: Any, trunk: Path) -> Any:
    want, hint = "an ONNX file made by prepare_trunk", "Delete it and train again: it is exported anew."
    try:
        model = onnx.load_model_from_string(trunk.read_bytes())
    except Exception as exc:  # protobuf's error is not the same class in each of its builds
        raise InvalidInput(trunk.name, got="a file that is not ONNX", want=want, hint=hint) from exc
    names = [value.name for value in model.graph.output]
    if names != ["frozen", "feature_map"]:
        raise InvalidInput(trunk.name, got=f"outputs {names}", want=want, hint=hint)
    return model


def _check_head(weight: FloatArray, bias: FloatArray, feature_count: int) -> None:
    if weight.ndim != 2 or weight.shape[0] < 1 or weight.shape[1] != feature_count:
        raise InvalidInput("weight", got=f"shape {weight.shape}", want=f"shape (classes, {feature_count})")
    if bias.shape != weight.shape[:1]:
        raise InvalidInput("bias", got=f"shape {bias.shape}", want=f"shape ({weight.shape[0]},), as weight has it")
    for name, array in (("weight", weight), ("bias", bias)):
        if not (np.abs(array) <= np.finfo(np.float32).max).all():  # false for nan as well
            raise InvalidInput(
                name, got="values that are not finite", want="finite float32", hint="Did the fit diverge?"
            )


def _copy(message: Any) -> Any:
    """A part of a protobuf list does not outlive the list's clearing."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
