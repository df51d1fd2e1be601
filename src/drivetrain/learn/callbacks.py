"""What may happen around the steps of a training, and those that watch a number: stop, keep the best, slow down."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivetrain.errors import InvalidConfig

__all__ = [
    "Callback",
    "EarlyStoppingCallback",
    "ReduceLROnPlateau",
    "SaveModelCallback",
    "StopFit",
    "TrackerCallback",
    "falls_when_better",
]

_FALLING = {"brier", "ece", "mae", "mse", "msle", "perplexity", "rmse", "rmspe"}  # besides losses and errors


class StopFit(Exception):
    """Raised by a callback to end the training after the epoch that runs; `after_fit` is still called."""


class Callback:
    """Does nothing at each moment of a training; override what you need.

    `learn` has model, dls, opt, epoch, n_epoch, step, n_step, loss, xb, yb, pred, training, recorder, metrics, path,
    model_dir and task. Callbacks run by `order`, lowest first. One with `state_dict()` and `load_state_dict(state)`
    (plain JSON values) has its state kept in checkpoints, and is given it back after `before_fit` of a resumed fit.
    """

    order: int = 0

    def before_fit(self, learn: Any) -> None:
        """Once, before the first epoch."""

    def before_epoch(self, learn: Any) -> None:
        """Before the first batch of an epoch."""

    def before_batch(self, learn: Any) -> None:
        """Before the model sees a batch; `learn.xb` and `learn.yb` may be replaced."""

    def after_batch(self, learn: Any) -> None:
        """After the step of a batch, or after its loss where nothing is trained."""

    def after_epoch(self, learn: Any) -> None:
        """After the validation; `learn.recorder.values[-1]` has the numbers of this epoch."""

    def after_fit(self, learn: Any) -> None:
        """Once, after the last epoch, also when StopFit ended it."""


class TrackerCallback(Callback):
    """Knows the best value so far of one number in the record, and whether this epoch brought it.

    `monitor` is "train_loss", "valid_loss" or the name of a metric. `comp(new, best)` says what is better; None reads
    it from the name: losses, errors, brier_score, ece, perplexity and the like fall, others rise. A value that is
    better by no more than `min_delta` is not better, nor is one that is not finite. `reset_on_fit` forgets the best
    when another fit begins, as the second of `fine_tune`; a resumed one goes on.
    """

    order = 50  # after what changes a batch, before what logs

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Callable[[float, float], Any] | None = None,
        min_delta: float = 0.0,
        reset_on_fit: bool = True,
    ) -> None:
        if not min_delta >= 0:
            raise InvalidConfig(f"{type(self).__name__}(min_delta)", got=min_delta, want="a number of at least 0")
        self.monitor, self.min_delta, self.reset_on_fit = monitor, min_delta, reset_on_fit
        self.falls = falls_when_better(monitor) if comp is None else bool(comp(0.0, 1.0))
        self.comp = comp
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.new_best = False

    def before_fit(self, learn: Any) -> None:
        names = tuple(learn.recorder.metric_names)
        if self.monitor not in names:
            near = difflib.get_close_matches(self.monitor, names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Give the metric to the Learner as well."
            owner = f"{type(self).__name__}(monitor)"
            raise InvalidConfig(owner, got=self.monitor, want=f"one of {', '.join(names)}", hint=hint)
        if self.reset_on_fit:
            self.reset()

    def after_epoch(self, learn: Any) -> None:
        value = float(learn.recorder.values[-1][learn.recorder.metric_names.index(self.monitor)])
        self.new_best = self.is_better(value)
        if self.new_best:
            self.best, self.best_epoch = value, learn.epoch

    def is_better(self, value: float) -> bool:
        """Whether `value` beats the best by more than `min_delta`; any number beats none."""
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        value = value + self.min_delta if self.falls else value - self.min_delta
        if self.comp is not None:
            return bool(self.comp(value, self.best))
        return value < self.best if self.falls else value > self.best

    def reset(self) -> None:
        """Forget the best."""
        self.best = self.best_epoch = None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs, as JSON values."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; comes after `before_fit`."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]


class _PatientCallback(TrackerCallback):
    """Acts after `patience` epochs in a row without a better value."""

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Callable[[float, float], Any] | None = None,
        min_delta: float = 0.0,
        patience: int = 1,
        reset_on_fit: bool = True,
    ) -> None:
        if patience < 1:
            owner = f"{type(self).__name__}(patience)"
            raise InvalidConfig(owner, got=patience, want="a whole number of at least 1")
        super().__init__(monitor, comp, min_delta, reset_on_fit)
        self.patience = patience
        self.wait = 0  # epochs since the best

    def before_fit(self, learn: Any) -> None:
        self.wait = 0
        super().before_fit(learn)

    def after_epoch(self, learn: Any) -> None:
        super().after_epoch(learn)
        self.wait = 0 if self.new_best else self.wait + 1
        if self.wait >= self.patience:
            self.act(learn)

    def act(self, learn: Any) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "wait": self.wait}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.wait = state["wait"]


class EarlyStoppingCallback(_PatientCallback):
    """Ends the training after `patience` epochs in a row in which `monitor` got no better."""

    order = 100  # last, so that what it ends was saved and logged

    def act(self, learn: Any) -> None:
        best = "no finite value so far" if self.best is None else f"best {self.best:.6g} in epoch {self.best_epoch}"
        raise StopFit(f"{self.monitor} got no better for {self.wait} epoch{'s' * (self.wait > 1)}; {best}")


class ReduceLROnPlateau(_PatientCallback):
    """Divides the learning rates by `factor` after `patience` epochs in a row without a better `monitor`.

    For `fit`, whose rates are constant; `fit_one_cycle` sets its own again. None is pulled below `min_lr`.
    """

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Callable[[float, float], Any] | None = None,
        min_delta: float = 0.0,
        patience: int = 1,
        factor: float = 10.0,
        min_lr: float = 0.0,
        reset_on_fit: bool = True,
    ) -> None:
        super().__init__(monitor, comp, min_delta, patience, reset_on_fit)
        if not factor > 1:
            raise InvalidConfig("ReduceLROnPlateau(factor)", got=factor, want="a number above 1")
        self.factor, self.min_lr = factor, min_lr

    def act(self, learn: Any) -> None:
        self.wait = 0
        for group in learn.opt.param_groups:
            group["lr"] = min(group["lr"], max(group["lr"] / self.factor, self.min_lr))


class SaveModelCallback(TrackerCallback):
    """Saves the model as `learn.save(fname)` whenever `monitor` is better, and loads the best when training ends.

    `every_epoch`: save each as `fname_EPOCH` instead, or with a number, each so many; `at_end`: save once, at the end;
    with either, nothing is loaded. `with_opt` keeps the optimiser's state too. `last_saved_path` is what save returned.
    """

    def __init__(
        self,
        monitor: str = "valid_loss",
        comp: Callable[[float, float], Any] | None = None,
        min_delta: float = 0.0,
        fname: str = "model",
        every_epoch: bool | int = False,
        at_end: bool = False,
        with_opt: bool = False,
        reset_on_fit: bool = True,
    ) -> None:
        if every_epoch and at_end:
            raise InvalidConfig("SaveModelCallback", got="every_epoch and at_end", want="one of the two, or none")
        super().__init__(monitor, comp, min_delta, reset_on_fit)
        self.fname, self.every_epoch, self.at_end, self.with_opt = fname, int(every_epoch), at_end, with_opt
        self.last_saved_path: Path | None = None

    def after_epoch(self, learn: Any) -> None:
        super().after_epoch(learn)
        if self.every_epoch:
            if learn.epoch % self.every_epoch == 0:
                self._save(learn, f"{self.fname}_{learn.epoch}")
        elif self.new_best and not self.at_end:
            self._save(learn, self.fname)

    def after_fit(self, learn: Any) -> None:
        if self.at_end:
            self._save(learn, self.fname)
        elif not self.every_epoch and self.best is not None:  # else no epoch had a finite value, and nothing was saved
            learn.load(self.fname, with_opt=self.with_opt)

    def _save(self, learn: Any, name: str) -> None:
        self.last_saved_path = learn.save(name, with_opt=self.with_opt)


def falls_when_better(name: str) -> bool:
    """Whether a number of this name is better when it is lower: losses, errors, brier_score, ece, rmse, perplexity."""
    return "loss" in name or "error" in name or not _FALLING.isdisjoint(re.split(r"[^a-z0-9]+", name.lower()))
