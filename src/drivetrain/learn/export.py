"""The bundle's model.onnx: a trunk and a fitted head joined, or a trained network written.

Nothing here imports torch or onnx until a model is written; attach_head never needs torch.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput, Unavailable
from drivetrain.imaging.style_measures import StyleKernel

from .onnx_export import check_parity, copy_message, import_onnx, make_pixels, to_onnx
from .style_graph import join_style
from .trunk import name_piece

if TYPE_CHECKING:
    from torch import Tensor

    from .backbones import Backbone
    from .network import Network

__all__ = ["attach_head", "export_network"]

_STRICT_FLOOR = 1e-2  # a filled trunk is refused sooner than a traced network: there is still the tracer
_PRODUCER = "network-2"  # raise it when the exported graph changes


def attach_head(trunk: Path, *, weight: FloatArray, bias: FloatArray, style: StyleKernel | None = None) -> bytes:
    """The bytes of a model from `pixels` to `logits`, `embedding`, `frozen`, `feature_map`, in this order; with `style`
    also `seen`, as `style_graph` has it.

    trunk is a file of prepare_trunk; embedding is head.embed_features of the first d of its features, logits are
    embedding @ weight.T + bias, with weight (k, d) and bias (k,), both finite, kept as float32; frozen is the mean of
    the feature map. Same input, same bytes.
    Raises InvalidInput if a shape is off or trunk is not such a file.
    """
    onnx = import_onnx("writing a model")
    model = _read_trunk(onnx, trunk)
    _check_head(weight, bias, *_count_features(model.graph))
    _part_features(onnx, model.graph)
    _join_head(onnx, model.graph, weight=weight, bias=bias)
    return _finish(onnx, model, style)


def export_network(
    network: Network, *, size: int, trunk: Path | None = None, style: StyleKernel | None = None
) -> bytes:
    """The bytes of a network from `pixels` (n, 3, size, size) to attach_head's outputs, in its order.

    Batch norms are folded; what comes out was compared with torch on noise. trunk, the file of prepare_trunk for the
    same backbone and size, saves the seconds of tracing: its graph is filled with this network's weights. Same
    weights, same bytes, with it or without. The network itself is not touched. Raises InvalidInput where a weight is
    not finite, Unavailable where torch and onnxruntime disagree.
    """
    import torch

    from .batch_norm import fold_batch_norm

    onnx = import_onnx("writing a model")
    whole = copy.deepcopy(network).to(device="cpu", dtype=torch.float32).eval()
    _check_finite(whole)
    pixels = make_pixels(size)
    with torch.inference_mode():
        logits, _, frozen, feature_map = whole.outputs(pixels)
    # not the embedding, whose root makes 1e-4 of a harmless 1e-8 next to 0: the logits are made of it
    expected = {"logits": logits.numpy(), "frozen": frozen.numpy(), "feature_map": feature_map.numpy()}
    folded = fold_batch_norm(whole.backbone)
    folded.drop_classifier()
    filled = None if trunk is None else _fill_trunk(onnx, trunk, folded, pixels)
    if filled is not None:
        data = _write_network(onnx, filled, whole, style)
        try:
            check_parity(data, pixels.numpy(), expected, floor=_STRICT_FLOOR)
        except Unavailable:  # the tracer had changed a weight's layout: one of the same shape went into its place
            filled = None
    if filled is None:
        data = _write_network(onnx, _trace(folded, size), whole, style)
        check_parity(data, pixels.numpy(), expected)
    return data


def _trace(folded: Backbone, size: int) -> Any:
    from .backbones import TrunkModule

    pieces = [name_piece(cut) for cut in folded.cuts]
    module = TrunkModule(folded, cuts=folded.cuts, layout=folded.layout).eval()
    return to_onnx(module, make_pixels(size), outputs=["frozen", "feature_map", *pieces], hidden=len(pieces))


def _fill_trunk(onnx: Any, trunk: Path, folded: Backbone, pixels: Tensor) -> Any:
    """The trunk's graph with the weights of `folded`; None where one that counts has no place there of its name."""
    import torch

    model = _read_trunk(onnx, trunk)
    places = {tensor.name.removeprefix("backbone."): tensor for tensor in model.graph.initializer}
    values = {name: value for name, value in folded.state_dict().items() if value.is_floating_point()}
    if any(name in places and tuple(places[name].dims) != tuple(value.shape) for name, value in values.items()):
        return None
    weights = {name: weight.requires_grad_() for name, weight in folded.named_parameters()}
    if homeless := [weight for name, weight in weights.items() if name not in places]:
        # the tracer melted it into another tensor, or the network has no use for it: then it has no gradient either
        torch.autograd.backward(folded.feature_map(pixels).sum())
        if any(weight.grad is not None for weight in homeless):
            return None
    for name in values.keys() & places.keys():
        places[name].CopyFrom(onnx.numpy_helper.from_array(values[name].numpy(), places[name].name))
    return model


