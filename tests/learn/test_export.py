from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.learn.export import attach_head
from drivetrain.learn.head import embed_features
from drivetrain.learn.trunk import Trunk

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(3, 1280)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 100.0], np.float32)


def _run(model: bytes, n: int) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    pixels = np.random.default_rng(1).normal(size=(n, 3, 96, 96)).astype(np.float32)
    return dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


@pytest.mark.parametrize("n", [1, 4])
def test_gives_what_numpy_gives(trunk: Trunk, n: int) -> None:
    out = _run(attach_head(trunk.model, weight=WEIGHT, bias=BIAS), n)
    assert list(out) == ["logits", "embedding", "frozen", "feature_map"]
    alone = _run(trunk.model.read_bytes(), n)
    np.testing.assert_allclose(out["frozen"], alone["frozen"], atol=1e-6)
    np.testing.assert_allclose(out["feature_map"], alone["feature_map"], atol=1e-6)
    np.testing.assert_allclose(out["embedding"], embed_features(out["frozen"]), atol=1e-6)
    np.testing.assert_allclose(out["logits"], out["embedding"] @ WEIGHT.T + BIAS, atol=1e-4)
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
        "embedding": ["n", 1280],
        "frozen": ["n", 1280],
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
        (WEIGHT[:, :-1], BIAS, r"weight: got shape \(3, 1279\); want shape \(classes, 1280\)"),
        (WEIGHT[0], BIAS, r"weight: got shape \(1280,\)"),
        (WEIGHT[:0], BIAS[:0], r"weight: got shape \(0, 1280\)"),
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
