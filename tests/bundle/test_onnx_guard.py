from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from drivetrain.bundle.archive import read_bundle
from drivetrain.bundle.onnx_guard import check_onnx
from drivetrain.errors import BundleRefused
from drivetrain.flows.train import TrainResult
from drivetrain.runtime.predictor import load

from .forge import Parts, tiny_model

Change = Callable[[onnx.ModelProto], None]


def refuse(data: bytes, tiny: Parts, tmp_path: Path) -> BundleRefused:
    path = tmp_path / "hostile.dt"
    path.write_bytes(tiny.changed({"model.onnx": data}).archive())
    with pytest.raises(BundleRefused) as caught:
        load(path)
    assert caught.value.code == "bundle_model", caught.value.message
    return caught.value


def test_a_plain_model_passes(trained: TrainResult) -> None:
    check_onnx(tiny_model())
    check_onnx(read_bundle(trained.bundle).members["model.onnx"])


def reach_outside(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    tensor.ClearField("raw_data")
    return tensor


def external() -> onnx.TensorProto:
    return reach_outside(numpy_helper.from_array(np.ones(3, dtype=np.float32), "outside"))


def in_initializer(model: onnx.ModelProto) -> None:
    reach_outside(model.graph.initializer[1])


def by_location_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].data_location = TensorProto.EXTERNAL


def by_entry_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].external_data.add(key="location", value="/etc/passwd")


def in_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["outside"], value=external()))


def in_list_of_tensors(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["pixels"], ["copy"])
    node.attribute.add(name="all", type=onnx.AttributeProto.TENSORS).tensors.append(external())
    model.graph.node.append(node)


def sparse() -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.array([0, 1, 2], dtype=np.int64), "indices")
    return helper.make_sparse_tensor(external(), indices, [3])


def in_sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(sparse())


def in_sparse_indices(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(3, dtype=np.float32), "values")
    indices = reach_outside(numpy_helper.from_array(np.array([0, 1, 2], dtype=np.int64), "indices"))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))


def in_sparse_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["outside"], sparse_value=sparse()))


def in_list_of_sparse(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["pixels"], ["copy"])
    node.attribute.add(name="all", type=onnx.AttributeProto.SPARSE_TENSORS).sparse_tensors.append(sparse())
    model.graph.node.append(node)


@pytest.mark.parametrize(
    "change",
    [
        in_initializer, by_location_alone, by_entry_alone, in_constant, in_list_of_tensors, in_sparse_initializer,
        in_sparse_indices, in_sparse_constant, in_list_of_sparse,
    ],
)  # fmt: skip
def test_tensor_data_outside(change: Change, tiny: Parts, tmp_path: Path) -> None:
    error = refuse(tiny_model(change=change), tiny, tmp_path)
    assert "model.onnx: got tensor data in another file; want one graph with all tensors inside" in error.message


def subgraph(model: onnx.ModelProto) -> None:
    """External data inside an If: the graph inside an operator is refused before what it holds."""
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=external())],
        "then",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])],
    )
    model.graph.node.append(helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner))


def endless_loop(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", "yes"], ["out"], body=inner))


def graphs(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["pixels"], ["copy"])
    node.attribute.add(name="all", type=onnx.AttributeProto.GRAPHS).graphs.append(onnx.GraphProto(name="inner"))
    model.graph.node.append(node)


def local_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Constant", [], ["y"], value=external())]
    model.functions.append(helper.make_function("", "Mean", ["x"], ["y"], body, [helper.make_opsetid("", 20)]))


def training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.name = "train"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (subgraph, "a graph inside an operator"),
        (endless_loop, "a graph inside an operator"),
        (graphs, "graphs inside an operator"),
        (local_function, "functions of its own"),
        (training, "training steps"),
    ],
)
def test_more_than_one_graph(change: Change, text: str, tiny: Parts, tmp_path: Path) -> None:
    assert f"got {text}; want one graph" in refuse(tiny_model(change=change), tiny, tmp_path).message


@pytest.mark.parametrize("domain", ["com.microsoft", "evil", "ai.onnx.ml", "AI.ONNX", "é", "\0", "ai.onnx\0"])
@pytest.mark.parametrize("place", ["node", "opset"])
def test_foreign_operators(place: str, domain: str, tiny: Parts, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        if place == "node":
            model.graph.node[0].domain = domain
        else:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    error = refuse(tiny_model(change=change), tiny, tmp_path)
    assert f"got operators of {domain!r}; want standard ONNX operators only" in error.message


def test_the_other_name_of_the_standard_domain(tiny: Parts) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "ai.onnx"

    check_onnx(tiny_model(change=change))


# --- protobuf that two readers might read differently


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, data: bytes, *, high: int = 0) -> bytes:
    return varint((number << 3 | 2) | high << 32) + varint(len(data)) + data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "an empty file"),
        (b"hello world", "a damaged message"),
        (varint(7 << 3 | 0) + b"\1", "a damaged message"),  # a graph that is a number
        (varint(7 << 3 | 3), "a damaged message"),  # groups are of protobuf's past
        (b"\x02\x00", "a damaged message"),  # field 0
        (field(7, field(5, field(13, b"")), high=1), "a damaged message"),  # a reader of 32 bits would see field 7
        (varint(7 << 3 | 2) + varint(100) + b"short", "a message cut short"),
        (varint(7 << 3 | 2) + varint(2**63) + b"short", "a message cut short"),
        (varint(7 << 3 | 2), "a message cut short"),
        (b"\xff" * 11, "a number that never ends"),
        (varint(1 << 3 | 5) + b"\0\0", "a message cut short"),
        (b"\x30\x00" * 200_001, "a message of countless parts"),
        (field(7, b"") + field(7, field(5, field(13, b""))), "tensor data in another file"),  # merged by a reader
    ],
    ids=range(13),
)
def test_bytes_that_are_no_onnx(data: bytes, text: str, tiny: Parts, tmp_path: Path) -> None:
    assert f"got {text}" in refuse(data, tiny, tmp_path).message


