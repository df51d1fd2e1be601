"""What a training works on: data, network, loss, optimiser, and where it stands; the loop and callbacks read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.progress import Progress, SilentProgress, TerminalProgress

from .blocks import as_list, name_of
from .callbacks import Callback
from .checkpoint import SUFFIX, CheckpointConfig
from .data_loaders import DataLoaders
from .guard import MemoryGuard
from .losses import ClassWeights, LossFunc, choose_loss, describe_loss
from .metric import MetricLike, check_metrics, metric_name
from .network import Network
from .optimizer import OptimizerMaker, adamw, build_optimizer
from .precision import MixedPrecision
from .processes import Processes, find_processes
from .recorder import Recorder
from .schedule import Rate, spread_rates
from .targets import Deviations, describe_items, find_task, output_names, read_targets

__all__ = ["Callbacks", "LearnerOptions", "LearnerState", "as_callbacks"]

Callbacks = Callback | type[Callback] | Sequence[Callback | type[Callback]] | None


class LearnerOptions(TypedDict, total=False):
    """How a Learner trains; what is left out is as LearnerState has it."""

    loss_func: LossFunc | None  # None: the task's own
    class_weights: ClassWeights  # "balanced", or a number for each label
    label_smoothing: float
    standardise: bool  # values are trained in standard deviations
    metrics: Any  # one, or a list
    cbs: Callbacks
    opt_func: OptimizerMaker
    lr: Rate  # where fit is given none
    wd: float
    wd_bn_bias: bool  # scales and biases decay too
    train_bn: bool  # batch norms take their statistics from the training's batches
    moms: tuple[float, float, float]  # of fit_one_cycle
    channels_last: bool
    path: str | Path | None  # None: that of the loaders
    model_dir: str
    seed: int | None  # None: that of the loaders
    checkpoint: CheckpointConfig | None  # None: a killed training cannot be resumed
    progress: Progress | None  # None: bars and a table on stderr


class LearnerState:
    """While it trains, callbacks find here: model, dls, opt, epoch of n_epoch, step of n_step, loss, xb, yb, pred (in
    the labels' units), training, recorder, metrics, path, model_dir and task.
    """

    def __init__(
        self,
        dls: DataLoaders,
        model: Network,
        *,
        loss_func: LossFunc | None = None,
        class_weights: ClassWeights = None,
        label_smoothing: float = 0.0,
        standardise: bool = True,
        metrics: Any = None,
        cbs: Callbacks = None,
        opt_func: OptimizerMaker = adamw,
        lr: Rate = 2e-3,
        wd: float = 0.01,
        wd_bn_bias: bool = False,
        train_bn: bool = False,
        moms: tuple[float, float, float] = (0.95, 0.85, 0.95),
        channels_last: bool = True,
        path: str | Path | None = None,
        model_dir: str = "models",
        seed: int | None = None,
        checkpoint: CheckpointConfig | None = CheckpointConfig(),  # noqa: B008 -- a frozen value
        progress: Progress | None = None,
    ) -> None:
        self.dls, self.model = dls, model
        self.task = find_task(dls)
        self.names = output_names(dls, self.task)  # of the model's outputs
        n_out = model.head.linear.out_features
        if n_out != len(self.names):
            raise InvalidInput("model", got=f"{n_out} outputs", want=f"{len(self.names)}: {', '.join(self.names[:8])}")
        targets = read_targets(dls.train_ds, self.task)
        self.loss_func = choose_loss(
            self.task,
            loss_func,
            targets=targets,
            n_out=n_out,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
        )
        self.deviations = Deviations.of(targets) if self.task == "regression" and standardise else None
        self.items_digest = describe_items(dls.train_ds, targets)
        self.metrics: list[MetricLike] = as_list(metrics)
        check_metrics(self.metrics, task=self.task, count=n_out)
        self.recorder = Recorder([metric_name(metric) for metric in self.metrics])
        self.cbs = as_callbacks(cbs)
        self.opt_func, self.wd_bn_bias, self.train_bn = opt_func, wd_bn_bias, train_bn
        self.lr, self.wd, self.moms = lr, wd, moms
        self.channels_last = channels_last
        self.path = dls.path if path is None else Path(path)
        self.model_dir = model_dir
        self.seed = dls.train.config.seed if seed is None else seed
        self.checkpoint = checkpoint
        self.precision = MixedPrecision()
        self.processes: Processes = find_processes()
        self._start(progress)

    def _start(self, progress: Progress | None) -> None:
        """Where a new learner stands."""
        self.progress: Progress = TerminalProgress() if progress is None else progress
        if self.processes.share[0]:
            self.progress = SilentProgress()  # one of them is enough
        if self.processes.device is not None:
            self.dls.to(self.processes.device)
        self.shows_table = True
        self.memory = MemoryGuard(
            self._say,
            comfort="A step still learns from all pictures of its batch, so results stay what they were.",
            is_alone=self.processes.share[1] == 1,
        )
        self._answer_memory = MemoryGuard(self._say, comfort="The answers stay what they are.")
        self.opt: torch.optim.Optimizer | None = None
        self.frozen_groups = 0
        self.fits: list[dict[str, Any]] = []  # each as FitPlan.describe tells it
        self.awaited_fit: int | None = None  # a resume skipped fits before this one
        self.epochs_seen = 0  # in all fits
        self.epoch = self.n_epoch = self.step = self.n_step = 0
        self.training = False
        self.loss = float("nan")
        self.xb: Tensor | None = None
        self.yb: Tensor | None = None
        self.pred: Tensor | None = None
        self._is_in_deviations = False
        self.place_model()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.processes.device or self.dls.device

    def place_model(self) -> None:
        """Put model and optimiser on the device."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.model.to(self.device)
        self.model.to(memory_format=layout)  # type: ignore[call-overload]  # as torch documents it
        if self.opt is not None:
            for weight, state in self.opt.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weight.shape:
                        state[name] = value.to(weight.device)

    def create_opt(self) -> torch.optim.Optimizer:
        """A new optimiser over all groups of weights, as `opt_func` makes it."""
        lr = self.spread(None)[-1]
        self.opt = build_optimizer(self.model.groups(), self.opt_func, lr=lr, wd=self.wd, wd_bn_bias=self.wd_bn_bias)
        return self.opt

    def spread(self, lr: Rate | None, *, name: str = "lr") -> tuple[float, ...]:
        """A rate for each group of weights; None takes the learner's own."""
        return spread_rates(self.lr if lr is None else lr, len(self.model.groups()), name=name)

    def lay_out(self, x: Tensor) -> Tensor:
        """Pictures in the order of memory that convolutions are fastest in."""
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.ndim == 4 else x

    def train_mode(self) -> None:
        """Dropout on; batch norms with their own statistics, unless `train_bn`."""
        self.model.train()
        if self.train_bn:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 -- the class all of them share
                    module.train()

    @torch.no_grad()
    def run_model(self, x: Tensor) -> Tensor:
        """Outputs (n, k) with no gradients, in parts where memory is short; in deviations inside of a fit."""
        x = self.lay_out(x)

        def run(at_once: int) -> Tensor:
            with self.precision.autocast(self.device):
                return torch.cat([self.model(x[at : at + at_once]) for at in range(0, len(x), at_once)])

        return self._answer_memory.run(run, len(x), self.device)

    def loss_of(self, loss_func: LossFunc, outputs: Tensor, targets: Tensor) -> Tensor:
        """A loss of what the model gives, in float32; of values in deviations."""
        outputs = outputs.float()
        if self.deviations is not None:
            targets = self.deviations.from_units(targets)
            outputs = outputs if self._is_in_deviations else self.deviations.from_units(outputs)
        return loss_func(outputs, targets)

    def to_units(self, outputs: Tensor) -> Tensor:
        """What the model gives, in the labels' units."""
        return self.deviations.to_units(outputs) if self._is_in_deviations and self.deviations else outputs

    @contextmanager
    def in_deviations(self) -> Iterator[None]:
        """Let a model of values answer in standard deviations for a while; nothing for other tasks."""
        if self.deviations is None or self._is_in_deviations:
            yield
            return
        with self.deviations.inside(self.model.head.linear):
            self._is_in_deviations = True
            try:
                yield
            finally:
                self._is_in_deviations = False

    def state_in_units(self) -> dict[str, Tensor]:
        """The model's weights as they are outside of a fit."""
        state = dict(self.model.state_dict())
        if self._is_in_deviations and self.deviations is not None:
            weight, bias = (state[f"head.linear.{name}"].clone() for name in ("weight", "bias"))
            self.deviations.turn(weight, bias, to_units=True)
            state |= {"head.linear.weight": weight, "head.linear.bias": bias}
        return state

    def load_in_units(self, state: dict[str, Tensor]) -> None:
        """Take weights as state_in_units gives them."""
        self.model.load_state_dict(state)
        if self._is_in_deviations and self.deviations is not None:
            layer = self.model.head.linear
            self.deviations.turn(layer.weight, layer.bias, to_units=False)

    def file_of(self, name: str) -> Path:
        """Where a file of this learner is kept: path/model_dir/NAME.safetensors."""
        return self.path / self.model_dir / f"{name}{SUFFIX}"

    def identity(self) -> dict[str, Any]:
        """What a file of weights must agree with, in plain values."""
        return {"task": self.task, "backbone": self.model.backbone.spec.name, "outputs": self.names}

    def describe(self) -> dict[str, Any]:
        """What a training depends on besides its fits, in plain values."""
        return {
            **self.identity(),
            "seed": self.seed,
            "batch_size": self.dls.bs,
            "processes": self.processes.share[1],
            "item_tfms": _describe_tfms(self.dls.item_tfms),
            "batch_tfms": _describe_tfms(self.dls.train.batch_tfms),
            "items": self.items_digest,
            "loss": describe_loss(self.loss_func),
            "optimizer": name_of(self.opt_func),
            "wd_bn_bias": self.wd_bn_bias,
            "train_bn": self.train_bn,
            "dropout": self.model.head.dropout,
            "standardise": self.deviations is not None,
            "precision": self.precision.name,
        }

    def _say(self, message: str) -> None:
        self.progress.say(message)


def as_callbacks(given: Callbacks) -> list[Callback]:
    """One, several or none, classes called. Raises InvalidConfig for what is no callback."""
    made = [one() if isinstance(one, type) else one for one in as_list(given)]
    for one in made:
        if not isinstance(one, Callback):
            raise InvalidConfig("cbs", got=one, want="callbacks: subclasses of Callback, or instances of them")
    return made


def _describe_tfms(tfms: Sequence[Any]) -> list[str]:
    """Each with its options where it tells them, else by name."""
    return [name_of(tfm) if " at 0x" in repr(tfm) else repr(tfm) for tfm in tfms]
