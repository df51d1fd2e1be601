"""A tiny honest bundle, and ways to write it dishonestly: its digests fit, so that only the fault itself shows."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from drivetrain.bundle.archive import content_files
from drivetrain.bundle.arrays import write_arrays
from drivetrain.bundle.fixtures import Fixture, encode_picture, make_synthetic_pictures, pack
from drivetrain.bundle.stored_zip import write_stored_zip
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.runtime.session import Session
from drivetrain.trust.calibration import softmax

SIDE = 8  # pixels
CLASSES = ("circle", "square")
FEATURES = 3


@dataclass(frozen=True)
class Parts:
    """What a bundle is made of; `manifest` without its list of files."""

    manifest: dict[str, Any]
    members: dict[str, bytes]

    def changed(self, members: Mapping[str, bytes | None] | None = None, **sections: Any) -> Parts:
        """A deep copy with these sections and members in place of its own; None takes a member out."""
        kept = {**self.members, **(members or {})}
        return Parts(
            manifest={**json.loads(json.dumps(self.manifest)), **sections},
            members={name: data for name, data in kept.items() if data is not None},
        )

    def manifest_bytes(self) -> bytes:
        """manifest.json, its digests true."""
        files = [
            {"path": file.path, "sha256": file.sha256, "size": file.size}
            for file in content_files({name: data for name, data in self.members.items() if name.isascii()})
        ]
        return json.dumps({**self.manifest, "files": files}).encode()

    def archive(self) -> bytes:
        """The bundle's bytes, its digests true, nothing checked."""
        return write_stored_zip({"manifest.json": self.manifest_bytes(), **self.members})


def tiny_model(*, change: Callable[[onnx.ModelProto], None] | None = None) -> bytes:
    """pixels -> mean of each channel -> two classes; `change` may spoil it."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["frozen"], "mean", keepdims=0),
        helper.make_node("Gemm", ["frozen", "weight", "bias"], ["logits"], "head"),
    ]
    tensors = [
        numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"),
        numpy_helper.from_array(np.array([[4, -4], [-2, 3], [1, 2]], dtype=np.float32), "weight"),
        numpy_helper.from_array(np.array([0.5, 0.1], dtype=np.float32), "bias"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(CLASSES)]),
            helper.make_tensor_value_info("frozen", TensorProto.FLOAT, ["n", FEATURES]),
        ],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if change is not None:
        change(model)
    data: bytes = model.SerializeToString()
    return data


def tiny_parts() -> Parts:
    """An honest bundle of a few kilobytes."""
    model = tiny_model()
    ops = declare_preprocess(SIDE, mean=[0.5] * 3, std=[0.5] * 3)
    session, preprocess = Session(model), Preprocess(ops)
    fixtures = []
    for index, image in enumerate(make_synthetic_pictures(2, side=2 * SIDE, seed=1)):
        picture = encode_picture(image, max_side=2 * SIDE, is_turned=index == 1)
        pixels = preprocess.from_bytes(picture, name="fixture", limits=DecodeLimits())
        probabilities = softmax(session.run(["logits"], pixels[np.newaxis])[0][0], temperature=1.0)
        fixtures.append(Fixture(name=f"{index:03}.png", picture=picture, answer=probabilities))
    manifest = {
        "schema_version": "1.0",
        "name": "tiny",
        "created_at": "2026-01-02T03:04:05+00:00",
        "task": "classification",
        "classes": list(CLASSES),
        "preprocess": ops,
        "training": {"method": "head"},
        "decision": {
            "temperature": 1.0,
            "threshold": 0.9,
            "label_set": {"threshold": 0.1},
            "ood": {"flag_at": 0.05, "k": 1},
        },
        "evaluation": {"accuracy": 0.5},
        "lineage": {"seed": 42},
        "runtime": {"onnxruntime": "1"},
        "tolerance": 1e-3,
    }
    members = {
        "model.onnx": model,
        "reference.npz": write_arrays(honest_arrays()),
        "MODEL_CARD.md": b"# tiny\n",
        "DATASHEET.md": b"# tiny\n",
        **pack(fixtures),
    }
    return Parts(manifest=manifest, members=members)


def honest_arrays() -> dict[str, np.ndarray]:
    known = np.eye(FEATURES, dtype=np.float16)
    return {"ood_known": known, "ood_calibration": np.linspace(0, 1, 30)}


def rezip(path: Path, members: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> None:
    """The same members as another tool might zip them."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, compress_type=method)


def unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def directory_at(data: bytes) -> int:
    """Where the archive's own directory begins; the npz inside has one too."""
    found: int = struct.unpack_from("<L", data, len(data) - 6)[0]
    return found
