"""Certify models of labels and of values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetrain.bundle.archive import read_bundle
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.flows.certify import CertifyConfig, CertifyResult, certify
from drivetrain.progress import SilentProgress
from drivetrain.settings import Settings
from drivetrain.task import Task

from .forge import tiny_parts, write_data


def run(model: Path, data: Path, settings: Settings, **options: Any) -> CertifyResult:
    config = CertifyConfig(model=model, data=data, out=model.with_name("new.dt"), options=options)
    return certify(config, settings=settings, progress=SilentProgress())


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_models_of_labels_and_of_values(task: Task, settings: Settings, tmp_path: Path) -> None:
    model = tiny_parts(task).write(tmp_path / "tiny.dt")
    data = write_data(tmp_path / "data", task, 140)
    result = run(model, data, settings, max_defer=0.01)
    decision, old = read_bundle(result.bundle).manifest.decision, read_bundle(model).manifest.decision
    assert result.n == 140
    assert "A person sees " in result.statement
    assert decision["policy"]["max_defer"] == 0.01
    if task == "regression":
        assert decision["interval"]["n_calibration"] == 70
        assert decision["interval"]["half_widths"] != old["interval"]["half_widths"]
        assert decision["spreads"] == old["spreads"]
    else:
        assert decision["n_calibration"] == 70
        assert decision["labels"] != old["labels"]
    for options in ({"cost_error": 2.0, "cost_review": 1.0}, {"per_class": True}):
        with pytest.raises(InvalidConfig, match="want a model that tells classes apart"):
            run(model, data, settings, **options)


def test_too_few_values_for_an_interval(settings: Settings, tmp_path: Path) -> None:
    model = tiny_parts("regression").write(tmp_path / "tiny.dt")
    with pytest.raises(
        InvalidInput, match="got 37 readable pictures to certify by; want 38 at least: half of them mea"
    ):
        run(model, write_data(tmp_path / "data", "regression", 37), settings)