def _write_network(onnx: Any, model: Any, network: Network, style: StyleKernel | None) -> bytes:
    """A trunk's graph with the network's head."""
    graph = model.graph
    _part_features(onnx, graph, piece=None if network.cut is None else name_piece(network.cut))
    linear = network.head.linear
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    _join_head(onnx, graph, weight=weight, bias=bias)
    model.producer_name, model.producer_version = "drivetrain", _PRODUCER
    return _finish(onnx, model, style)


def _count_features(graph: Any) -> tuple[int, int]:
    """(the least, the most) that a head may read: the last map's means, and all features there are."""
    features, feature_map = (value.type.tensor_type.shape.dim[1].dim_value for value in graph.output)
    return feature_map, features


def _part_features(onnx: Any, graph: Any, *, piece: str | None = None) -> None:
    """Call the trunk's output `features`; give out as `frozen` the last map's means, or those of `piece`."""
    for node in graph.node:
        node.output[:] = ["features" if name == "frozen" else name for name in node.output]
    channels, _ = _count_features(graph)
    if piece is None:
        _slice_features(onnx, graph, "frozen", channels)
    else:
        kept = next(value for value in graph.value_info if value.name == piece)
        dims = kept.type.tensor_type.shape.dim  # (n, c, h, w), or (n, tokens, c)
        axes, channels = ([2, 3], dims[1].dim_value) if len(dims) == 4 else ([1], dims[2].dim_value)
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(axes, np.int64), "frozen.axes"))
        graph.node.append(onnx.helper.make_node("ReduceMean", [piece, "frozen.axes"], ["frozen"], "frozen", keepdims=0))
    value = onnx.helper.make_tensor_value_info("frozen", onnx.TensorProto.FLOAT, ["n", channels])
    graph.output[0].CopyFrom(value)


def _slice_features(onnx: Any, graph: Any, name: str, count: int) -> None:
    """The tensor `name`: the first `count` features."""
    for part, value in (("starts", 0), ("ends", count), ("axes", 1)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), f"{name}.{part}"))
    inputs = ["features", *(f"{name}.{part}" for part in ("starts", "ends", "axes"))]
    graph.node.append(onnx.helper.make_node("Slice", inputs, [name], name))


def _join_head(onnx: Any, graph: Any, *, weight: FloatArray, bias: FloatArray) -> None:
    """As many features (n, d) as weight has columns -> their root `embedding` -> `logits`, and all four outputs."""
    node, info, kind = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    for name, array in (("head.weight", weight), ("head.bias", bias)):
        values = np.ascontiguousarray(array, dtype=np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    _slice_features(onnx, graph, "head.features", weight.shape[1])
    source = "head.features"
    graph.node.extend(
        [
            node("Sign", [source], ["head.sign"], "head.sign"),
            node("Abs", [source], ["head.abs"], "head.abs"),
            node("Sqrt", ["head.abs"], ["head.root"], "head.root"),
            node("Mul", ["head.sign", "head.root"], ["embedding"], "embedding"),
            node("Gemm", ["embedding", "head.weight", "head.bias"], ["logits"], "head", transB=1),
        ]
    )
    frozen, feature_map = graph.output
    classes, feature_count = weight.shape
    logits, embedding = info("logits", kind, ["n", classes]), info("embedding", kind, ["n", feature_count])
    outputs = [logits, embedding, copy_message(frozen), copy_message(feature_map)]
    del graph.output[:]
    graph.output.extend(outputs)


def _finish(onnx: Any, model: Any, style: StyleKernel | None) -> bytes:
    if style is not None:
        join_style(onnx, model.graph, style)
    del model.graph.value_info[:]  # where the trunk may be cut: of no use to who runs the model
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


def _check_head(weight: FloatArray, bias: FloatArray, least: int, most: int) -> None:
    if weight.ndim != 2 or weight.shape[0] < 1 or not least <= weight.shape[1] <= most:
        width = f"{most}" if least == most else f"{least} to {most}"
        raise InvalidInput("weight", got=f"shape {weight.shape}", want=f"shape (classes, {width})")
    if bias.shape != weight.shape[:1]:
        raise InvalidInput("bias", got=f"shape {bias.shape}", want=f"shape ({weight.shape[0]},), as weight has it")
    for name, array in (("weight", weight), ("bias", bias)):
        if not (np.abs(array) <= np.finfo(np.float32).max).all():  # false for nan as well
            raise InvalidInput(
                name, got="values that are not finite", want="finite float32", hint="Did the fit diverge?"
            )


def _check_finite(network: Network) -> None:
    bad = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
    if bad:
        raise InvalidInput(
            "network",
            got=f"{len(bad)} weights that are not finite, such as {bad[0]}",
            want="finite float32",
            hint="Did the training diverge? Lower the learning rate.",
        )
