"""What a run is told is checked before anything is read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.flows.train_config import METHODS, TrainConfig


def configure(**options: Any) -> TrainConfig:
    return TrainConfig(**{"data": Path("nowhere"), "out": Path("m.dt"), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "boost"}, "--method: got boost; want one of auto, head, top, full."),
        ({"name": ""}, "--name: got ''; want 1 to 255 characters to print."),
        ({"name": "a\x1bb"}, "--name: got 'a\\x1bb'; want 1 to 255 characters to print."),
        ({"views": -1}, "--views: got -1; want a whole number of at least 0."),
        ({"epochs": 0}, "--epochs: got 0; want a whole number of at least 1."),
        ({"batch": 0}, "--batch: got 0; want a whole number of at least 1."),
        ({"lr": 0.0}, "--lr: got 0.0; want a number above 0."),
        ({"lr": -1.0}, "--lr: got -1.0; want a number above 0."),
        ({"lr": float("inf")}, "--lr: got inf; want a number above 0."),
        ({"lr": float("nan")}, "--lr: got nan; want a number above 0."),
        ({"class_weights": "even"}, "--class-weights: got even; want balanced, or nothing."),
        *(
            (
                {"method": "head", name: value},
                f"--{name}: got it with --method head, which is fitted in one go; want --method auto, top or full.",
            )
            for name, value in (("epochs", 3), ("batch", 8), ("lr", 0.1), ("resume", True))
        ),
        (
            {"method": "full", "views": 2},
            "--views: got it with --method full; want --epochs: each epoch draws new views.",
        ),
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        configure(**options)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "options",
    [
        {"method": "head", "views": 2, "class_weights": "balanced", "learning_curve": True},
        {"method": "top", "views": 0, "epochs": 1, "batch": 1, "lr": 1e-9, "resume": True},
        {"method": "full", "epochs": 1, "batch": 1, "lr": 1.0, "class_weights": "balanced", "resume": True},
        {"method": "auto", "views": 2, "epochs": 1, "batch": 1, "lr": 1.0, "resume": True},
    ],
    ids=str,
)
def test_options_that_mean_something_are_taken(options: dict[str, Any]) -> None:
    config = configure(**options)
    assert {name: getattr(config, name) for name in options} == options


def test_each_method_is_given_all_that_was_said() -> None:
    said = {
        "seed": 7,
        "views": 2,
        "epochs": 3,
        "batch": 4,
        "lr": 0.5,
        "class_weights": "balanced",
        "resume": True,
    }
    assert asdict(configure(method="top", **said).fit_options) == said
    assert asdict(configure().fit_options) == {
        "seed": 42,
        "views": None,
        "epochs": None,
        "batch": None,
        "lr": None,
        "class_weights": None,
        "resume": False,
    }
    assert METHODS == ("auto", "head", "top", "full")
