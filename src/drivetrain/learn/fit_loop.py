"""One fit: epochs over the training pictures, each checked on those held out, kept on disk as it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from drivetrain.errors import Conflict, InvalidConfig, InvalidInput

from .answers import answer, measure
from .callbacks import Callback, StopFit
from .checkpoint import write_tree
from .data_loader import Batch
from .draws import draws_of_our_own, seed_draws
from .fit_table import format_header, format_row
from .guard import GoodWeights, LossNotFinite, find_culprits
from .learner_state import LearnerState
from .losses import item_losses
from .optimizer import read_rates, set_rates
from .resume import Position, as_plain, capture, checkpoint_path, find_kept, restore
from .schedule import Schedule
from .step import differentiate
from .targets import shape_targets

__all__ = ["FitPlan", "run_fit"]

_EPOCH, _FETCH, _BATCH = range(3)  # what is drawn for


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """What a fit is asked to do."""

    method: str
    n_epoch: int
    schedule: Schedule
    wd: float

    def __post_init__(self) -> None:
        n_epoch: object = self.n_epoch
        if not isinstance(n_epoch, int) or isinstance(n_epoch, bool) or n_epoch < 1:
            raise InvalidConfig(f"{self.method}(n_epoch)", got=n_epoch, want="a whole number of at least 1")
        if not 0 <= self.wd < math.inf:
            raise InvalidConfig(f"{self.method}(wd)", got=self.wd, want="a number of at least 0")

    def describe(self, learn: LearnerState) -> dict[str, Any]:
        """Plain values; two fits that are described alike are the same fit."""
        schedule: Any = self.schedule
        own = {"method": self.method, "epochs": self.n_epoch, "wd": self.wd, **asdict(schedule)}
        described: dict[str, Any] = as_plain({**own, "frozen_groups": learn.frozen_groups, **learn.describe()})
        return described


def run_fit(learn: LearnerState, plan: FitPlan, *, cbs: Sequence[Callback], resume: bool) -> None:
    """Train. With `resume`, go on where a kill broke it off, or skip what was finished before that."""
    description = plan.describe(learn)
    kept = find_kept(learn, description) if resume else None
    if learn.awaited_fit is not None and kept is None:
        raise Conflict(
            f"{plan.method}(resume={resume})",
            got=f"a fit begun anew, after one that was skipped because fit {learn.awaited_fit} had begun already",
            want="resume=True in each fit of a training, or in none",
        )
    learn.fits.append(description)
    if kept is not None and len(kept["fits"]) > len(learn.fits):
        learn.awaited_fit = len(kept["fits"])
        learn.progress.say(f"Fit {len(learn.fits)} was finished before the break: skipped.")
        return
    learn.awaited_fit = None
    try:
        _FitLoop(learn, plan, cbs).run(kept)
    except BaseException:
        learn.fits.pop()  # so that this very fit can be resumed by asking for it again, after Ctrl-C say
        raise


class _FitLoop:
    """The state of one fit while it runs."""

    def __init__(self, learn: LearnerState, plan: FitPlan, cbs: Sequence[Callback]) -> None:
        self.learn = learn
        self.plan = plan
        self.cbs = sorted(cbs, key=lambda cb: cb.order)
        self.share = learn.processes.share
        self.position = Position(first_epoch=learn.epochs_seen)
        self.advance: Callable[[int], None] = lambda steps: None
        self.began_at = self.kept_at = time.monotonic()

    def run(self, kept: dict[str, Any] | None) -> None:
        learn, plan = self.learn, self.plan
        with ExitStack() as stack:
            stack.enter_context(draws_of_our_own())
            stack.enter_context(learn.in_deviations())
            learn.place_model()
            if kept is not None and kept["position"]["is_done"]:
                self._take_up(kept)
                learn.progress.say("This fit was finished before: its weights are loaded, nothing is left to do.")
                return
            stack.callback(self._end)
            self._begin(kept)
            n_steps = self._count_batches() + learn.dls.valid.count_batches(shares=self.share[1])
            name = f"{plan.method}, {plan.n_epoch} epoch{'s' * (plan.n_epoch > 1)}"
            self.advance = stack.enter_context(learn.progress.task(name, plan.n_epoch * n_steps))
            self.advance(self.position.epoch * n_steps + self.position.batch)
            if learn.shows_table:
                learn.progress.say(format_header(learn.recorder.metric_names))
            while self.position.epoch < plan.n_epoch and not self.position.is_stopping:
                self._run_epoch()
            self._call("after_fit")
            self.position.is_done = True
            self._keep()

    def _call(self, event: str) -> None:
        """Tell every callback; one that wants to stop does not keep the others from hearing of it."""
        for cb in self.cbs:
            try:
                getattr(cb, event)(self.learn)
            except StopFit as exc:
                self.position.is_stopping = True
                self.learn.progress.say(f"{type(cb).__name__} ends the training{f': {exc}' if str(exc) else ''}.")

    # the fit

    def _begin(self, kept: dict[str, Any] | None) -> None:
        learn = self.learn
        if not self._count_batches():
            raise InvalidInput(
                "dls.train",
                got=f"{len(learn.dls.train.items):,} items, which make no whole batch of {learn.dls.bs}",
                want="one batch at least",
                hint="Give a smaller bs, or drop_last=False.",
            )
        learn.n_epoch, learn.epoch = self.plan.n_epoch, 0
        learn.n_step, learn.step = self.plan.n_epoch * self._count_batches(), 0
        seed_draws(learn.seed, _EPOCH, self.position.first_epoch)
        assert learn.opt is not None
        set_rates(learn.opt, lrs=self.plan.schedule.lrs, wd=self.plan.wd)
        self._call("before_fit")
        moment = "the weights from before this fit"
        if kept is not None:
            self._take_up(kept)
            moment = "the weights that it was resumed with"
            where = f"epoch {self.position.epoch}"
            if self.position.batch:
                where += f" after {self.position.batch:,} of {self.position.n_batches:,} batches"
            learn.progress.say(f"Resumed in {where}.")
        self.good = GoodWeights(learn.model, kept=moment)
        self.forward = learn.processes.wrap(learn.model)

    def _take_up(self, kept: dict[str, Any]) -> None:
        self.position = restore(self.learn, kept, self.cbs)
        self.learn.epochs_seen = self.position.first_epoch + self.position.epoch

    def _end(self) -> None:
        learn = self.learn
        learn.training = False
        learn.model.eval()
        learn.xb = learn.yb = learn.pred = None  # the last batch need not stay in memory

    def _keep(self) -> None:
        """Write all that a later process needs to go on from here."""
        self.kept_at = time.monotonic()
        path = checkpoint_path(self.learn)
        if path is not None and self.share[0] == 0:
            write_tree(path, capture(self.learn, self.position, self.cbs))

    # an epoch

    def _run_epoch(self) -> None:
        learn, position = self.learn, self.position
        self.began_at = time.monotonic() - position.seconds
        learn.epoch = position.epoch
        if not position.batch:  # else it began before the break
            position.n_batches = self._count_batches()
            seed_draws(*self._place(_EPOCH))
            self._call("before_epoch")
        learn.training = True
        learn.train_mode()
        self._run_batches()
        learn.training = False
        seed_draws(*self._place(_EPOCH))
        train_loss = position.loss_sum / position.n_seen
        checked = answer(learn, learn.dls.valid, call=self._call, advance=self.advance)
        values = [train_loss, *measure(learn, checked)]
        learn.recorder.epoch(values)
        if not math.isfinite(values[1]):
            self._refuse(values[1], at=f"epoch {position.epoch}, on the held-out pictures", files=[], culprits=[])
        seconds = time.monotonic() - self.began_at
        if learn.shows_table:
            learn.progress.say(format_row(position.epoch, values, learn.recorder.metric_names, seconds))
        self.good = GoodWeights(learn.model, kept=f"the weights from the end of epoch {position.epoch}")
        self._call("after_epoch")
        self.position = replace(position, epoch=position.epoch + 1, batch=0, loss_sum=0.0, n_seen=0, seconds=0.0)
        learn.epochs_seen = self.position.first_epoch + self.position.epoch
        if self.position.epoch < self.plan.n_epoch and not self.position.is_stopping:
            self._keep()

    def _run_batches(self) -> None:
        """While the device works on one batch, the next is decoded, and moved there."""
        position = self.position
        epoch = position.first_epoch + position.epoch
        batches = iter(self.learn.dls.train.batches(epoch, skip=position.batch, share=self.share))

        def fetch() -> Batch | None:
            seed_draws(*self._place(_FETCH))  # for transforms of one's own that draw from torch itself
            batch = next(batches, None)
            return batch if self.learn.processes.is_true_for_all(batch is not None) else None

        batch = fetch()
        while batch is not None:
            loss = self._queue(batch)
            n = len(batch[0])
            position.batch += 1
            batch = fetch()
            self._settle(loss, n)
        if not position.n_seen:
            raise InvalidInput("dls.train", got="no batch: too many pictures cannot be read", want="one batch at least")

    def _count_batches(self) -> int:
        return self.learn.dls.train.count_batches(shares=self.share[1])

    def _place(self, stream: int) -> tuple[int, ...]:
        position = self.position
        return self.learn.seed, stream, position.first_epoch + position.epoch, position.batch, self.share[0]

    # a batch

    def _queue(self, batch: Batch) -> Tensor:
        """Start a step; on a GPU it may still run when this is over. Gives the loss."""
        learn, position = self.learn, self.position
        learn.step = position.epoch * position.n_batches + position.batch
        done = (position.epoch + min(1.0, position.batch / position.n_batches)) / self.plan.n_epoch
        assert learn.opt is not None
        lrs, mom = self.plan.schedule.at(done)
        set_rates(learn.opt, lrs=lrs, mom=mom)
        learn.xb, learn.yb = learn.lay_out(batch[0]), shape_targets(batch[1], learn.task)
        seed_draws(*self._place(_BATCH))
        self._call("before_batch")
        loss = learn.memory.run(self._differentiate, len(learn.xb), learn.device)
        learn.precision.step(learn.opt, learn.device)
        return loss

    def _differentiate(self, at_once: int) -> Tensor:
        seed_draws(*self._place(_BATCH), 1)  # what is tried again, with fewer pictures at once, draws anew
        return differentiate(self.learn, self.forward, at_once)

    def _settle(self, loss: Tensor, n: int) -> None:
        """Wait for the step's loss, note it, and keep the training if it is time."""
        learn, position = self.learn, self.position
        learn.loss = float(learn.processes.mean(loss))
        if not math.isfinite(learn.loss):
            self._stop_at_batch(learn.loss)
        assert learn.opt is not None
        learn.recorder.batch(learn.loss, *read_rates(learn.opt))
        position.loss_sum += learn.loss * n
        position.n_seen += n
        self._call("after_batch")
        self.advance(1)
        if learn.checkpoint is None:
            return
        every = learn.checkpoint.every_batches
        now = time.monotonic()
        if now - self.kept_at >= learn.checkpoint.every_s or (every and position.batch % every == 0):
            position.seconds = now - self.began_at
            self._keep()

    def _stop_at_batch(self, loss: float) -> None:
        learn, position = self.learn, self.position
        epoch = position.first_epoch + position.epoch
        files = learn.dls.train.names_of(epoch, position.batch - 1, share=self.share)
        self.good.give_back(learn.model)
        assert learn.xb is not None
        assert learn.yb is not None
        learn.model.eval()
        with torch.no_grad():
            raw = learn.run_model(learn.xb)
            losses = learn.loss_of(lambda z, t: item_losses(learn.loss_func, z, t), raw, learn.yb)
        where = f"batch {position.batch} of epoch {position.epoch}"
        self._refuse(loss, at=where, files=files, culprits=find_culprits(losses, files))

    def _refuse(self, loss: float, *, at: str, files: Sequence[str], culprits: Sequence[str]) -> None:
        self.good.give_back(self.learn.model)
        self.learn.opt = None  # what it remembers of the gradients is no number either
        raise LossNotFinite(loss, at=at, files=files, culprits=culprits, kept=self.good.kept)
