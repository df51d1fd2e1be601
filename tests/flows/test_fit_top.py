"""The method `top`: where it cuts, what it keeps, and that the written model is the trained one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.flows.fit_top import TopTrainer, find_cuts, fit_by_top, plan_top
from drivetrain.flows.fitting import FitInput, FitOptions, fit_first_head, fit_head_on
from drivetrain.learn.activations import measure_maps
from drivetrain.progress import SilentProgress
from drivetrain.runtime.session import Session

MakeFitInput = Callable[..., FitInput]
PictureFolder = Callable[..., Path]
SMALL = {"epochs": 1, "views": 1, "batch": 8}


class Told(SilentProgress):
    """Names of the tasks, and the steps of each call."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, list[int]]] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        jumps: list[int] = []
        self.tasks.append((name, jumps))
        yield jumps.append


@pytest.fixture(scope="module")
def shapes(picture_folder: PictureFolder) -> Path:
    return picture_folder(("circle", "square"), per_class=12)


def test_the_written_model_is_the_trained_one(fit_input: MakeFitInput, shapes: Path) -> None:
    given = fit_input(shapes, **SMALL)
    fitted = fit_by_top(given)
    session = Session(fitted.model)
    for side, frozen in ((given.train, fitted.train_frozen), (given.valid, fitted.valid_frozen)):
        assert frozen.shape == (len(side.files), 192)
    for row, file in enumerate(given.valid.files):
        pixels = given.preprocess.from_bytes(file.read_bytes(), name=file.name, limits=given.limits)
        logits, frozen = session.run(["logits", "frozen"], pixels[np.newaxis])
        np.testing.assert_allclose(logits[0], fitted.valid_logits[row], atol=1e-2)
        np.testing.assert_allclose(frozen[0], fitted.valid_frozen[row], atol=1e-2)
    names = {name.split(".")[1] if name.startswith("backbone") else "head" for name in fitted.tensors}
    assert names == {"head", "blocks", "conv_head"}
    blocks = {int(name.split(".")[2]) for name in fitted.tensors if name.startswith("backbone.blocks")}
    assert blocks == {12, 13, 14, 15}  # piece 13 is block 12
    assert not [name for name in fitted.tensors if "depthwise_conv.weight" in name]
    assert fitted.method == "top"
    told = {key: fitted.record["top"][key] for key in ("cut", "views", "epochs", "batch", "lr")}
    assert told == {"cut": 13, "views": 1, "epochs": 1, "batch": 8, "lr": 1e-3}
    head = fit_first_head(given)
    assert np.abs(fitted.tensors["head.linear.weight"] - head.weight).max() > 1e-6


def test_what_was_done_is_not_done_again(fit_input: MakeFitInput, shapes: Path, tmp_path: Path) -> None:
    given = fit_input(shapes, **SMALL)
    first, told = fit_by_top(given), Told()
    again = fit_by_top(replace(given, progress=told))
    assert again.model == first.model
    assert dict(told.tasks) == {
        "Choosing the head": dict(told.tasks)["Choosing the head"],
        "Training the top on all pictures": [2],  # both steps at once
    }
    fits = tmp_path / "cache" / "fits"
    assert len(list(fits.iterdir())) == 1
    train = given.train
    swapped = np.where(np.arange(len(train.targets)) == 0, 1 - train.targets, train.targets)
    for other in (
        replace(given, options=replace(given.options, seed=1)),
        replace(given, options=replace(given.options, epochs=2)),
        replace(given, options=replace(given.options, class_weights="balanced")),
        replace(given, train=replace(train, targets=swapped)),
    ):
        count = len(list(fits.iterdir()))
        fit_by_top(other)
        assert len(list(fits.iterdir())) == count + 1


def test_of_old_trainings_the_last_ones_stay(fit_input: MakeFitInput, shapes: Path, tmp_path: Path) -> None:
    fits = tmp_path / "cache" / "fits"
    fits.mkdir(parents=True)
    for age in range(30):
        file = fits / f"{age:024}.safetensors"
        file.write_bytes(b"")
        os.utime(file, (1_700_000_000 + age,) * 2)
    fit_by_top(fit_input(shapes, **SMALL))
    left = sorted(path.name for path in fits.iterdir())
    assert len(left) == 24
    assert f"{6:024}.safetensors" not in left
    assert f"{7:024}.safetensors" in left


