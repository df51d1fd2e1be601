"""`auto` tries on the training pictures alone, says how long and why, and chooses what the interval bears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from drivetrain.bundle.archive import read_bundle
from drivetrain.flows.auto import fit_by_auto
from drivetrain.flows.fitting import FitInput, FitOptions, fit_by_head
from drivetrain.flows.train import TrainResult
from drivetrain.learn.device import has_gpu
from drivetrain.progress import SilentProgress

MakeFitInput = Callable[..., FitInput]
PictureFolder = Callable[..., Path]
Train = Callable[..., TrainResult]

pytestmark = pytest.mark.skipif(has_gpu(), reason="with a GPU, auto chooses full")


class Secret:
    """Held-out targets: whoever looks at them fails."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the held-out targets were asked for {name}")

    __array__ = __len__ = __iter__ = __getitem__ = __getattribute__  # type: ignore[assignment]


class Told(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.order: list[str] = []

    def task(self, name: str, total: int) -> Any:
        self.order.append(name)
        return super().task(name, total)

    def say(self, message: str) -> None:
        self.lines.append(message)
        self.order.append("said")


@pytest.fixture(scope="module")
def shapes(picture_folder: PictureFolder) -> Path:
    return picture_folder(("circle", "square"), per_class=136, size=(40, 36), suffix=".png")


def give(fit_input: MakeFitInput, data: Path, **options: Any) -> FitInput:
    """One number of noise for all features: a head finds nothing in any, a top the pictures themselves."""
    given = fit_input(data, is_real=False, **options)
    noise = np.repeat(given.train.features[:, :1], given.train.features.shape[1], axis=1)
    valid = replace(given.valid, targets=Secret())  # type: ignore[arg-type]
    return replace(given, train=replace(given.train, features=noise), valid=valid, progress=Told())


def alike(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_top_is_chosen_where_it_wins(fit_input: MakeFitInput, shapes: Path) -> None:
    given = give(fit_input, shapes, views=1, epochs=4, lr=3e-3)
    fitted = fit_by_auto(given)
    assert fitted.method == "top"
    assert fitted.notes[0].startswith("auto chose top: the gain over head is +")
    assert " points (paired, 95 % " in fitted.notes[0]
    assert "in 1 of 5 folds of the training pictures. Training begins early, at piece 9: " in fitted.notes[0]
    auto = fitted.record["auto"]
    assert (auto["folds"], auto["cut"]) == (1, 9)
    assert 0 < auto["comparison"]["low"] < auto["comparison"]["gain"] < auto["comparison"]["high"]
    assert auto["comparison"]["n"] in (40, 41, 42)
    assert auto["comparison"]["sentence"] in fitted.notes[0]
    progress = given.progress
    assert isinstance(progress, Told)
    (line,) = progress.lines
    assert line.startswith("auto: trying to train the network from piece 9 on, 4 epochs over 1 views a picture; ")
    assert line.endswith((" s.", " min."))
    assert progress.order.index("said") < progress.order.index("Looking at pictures, one view each")
    assert "Trying the top on fold 1 of 5" in progress.order


def test_few_pictures_are_for_a_head(fit_input: MakeFitInput, picture_folder: PictureFolder) -> None:
    given = give(fit_input, picture_folder(("circle", "square"), per_class=20))
    fitted = fit_by_auto(given)
    assert fitted.notes == ("auto chose head: 30 pictures to train on are too few to train more (200 are asked for).",)
    assert alike(fitted.tensors, fit_by_head(given).tensors)


def test_a_head_that_is_right_already_is_left_alone(fit_input: MakeFitInput, shapes: Path) -> None:
    given = give(fit_input, shapes)
    told = given.train.features.copy()
    told[:, :600] += 2 * np.asarray(given.train.targets)[:, np.newaxis]
    fitted = fit_by_auto(replace(given, train=replace(given.train, features=told)))
    assert fitted.notes == ("auto chose head: its cross-validated accuracy is 1.000 already.",)
    assert fitted.method == "head"


def test_a_backbone_that_cannot_be_parted_gets_a_head(fit_input: MakeFitInput, shapes: Path, tmp_path: Path) -> None:
    given = give(fit_input, shapes)
    model = onnx.load_model(given.trunk.model)
    del model.graph.value_info[:]
    onnx.save_model(model, tmp_path / "whole.onnx")
    fitted = fit_by_auto(replace(given, trunk=replace(given.trunk, model=tmp_path / "whole.onnx")))
    assert fitted.method == "head"
    assert fitted.notes[0].startswith("auto chose head: the backbone cannot be trained in part (")


def test_one_group_cannot_judge_another(fit_input: MakeFitInput, shapes: Path) -> None:
    """Symptom before: a fold without pictures, and an error about arrays."""
    given = as_values(give(fit_input, shapes))
    train = replace(given.train, groups=np.zeros(len(given.train.files), dtype=np.int64))
    fitted = fit_by_auto(replace(given, train=train))
    assert fitted.notes[0].startswith("auto chose head: the pictures to train on are all of one group")


def test_two_groups_are_two_folds(fit_input: MakeFitInput, shapes: Path) -> None:
    """Symptom before: "scores: got one picture or one group" after the first fold."""
    given = as_values(give(fit_input, shapes, views=0, epochs=1))
    train = replace(given.train, groups=np.arange(len(given.train.files), dtype=np.int64) % 2)
    fitted = fit_by_auto(replace(given, train=train))
    auto = fitted.record["auto"]
    assert (auto["folds"], auto["comparison"]["n_groups"]) == (2, 2)


def as_values(given: FitInput) -> FitInput:
    rng = np.random.default_rng(0)
    values = (np.asarray(given.train.targets) + rng.normal(0, 0.1, len(given.train.files))).astype(np.float32)
    train = replace(given.train, targets=values[:, np.newaxis])
    return replace(given, task="regression", classes=("value",), train=train)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.001, 1000.0])
