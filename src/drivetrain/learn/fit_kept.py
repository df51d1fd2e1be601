"""Train the head, or head and last pieces, of a Learner's network from what its frozen part says of the pictures.

The loaders' own transforms make the views, each run through the frozen part once. The record, the table and the
callbacks see it as they see any other fit, an epoch at a time.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray

from .answers import Answers, answer, measure
from .callbacks import Callback, StopFit
from .fit_table import format_header, format_row
from .frozen_part import FrozenPart
from .head import Head, fit_head
from .learner_state import LearnerState
from .losses import BinaryCrossEntropy, CrossEntropy
from .network import Network
from .resume import as_plain
from .top import Step, TopConfig, TopInput, TopRun, fit_top, predict_top
from .unfold import Unfolder
from .view_loader import KeptSide, keep_features, keep_views

__all__ = ["KeptPlan", "fit_kept_head", "fit_kept_top"]

_AT_ONCE = 128  # pictures a forward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPlan:
    """How the top is trained."""

    epochs: int
    views: int
    batch: int
    lr: float
    wd: float
    fits_head: bool  # from the features, before the top is trained
    threads: int
    folder: Path  # where the activations lie meanwhile


def fit_kept_head(learn: LearnerState, part: FrozenPart, *, threads: int, cbs: Sequence[Callback]) -> None:
    """Fit the head to the clean features of the training pictures, to the end; part.cut is None."""
    features, targets = keep_features(learn.dls, part, task=learn.task, progress=learn.progress)
    head = _fit_head(learn, features, targets, threads=threads)
    logits = torch.from_numpy(head.logits(features))
    train_loss = _loss(learn, logits, targets)
    with _Rounds(learn, cbs, name="head", n_epoch=1) as rounds:
        if rounds.begin_epoch(0):
            _put_head(learn.model, head)
            rounds.end_epoch(0, [train_loss, *measure(learn, answer(learn, learn.dls.valid))], [])
    learn.fits.append(_describe(learn, "head", {"epochs": 1}, head=head))


def fit_kept_top(learn: LearnerState, part: FrozenPart, plan: KeptPlan, *, cbs: Sequence[Callback]) -> None:
    """The head from clean features, if asked for, then head and the pieces from part.cut on over augmented views."""
    assert part.cut is not None
    train, valid = keep_views(
        learn.dls,
        part,
        task=learn.task,
        views=plan.views,
        first_epoch=learn.epochs_seen,
        folder=plan.folder,
        progress=learn.progress,
    )
    network = copy.deepcopy(learn.model).cpu().eval()
    network.cut = part.cut
    unfolder = Unfolder(learn.model)
    head = None
    if plan.fits_head:
        head = _fit_head(learn, _embed(network, train), train.targets, threads=plan.threads)
        _put_head(network, head)
        with _Rounds(learn, cbs, name="head", n_epoch=1) as rounds:
            if rounds.begin_epoch(0):
                _put_head(learn.model, head)
                logits = torch.from_numpy(predict_top(network, train.activations, np.arange(len(train.names))))
                train_loss = _loss(learn, logits, train.targets)
                rounds.end_epoch(0, [train_loss, *_measure(learn, network, valid)], [])
    with _Rounds(learn, cbs, name="top", n_epoch=plan.epochs) as rounds:
        if rounds.begin_epoch(0):
            _train_top(learn, network, train, valid, plan, unfolder, rounds)
    learn.model.cut = part.cut  # what lies below was not trained: the place to know strange pictures by
    asked = {name: getattr(plan, name) for name in ("views", "batch", "lr", "wd")}
    told = {"epochs": rounds.n_done, "cut": part.cut, **asked}
    learn.fits.append(_describe(learn, "top", told, head=head))


def _train_top(
    learn: LearnerState,
    network: Network,
    train: KeptSide,
    valid: KeptSide,
    plan: KeptPlan,
    unfolder: Unfolder,
    rounds: _Rounds,
) -> None:
    loss = learn.loss_func

    def after_epoch(epoch: int, trained: Network, steps: Sequence[Step]) -> None:
        unfolder.take(trained)
        train_loss = float(np.mean([step[0] for step in steps]))
        rounds.end_epoch(epoch, [train_loss, *_measure(learn, trained, valid)], steps)
        learn.epochs_seen += 1
        if epoch + 1 < plan.epochs and not rounds.begin_epoch(epoch + 1):
            raise _Ended

    weights = loss.weights if isinstance(loss, CrossEntropy | BinaryCrossEntropy) else None
    given = TopInput(
        activations=train.activations,
        rows=np.arange(len(train.names)),
        targets=train.targets,
        names=train.names,
        task=learn.task,
        class_weights=weights,
    )
    config = TopConfig(
        epochs=plan.epochs,
        batch=plan.batch,
        lr=plan.lr,
        weight_decay=plan.wd,
        label_smoothing=loss.label_smoothing if isinstance(loss, CrossEntropy) else 0.0,
        seed=learn.seed,
    )
    run = TopRun(label=f"top, {plan.epochs} epoch{'s' * (plan.epochs > 1)}")
    with contextlib.suppress(_Ended):
        fit_top(network, given, config=config, progress=learn.progress, run=run, after_epoch=after_epoch)


class _Ended(Exception):
    """A callback wants no more epochs."""


class _Rounds:
    """One fit, as callbacks, record and table see it."""

    def __init__(self, learn: LearnerState, cbs: Sequence[Callback], *, name: str, n_epoch: int) -> None:
        self.learn, self.name, self.n_epoch = learn, name, n_epoch
        self.cbs = sorted(cbs, key=lambda cb: cb.order)
        self.n_done = 0
        self._is_stopping = False
        self._began_at = time.monotonic()

    def __enter__(self) -> _Rounds:
        learn = self.learn
        learn.n_epoch, learn.epoch, learn.n_step, learn.step = self.n_epoch, 0, 0, 0
        learn.opt = None  # what it remembers is of other weights
        self._call("before_fit")
        if learn.shows_table:
            learn.progress.say(format_header(learn.recorder.metric_names))
        return self

    def __exit__(self, *failed: object) -> None:
        if failed[0] is None:
            self._call("after_fit")

    def begin_epoch(self, epoch: int) -> bool:
        """Whether there shall be another."""
        if self._is_stopping:
            return False
        self.learn.epoch, self._began_at = epoch, time.monotonic()
        self._call("before_epoch")
        return True

    def end_epoch(self, epoch: int, values: list[float], steps: Sequence[Step]) -> None:
        """Note the numbers of an epoch and of its steps."""
        learn = self.learn
        for step in steps:
            learn.recorder.batch(*step)
        if steps:
            learn.loss = steps[-1][0]
        learn.recorder.epoch(values)
        if learn.shows_table:
            seconds = time.monotonic() - self._began_at
            learn.progress.say(format_row(epoch, values, learn.recorder.metric_names, seconds))
        self.n_done += 1
        self._call("after_epoch")

    def _call(self, event: str) -> None:
        for cb in self.cbs:
            try:
                getattr(cb, event)(self.learn)
            except StopFit as exc:
                self._is_stopping = True
                self.learn.progress.say(f"{type(cb).__name__} ends the training{f': {exc}' if str(exc) else ''}.")


def _fit_head(learn: LearnerState, features: FloatArray, targets: NDArray[Any], *, threads: int) -> Head:
    order = np.random.default_rng(learn.seed).permutation(len(features))  # folds are dealt from it
    loss = learn.loss_func
    return fit_head(
        features[order],
        targets[order],
        task=learn.task,
        class_count=len(learn.names),
        threads=threads,
        progress=learn.progress,
        class_weights=loss.weights if isinstance(loss, CrossEntropy | BinaryCrossEntropy) else None,
        blocks=learn.model.backbone.layout.blocks,
    )


@torch.no_grad()
def _put_head(network: Network, head: Head) -> None:
    layer = network.head.linear
    layer.weight.copy_(torch.from_numpy(head.weight))
    layer.bias.copy_(torch.from_numpy(head.bias))


@torch.inference_mode()
def _embed(network: Network, side: KeptSide) -> FloatArray:
    """(n, f): the features that the head is given of the clean views."""
    rows, found = side.activations.rows, []
    for at in range(0, len(rows), _AT_ONCE):
        maps = torch.from_numpy(np.ascontiguousarray(rows[at : at + _AT_ONCE, 0])).float().permute(0, 3, 1, 2)
        found.append(network.backbone.run_features(maps, start=side.activations.cut)[0].numpy())
    return np.concatenate(found)


def _measure(learn: LearnerState, network: Network, side: KeptSide) -> list[float]:
    """[loss, *metrics] of a side's clean views."""
    outputs = torch.from_numpy(predict_top(network, side.activations, np.arange(len(side.names))))
    targets = torch.from_numpy(side.targets)
    return measure(
        learn,
        Answers(outputs=outputs, targets=targets, loss=_loss(learn, outputs, side.targets), losses=None, inputs=None),
    )


def _loss(learn: LearnerState, outputs: torch.Tensor, targets: NDArray[Any]) -> float:
    return float(learn.loss_of(learn.loss_func, outputs, torch.from_numpy(np.ascontiguousarray(targets))))


def _describe(learn: LearnerState, method: str, told: Mapping[str, Any], *, head: Head | None) -> dict[str, Any]:
    """As FitPlan.describe tells a fit."""
    of_head = {} if head is None else {"penalty": head.penalty, "cv_loss": head.cv_loss, "cv_score": head.cv_score}
    described: dict[str, Any] = as_plain({"method": method, **told, "head": of_head, **learn.describe()})
    return described