def test_a_part_is_judged_by_those_that_have_not_seen_it(fit_input: MakeFitInput, shapes: Path) -> None:
    given = fit_input(shapes, **SMALL)
    head, held = fit_first_head(given), np.arange(4)
    rows = np.arange(4, len(given.train.files))

    def answer(**changed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of = replace(given, train=replace(given.train, **changed))
        return TopTrainer(of, plan_top(of)).try_part(head, rows, held, label="part")

    by_head, by_top = answer()
    assert by_head.shape == by_top.shape == (4, 2)
    assert not np.array_equal(by_head, by_top)
    alone = fit_head_on(given, rows, penalties=[head.penalty])
    assert np.array_equal(by_head, alone.logits(given.head_features(given.train)[held]))
    turned = given.train.targets.copy()
    turned[held] = 1 - turned[held]
    noise = given.train.features.copy()
    noise[held] = 0
    assert np.array_equal(answer(targets=turned)[0], by_head)
    assert np.array_equal(answer(targets=turned, features=noise)[1], by_top)


# the plan


def test_where_it_is_cut(fit_input: MakeFitInput, shapes: Path) -> None:
    given = fit_input(shapes, is_real=False)
    assert find_cuts(given) == (9, 13)
    maps = measure_maps(given.trunk)
    assert (maps[9], maps[13]) == ((80, 36), (192, 9))
    late, early = plan_top(given), plan_top(given, is_early=True)
    assert (early.cut, late.cut) == (9, 13)
    assert early.min_scale > late.min_scale  # what is unlike ImageNet's pictures shows its detail at one size


@pytest.mark.parametrize("is_early", [False, True])
def test_what_the_user_says_goes_first(fit_input: MakeFitInput, shapes: Path, is_early: bool) -> None:
    given = fit_input(shapes, is_real=False)
    plan = plan_top(given, is_early=is_early)
    for name, value in {"views": 0, "epochs": 2, "batch": 3, "lr": 0.5}.items():
        options = FitOptions(**{name: value})  # type: ignore[arg-type]
        assert plan_top(replace(given, options=options), is_early=is_early) == replace(plan, **{name: value})


def test_a_backbone_that_cannot_be_parted_is_told(fit_input: MakeFitInput, shapes: Path, tmp_path: Path) -> None:
    given = unpart(fit_input(shapes, is_real=False), tmp_path)
    with pytest.raises(InvalidInput, match=r"cannot be parted.*--method head or full"):
        plan_top(given)


def unpart(given: FitInput, folder: Path) -> FitInput:
    model = onnx.load_model(given.trunk.model)
    del model.graph.value_info[:]
    onnx.save_model(model, folder / "whole.onnx")
    return replace(given, trunk=replace(given.trunk, model=folder / "whole.onnx"))


def test_maps_of_one_size_are_cut_in_their_last_quarter(fit_input: MakeFitInput, shapes: Path, tmp_path: Path) -> None:
    given = fit_input(shapes, is_real=False)
    model = onnx.load_model(given.trunk.model)
    kept = [onnx.helper.make_tensor_value_info(f"piece_{piece}", 1, ["n", 8, 7, 7]) for piece in range(1, 9)]
    tokens = [onnx.helper.make_tensor_value_info(f"piece_{piece}", 1, ["n", 50, 8]) for piece in range(9, 12)]
    del model.graph.value_info[:]
    model.graph.value_info.extend([*reversed(tokens), *kept])
    onnx.save_model(model, tmp_path / "even.onnx")
    even = replace(given, trunk=replace(given.trunk, model=tmp_path / "even.onnx"))
    assert list(measure_maps(even.trunk)) == list(range(1, 9))
    assert find_cuts(even) == (6, 7)


def test_views_are_mirrored_only_where_the_labels_names_bear_it(fit_input: MakeFitInput, shapes: Path) -> None:
    given = fit_input(shapes, is_real=False)
    assert plan_top(given).flip
    assert plan_top(replace(given, task="regression", classes=("left", "right"))).flip  # names of numbers say nothing
    turned = replace(given, classes=("left", "right"))
    assert not plan_top(turned).flip
    mirrored, kept = (
        TopTrainer(given, replace(plan_top(given), views=4, flip=flip)).train_kept.rows for flip in (True, False)
    )
    assert (
        0
        < np.abs(mirrored[:, :4].astype(float) - kept[:, :4].astype(float)).max((2, 3, 4)).astype(bool).sum()
        < (mirrored.shape[0] * 4)
    )
