"""Pictures a second of the loader: against a bare decode loop, its second epoch, and a plain torch DataLoader.

The bare loop is the least that must be done for a training batch, without the package under test: read the file, decode
it (scaled DCT where the JPEG allows it), resize it once, cut out a square; on as many threads as serve it best.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.floor import CORES
from drivetrain.data.getters import parent_label
from drivetrain.data.splitters import IndexSplitter
from drivetrain.data.transforms import RandomResizedCrop, Resize
from drivetrain.learn.blocks import CategoryBlock, ImageBlock
from drivetrain.learn.data_block import DataBlock
from drivetrain.learn.data_loaders import DataLoaders
from drivetrain.settings import load_settings

SIZE = 224
BS = 64
REPEATS = 6  # each kind in turn, the fastest of each counts: other work on the machine only ever slows down

Rates = dict[str, float]


def measure(files: Sequence[Path], scratch: Path, *, repeats: int = REPEATS) -> Rates:
    """Pictures a second of each kind."""
    resize, crop = Resize(SIZE), RandomResizedCrop(SIZE, min_scale=0.35)
    kinds: dict[str, Callable[[], float]] = {
        "bare": lambda: min(_bare(files, threads) for threads in (CORES, CORES + 1)),
        "loader": lambda: min(_epochs(files, scratch, resize, kept=False)[0] for _ in range(2)),  # as often as bare
        "plain": lambda: _plain_torch(files),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(repeats):
        for name, run in kinds.items():
            if name != "plain" or turn % 2 == 0:  # slow, and far from the bound
                seconds[name].append(run())
    for _ in range(max(1, repeats // 2)):
        for name, tfm in (("kept", resize), ("kept crop", crop)):
            first, second = _epochs(files, scratch, tfm, kept=True)
            seconds.setdefault(f"{name} 1", []).append(first)
            seconds.setdefault(f"{name} 2", []).append(second)
    return {name: len(files) / min(spent) for name, spent in seconds.items()}


def _bare(files: Sequence[Path], threads: int) -> float:
    def work(file: Path) -> np.ndarray:
        image = Image.open(file)
        image.draft("RGB", (SIZE, SIZE))
        return _square(image.convert("RGB"))

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, files):
            pass
    return time.perf_counter() - begun


def _square(image: Image.Image) -> np.ndarray:
    """The shortest side to SIZE, then a square cut out at random."""
    ratio = SIZE / min(image.size)
    size = max(SIZE, round(image.width * ratio)), max(SIZE, round(image.height * ratio))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = random.randint(0, image.width - SIZE), random.randint(0, image.height - SIZE)
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def _epochs(files: Sequence[Path], scratch: Path, tfm: object, *, kept: bool) -> tuple[float, float]:
    """Seconds of the first and, where pictures are kept, of the second epoch; begun with nothing kept."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        settings = load_settings(environ={}, folder=folder, flags={"cache_dir": folder})
        if not kept:
            settings = replace(settings, pixel_cache_bytes=0)
        block = DataBlock(
            blocks=(ImageBlock, CategoryBlock),
            splitter=IndexSplitter([len(files)]),
            get_y=parent_label,
            item_tfms=tfm,
        )
        dls = block.dataloaders([*files, files[0]], bs=BS, device="cpu", drop_last=False, settings=settings)
        return _epoch(dls), _epoch(dls) if kept else 0.0


def _epoch(dls: DataLoaders) -> float:
    begun = time.perf_counter()
    for _ in dls.train:
        pass
    return time.perf_counter() - begun


class _Plain(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """What the tutorials show: open, resize, crop, to a tensor of floats."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.classes = sorted({file.parent.name for file in files})

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        file = self.files[at]
        pixels = _square(Image.open(file).convert("RGB"))
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous().float().div(255)
        return tensor, self.classes.index(file.parent.name)


def _plain_torch(files: Sequence[Path]) -> float:
    loader = torch.utils.data.DataLoader(_Plain(files), batch_size=BS, shuffle=True, num_workers=CORES)
    begun = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - begun
