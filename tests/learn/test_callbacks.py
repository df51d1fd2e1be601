"""Callbacks that watch a number: what they do with a series of them, epoch by epoch."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.learn.callbacks import (
    Callback,
    EarlyStoppingCallback,
    ReduceLROnPlateau,
    SaveModelCallback,
    StopFit,
    TrackerCallback,
    falls_when_better,
)
from drivetrain.learn.recorder import Recorder


class FakeLearn:
    """What callbacks find at a Learner; `fit` calls them in the order in which a Learner does."""

    def __init__(self, metric: str = "accuracy") -> None:
        self.recorder = Recorder([metric])
        self.opt = SimpleNamespace(param_groups=[{"lr": 0.0}, {"lr": 0.0}])
        self.epoch = 0
        self.training = False
        self.files: list[tuple[str, int, bool]] = []  # what was saved: name, epoch, with the optimiser
        self.loaded: list[tuple[str, bool]] = []
        self.rates: list[tuple[float, float]] = []  # of each batch
        self.said: list[str] = []

    def save(self, name: str, with_opt: bool = True) -> Path:
        self.files.append((name, self.epoch, with_opt))
        return Path(f"{name}.safetensors")

    def load(self, name: str, with_opt: bool = True) -> None:
        self.loaded.append((name, with_opt))

    def fit(
        self,
        cbs: Sequence[Callback],
        losses: Sequence[float],
        *,
        start: int = 0,
        states: Sequence[dict[str, Any]] = (),
        rates: tuple[float, float] = (0.01, 0.1),
    ) -> int:
        """One epoch a loss, the metric being 1 - loss; gives how many there were. `states` resumes in epoch `start`."""
        ordered = sorted(cbs, key=lambda cb: cb.order)
        for group, rate in zip(self.opt.param_groups, rates, strict=True):
            group["lr"] = rate
        for cb in ordered:
            cb.before_fit(self)
        for cb, state in zip(ordered, states, strict=False):
            cb.load_state_dict(state)  # type: ignore[attr-defined]
        for self.epoch in range(start, len(losses)):
            stops = False
            for cb in ordered:
                cb.before_epoch(self)
            for self.training in (True, False):
                for cb in ordered:
                    cb.before_batch(self)
                if self.training:
                    self.rates.append((self.opt.param_groups[0]["lr"], self.opt.param_groups[1]["lr"]))
                    self.recorder.batch(losses[self.epoch], rates[1], 0.9)
                for cb in ordered:
                    cb.after_batch(self)
            self.recorder.epoch([losses[self.epoch], losses[self.epoch], 1 - losses[self.epoch]])
            for cb in ordered:
                try:
                    cb.after_epoch(self)
                except StopFit as exc:
                    stops = True
                    self.said.append(str(exc))
            if stops:
                break
        for cb in ordered:
            cb.after_fit(self)
        return self.epoch + 1


def test_a_callback_does_nothing_by_itself() -> None:
    assert FakeLearn().fit([Callback()], [1.0, 2.0]) == 2


@pytest.mark.parametrize(
    ("name", "falls"),
    [
        ("valid_loss", True),
        ("error_rate", True),
        ("hamming_loss", True),
        ("mean_squared_error", True),
        ("brier_score", True),
        ("ece", True),
        ("rmse", True),
        ("exp_rmspe", True),
        ("perplexity", True),
        ("accuracy", False),
        ("f1_score", False),
        ("r2_score", False),
        ("precision_score", False),
        ("cohen_kappa_score", False),
    ],
)
def test_what_is_better_is_read_from_the_name(name: str, falls: bool) -> None:
    assert falls_when_better(name) is falls
    assert TrackerCallback(name).falls is falls


@pytest.mark.parametrize(
    ("options", "values", "best"),
    [
        ({}, [3, 2, 2.5, 1], [0, 1, 3]),
        ({"min_delta": 0.6}, [3, 2.5, 2, 1.9], [0, 2]),  # better by more than 0.6 only
        ({"comp": np.greater}, [3, 2, 4], [0, 2]),
        ({"comp": operator.ge}, [3, 3, 2], [0, 1]),
        ({"comp": np.less, "min_delta": 1.5}, [3, 2, 1], [0, 2]),
        ({"comp": np.greater, "min_delta": 1.5}, [3, 4, 5], [0, 2]),
        ({}, [math.nan, 3, math.nan, math.inf, 2], [1, 4]),
        ({"comp": np.greater}, [math.inf, 1, 2], [1, 2]),
    ],
)
def test_the_best_so_far(options: dict[str, Any], values: list[float], best: list[int]) -> None:
    learn, found = FakeLearn(), []

    class Watch(TrackerCallback):
        def after_epoch(self, learn: Any) -> None:
            super().after_epoch(learn)
            if self.new_best:
                found.append(learn.epoch)

    watch = Watch(**options)
    learn.fit([watch], values)
    assert found == best
    assert watch.best == values[best[-1]]
    assert watch.best_epoch == best[-1]


def test_a_metric_is_watched_by_its_name() -> None:
    learn, watch = FakeLearn(), TrackerCallback("accuracy")
    learn.fit([watch], [0.5, 0.2, 0.3])
    assert (watch.best, watch.best_epoch) == (0.8, 1)


def test_a_number_that_is_not_there_is_refused_at_once() -> None:
    for monitor, hint in (("acuracy", "Did you mean 'accuracy'"), ("auc", "Give the metric to the Learner as well")):
        with pytest.raises(InvalidConfig, match=rf"EarlyStoppingCallback\(monitor\): got {monitor}.*{hint}"):
            FakeLearn().fit([EarlyStoppingCallback(monitor)], [1.0])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TrackerCallback(min_delta=-1), r"TrackerCallback\(min_delta\): got -1"),
        (lambda: TrackerCallback(min_delta=math.nan), "min_delta"),
        (lambda: EarlyStoppingCallback(patience=0), r"EarlyStoppingCallback\(patience\): got 0"),
        (lambda: ReduceLROnPlateau(factor=1), r"ReduceLROnPlateau\(factor\): got 1"),
        (lambda: SaveModelCallback(every_epoch=True, at_end=True), "every_epoch and at_end; want one of the two"),
    ],
)
def test_options_that_cannot_be_are_refused(make: Any, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        make()


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (3, 7)])
def test_training_stops_after_so_many_epochs_without_a_better(patience: int, epochs: int) -> None:
    learn = FakeLearn()
    assert learn.fit([EarlyStoppingCallback(patience=patience)], [3, 2, 2, 1, 1, 1, 1]) == epochs
    if patience == 2:
        assert learn.said == ["valid_loss got no better for 2 epochs; best 1 in epoch 3"]


def test_training_stops_where_no_epoch_gave_a_number() -> None:
    learn = FakeLearn()
    assert learn.fit([EarlyStoppingCallback(patience=1)], [math.nan, 1.0]) == 1
    assert learn.said == ["valid_loss got no better for 1 epoch; no finite value so far"]


@pytest.mark.parametrize(("reset", "epochs"), [(True, 3), (False, 1)])
def test_another_fit_begins_with_no_best_if_asked(reset: bool, epochs: int) -> None:
    stop = EarlyStoppingCallback(reset_on_fit=reset)
    FakeLearn().fit([stop], [1.0, 2.0])
    assert FakeLearn().fit([stop], [3.0, 2.0, 2.0]) == epochs


def test_a_resumed_training_waits_on() -> None:
    values = [3.0, 2.0, 2.5, 2.5, 2.5]
    for broken_after in (1, 2, 3):
        first = EarlyStoppingCallback(patience=3)
        FakeLearn().fit([first], values[:broken_after])
        second, learn = EarlyStoppingCallback(patience=3), FakeLearn()
        assert learn.fit([second], [*values, 1.0], start=broken_after, states=[first.state_dict()]) == 5
        assert (second.best, second.best_epoch) == (2.0, 1)


def test_the_best_model_is_saved_and_loaded_at_the_end() -> None:
    learn, save = FakeLearn(), SaveModelCallback(fname="best")
    learn.fit([save], [3, 1, 2, 0.5, 0.9])
    assert learn.files == [("best", 0, False), ("best", 1, False), ("best", 3, False)]
    assert learn.loaded == [("best", False)]
    assert save.last_saved_path == Path("best.safetensors")


def test_what_stops_a_training_does_not_keep_its_best_from_being_saved() -> None:
    learn = FakeLearn()
    cbs = [EarlyStoppingCallback("valid_loss", comp=np.greater), SaveModelCallback("valid_loss")]
    assert learn.fit(cbs, [3, 2, 1]) == 2
    assert learn.files[-1][:2] == ("model", 1)


@pytest.mark.parametrize(
    ("options", "files", "loaded"),
    [
        ({"every_epoch": True}, [("model_0", 0), ("model_1", 1), ("model_2", 2)], []),
        ({"every_epoch": 2}, [("model_0", 0), ("model_2", 2)], []),
        ({"at_end": True}, [("model", 2)], []),
        ({"monitor": "accuracy"}, [("model", 0), ("model", 1)], ["model"]),
        ({"min_delta": 5.0}, [("model", 0)], ["model"]),
    ],
)
def test_when_models_are_saved(options: dict[str, Any], files: list[tuple[str, int]], loaded: list[str]) -> None:
    learn = FakeLearn()
    learn.fit([SaveModelCallback(**options)], [3, 1, 2])
    assert [(name, epoch) for name, epoch, _ in learn.files] == files
    assert [name for name, _ in learn.loaded] == loaded


def test_the_optimiser_is_kept_with_the_model_if_asked() -> None:
    learn = FakeLearn()
    learn.fit([SaveModelCallback(with_opt=True)], [3, 1])
    assert learn.files[-1] == ("model", 1, True)
    assert learn.loaded == [("model", True)]


def test_nothing_is_loaded_where_nothing_was_saved() -> None:
    learn = FakeLearn()
    learn.fit([SaveModelCallback()], [math.nan, math.nan])
    assert learn.files == learn.loaded == []


def test_a_resumed_training_loads_the_best_from_before_the_break() -> None:
    first = SaveModelCallback()
    FakeLearn().fit([first], [3.0, 1.0])
    learn = FakeLearn()
    learn.fit([SaveModelCallback()], [3.0, 1.0, 2.0], start=2, states=[first.state_dict()])
    assert learn.files == []
    assert learn.loaded == [("model", False)]


def test_rates_are_divided_when_nothing_gets_better() -> None:
    learn = FakeLearn()
    learn.fit([ReduceLROnPlateau(patience=2)], [3, 2, 2, 2, 2, 2, 1], rates=(0.01, 0.1))
    assert [head for _, head in learn.rates] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])
    assert [stem for stem, _ in learn.rates] == pytest.approx([head / 10 for _, head in learn.rates])


def test_rates_do_not_fall_below_the_least() -> None:
    learn = FakeLearn()
    learn.fit([ReduceLROnPlateau(factor=4, min_lr=0.02)], [3, 3, 3, 3], rates=(0.01, 0.1))
    assert learn.rates == [(0.01, 0.1), (0.01, 0.1), (0.01, 0.025), (0.01, 0.02)]


def test_another_fit_begins_with_the_rates_it_is_given() -> None:
    reduce, learn = ReduceLROnPlateau(), FakeLearn()
    learn.fit([reduce], [3, 3, 3])
    learn.fit([reduce], [2])
    assert learn.rates[-1] == pytest.approx((0.01, 0.1))
