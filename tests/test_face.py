from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import drivetrain
from drivetrain import Prediction, load
from drivetrain.flows.train import TrainResult

if TYPE_CHECKING:
    from tests.conftest import PictureFolder


def test_the_names_of_the_design_are_there(trained: TrainResult, picture_folder: PictureFolder) -> None:
    picture = picture_folder(per_class=1, seed=7) / "circle" / "circle-000.png"
    answer = load(trained.bundle).predict(picture)
    assert isinstance(answer, Prediction)
    assert (answer.label, answer.version) == ("circle", trained.version)


def test_every_public_name_can_be_had() -> None:
    assert [name for name in drivetrain.__all__ if not hasattr(drivetrain, name)] == []
    assert set(drivetrain.__all__) <= set(dir(drivetrain))


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match=r"it has .*\bPrediction, Predictor\b.*\bload\b"):
        drivetrain.Lerner  # noqa: B018 - the access is the test
