from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.runtime.features import FrozenTrunk

SIDE = 8  # pixels
LONG_AGO_NS = 1_700_000_000 * 10**9  # a file younger than 2 s may change without its date showing it

MakeTrunk = Callable[..., FrozenTrunk]
MakePictures = Callable[..., list[Path]]


@pytest.fixture(scope="session")
def trunk_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX whose `frozen` is the mean of each channel."""
    axes = numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes")
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["pixels", "axes"], ["frozen"], keepdims=0)],
        "trunk",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("frozen", TensorProto.FLOAT, ["n", 3])],
        [axes],
    )
    file = tmp_path_factory.mktemp("trunk") / "trunk.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    return file


@pytest.fixture(scope="session")
def make_trunk(trunk_file: Path) -> MakeTrunk:
    def make(*, weights: str = "w", std: float = 1.0, model: Path = trunk_file) -> FrozenTrunk:
        ops = declare_preprocess(SIDE, mean=[0.0] * 3, std=[std] * 3)
        return FrozenTrunk(
            model=model, weights_digest=weights, feature_count=3, map_channels=3, preprocess=Preprocess(ops)
        )

    return make


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """`count` pictures of one colour each, none like another, dated long ago."""

    def make(count: int, *, folder: str = "pictures", first: int = 0) -> list[Path]:
        (tmp_path / folder).mkdir(exist_ok=True)
        files = []
        for number in range(first, first + count):
            file = tmp_path / folder / f"{number:04}.png"
            Image.new("RGB", (SIDE, SIDE), (number % 256, number // 256, 7)).save(file)
            files.append(date(file))
        return files

    return make


def date(file: Path) -> Path:
    os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return file
