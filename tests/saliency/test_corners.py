"""Pictures whose truth is known: the light falls on the thing, and agrees with covering places up one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivetrain.flows.train import TrainConfig, train
from drivetrain.inspect.saliency import Explainer
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import load
from drivetrain.settings import load_settings
from drivetrain.task import Task

from .corners import SIDE, cover_up, make_scenes, write_scenes

TASKS: tuple[Task, ...] = ("classification", "multilabel", "regression")
FEW = {
    "head": {},
    "top": {"epochs": 2, "views": 1, "batch": 16},
    "full": {"epochs": 1, "lr": 3e-4, "batch": 16},
}
Make = Callable[[Task, str], Path]


@pytest.fixture(scope="module")
def make(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    def train_on_scenes(task: Task, method: str) -> Path:
        root = tmp_path_factory.mktemp("corners")
        config = TrainConfig(
            data=write_scenes(root / "data", task, 64),
            out=root / "corners.dt",
            size=SIDE,
            valid_share=0.4,
            method=method,
            **FEW[method],  # type: ignore[arg-type]
        )
        settings = load_settings(environ={}, flags={"cache_dir": shared_cache})
        return train(config, settings=settings, progress=SilentProgress()).bundle

    return train_on_scenes


@pytest.mark.parametrize("task", TASKS)
def test_light_falls_on_the_thing(task: Task, make: Make) -> None:
    check(make(task, "head"), task)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["top", "full"])
@pytest.mark.parametrize("task", TASKS)
def test_light_falls_on_the_thing_where_more_was_trained(task: Task, method: str, make: Make) -> None:
    check(make(task, method), task)


def check(bundle: Path, task: Task) -> None:
    """Measured with 64 pictures: every light in its corner; mean correlation 0.79 to 0.92, of values 0.2 to 0.63."""
    explainer, predictor = Explainer.open(bundle), load(bundle)
    hits, agreements = [], []
    for scene in make_scenes(task, 12, seed=99):
        for thing, corner in scene.corners.items():
            label = None if task == "regression" else thing
            told = explainer.explain(scene.image, label=label)
            assert told.share_explained == pytest.approx(1.0)
            places = len(told.heat)
            brightest = np.unravel_index(int(told.heat.argmax()), told.heat.shape)
            hits.append(
                all(((at + 0.5) / places > 0.5) == bool(side) for at, side in zip(brightest, corner, strict=True))
            )
            weights = np.full(len(predictor.classes), -1.0 if task == "classification" else 0.0)
            weights[predictor.classes.index(told.label)] = 1.0
            lost = cover_up(predictor, scene.image, weights, places=places)
            if task == "regression":  # which way a value moves is not told by the light
                lost, effect = np.abs(lost), np.abs(told.effect)
            else:
                effect = told.effect
            agreements.append(float(np.corrcoef(effect.ravel(), lost.ravel())[0, 1]))
    assert len(hits) >= 12
    assert np.mean(hits) >= 0.9
    assert np.mean(agreements) > (0.1 if task == "regression" else 0.65)
