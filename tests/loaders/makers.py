"""What the tests of blocks and loaders are made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.data.getters import get_image_files, parent_label
from drivetrain.data.splitters import IndexSplitter
from drivetrain.data.transforms import Resize
from drivetrain.learn.blocks import CategoryBlock, ImageBlock
from drivetrain.learn.data_block import DataBlock
from drivetrain.learn.data_loaders import DataLoaders
from drivetrain.settings import Settings

__all__ = ["block_of", "load", "make_files"]


def make_files(
    folder: Path, *, count: int = 12, classes: Sequence[str] = ("cat", "dog"), size: tuple[int, int] = (40, 30)
) -> list[Path]:
    """Smooth noise, each picture its own, in classes by turns; sorted."""
    files = []
    for number in range(count):
        rng = np.random.default_rng(number)
        file = folder / classes[number % len(classes)] / f"{number:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(file, quality=95)
        files.append(file)
    return sorted(files)


def block_of(**changes: Any) -> DataBlock:
    """Pictures of 16 pixels labelled by their folder; three of twelve held out, of both classes."""
    options: dict[str, Any] = {
        "blocks": (ImageBlock, CategoryBlock),
        "get_items": get_image_files,
        "get_y": parent_label,
        "splitter": IndexSplitter([0, 6, 11]),
        "item_tfms": Resize(16),
    }
    return DataBlock(**(options | changes))


def load(folder: Any, settings: Settings, block: DataBlock | None = None, **options: Any) -> DataLoaders:
    chosen = {"bs": 4, "device": "cpu", "settings": settings} | options
    return (block or block_of()).dataloaders(folder, **chosen)
