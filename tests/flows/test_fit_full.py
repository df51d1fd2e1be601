"""The method `full`: small and few, for it is a GPU's work. That it heeds all it is told, and goes on after a break."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drivetrain.bundle.archive import read_bundle
from drivetrain.errors import Conflict
from drivetrain.flows.fit_full import fit_by_full
from drivetrain.flows.fitting import FitInput
from drivetrain.flows.train import TrainResult
from drivetrain.progress import SilentProgress
from drivetrain.runtime.session import Session

Train = Callable[..., TrainResult]
PictureFolder = Callable[..., Path]
MakeFitInput = Callable[..., FitInput]


class Break(BaseException):
    """As sudden as Ctrl-C."""


class BrokenOff(SilentProgress):
    """Breaks off in the training after so many steps; three make an epoch here. Keeps what was said."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.lines: list[str] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        done: list[int] = []

        def advance(steps: int) -> None:
            done.append(steps)
            if name.startswith("fit_one_cycle") and sum(done) == self.after:
                raise Break

        yield advance

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def shapes(picture_folder: PictureFolder) -> Path:
    return picture_folder(("circle", "square"), per_class=8)


def test_one_epoch_and_its_model(fit_input: MakeFitInput, shapes: Path, tmp_path: Path) -> None:
    given = fit_input(shapes, epochs=1, batch=6, lr=3e-3, seed=5, class_weights="balanced")
    fitted = fit_by_full(given)
    session = Session(fitted.model)
    layout = given.trunk.layout
    means = layout.find_means(min(layout.head_pieces))  # of a stage that hardly moves
    assert means is not None
    for side, frozen in ((given.train, fitted.train_frozen), (given.valid, fitted.valid_frozen)):
        assert frozen.shape == (len(side.files), means.stop - means.start)
    for row, file in enumerate(given.valid.files):
        pixels = given.preprocess.from_bytes(file.read_bytes(), name=file.name, limits=given.limits)
        logits, frozen = session.run(["logits", "frozen"], pixels[np.newaxis])
        np.testing.assert_array_equal(logits[0], fitted.valid_logits[row])
        np.testing.assert_array_equal(frozen[0], fitted.valid_frozen[row])
    moved = np.abs(fitted.valid_frozen - given.valid.features[:, means]).max()
    assert moved > 1e-3  # told is what the trained network says
    record = fitted.record["full"]
    assert (record["epochs"], record["lr"], record["seed"], record["batch_size"]) == (1, 3e-3, 5, 6)
    assert "weights" in str(record["loss"])
    assert any(name.startswith("backbone.conv_stem") for name in fitted.tensors)
    assert not list((tmp_path / "cache" / "runs").iterdir())  # of what was kept on the way nothing is left


def test_a_broken_off_training_is_gone_on_with(fit_input: MakeFitInput, shapes: Path, tmp_path: Path) -> None:
    given = fit_input(shapes, epochs=2, batch=6)
    unbroken = fit_by_full(replace(given, settings=replace(given.settings, cache_dir=tmp_path / "other")))
    with pytest.raises(Break):
        fit_by_full(replace(given, progress=BrokenOff(after=4)))
    progress = BrokenOff()
    options = replace(given.options, resume=True)
    with pytest.raises(Conflict, match="epochs 2 then, 3 now"):
        fit_by_full(replace(given, options=replace(options, epochs=3)))
    resumed = fit_by_full(replace(given, options=options, progress=progress))
    assert "Resumed in epoch 1." in progress.lines
    assert resumed.model == unbroken.model
    assert resumed.record == unbroken.record  # or the digests of the two bundles would differ


@pytest.mark.slow
@pytest.mark.parametrize(("column", "told"), [("labels", ("round", "angular")), ("value", ("1.5", "20"))])
def test_labels_and_numbers(
    column: str, told: tuple[str, str], shapes: Path, train_small: Train, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(shapes, tmp_path / "data"))
    rows = [
        f"{file.relative_to(root).as_posix()},{text}"
        for name, text in zip(("circle", "square"), told, strict=True)
        for file in sorted((root / name).iterdir())
    ]
    (root / "labels.csv").write_text("\n".join([f"path,{column}", *rows]))
    result = train_small(root, method="full", epochs=1)
    assert result.method == "full"
    assert read_bundle(result.bundle).manifest.training["full"]["epochs"] == 1
