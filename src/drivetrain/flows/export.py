"""Write what was learned as a bundle, with fixtures that prove it wherever it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.archive import Bundle, write_bundle
from drivetrain.bundle.arrays import write_arrays
from drivetrain.bundle.fixtures import pack, read_spreads
from drivetrain.bundle.manifest import Manifest
from drivetrain.data.datasheet import write_datasheet
from drivetrain.data.side_counts import SideCounts
from drivetrain.flows.calibrate import Calibration
from drivetrain.flows.evaluate_answers import AnyEvaluation
from drivetrain.flows.fixtures import FixtureSource, choose_fixtures
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.inspect.model_card import ModelCard, write_model_card
from drivetrain.runtime.decision import open_policy
from drivetrain.runtime.session import Session
from drivetrain.task import Task

__all__ = ["TOLERANCE", "ExportInput", "Exported", "export_bundle"]

TOLERANCE = 1e-3  # of a probability, between the maker's machine and any other


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportInput:
    """All that goes into a bundle."""

    path: Path
    name: str  # the model's
    task: Task
    backbone: str  # in words, with its licence
    preprocess: Preprocess
    model: bytes  # model.onnx
    tensors: Mapping[str, NDArray[Any]]  # what was fitted, for weights.safetensors
    classes: tuple[str, ...]
    calibration: Calibration
    evaluation: AnyEvaluation
    candidates: Sequence[Image.Image]  # for fixtures: held-out pictures, the least certain first
    fixture_source: FixtureSource
    training: Mapping[str, Any]
    lineage: Mapping[str, Any]
    counts: SideCounts
    unreadable: Sequence[tuple[str, str]]  # (path, reason)
    datasheet: str | None = None  # the text of datasheet.md beside the data


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The bundle as written, and what its reader should know."""

    bundle: Bundle
    notes: tuple[str, ...]


def export_bundle(given: ExportInput) -> Exported:
    """Write `given.path` whole or not at all. The same input gives the same digest."""
    from safetensors.numpy import save as save_tensors  # only training has it

    name = given.name
    session = Session(given.model)
    decision = given.calibration.decision
    policy = open_policy(
        given.task,
        decision,
        given.calibration.arrays,
        feature_count=int(session.outputs["frozen"][1] or 0),
        output_count=len(given.classes),
    )

    def answer(pixels: FloatArray) -> FloatArray:
        return policy.row(session.run(["logits"], pixels)[0][0])

    choice = choose_fixtures(
        given.candidates,
        source=given.fixture_source,
        preprocess=given.preprocess,
        answer=answer,
        tolerance=TOLERANCE,
        seed=int(given.lineage["seed"]),
        task=given.task,
        spreads=read_spreads(decision, task=given.task, output_count=len(given.classes)),
    )
    manifest = Manifest(
        name=name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        task=given.task,
        classes=given.classes,
        preprocess=given.preprocess.ops,
        training=given.training,
        decision=decision,
        evaluation=given.evaluation.as_json(),
        lineage={**given.lineage, "drivetrain": installed_version("drivetrain")},
        runtime={"onnxruntime": installed_version("onnxruntime"), "numpy": np.__version__, "providers": ["cpu"]},
        tolerance=TOLERANCE,
    )
    members = {
        "model.onnx": given.model,
        "reference.npz": write_arrays(given.calibration.arrays),
        "weights.safetensors": save_tensors(dict(given.tensors)),
        "MODEL_CARD.md": _model_card(given, manifest).encode(),
        "DATASHEET.md": write_datasheet(
            name, counts=given.counts, unreadable=given.unreadable, beside=given.datasheet
        ).encode(),
        **pack(choice.fixtures),
    }
    notes = [f"The golden fixtures would not notice this change: {what}." for what in choice.unnoticed]
    return Exported(bundle=write_bundle(given.path, manifest, members), notes=tuple(notes))


def _model_card(given: ExportInput, manifest: Manifest) -> str:
    return write_model_card(
        ModelCard(
            name=manifest.name,
            evaluation=given.evaluation,
            policy_statement=given.calibration.statement,
            pictures="pictures held out of training",
            backbone=given.backbone,
            counts=given.counts,
            n_unreadable=len(given.unreadable),
            provenance={key: str(value) for key, value in manifest.lineage.items() if value is not None},
        )
    )
