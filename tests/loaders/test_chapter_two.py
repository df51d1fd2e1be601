"""The steps of fastbook's second chapter on data, with nothing changed but the import, on generated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .makers import make_files

CHAPTER = """
from drivetrain import (CategoryBlock, DataBlock, ImageBlock, RandomResizedCrop, RandomSplitter, Resize, ResizeMethod,
                        aug_transforms, get_image_files, parent_label, verify_images)

fns = get_image_files(path)
failed = verify_images(fns)

bears = DataBlock(
    blocks=(ImageBlock, CategoryBlock),
    get_items=get_image_files,
    splitter=RandomSplitter(valid_pct=0.2, seed=42),
    get_y=parent_label,
    item_tfms=Resize(128))
dls = bears.dataloaders(path)
show(dls.valid.show_batch(max_n=4, nrows=1))

bears = bears.new(item_tfms=Resize(128, ResizeMethod.Squish))
dls = bears.dataloaders(path)
show(dls.valid.show_batch(max_n=4, nrows=1))

bears = bears.new(item_tfms=Resize(128, ResizeMethod.Pad, pad_mode='zeros'))
dls = bears.dataloaders(path)
show(dls.valid.show_batch(max_n=4, nrows=1))

bears = bears.new(item_tfms=RandomResizedCrop(128, min_scale=0.3))
dls = bears.dataloaders(path)
show(dls.train.show_batch(max_n=4, nrows=1, unique=True))

bears = bears.new(item_tfms=Resize(128), batch_tfms=aug_transforms(mult=2))
dls = bears.dataloaders(path)
show(dls.train.show_batch(max_n=8, nrows=2, unique=True))

bears = bears.new(
    item_tfms=RandomResizedCrop(224, min_scale=0.5),
    batch_tfms=aug_transforms())
dls = bears.dataloaders(path)
"""


def test_the_chapter_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path / "bears", count=30, classes=("grizzly", "black", "teddy"), size=(200, 150))
    monkeypatch.chdir(tmp_path)
    figures: list[Any] = []
    names: dict[str, Any] = {"path": tmp_path / "bears", "show": figures.append}
    exec(CHAPTER, names)
    assert names["failed"] == []
    assert names["dls"].vocab == ("black", "grizzly", "teddy")
    shown = [[np.asarray(axis.images[0].get_array()) for axis in figure.axes] for figure in figures]
    assert [len(pictures) for pictures in shown] == [4, 4, 4, 4, 8]
    assert {picture.shape for pictures in shown for picture in pictures} == {(128, 128, 3)}
    padded = shown[2][0]
    assert padded[:15].max() == 0 == padded[-15:].max()  # black above and below a wide picture
    assert shown[1][0][:15].max() > 0.1
    for unique in shown[3:]:
        assert len({picture.tobytes() for picture in unique}) == len(unique)
    x, y = next(iter(names["dls"].train))
    assert x.shape == (24, 3, 224, 224)
    assert len(y) == 24
