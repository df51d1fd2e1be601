"""What the tests of the Learner are made from: a backbone that trains in milliseconds, and pictures to tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drivetrain.data.getters import get_image_files, parent_label
from drivetrain.data.splitters import FuncSplitter
from drivetrain.data.transforms import Resize
from drivetrain.learn.augment import Flip
from drivetrain.learn.backbones import Backbone, Piece
from drivetrain.learn.blocks import CategoryBlock, ImageBlock, MultiCategoryBlock, RegressionBlock
from drivetrain.learn.data_block import DataBlock
from drivetrain.learn.data_loaders import DataLoaders
from drivetrain.learn.learner import Learner, vision_learner
from drivetrain.learn.trunk import BackboneSpec
from drivetrain.settings import load_settings

__all__ = ["Told", "make_dls", "make_learner", "same_weights", "tiny_backbone", "weights_of"]

FEATURES = 16
_BLOCKS = {"label": CategoryBlock, "labels": MultiCategoryBlock, "value": RegressionBlock}
_VALUES = {"circle": 1000.0, "square": 3000.0, "stripes": 5000.0}  # far from 0 and 1, as units are
_MARKS = {"circle": ["round"], "square": ["edged", "plain"], "stripes": ["edged"]}
GETTERS: dict[str, Callable[[Path], Any]] = {
    "label": parent_label,
    "labels": lambda path: _MARKS[path.parent.name],
    "value": lambda path: _VALUES[path.parent.name],
}


class TinyBackbone(Backbone):
    """Three pieces, 24 pixels to 16 features."""

    def __init__(self) -> None:
        super().__init__(
            BackboneSpec(name="tiny", package="none", size=24, feature_count=FEATURES, mean=(0.5,) * 3, std=(0.25,) * 3)
        )
        channels = (3, 8, 12, FEATURES)
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(channels)
        )

    @property
    def pieces(self) -> Sequence[Piece]:
        return list(self.parts)

    def piece_parameters(self, piece: int) -> list[nn.Parameter]:
        return list(self.parts[piece].parameters())


def tiny_backbone() -> TinyBackbone:
    """The same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyBackbone().eval()


def make_dls(folder: Path, *, target: str = "label", bs: int = 4, **block: Any) -> DataLoaders:
    """Pictures of 24 pixels, every fourth held out; half of the training's are mirrored by chance."""
    plan: dict[str, Any] = {
        "blocks": (ImageBlock, _BLOCKS[target]),
        "get_items": get_image_files,
        "get_y": GETTERS[target],
        "splitter": FuncSplitter(lambda path: int(path.stem[-3:]) % 4 == 0),
        "item_tfms": Resize(24),
        "batch_tfms": Flip(p=0.5),
    }
    settings = load_settings(environ={}, flags={"cache_dir": folder, "pixel_cache_bytes": 0})
    return DataBlock(**(plan | block)).dataloaders(folder, bs=bs, device="cpu", num_workers=0, settings=settings)


class Told:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[tuple[str, int]] = []
        self.steps = 0

    @contextmanager
    def task(self, name: str, total: int) -> Any:
        self.tasks.append((name, total))
        yield self._advance

    def say(self, message: str) -> None:
        self.lines.append(message)

    def _advance(self, steps: int) -> None:
        self.steps += steps


def make_learner(
    folder: Path, out: Path, *, target: str = "label", bs: int = 4, block: dict[str, Any] | None = None, **options: Any
) -> Learner:
    """A learner whose files lie in `out`; it keeps no checkpoints, which wait for the disk, unless told to."""
    chosen = {"path": out, "progress": Told(), "checkpoint": None} | options
    return vision_learner(make_dls(folder, target=target, bs=bs, **(block or {})), tiny_backbone(), **chosen)


def weights_of(learn: Learner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learn.model.state_dict().items()}


def same_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """To the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
