"""What the frozen part of a network says of the loaders' pictures: as they are held out, and as training shows them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput, Unavailable
from drivetrain.progress import Progress
from drivetrain.task import Task

from .activations import Activations
from .data_loader import DataLoader
from .data_loaders import DataLoaders
from .draws import draws_of_our_own, seed_draws
from .frozen_part import FrozenPart
from .targets import read_targets

__all__ = ["KeptSide", "keep_features", "keep_views"]

_LARGEST = 65504.0  # of float16


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSide:
    """One side's pictures that can be read, row by row."""

    activations: Activations  # the clean view, then the augmented ones
    targets: NDArray[Any]
    names: tuple[str, ...]  # how messages call each


def keep_views(
    dls: DataLoaders,
    part: FrozenPart,
    *,
    task: Task,
    views: int,
    first_epoch: int,
    folder: Path,
    progress: Progress,
) -> tuple[KeptSide, KeptSide]:
    """(training side with `views` augmented views, held-out side with none): activations before the piece part.cut.

    An augmented view is what the training's loader makes of a picture in an epoch, by its own transforms; the epochs
    are those from `first_epoch` on. The numbers lie in a file of `folder` that goes away with them, even after a kill.
    Raises Unavailable where they find no room there.
    """
    total = len(dls.train_ds) * (1 + views) + len(dls.valid_ds)
    with draws_of_our_own(), progress.task(f"Looking at pictures, {1 + views} views each", total=total) as advance:
        clean = _clean(dls)
        train, store = _keep_clean(clean, part, task=task, views=views, folder=folder, advance=advance)
        again = dls.train.new(dls.train_ds, shuffle=False, drop_last=False)
        again.left_out = dict(clean.left_out)
        for view in range(1, 1 + views):
            epoch = first_epoch + view - 1
            seed_draws(dls.train.config.seed, epoch)  # for transforms of one's own
            for at, maps in _run(again, part, epoch=epoch):
                store.put(at, view, maps)
                advance(len(maps))
        if len(_list_kept(again)) != len(train.names):
            want = "files that stay where they are"
            raise InvalidInput("pictures", got="one that could be read a minute ago, and cannot now", want=want)
        valid, _ = _keep_clean(dls.valid, part, task=task, views=0, folder=folder, advance=advance)
    return train, valid


def keep_features(
    dls: DataLoaders, part: FrozenPart, *, task: Task, progress: Progress
) -> tuple[FloatArray, NDArray[Any]]:
    """(features (n, f) of the training pictures as they would be held out, their targets); part.cut is None."""
    loader = _clean(dls)
    found = []
    with draws_of_our_own(), progress.task("Looking at pictures", total=len(dls.train_ds)) as advance:
        for _, features in _run(loader, part, epoch=0):
            found.append(features)
            advance(len(features))
    return np.concatenate(found), read_targets(loader.dataset, task)[_list_kept(loader)]


def _clean(dls: DataLoaders) -> DataLoader:
    """The training's pictures without a draw."""
    loader = dls.valid.new(dls.train_ds)
    loader.left_out = dict(dls.train.left_out)
    return loader


def _keep_clean(
    loader: DataLoader, part: FrozenPart, *, task: Task, views: int, folder: Path, advance: Callable[[int], None]
) -> tuple[KeptSide, _Store]:
    """A side with its clean view, and room for the others."""
    store: _Store | None = None
    for at, maps in _run(loader, part, epoch=0):
        if store is None:
            store = _Store(folder, n=len(loader.dataset), views=views, shape=maps.shape[1:])
        store.put(at, 0, maps)
        advance(len(maps))
    assert store is not None  # a walk without a picture raises
    kept = _list_kept(loader)
    side = KeptSide(
        activations=Activations(rows=store.rows[: len(kept)], cut=part.cut or 0),
        targets=read_targets(loader.dataset, task)[kept],
        names=tuple(loader.dataset.name(at) for at in kept),
    )
    return side, store


def _run(loader: DataLoader, part: FrozenPart, *, epoch: int) -> Iterator[tuple[int, FloatArray]]:
    """(row of its first picture, maps) batch by batch, in the dataset's order."""
    at = 0
    for batch in loader.batches(epoch):
        maps = part.run(batch[0].float().cpu().numpy())
        yield at, maps
        at += len(maps)


def _list_kept(loader: DataLoader) -> Sequence[int]:
    return [at for at in range(len(loader.dataset)) if at not in loader.left_out]


class _Store:
    """rows (n, 1 + views, h, w, c) float16 in a file without a name."""

    def __init__(self, folder: Path, *, n: int, views: int, shape: tuple[int, ...]) -> None:
        channels, height, width = shape
        whole = (n, 1 + views, height, width, channels)
        bytes_needed = int(np.prod(whole)) * 2
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if free < bytes_needed:
                raise OSError(f"{free / 1e9:.1f} GB free of {bytes_needed / 1e9:.1f} GB needed")
            with tempfile.TemporaryFile(dir=folder) as file:  # the mapping keeps what the closed file held
                self.rows: Any = np.memmap(file, np.float16, "w+", shape=whole)
        except OSError as exc:
            raise Unavailable(
                "cache_dir",
                got=f"{folder}: {exc.strerror or exc}",
                want=f"a folder that can be written, with {bytes_needed / 1e9:.1f} GB free",
                hint='Set DRIVETRAIN_CACHE_DIR to another folder, or fine_tune(method="head").',
            ) from exc

    def put(self, at: int, view: int, maps: FloatArray) -> None:
        bounded = np.clip(maps, -_LARGEST, _LARGEST)
        self.rows[at : at + len(maps), view] = bounded.transpose(0, 2, 3, 1)
