"""A training that is killed and resumed: its callbacks and logs are those of the unbroken one."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from drivetrain.learn.callbacks import Callback, EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from drivetrain.learn.checkpoint import CheckpointConfig
from drivetrain.learn.learner import Learner
from drivetrain.learn.loggers import CSVLogger
from drivetrain.learn.metrics import BrierScore, F1Score, accuracy
from drivetrain.learn.mixing import CutMix, MixUp

from .conftest import MakeLearner
from .makers import same_weights, weights_of


class Kill(Callback):
    """Breaks the process off in one batch."""

    order = 1000

    def __init__(self, at: int) -> None:
        self.at = at
        self.n_batches = 0

    def after_batch(self, learn: Any) -> None:
        self.n_batches += learn.training
        if self.n_batches == self.at:
            raise KeyboardInterrupt


def never(new: float, best: float) -> bool:
    """Nothing is better than the first epoch."""
    return False


def make_callbacks() -> list[Callback]:
    return [
        MixUp(),
        CutMix(),
        CSVLogger(),
        SaveModelCallback("brier_score", fname="best"),
        ReduceLROnPlateau("train_loss", comp=never, factor=2),
        EarlyStoppingCallback("f1_score", patience=3),
    ]


def train(learn: Learner, **options: Any) -> None:
    learn.freeze()
    learn.fit(1, 0.02, **options)
    learn.unfreeze()
    learn.fit(3, 0.02, **options)


def rows_of(path: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return [{name: cell for name, cell in row.items() if name != "time_s"} for row in rows]


METRICS = [accuracy, F1Score(average="macro"), BrierScore()]


# six batches an epoch, one epoch in the first fit
@pytest.mark.parametrize(("at", "every_batches"), [(1, None), (8, 2), (19, None), (23, 2)])
def test_callbacks_go_on_where_they_were(
    learner: MakeLearner, tmp_path: Path, at: int, every_batches: int | None
) -> None:
    whole = learner(out=tmp_path / "whole", metrics=METRICS)
    train(whole, cbs=make_callbacks())
    keep = CheckpointConfig(every_s=math.inf, every_batches=every_batches)
    broken = learner(out=tmp_path / "broken", metrics=METRICS, checkpoint=keep)
    kill = Kill(at)
    with pytest.raises(KeyboardInterrupt):
        train(broken, cbs=[*make_callbacks(), kill])
    assert kill.n_batches == at
    resumed = learner(out=tmp_path / "broken", metrics=METRICS, checkpoint=keep)
    train(resumed, cbs=make_callbacks(), resume=True)
    assert same_weights(weights_of(resumed), weights_of(whole))
    assert resumed.recorder.as_json() == whole.recorder.as_json()
    rows = rows_of(tmp_path / "broken" / "history.csv")
    assert rows == rows_of(tmp_path / "whole" / "history.csv")
    assert [row["epoch"] for row in rows] == ["0", "0", "1", "2"]
    assert whole.recorder.lrs[-1] == pytest.approx(0.02 / 2)
    best = [learner(out=tmp_path / name).load("best", with_opt=False) for name in ("whole", "broken")]
    assert same_weights(weights_of(best[0]), weights_of(best[1]))


def test_the_rates_that_are_recorded_are_those_that_were_used(learner: MakeLearner) -> None:
    learn = learner()
    learn.fit(4, 0.08, cbs=ReduceLROnPlateau("train_loss", comp=never, factor=4))
    assert learn.recorder.lrs[::6] == pytest.approx([0.08, 0.08, 0.02, 0.005])
