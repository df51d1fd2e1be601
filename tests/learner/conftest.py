from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivetrain.learn.learner import Learner

from .makers import make_learner

if TYPE_CHECKING:
    from tests.conftest import PictureFolder

MakeLearner = Callable[..., Learner]


@pytest.fixture(scope="session")
def shapes(picture_folder: PictureFolder) -> Path:
    """Twelve small pictures of each of three shapes: 27 to train on, 9 held out."""
    return picture_folder(per_class=12, size=(32, 24))


@pytest.fixture
def learner(shapes: Path, tmp_path: Path) -> MakeLearner:
    """make_learner on the shapes, its files in the test's own folder."""
    return lambda **options: make_learner(shapes, options.pop("out", tmp_path / "out"), **options)
