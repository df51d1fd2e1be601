from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from PIL import Image

from drivetrain.flows.train import TrainConfig, TrainResult, train
from drivetrain.progress import SilentProgress
from drivetrain.settings import load_settings

Train = Callable[..., TrainResult]


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
