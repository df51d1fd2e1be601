"""What a bundle of classes promises, held to labelled pictures."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivetrain.bundle.archive import read_bundle, write_bundle
from drivetrain.bundle.arrays import write_arrays
from drivetrain.flows.evaluate import EvaluateResult, evaluate
from drivetrain.flows.trained_on import CALIBRATED_ON, pack_digests
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import load


def ask(bundle: Path, data: Path, tmp_path: Path, **changes: Any) -> EvaluateResult:
    """Of the same network under another decision: sure of all it sees, and promising it of two classes."""
    read = read_bundle(bundle)
    decision = {
        **read.manifest.decision,
        "rule": "promise",
        "threshold": 0.0,
        "promise": {"max_error": 0.05, "confidence": 0.95, "is_certified": True},
        "classes": [{"is_certified": name != "square"} for name in read.manifest.classes],
        **changes,
    }
    write_bundle(tmp_path / "new.dt", replace(read.manifest, decision=decision), read.members)
    return evaluate(load(tmp_path / "new.dt", threads=2), data, progress=SilentProgress())


def test_class_by_class_and_as_a_whole(other: Path, data: Path, tmp_path: Path) -> None:
    """The other model calls circles squares and squares circles."""
    result = ask(other, data, tmp_path)
    assert result.promise is not None
    assert result.promise.verdict == "broken"
    of = {part.kind: part for part in result.part_promises}
    checks = {one.of: one for one in of["classes"].checks}
    assert checks.keys() == {"circle", "stripes"}
    assert checks["circle"].verdict == "broken"
    for name, told in checks.items():
        decided = [item for item, answer in result.predictions if answer.decision == "accept" and answer.label == name]  # type: ignore[union-attr]
        assert told.n_decided == len(decided) > 0
        assert told.n_wrong == sum(item.label != name for item in decided)
    assert "Not kept for pictures like these: circle: " in of["classes"].sentence


def test_short_lists_are_counted_over_all_pictures(other: Path, data: Path, tmp_path: Path) -> None:
    sets = {"method": "marginal", "coverage": 0.95, "threshold": 0.4, "n_calibration": 100}
    result = ask(other, data, tmp_path, label_set=sets)
    [told] = [part for part in result.part_promises if part.kind == "short lists"]
    missed = sum(item.label not in answer.label_set for item, answer in result.predictions)  # type: ignore[union-attr]
    assert (told.checks[0].n_decided, told.checks[0].n_wrong) == (54, missed)
    assert missed > 20
    assert told.is_broken
    assert told.checks[0].max_error == 0.05
    whole = ask(other, data, tmp_path, label_set={**sets, "threshold": 0.0})
    assert "short lists" not in {part.kind for part in whole.part_promises}  # all labels each time


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": "all"},
        {"classes": [{"is_certified": True}]},
        {"classes": [{}, None, {"is_certified": "yes"}]},
        {"promise": {"max_error": "5 %", "is_certified": True}},
        {"rule": "promise", "promise": None},
    ],
)
def test_what_is_not_said_is_not_promised(other: Path, data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    result = ask(other, data, tmp_path, **changes)
    assert "classes" not in {part.kind for part in result.part_promises}


def test_short_lists_are_held_class_by_class_where_each_has_a_threshold(
    other: Path, data: Path, tmp_path: Path
) -> None:
    sets = {
        "method": "class_conditional", "coverage": 0.95, "threshold": 0.4, "n_calibration": 300,
        "thresholds": [0.4, 0.4, 0.4],
    }  # fmt: skip
    old = ask(other, data, tmp_path, label_set=sets)
    assert "short lists" not in {part.kind for part in old.part_promises}  # from how many pictures, nobody knows
    result = ask(other, data, tmp_path, label_set={**sets, "n_per_class": [100, 150, 50]})
    [told] = [part for part in result.part_promises if part.kind == "short lists"]
    assert [one.of for one in told.checks] == ["square", "circle", "stripes"]
    for one in told.checks:
        of = [(item, answer) for item, answer in result.predictions if item.label == one.of]
        assert one.n_decided == len(of)
        assert one.n_wrong == sum(item.label not in answer.label_set for item, answer in of)  # type: ignore[union-attr]
    assert told.is_broken


def test_pictures_that_calibrated_it_are_left_out_of_its_promises(other: Path, data: Path, tmp_path: Path) -> None:
    files = sorted(data.rglob("*.png"))
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files[::2]]
    read = read_bundle(other)
    arrays = dict(read.arrays) | {CALIBRATED_ON: pack_digests(digests)}
    write_bundle(tmp_path / "used.dt", read.manifest, {**read.members, "reference.npz": write_arrays(arrays)})
    result = ask(tmp_path / "used.dt", data, tmp_path)
    assert result.promise is not None
    used = {file.relative_to(data).as_posix() for file in files[::2]}
    left = sum(answer.decision == "accept" for item, answer in result.predictions if item.path not in used)
    assert 0 < left < result.evaluation.deferral.n_accepted
    assert (result.promise.n_decided, result.promise.verdict) == (left, "broken")
    assert result.evaluation.n == 54
    assert result.as_json()["n_calibrated_on"] == 27
    assert result.notes[0].endswith("What it promises is held to the other 27 alone.")
    arrays = dict(read.arrays) | {CALIBRATED_ON: pack_digests(hashlib.sha256(f.read_bytes()).digest() for f in files)}
    write_bundle(tmp_path / "used.dt", read.manifest, {**read.members, "reference.npz": write_arrays(arrays)})
    whole = ask(tmp_path / "used.dt", data, tmp_path)
    assert whole.promise is not None
    n_decided = whole.evaluation.deferral.n_accepted
    assert (whole.promise.n_decided, whole.promise.verdict) == (n_decided, "broken")  # against it they can speak