def test_the_unit_of_a_value_changes_no_choice(fit_input: MakeFitInput, shapes: Path, factor: float) -> None:
    """Symptom before: a gain of 0.005 was asked for in whatever unit the values had."""
    given = as_values(give(fit_input, shapes, views=0, epochs=2))
    scaled = replace(given.train, targets=(np.asarray(given.train.targets) * factor).astype(np.float32))
    first, second = fit_by_auto(given), fit_by_auto(replace(given, train=scaled))
    assert first.method == second.method
    gains = [fitted.record["auto"]["comparison"]["gain"] for fitted in (first, second)]
    assert gains[1] / factor == pytest.approx(gains[0], rel=0.05, abs=1e-3)


@pytest.mark.slow
def test_held_out_targets_change_neither_choice_nor_weights(fit_input: MakeFitInput, shapes: Path) -> None:
    given = give(fit_input, shapes, views=1, epochs=2)
    targets = np.random.default_rng(1).integers(0, 2, len(given.valid.files))
    fits = []
    for number, valid in enumerate((targets, targets[::-1].copy())):
        cache = given.settings.cache_dir.with_name(f"cache-{number}")  # nothing is taken from the other
        of = replace(given, settings=replace(given.settings, cache_dir=cache))
        fits.append(fit_by_auto(replace(of, valid=replace(given.valid, targets=valid))))
    assert fits[0].notes == fits[1].notes
    assert fits[0].model == fits[1].model
    assert alike(fits[0].tensors, fits[1].tensors)


def test_the_choice_stands_in_the_bundle(picture_folder: PictureFolder, train_small: Train) -> None:
    result = train_small(picture_folder(("circle", "square"), per_class=12), method="auto")
    assert result.method == "head"
    assert any(note.startswith("auto chose head: 20 pictures") for note in result.notes)
    training = read_bundle(result.bundle).manifest.training
    assert (training["method"], training["asked"]) == ("head", "auto")
    assert "chosen by auto" in result.report.read_text()


def test_views_asked_for_are_used_by_the_head_it_falls_back_to(fit_input: MakeFitInput, shapes: Path) -> None:
    given = give(fit_input, shapes)
    few = replace(
        given.train,
        **{
            name: getattr(given.train, name)[:24]
            for name in ("items", "files", "digests", "features", "targets", "groups")
        },
    )
    given = replace(given, train=few, options=FitOptions(views=1))
    fitted = fit_by_auto(given)
    assert fitted.record["views"] == 1
    assert alike(fitted.tensors, fit_by_head(given).tensors)
