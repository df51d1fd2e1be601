"""All tasks by head and by top, from a folder of made pictures to a bundle that answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetrain.bundle.archive import read_bundle
from drivetrain.errors import InvalidConfig
from drivetrain.flows.train import TrainResult
from drivetrain.runtime.prediction import ValuePrediction
from drivetrain.runtime.predictor import load

Train = Callable[..., TrainResult]
PictureFolder = Callable[..., Path]
PER_CLASS = 16
LABELS = {  # of a circle, a square, stripes
    "labels": ("round", "angular", "round;striped"),
    "value": ("1.5", "20", "300"),
}
TOP = {"method": "top", "epochs": 2, "views": 1, "batch": 8}


@pytest.fixture(scope="module")
def by_task(picture_folder: PictureFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each task; a class is rarer than the others."""
    plain = picture_folder(per_class=PER_CLASS)
    for file in sorted((plain / "stripes").iterdir())[8:]:
        file.unlink()
    folders = {"label": plain}
    for column, told in LABELS.items():
        root = tmp_path_factory.mktemp(column) / "data"
        shutil.copytree(plain, root)
        rows = [
            f"{file.relative_to(root).as_posix()},{told[number]}"
            for number, name in enumerate(("circle", "square", "stripes"))
            for file in sorted((root / name).iterdir())
        ]
        (root / "labels.csv").write_text("\n".join([f"path,{column}", *rows]))
        folders[column] = root
    return folders


def record_of(result: TrainResult) -> dict[str, Any]:
    return dict(read_bundle(result.bundle).manifest.training)


@pytest.mark.parametrize("method", ["head", "top"])
@pytest.mark.parametrize(
    ("column", "task"), [("label", "classification"), ("labels", "multilabel"), ("value", "regression")]
)
def test_every_task_by_every_method(
    column: str, task: str, method: str, by_task: dict[str, Path], train_small: Train
) -> None:
    options = TOP if method == "top" else {"method": "head", "views": 1}
    result = train_small(by_task[column], **options)
    assert (result.task, result.method) == (task, method)
    manifest = read_bundle(result.bundle).manifest
    assert manifest.task == task
    training = record_of(result)
    assert training["method"] == method
    assert "asked" not in training
    if method == "top":
        assert {name: training["top"][name] for name in ("epochs", "views", "batch")} == {
            name: TOP[name] for name in ("epochs", "views", "batch")
        }
    else:
        assert training["views"] == 1
    assert result.report.exists()
    predictor = load(result.bundle)
    answers = [predictor.predict(next((by_task[column] / name).iterdir())) for name in ("circle", "square", "stripes")]
    assert len({str(answer) for answer in answers}) == 3


def test_the_same_seed_gives_the_same_top_in_another_folder(
    by_task: dict[str, Path], train_small: Train, cold_cache: Path, shared_cache: Path, tmp_path: Path
) -> None:
    first = train_small(by_task["label"], **TOP)
    members = dict(read_bundle(first.bundle).members)
    moved = shutil.copytree(by_task["label"], tmp_path / "moved" / "elsewhere")
    second = train_small(moved, cache_dir=cold_cache, **TOP)
    assert second.digest == first.digest
    assert {name for name, data in read_bundle(second.bundle).members.items() if data != members[name]} <= {
        "manifest.json"  # the time
    }
    assert train_small(by_task["label"], seed=43, **TOP).digest != first.digest


@pytest.mark.parametrize(
    ("options", "name"),
    [({"epochs": 3}, "epochs"), ({"batch": 5}, "batch"), ({"lr": 0.01}, "lr"), ({"views": 0}, "views")],
)
def test_what_top_is_told_is_in_the_model(
    options: dict[str, Any], name: str, by_task: dict[str, Path], train_small: Train
) -> None:
    plain = read_bundle(train_small(by_task["label"], **TOP).bundle).members["model.onnx"]
    other = train_small(by_task["label"], **{**TOP, **options})
    assert record_of(other)["top"][name] == options[name]
    assert read_bundle(other.bundle).members["model.onnx"] != plain


@pytest.mark.parametrize("method", ["head", "top"])
@pytest.mark.parametrize("column", ["label", "labels"])
def test_class_weights_are_heeded(method: str, column: str, by_task: dict[str, Path], train_small: Train) -> None:
    options = TOP if method == "top" else {"method": "head"}
    plain = read_bundle(train_small(by_task[column], **options).bundle).members["model.onnx"]
    weighed = train_small(by_task[column], class_weights="balanced", **options)
    assert record_of(weighed)["class_weights"] == "balanced"
    assert read_bundle(weighed.bundle).members["model.onnx"] != plain


@pytest.mark.parametrize("method", ["head", "top", "auto", "full"])
def test_numbers_have_no_class_weights(method: str, by_task: dict[str, Path], train_small: Train) -> None:
    with pytest.raises(InvalidConfig, match=r"class_weights: got balanced; want nothing: the labels are numbers"):
        train_small(by_task["value"], method=method, class_weights="balanced")


def test_views_make_another_head(by_task: dict[str, Path], train_small: Train) -> None:
    models = [
        read_bundle(train_small(by_task["label"], method="head", views=views).bundle).members["model.onnx"]
        for views in (None, 0, 1, 2)
    ]
    assert models[0] == models[1]
    assert len(set(models)) == 3


@pytest.mark.parametrize("column", ["label", "labels", "value"])
def test_a_learning_curve_is_told_everywhere(column: str, by_task: dict[str, Path], train_small: Train) -> None:
    result = train_small(by_task[column], method="head", learning_curve=True)
    assert result.curve is not None
    plain = result.as_json()["learning_curve"]
    assert plain == result.curve.as_json()
    assert f"{result.curve.sentence}." in result.notes
    assert "<svg" in result.report.read_text()
    without = train_small(by_task[column], method="head")
    assert without.curve is None
    assert "learning_curve" not in without.as_json()
    assert without.digest == result.digest  # it tells of the data, not of the model


def test_numbers_of_any_size_are_answered_in_their_unit(by_task: dict[str, Path], train_small: Train) -> None:
    result = train_small(by_task["value"], **TOP)
    predictor = load(result.bundle)
    small, large = (predictor.predict(next((by_task["value"] / name).iterdir())) for name in ("circle", "stripes"))
    assert isinstance(small, ValuePrediction)
    assert isinstance(large, ValuePrediction)
    assert small.value < 100 < 150 < large.value