# --- what only running shows


def outputs_lie(*, logits: list[int | str] | None = None, frozen: list[int | str] | None = None) -> Change:
    """Shapes declared, and hidden from shape inference behind a Reshape whose target is computed."""

    def change(model: onnx.ModelProto) -> None:
        for index, shape in ((0, logits), (1, frozen)):
            if shape is None:
                continue
            name = model.graph.output[index].name
            for node in model.graph.node:
                node.output[:] = [f"{name}_true" if out == name else out for out in node.output]
                node.input[:] = [f"{name}_true" if given == name else given for given in node.input]
            target = numpy_helper.from_array(np.array(shape, dtype=np.int64), f"{name}_shape")
            model.graph.initializer.append(target)
            model.graph.node.append(helper.make_node("ReduceSum", ["pixels"], [f"{name}_sum"], keepdims=0))
            model.graph.node.append(helper.make_node("Cast", [f"{name}_sum"], [f"{name}_int"], to=TensorProto.INT64))
            model.graph.node.append(helper.make_node("Sub", [f"{name}_int", f"{name}_int"], [f"{name}_zero"]))
            model.graph.node.append(helper.make_node("Add", [f"{name}_shape", f"{name}_zero"], [f"{name}_target"]))
            model.graph.node.append(helper.make_node("Expand", [f"{name}_true", f"{name}_target"], [name]))

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (outputs_lie(logits=[3, 2]), "logits float32 of shape (3, 2); want float32 (1, 2)"),
        (outputs_lie(logits=[1, 1, 2]), "'logits': []"),
        (outputs_lie(frozen=[2, 3]), "frozen float32 of shape (2, 3); want float32 (1, 3)"),
    ],
)
def test_output_shapes_that_lie(change: Change, text: str, tiny: Parts, tmp_path: Path) -> None:
    assert text in refuse(tiny_model(change=change), tiny, tmp_path).message


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[1].name = "thawed"
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "thawed"


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "picture"


def other_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 9


def free_features(model: onnx.ModelProto) -> None:
    del model.graph.node[1:]
    del model.graph.output[1:]
    model.graph.node[0].output[0] = "logits"


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def doubles(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "single"
    model.graph.node.append(helper.make_node("Cast", ["single"], ["logits"], to=TensorProto.DOUBLE))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def not_finite(model: onnx.ModelProto) -> None:
    bias = numpy_helper.from_array(np.array([np.nan, 0], dtype=np.float32), "bias")
    model.graph.initializer[2].CopyFrom(bias)


def nonsense(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "NoSuchOperator"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (rename_output, "frozen [n, f]"),
        (rename_input, "want pixels [n, 3, 8, 8]"),
        (other_size, "want pixels [n, 3, 8, 8]"),
        (free_features, "frozen [n, f]"),
        (second_input, "want pixels [n, 3, 8, 8]"),
        (doubles, "logits float64"),
        (not_finite, "logits that are not finite"),
        (nonsense, "NoSuchOperator"),
    ],
)
def test_a_network_that_does_not_fit(change: Change, text: str, tiny: Parts, tmp_path: Path) -> None:
    assert text in refuse(tiny_model(change=change), tiny, tmp_path).message


def test_a_name_that_is_no_text(tiny: Parts, tmp_path: Path) -> None:
    """Symptom before: UnicodeDecodeError came out of load(). Found by fuzzing."""
    data = tiny_model().replace(b"logits", b"l\x87gits")
    assert "want an ONNX model that onnxruntime can run" in refuse(data, tiny, tmp_path).message


def test_a_network_that_asks_for_all_memory(tiny: Parts, tmp_path: Path) -> None:
    """Symptom before: 2 KB of ONNX took 8 GB, and more if it asked for more."""

    def change(model: onnx.ModelProto) -> None:
        shape = numpy_helper.from_array(np.array([3_000_000_000], dtype=np.int64), "huge")
        model.graph.initializer.append(shape)
        model.graph.node[1].output[0] = "small"
        model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["zeros"]))
        model.graph.node.append(helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0))
        model.graph.node.append(helper.make_node("Add", ["small", "zero"], ["logits"]))

    assert "running ConstantOfShape node" in refuse(tiny_model(change=change), tiny, tmp_path).message


def test_weights_altered_with_honest_digests_are_noticed_by_the_fixtures(tiny: Parts, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        weight = np.array([[4, -4], [-2, 3], [1, 2.1]], dtype=np.float32)
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "weight"))

    path = tmp_path / "altered.dt"
    path.write_bytes(tiny.changed({"model.onnx": tiny_model(change=change)}).archive())
    with pytest.raises(BundleRefused) as caught:
        load(path)
    assert caught.value.code == "bundle_fixtures"
