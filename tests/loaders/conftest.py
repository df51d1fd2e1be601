from __future__ import annotations

from pathlib import Path

import pytest

from .makers import make_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of 40 x 30 pixels in two classes."""
    make_files(tmp_path / "pictures")
    return tmp_path / "pictures"
