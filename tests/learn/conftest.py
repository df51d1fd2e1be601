from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.learn.trunk import Trunk, prepare_trunk
from drivetrain.progress import SilentProgress


@pytest.fixture(scope="session")
def trunk_cache(shared_cache: Path) -> Path:
    """A cache folder; read it, copy it, never change it."""
    return shared_cache


@pytest.fixture(scope="session")
def trunk(trunk_cache: Path) -> Trunk:
    """The smallest backbone at the smallest size, exported once for the whole run."""
    return prepare_trunk("efficientnet_lite0", size=96, cache_dir=trunk_cache, progress=SilentProgress())
