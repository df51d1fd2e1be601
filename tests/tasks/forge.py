"""A tiny model of each task, and pictures for it: flat colours, told apart by the mean of their channels.

Labels: "bright" where the mean is above the middle, "red" where red stands out. Value: ten times the mean, 0 to 10.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.archive import content_files
from drivetrain.bundle.arrays import write_arrays
from drivetrain.bundle.fixtures import make_synthetic_pictures, pack, read_spreads
from drivetrain.bundle.stored_zip import write_stored_zip
from drivetrain.data.targets import encode_targets
from drivetrain.flows.calibrate import Calibration, calibrate
from drivetrain.flows.evaluate import evaluate_answers
from drivetrain.flows.fixtures import choose_fixtures
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.runtime.decision import AnyPolicy, open_policy
from drivetrain.runtime.session import Session
from drivetrain.task import Task

SIDE = 8  # pixels
FEATURES = 3
CLASSES: dict[Task, tuple[str, ...]] = {"multilabel": ("bright", "red"), "regression": ("value",)}
# features are means in [-1, 1]
WEIGHTS: dict[Task, list[list[float]]] = {
    "multilabel": [[8, 14], [8, -7], [8, -7]],
    "regression": [[5 / 3], [5 / 3], [5 / 3]],
}
BIAS: dict[Task, list[float]] = {"multilabel": [0, -4], "regression": [5]}


def colours(n: int, *, seed: int = 0) -> FloatArray:
    """(n, 3) of 0 to 1."""
    return np.random.default_rng(seed).uniform(0.05, 0.95, (n, 3))


def truth_of(colour: FloatArray, task: Task, rng: np.random.Generator) -> str:
    """What a person would write, with an error now and then."""
    mean = float(colour.mean())
    if task == "regression":
        return f"{10 * mean + rng.normal(0, 0.15):.3f}"
    red = float(colour[0] - colour[1:].mean())
    names = [("bright", mean + rng.normal(0, 0.02) > 0.5), ("red", red + rng.normal(0, 0.03) > 0.2)]
    return ";".join(name for name, is_there in names if is_there)


def write_data(root: Path, task: Task, n: int = 60, *, seed: int = 5) -> Path:
    """n pictures and their labels.csv."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = [f"path,{'labels' if task == 'multilabel' else 'value'}"]
    for at, colour in enumerate(colours(n, seed=seed)):
        noise = rng.normal(0, 4, (12, 16, 3))
        Image.fromarray((255 * colour + noise).clip(0, 255).astype(np.uint8)).save(root / f"{at:03}.png")
        rows.append(f"{at:03}.png,{truth_of(colour, task, rng)}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


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

    def archive(self) -> bytes:
        """The bundle's bytes, its digests true, nothing checked."""
        files = [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in content_files(self.members)]
        return write_stored_zip(
            {"manifest.json": json.dumps({**self.manifest, "files": files}).encode(), **self.members}
        )

    def write(self, path: Path) -> Path:
        path.write_bytes(self.archive())
        return path


def tiny_model(task: Task) -> bytes:
    """pixels -> mean of each channel -> the outputs of the task."""
    weight, bias = np.array(WEIGHTS[task], np.float32), np.array(BIAS[task], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixels", "axes"], ["frozen"], "mean", keepdims=0),
            helper.make_node("Gemm", ["frozen", "weight", "bias"], ["logits"], "head"),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", weight.shape[1]]),
            helper.make_tensor_value_info("frozen", TensorProto.FLOAT, ["n", FEATURES]),
        ],
        [
            numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def sides(task: Task, n: int = 600, *, seed: int = 0) -> tuple[FloatArray, np.ndarray, FloatArray]:
    """Features, targets and logits of n pictures."""
    rng = np.random.default_rng([seed, 1])
    shown = colours(n, seed=seed)
    features = (2 * shown - 1).astype(np.float32)
    labels = [truth_of(colour, task, rng) for colour in shown]
    targets = encode_targets(labels, task=task, classes=CLASSES[task])
    logits = features @ np.array(WEIGHTS[task], np.float32) + np.array(BIAS[task], np.float32)
    return features, targets, logits.astype(np.float32)


def fit(task: Task, *, n: int = 600, max_error: float = 0.05) -> Calibration:
    train_features, train_targets, _ = sides(task, 300, seed=1)
    features, targets, logits = sides(task, n, seed=2)
    return calibrate(
        task=task,
        train_features=train_features,
        train_labels=train_targets,
        valid_features=features,
        valid_labels=targets,
        valid_logits=logits,
        class_names=CLASSES[task],
        options=PolicyOptions(max_error=max_error),
    )


def open_tiny(task: Task, made: Calibration) -> AnyPolicy:
    return open_policy(task, made.decision, made.arrays, feature_count=FEATURES, output_count=len(CLASSES[task]))


@functools.cache
def tiny_parts(task: Task) -> Parts:
    """An honest bundle of the task, of a few kilobytes; change copies of it only."""
    made = fit(task)
    policy, session = open_tiny(task, made), Session(tiny_model(task))
    preprocess = Preprocess(declare_preprocess(SIDE, mean=[0.5] * 3, std=[0.5] * 3))
    choice = choose_fixtures(
        make_synthetic_pictures(2, side=2 * SIDE, seed=1),
        source="validation",
        preprocess=preprocess,
        answer=lambda pixels: policy.row(session.run(["logits"], pixels)[0][0]),
        tolerance=1e-3,
        seed=0,
        task=task,
        spreads=read_spreads(made.decision, task=task, output_count=len(CLASSES[task])),
    )
    features, targets, logits = sides(task, 200, seed=3)
    answers = [policy.decide(*one, CLASSES[task], "") for one in zip(logits, features, strict=True)]
    manifest = {
        "schema_version": "1.0",
        "name": "tiny",
        "created_at": "2026-01-02T03:04:05+00:00",
        "task": task,
        "classes": list(CLASSES[task]),
        "preprocess": list(preprocess.ops),
        "training": {"method": "head"},
        "decision": json.loads(json.dumps(made.decision)),
        "evaluation": evaluate_answers(answers, targets, CLASSES[task]).as_json(),
        "lineage": {"seed": 42},
        "runtime": {"onnxruntime": "1"},
        "tolerance": 1e-3,
    }
    members = {
        "model.onnx": tiny_model(task),
        "reference.npz": write_arrays(made.arrays),
        **pack(choice.fixtures),
    }
    return Parts(manifest=manifest, members=members)
