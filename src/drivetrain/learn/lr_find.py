"""Which learning rate: a mock training in which it rises by equal factors, and what its losses suggest.

Source: Smith 2017, arXiv:1506.01186, section 3.3, in fastai's form; the suggestions are fastai's too.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra

from .draws import draws_of_our_own, seed_draws
from .optimizer import set_rates
from .precision import MixedPrecision
from .recorder import Recorder
from .step import differentiate
from .targets import shape_targets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data_loader import Batch
    from .learner import Learner

__all__ = ["RateTest", "SuggestFunc", "find_lr", "minimum", "slide", "steep", "suggest_rates", "valley"]

_Suggestion = tuple[float, tuple[float, float]]  # a rate; where it stands in the plot (rate, loss)
SuggestFunc = Callable[[FloatArray, FloatArray, int], _Suggestion]

_LEAST_STEPS = 10
_DIVERGED = 4.0  # times the lowest loss
_STREAM = 3  # of draws; the fit loop has 0 to 2
_SKIP_END = 5  # the last losses are those of a diverging model
_KEPT = ("opt", "precision", "training", "loss", "epoch", "n_epoch", "step", "n_step", "xb", "yb", "pred")


@dataclass(frozen=True)
class RateTest:
    """The rates tried and the smoothed loss after each; `points` (name, rate, loss) are the suggestions."""

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    points: tuple[tuple[str, float, float], ...] = ()

    def plot(self, skip_end: int = _SKIP_END) -> Figure:
        """A figure of loss by rate, the suggestions marked. Raises MissingExtra without matplotlib."""
        try:
            from .loss_plots import draw_lr_find
        except ModuleNotFoundError as exc:
            raise MissingExtra("the plot of lr_find", package=exc.name or "matplotlib", extra="train") from None
        return draw_lr_find(self.lrs, self.losses, points=self.points, skip_end=skip_end)


def valley(lrs: FloatArray, losses: FloatArray, num_it: int) -> _Suggestion:  # noqa: ARG001 -- as SuggestFunc
    """Half-way down the longest valley: the longest run of ever lower losses, others may lie between."""
    if len(losses) < 2:
        return _nothing()
    lengths = np.ones(len(losses), dtype=np.int64)  # of the longest falling run that ends here
    for end in range(1, len(losses)):
        higher = lengths[:end][losses[:end] > losses[end]]
        lengths[end] += higher.max() if higher.size else 0
    end = int(lengths.argmax())
    if lengths[end] == 1:
        return _nothing()
    start = end - int(lengths[end])
    third = (end - start) / 3
    return _at(max(0, start + int(third) + int(third / 2)), lrs, losses)


def slide(
    lrs: FloatArray,
    losses: FloatArray,
    num_it: int,  # noqa: ARG001 -- as SuggestFunc
    lr_diff: int = 15,
    thresh: float = 0.005,
    adjust_value: float = 1.0,
) -> _Suggestion:
    """From the right end to the left until the slope is nearly the same `lr_diff` steps apart: the rate there."""
    if len(losses) <= lr_diff:
        return _nothing()
    slopes = np.gradient(losses)
    left = chosen = len(losses) - 1 - lr_diff
    while left >= 0 and abs(slopes[left + lr_diff] - slopes[left]) > thresh:
        chosen = left
        left -= 1
    rate = float(lrs[chosen]) * adjust_value
    return rate, (rate, float(np.interp(math.log10(rate), np.log10(lrs), losses)))


def minimum(lrs: FloatArray, losses: FloatArray, num_it: int) -> _Suggestion:  # noqa: ARG001 -- as SuggestFunc
    """A tenth of the rate at which the loss is lowest."""
    if not len(losses):
        return _nothing()
    rate = float(lrs[losses.argmin()]) / 10
    return rate, (rate, float(np.interp(math.log10(rate), np.log10(lrs), losses)))


def steep(lrs: FloatArray, losses: FloatArray, num_it: int) -> _Suggestion:  # noqa: ARG001 -- as SuggestFunc
    """Where the loss falls most steeply, by the logarithm of the rate."""
    if len(losses) < 2:
        return _nothing()
    slopes = np.diff(losses) / np.diff(np.log(lrs))
    return _at(int(slopes.argmin()), lrs, losses) if slopes.min() < 0 else _nothing()


def find_lr(
    learn: Learner,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    num_it: int = 100,
    stop_div: bool = True,
    show_plot: bool = True,
    suggest_funcs: SuggestFunc | Sequence[SuggestFunc] | None = (valley,),
) -> Any:
    """Train `num_it` batches at rates from start_lr to end_lr, put all back, and give a namedtuple of suggested rates.

    It ends early when the loss is four times its lowest, if `stop_div`, and always when it is no number. Weights,
    optimiser, generators, record and loaders are afterwards, bit for bit, what they were. A suggestion is NaN where the
    losses give none. The tuple has `.plot()`, a figure, and `.test`, a RateTest; show_plot shows the figure in a
    notebook. Raises InvalidConfig for rates that do not rise, InvalidInput where the loss ends before it can say
    anything.
    """
    if not 0 < start_lr < end_lr < math.inf:
        raise InvalidConfig("lr_find(start_lr, end_lr)", got=(start_lr, end_lr), want="0 < start_lr < end_lr")
    if num_it < _LEAST_STEPS:
        raise InvalidConfig("lr_find(num_it)", got=num_it, want=f"a whole number of at least {_LEAST_STEPS}")
    ratio = (end_lr / start_lr) ** (1 / num_it)
    with _as_it_was(learn):
        record = _run_test(learn, [start_lr * ratio**step for step in range(num_it)], stop_div=stop_div)
    functions = [suggest_funcs] if callable(suggest_funcs) else list(suggest_funcs or ())
    found = suggest_rates(record.lrs, record.losses, functions, num_it=num_it)
    if show_plot:
        _show(found.test)
    return found


def suggest_rates(
    lrs: Sequence[float], losses: Sequence[float], functions: Iterable[SuggestFunc], *, num_it: int
) -> Any:
    """A namedtuple with a rate for each function, by its name; it leaves out the first tenth and the last 5 losses."""
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(finite.argmin())
    start = num_it // 10
    if end - start <= _SKIP_END:
        raise InvalidInput(
            "lr_find",
            got=f"{end} batches before the loss was far too high or no number",
            want=f"more than {start + _SKIP_END}",
            hint="Give a lower start_lr; or the model has diverged already.",
        )
    tried = np.asarray(lrs[start : end - _SKIP_END], dtype=np.float64)
    told = np.asarray(losses[start : end - _SKIP_END], dtype=np.float64)
    named = [(_name_of(function), function(tried, told, num_it)) for function in functions]
    points = [(name, float(lr), float(loss)) for name, (_, (lr, loss)) in named if math.isfinite(lr)]
    make: Any = namedtuple  # the fields are not known before it runs
    kind = type("SuggestedLRs", (make("SuggestedLRs", [name for name, _ in named]),), {})
    found: Any = kind(*(float(rate) for _, (rate, _) in named))
    found.test = RateTest(tuple(lrs), tuple(losses), tuple(points))
    found.plot = found.test.plot
    return found


def _run_test(learn: Learner, lrs: Sequence[float], *, stop_div: bool) -> Recorder:
    """The training itself; leaves weights and optimiser as it made them."""
    learn.place_model()
    learn.precision = MixedPrecision(learn.precision.name)  # scales of its own
    opt = learn.create_opt()
    learn.training, learn.n_step, learn.n_epoch = True, len(lrs), 1
    learn.train_mode()
    forward = learn.processes.wrap(learn.model)
    record, lowest = Recorder(), math.inf
    n_groups = len(learn.model.groups())
    callbacks = sorted(learn.cbs, key=lambda cb: cb.order)
    with learn.progress.task("lr_find", len(lrs)) as advance:
        for (step, lr), batch in zip(enumerate(lrs), _endless_batches(learn), strict=False):
            learn.step = step
            learn.xb, learn.yb = learn.lay_out(batch[0]), shape_targets(batch[1], learn.task)
            seed_draws(learn.seed, _STREAM, step, learn.processes.share[0])
            for cb in callbacks:  # some of them change the pictures
                cb.before_batch(learn)
            set_rates(opt, [lr] * n_groups, wd=learn.wd)
            loss = learn.memory.run(partial(differentiate, learn, forward), len(learn.xb), learn.device)
            learn.precision.step(opt, learn.device)
            learn.loss = float(learn.processes.mean(loss))
            if not math.isfinite(learn.loss):
                break
            record.batch(learn.loss, lr, 0.0)
            lowest = min(lowest, record.smooth_loss)
            advance(1)
            if stop_div and record.smooth_loss > _DIVERGED * lowest > 0:
                break
        advance(len(lrs) - len(record.lrs))  # what is not needed any more is done too
    return record


def _endless_batches(learn: Learner) -> Iterator[Batch]:
    """Training batches, one epoch after the other, as the next fit would see them."""
    epoch = learn.epochs_seen
    while True:
        n_batches = 0
        for batch in learn.dls.train.batches(epoch, share=learn.processes.share):
            n_batches += 1
            yield batch
        if not n_batches:
            raise InvalidInput("dls.train", got="no whole batch", want="one at least", hint="Give a smaller bs.")
        epoch += 1


@contextmanager
def _as_it_was(learn: Learner) -> Iterator[None]:
    """Put everything back that a training changes, whatever happens."""
    weights = {name: value.detach().clone() for name, value in learn.model.state_dict().items()}
    kept = {name: getattr(learn, name) for name in _KEPT}
    modes = [(module, module.training) for module in learn.model.modules()]
    states = [(cb, cb.state_dict()) for cb in learn.cbs if hasattr(cb, "state_dict")]
    learn.opt = None
    try:
        with draws_of_our_own(), learn.in_deviations():
            yield
    finally:
        for name, value in kept.items():
            setattr(learn, name, value)
        with torch.no_grad():
            for name, value in learn.model.state_dict().items():
                value.copy_(weights[name])
        learn.model.zero_grad(set_to_none=True)
        for module, mode in modes:
            module.training = mode
        for cb, state in states:
            cb.load_state_dict(state)  # type: ignore[attr-defined]


def _show(test: RateTest) -> None:
    """In a notebook, where that can be; elsewhere `.plot()` is asked for."""
    try:
        from .loss_plots import show_in_notebook
    except ModuleNotFoundError:  # no matplotlib: the suggestions stand without
        return
    show_in_notebook(test.plot)


def _at(place: int, lrs: FloatArray, losses: FloatArray) -> _Suggestion:
    rate = float(lrs[place])
    return rate, (rate, float(losses[place]))


def _nothing() -> _Suggestion:
    return math.nan, (math.nan, math.nan)


def _name_of(function: Any) -> str:
    return _name_of(function.func) if isinstance(function, partial) else str(function.__name__)
