from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from PIL import Image

from drivetrain.data.items import read_items
from drivetrain.flows.fitting import FitInput, FitOptions, Side
from drivetrain.flows.train import TrainConfig, TrainResult, train
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.learn.trunk import prepare_trunk
from drivetrain.progress import SilentProgress
from drivetrain.runtime.session import Session
from drivetrain.settings import load_settings
from drivetrain.store.store import Store, open_store

from .rollout_traffic import Clock

Train = Callable[..., TrainResult]
MakeFitInput = Callable[..., FitInput]


@pytest.fixture
def clock() -> Clock:
    """Seconds since 1970 that move when they are told to."""
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock, tmp_path: Path) -> Iterator[Store]:
    """Empty, of each kind of database."""
    with open_store(database_url, clock=clock, images=f"{tmp_path}/pictures") as opened:
        yield opened


@pytest.fixture
def cold_cache(shared_cache: Path, trained: TrainResult, tmp_path: Path) -> Path:
    """A cache without a feature; the trunk alone is there already, since exporting it takes seconds."""
    cache = tmp_path / "cold"
    cache.mkdir()
    (cache / "trunks").symlink_to(shared_cache / "trunks", target_is_directory=True)
    return cache


@pytest.fixture
def train_small(shared_cache: Path, tmp_path: Path) -> Train:
    """Trains at the smallest size into tmp_path/out/model.dt."""

    def run(data: Path, *, cache_dir: Path = shared_cache, **options: Any) -> TrainResult:
        config = TrainConfig(**{"data": data, "out": tmp_path / "out" / "model.dt", "size": 96, **options})
        settings = load_settings(environ={}, folder=tmp_path, flags={"cache_dir": cache_dir, "threads": 2})
        return train(config, settings=settings, progress=SilentProgress())

    return run


@pytest.fixture
def fit_input(shared_cache: Path, tmp_path: Path) -> MakeFitInput:
    """What a method is given for a folder of pictures, every fourth held out; without `is_real`, features are noise."""

    def make(data: Path, *, is_real: bool = True, cache_dir: Path | None = None, **options: Any) -> FitInput:
        trunk = prepare_trunk("efficientnet_lite0", size=96, cache_dir=shared_cache, progress=SilentProgress())
        preprocess = Preprocess(declare_preprocess(96, method="crop", mean=trunk.mean, std=trunk.std))
        limits = DecodeLimits(max_bytes=10**8, max_pixels=10**8)
        items = read_items(data)
        order = np.random.default_rng(0).permutation(len(items))
        session = Session(trunk.model.read_bytes())

        def look(file: Path) -> Any:
            pixels = preprocess.from_bytes(file.read_bytes(), name=file.name, limits=limits)
            return session.run(["frozen"], pixels[np.newaxis])[0][0]

        def side(rows: Any) -> Side:
            chosen = [items.items[row] for row in rows]
            files = tuple(items.file(item) for item in chosen)
            noise = np.random.default_rng(len(rows)).random((len(rows), trunk.layout.count), dtype=np.float32)
            return Side(
                items=tuple(chosen),
                files=files,
                digests=tuple(hashlib.sha256(file.read_bytes()).digest() for file in files),
                features=np.stack([look(file) for file in files]) if is_real else noise,
                targets=items.targets(chosen),
                groups=np.arange(len(rows)),
            )

        cache = tmp_path / "cache" if cache_dir is None else cache_dir
        return FitInput(
            task=items.task,
            classes=items.classes,
            trunk=trunk,
            preprocess=preprocess,
            train=side(order[len(order) // 4 :]),
            valid=side(order[: len(order) // 4]),
            options=FitOptions(**options),
            settings=load_settings(environ={}, folder=tmp_path, flags={"cache_dir": cache, "threads": 2}),
            limits=limits,
            progress=SilentProgress(),
        )

    return make


class Photographs(Protocol):
    def __call__(self, root: Path, classes: Sequence[str], *, n: int = 30, size: tuple[int, int] = ...) -> Path: ...


@pytest.fixture(scope="session")
def photographs() -> Photographs:
    """Writes a folder per class of pictures that have what photographs have: edges, shading, colour, noise."""

    def write(root: Path, classes: Sequence[str], *, n: int = 30, size: tuple[int, int] = (240, 180)) -> Path:
        for index, name in enumerate(classes):
            (root / name).mkdir(parents=True, exist_ok=True)
            for number in range(n):
                rng = np.random.default_rng([index, number])
                file = root / name / f"{number:03}.jpg"
                photograph(index, rng, size).save(file, quality=88)
                os.utime(file, (1_700_000_000, 1_700_000_000))  # long ago: a file just written is not trusted to stay
        return root

    return write


def photograph(index: int, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    width, height = size
    y, x = np.mgrid[:height, :width] / max(size)
    shade = 0.8 + 0.25 * np.sin(6 * x + rng.uniform(0, 6)) * np.cos(5 * y + rng.uniform(0, 6))
    picture = np.full((height, width, 3), rng.uniform(110, 190, 3))
    for _ in range(25):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, height / width), rng.uniform(0.02, 0.2)
        across, along = abs(x - cx), abs(y - cy)
        is_inside = np.maximum(across, along) < radius if index % 2 else across**2 + along**2 < radius**2
        picture[is_inside] = rng.uniform(20, 250, 3)
    picture = picture * shade[..., None] + rng.normal(0, 6, picture.shape)
    return Image.fromarray(picture.clip(0, 250).astype(np.uint8))
