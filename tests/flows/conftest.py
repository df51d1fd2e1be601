from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
