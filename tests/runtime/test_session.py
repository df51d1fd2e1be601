from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from drivetrain.bundle.onnx_guard import check_onnx
from drivetrain.errors import InvalidInput, Unavailable
from drivetrain.runtime.session import Session

PIXELS = np.ones((1, 3, 8, 8), dtype=np.float32)


def test_names_and_shapes(trunk_file: Path) -> None:
    session = Session(trunk_file)
    assert session.inputs == {"pixels": ["n", 3, 8, 8]}
    assert session.outputs == {"frozen": ["n", 3]}


@pytest.mark.parametrize("read", [lambda file: file, Path.read_bytes], ids=["path", "bytes"])
def test_run(read: Callable[[Path], Path | bytes], trunk_file: Path) -> None:
    session = Session(read(trunk_file))
    (frozen,) = session.run(["frozen"], np.concatenate([PIXELS, 2 * PIXELS]))
    np.testing.assert_array_equal(frozen, [[1, 1, 1], [2, 2, 2]])


def test_pixels_of_another_layout_or_kind(trunk_file: Path) -> None:
    rows = np.asfortranarray(np.arange(192, dtype=np.float64).reshape(1, 3, 8, 8))
    (frozen,) = Session(trunk_file).run(["frozen"], rows)
    np.testing.assert_allclose(frozen, rows.mean(axis=(2, 3)), rtol=1e-6)


def test_many_threads_get_the_same_bits(trunk_file: Path) -> None:
    session = Session(trunk_file)
    pixels = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    found: list[bytes] = []

    def work() -> None:
        found.extend(session.run(["frozen"], pixels)[0].tobytes() for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(found) == 200
    assert len(set(found)) == 1


@pytest.mark.parametrize("model", [b"", b"no network", Path("gone.onnx")])
def test_what_is_no_model(model: Path | bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r"model: got .*; want an ONNX model that onnxruntime can run"):
        Session(model)
    assert capfd.readouterr() == ("", "")  # stdout is for answers, and the error says it all


@pytest.mark.parametrize(
    ("names", "pixels"), [(["frozen"], np.zeros((1, 3, 9, 9))), (["frozen"], np.zeros(3)), (["thawed"], PIXELS)]
)
def test_a_run_that_fails(
    names: list[str], pixels: np.ndarray, trunk_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(trunk_file)
    with pytest.raises(Unavailable, match=r"model: got .*; want a run to its end"):
        session.run(names, pixels)
    assert capfd.readouterr() == ("", "")
    assert session.run(["frozen"], PIXELS)[0].shape == (1, 3)  # the next caller is not touched


def chain(length: int, side: int) -> bytes:
    """A network of `length` products of large matrices."""
    names = ["pixels", *(f"p{i}" for i in range(length - 1)), "frozen"]
    nodes = [helper.make_node("MatMul", [names[i], "pixels"], [names[i + 1]]) for i in range(length)]
    shape = ["n", 3, side, side]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("frozen", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def test_a_deadline_ends_a_run() -> None:
    session = Session(chain(2_000, 512))  # minutes of work
    pixels = np.zeros((1, 3, 512, 512), dtype=np.float32)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="want a run to its end"):
        session.run(["frozen"], pixels, deadline_s=0.2)
    assert time.monotonic() - began < 20


def test_a_deadline_that_is_kept_changes_nothing(trunk_file: Path) -> None:
    session, before = Session(trunk_file), threading.active_count()
    (with_deadline,), (without,) = session.run(["frozen"], PIXELS, deadline_s=60), session.run(["frozen"], PIXELS)
    np.testing.assert_array_equal(with_deadline, without)
    assert threading.active_count() <= before + 1  # its clock is stopped, and ends in a moment


def test_memory_has_a_bound() -> None:
    size = numpy_helper.from_array(np.array([2_000_000_000], dtype=np.int64), "size")
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Add", ["zero", "pixels"], ["frozen"]),
        ],
        "bomb",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("frozen", TensorProto.FLOAT, [1, 3, 8, 8])],
        [size],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = Session(model.SerializeToString())
    with pytest.raises(Unavailable, match="running ConstantOfShape node"):
        session.run(["frozen"], PIXELS)


def test_constants_are_not_computed_at_opening() -> None:
    """Symptom before: opening 200 bytes of ONNX took 2.5 GB and seconds, before any check could run."""
    names = ["one", *(f"c{i}" for i in range(40))]
    graph = helper.make_graph(
        [helper.make_node("Concat", [names[i]] * 2, [names[i + 1]], axis=0) for i in range(40)]
        + [helper.make_node("ReduceMean", ["pixels"], ["frozen"])],
        "doubling",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 8, 8])],
        [
            helper.make_tensor_value_info("frozen", TensorProto.FLOAT, None),
            helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.ones(1000, dtype=np.float32), "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    began = time.monotonic()
    Session(model.SerializeToString())
    assert time.monotonic() - began < 1


def test_what_was_checked_is_what_is_opened(trunk_file: Path) -> None:
    """onnxruntime takes bytes with ORTM at the fifth place for its own format, which check_onnx cannot look through."""
    marked = b"\x32\x06\x00\x00ORTM" + trunk_file.read_bytes()  # a documentation field in front: still plain ONNX
    assert onnx.load_model_from_string(marked).graph.node[0].op_type == "ReduceMean"
    check_onnx(marked)
    (frozen,) = Session(marked).run(["frozen"], PIXELS)
    np.testing.assert_array_equal(frozen, [[1, 1, 1]])


def test_the_bytes_of_the_model_are_let_go(trunk_file: Path) -> None:
    data = trunk_file.read_bytes() + b"\x32\x00"
    before = sys.getrefcount(data)
    session = Session(data)
    assert sys.getrefcount(data) == before
    assert session.run(["frozen"], PIXELS)[0].shape == (1, 3)


def test_predict_loads_no_database_and_nothing_heavy() -> None:
    heavy = ["sqlite3", "scipy", "sqlalchemy", "fastapi", "rich", "torch", "onnx", "zipfile", "asyncio"]
    probe = f"import sys, drivetrain.runtime.predictor; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
