"""The method `top`: the last pieces of a network, trained from kept activations; what lies below never runs again.

First the head on frozen features, then head and last pieces together from there, at a small rate: linear probing, then
fine-tuning. Source: Kumar et al. 2022, arXiv:2202.10054. At the end part of the way back to where it began, which on
few pictures is better than either end. Source: Wortsman et al. 2022, arXiv:2109.01903. Batch norms are folded into
their convolutions.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.progress import Progress
from drivetrain.task import Task

from .activations import Activations
from .batch_norm import fold_batch_norm
from .checkpoint import read_tree, write_tree
from .draws import draws_of_our_own, seed_draws
from .losses import choose_loss
from .network import Network, build_network
from .optimizer import adamw, build_optimizer, capture_optimizer, restore_optimizer, set_rates
from .quick_conv import quicken
from .schedule import OneCycle

__all__ = ["AfterEpoch", "Step", "TopConfig", "TopInput", "TopRun", "choose_dtype", "fit_top", "predict_top"]

_AT_ONCE = 128  # pictures a forward pass outside of training
_KEEP_EVERY_S = 15.0
_NAMED = 8  # pictures listed in an error

Step = tuple[float, float, float]  # loss, learning rate, momentum
AfterEpoch = Callable[[int, Network, Sequence[Step]], None]  # the epoch from 0, the network as it is now, its steps


@dataclass(frozen=True, slots=True, kw_only=True)
class TopConfig:
    """How the top is trained."""

    epochs: int = 6  # each over one view of every picture, the views in turn
    batch: int = 64
    lr: float = 1e-3  # the highest of one cycle
    weight_decay: float = 0.01
    label_smoothing: float = 0.1  # classification only
    blend: float = 1.0  # of what was learned, kept at the end; the rest is the weights it began with
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"--{name}", got=getattr(self, name), want="a whole number of at least 1")
        if not 0 < self.lr < math.inf:
            raise InvalidConfig("lr", got=self.lr, want="a number above 0")
        if not 0 < self.blend <= 1:
            raise InvalidConfig("blend", got=self.blend, want="a share above 0, at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopInput:
    """What the top is trained on: rows of `activations`, which `targets` goes with row by row."""

    activations: Activations
    rows: IntArray  # of activations: which pictures to train on
    targets: IntArray | FloatArray  # of every row of activations, not only of `rows`
    names: Sequence[str]  # of every row: what an error calls a picture
    task: Task
    class_weights: Any = None  # "balanced", or a weight for each class


@dataclass(frozen=True, slots=True, kw_only=True)
class TopRun:
    """Where a training is kept while it runs, and what for."""

    checkpoint: Path | None = None
    key: str = ""  # names the training: a checkpoint of another is not gone on from
    resume: bool = False
    label: str = "Training the top"
    keep_every_s: float = _KEEP_EVERY_S
    dtype: torch.dtype | None = None  # of the arithmetic; None: `choose_dtype`


def fit_top(
    network: Network,
    given: TopInput,
    *,
    config: TopConfig,
    progress: Progress,
    run: TopRun | None = None,
    after_epoch: AfterEpoch | None = None,
) -> Network:
    """A trained copy of `network` (its cut is where the activations are), batch norms folded, in evaluation mode.

    The same input and seed give the same weights on the same machine, whether or not it was killed and resumed.
    `after_epoch` is called with the copy at the end of each epoch; what it raises ends the training.
    Raises InvalidInput, naming pictures, where the loss is no number.
    """
    run = run or TopRun()
    assert network.cut == given.activations.cut
    with draws_of_our_own():
        trained = build_network(fold_batch_norm(network.backbone), n_out=network.head.linear.out_features)
        trained.head.load_state_dict(network.head.state_dict())
        trained.cut = network.cut
        _TopFit(trained, given, config, run, progress, after_epoch).run()
    return trained.eval()


def predict_top(network: Network, activations: Activations, rows: IntArray, *, view: int = 0) -> FloatArray:
    """Logits (n, k) float32 of rows of activations, by default of their clean view."""
    with torch.inference_mode():
        out = [
            network.run_from(_load(activations, rows[start : start + _AT_ONCE], view=view), activations.cut).numpy()
            for start in range(0, len(rows), _AT_ONCE)
        ]
    return np.concatenate(out) if out else np.empty((0, network.head.linear.out_features), np.float32)


class _TopFit:
    """The state of one training."""

    def __init__(
        self,
        network: Network,
        given: TopInput,
        config: TopConfig,
        run: TopRun,
        progress: Progress,
        after_epoch: AfterEpoch | None,
    ) -> None:
        self.given, self.config, self.place, self.progress = given, config, run, progress
        self.network = network
        self.quick = _quick_copy(network)  # on the very parameters of `network`
        self.opt = build_optimizer(_list_trained(network), adamw, lr=config.lr, wd=config.weight_decay)
        self.schedule = OneCycle(lrs=(config.lr, config.lr), div_final=1e3)
        self.loss = choose_loss(
            given.task,
            None,
            targets=given.targets[given.rows],
            n_out=network.head.linear.out_features,
            class_weights=given.class_weights,
            label_smoothing=config.label_smoothing if given.task == "classification" else 0.0,
        )
        self.units = _measure_units(given)
        self.batch = min(config.batch, len(given.rows))
        self.n_steps = len(given.rows) // self.batch  # an epoch
        self.dtype = choose_dtype() if run.dtype is None else run.dtype
        self.is_kept = run.checkpoint is not None
        self.step = 0
        self.after_epoch = after_epoch
        self.steps: list[Step] = []  # of this epoch

    def run(self) -> None:
        """Numbers are trained in standard deviations from their mean: one rate then does for years and millimetres."""
        if self.units is not None:
            self.units.leave(self.network.head.linear)
        began = {name: p.detach().clone() for name, p in self.network.named_parameters() if p.requires_grad}
        self._run_steps()
        if self.config.blend < 1:
            with torch.no_grad():
                for name, start in began.items():
                    self.network.get_parameter(name).lerp_(start, 1 - self.config.blend)
        if self.units is not None:
            self.units.enter(self.network.head.linear)

    def _tell_epoch(self, epoch: int) -> None:
        if self.after_epoch is None:
            return
        network = self.network
        if self.units is not None:  # a copy: there and back is not the same to the last bit
            network = copy.deepcopy(network)
            self.units.enter(network.head.linear)
        self.after_epoch(epoch, network, self.steps)

    def _run_steps(self) -> None:
        total = self.config.epochs * self.n_steps
        self._restore(total)
        kept_at = time.monotonic()
        order, of_epoch = self.given.rows, -1
        with self.progress.task(self.place.label, total=total) as advance:
            advance(self.step)
            while self.step < total:
                epoch, at = divmod(self.step, self.n_steps)
                if epoch != of_epoch:
                    rng = np.random.default_rng([self.config.seed, epoch])
                    order, of_epoch = rng.permutation(self.given.rows), epoch
                self._train(np.sort(order[at * self.batch : (at + 1) * self.batch]), epoch, self.step / total)
                self.step += 1
                advance(1)
                if at + 1 == self.n_steps:
                    self._tell_epoch(epoch)
                    self.steps = []
                if self.step == total or time.monotonic() - kept_at > self.place.keep_every_s:
                    self._keep(is_done=self.step == total)
                    kept_at = time.monotonic()

    def _train(self, rows: IntArray, epoch: int, done: float) -> None:
        views = self.given.activations.views
        maps = _load(self.given.activations, rows, view=1 + epoch % views if views else 0)
        targets = torch.from_numpy(np.ascontiguousarray(self.given.targets[rows]))
        seed_draws(self.config.seed, self.step)  # what a backbone drops out is the same after a break
        lrs, mom = self.schedule.at(done)
        set_rates(self.opt, lrs=lrs, mom=mom)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            logits = self.quick.run_from(maps.to(self.dtype), self.given.activations.cut).float()
        if self.units is not None:
            targets = (targets - self.units.mean) / self.units.spread
        loss = self.loss(logits, targets)
        if not math.isfinite(loss.item()):
            self._refuse(rows, loss.item())
        self.opt.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.opt.step()
        self.steps.append((loss.item(), lrs[-1] if lrs else self.config.lr, mom or 0.0))

    def _refuse(self, rows: IntArray, loss: float) -> NoReturn:
        named = [self.given.names[row] for row in rows.tolist()]
        more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
        raise InvalidInput(
            "the loss",
            got=f"{loss} in step {self.step + 1}, on {', '.join(named[:_NAMED])}{more}",
            want="a number",
            hint="Look at these pictures; else train with --method head, or a lower lr. Nothing was written.",
        )

    def _keep(self, *, is_done: bool) -> None:
        path = self.place.checkpoint
        if path is None or not self.is_kept:
            return
        tree: dict[str, Any] = {"key": self.place.key, "step": self.step, "is_done": is_done}
        tree["trained"] = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        if not is_done:
            tree["opt"] = capture_optimizer(self.opt)
        try:
            write_tree(path, tree)
        except (OSError, SafetensorError) as exc:  # a full disk is no reason to lose the training
            self.is_kept = False
            self.progress.say(f"{self.place.label}: cannot be kept in {path.parent} ({exc}); a kill would lose it.")

    def _restore(self, total: int) -> None:
        """Take up what was kept of this very training: where it was finished, or `resume` asks for it."""
        path = self.place.checkpoint
        if path is None or not path.exists():
            return
        try:
            kept = read_tree(path)
        except InvalidInput:  # damaged: it is only a cache
            return
        if kept.get("key") != self.place.key or not (kept.get("is_done") or self.place.resume):
            return
        own = dict(self.network.named_parameters())
        if kept["trained"].keys() != {name for name, p in own.items() if p.requires_grad}:
            return
        with torch.no_grad():
            for name, value in kept["trained"].items():
                own[name].copy_(value)
        if kept["is_done"]:
            self.step = total
            return
        restore_optimizer(self.opt, kept["opt"])
        self.step = int(kept["step"])
        self.progress.say(f"{self.place.label}: resumed after {self.step:,} of {total:,} steps.")


def choose_dtype() -> torch.dtype:
    """bfloat16 where this processor multiplies it in hardware, else float32, which is then faster."""
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001 -- no public name
    return torch.bfloat16 if has_bf16 else torch.float32


def _quick_copy(network: Network) -> Network:
    """The same parameters in modules that are faster here; pieces below the cut are not run and stay as they are."""
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return quicken(copy.deepcopy(network, memo=dict(shared))).train()


def _list_trained(network: Network) -> list[list[nn.Parameter]]:
    """The weights from the cut on, and those of the head; all others are told to need no gradient."""
    assert network.cut is not None
    pieces = range(network.cut, len(network.backbone.pieces))
    body = [p for piece in pieces for p in network.backbone.piece_parameters(piece) if p.requires_grad]
    head = list(network.head.parameters())
    wanted = {id(p) for p in (*body, *head)}
    for p in network.parameters():
        p.requires_grad_(id(p) in wanted)
    return [body, head]


def _load(activations: Activations, rows: IntArray, *, view: int) -> Tensor:
    """float32 maps (n, c, h, w), channels last in memory as on disk."""
    maps = torch.from_numpy(activations.take(rows, view=view))  # (n, h, w, c) float16
    return maps.float().permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class _Units:
    """What the numbers to be answered are measured in, each float32 (m,)."""

    mean: Tensor
    spread: Tensor  # standard deviation; 1 where a number is the same for all

    @torch.no_grad()
    def leave(self, linear: nn.Linear) -> None:
        """From answers in these units to such in standard deviations from the mean."""
        linear.weight.div_(self.spread[:, None])
        linear.bias.sub_(self.mean).div_(self.spread)

    @torch.no_grad()
    def enter(self, linear: nn.Linear) -> None:
        """Back."""
        linear.weight.mul_(self.spread[:, None])
        linear.bias.mul_(self.spread).add_(self.mean)


def _measure_units(given: TopInput) -> _Units | None:
    """None for labels."""
    if given.task != "regression":
        return None
    values = given.targets[given.rows].astype(np.float64)
    spread = values.std(axis=0)
    told = values.mean(axis=0), np.where(spread > 0, spread, 1.0)
    mean, spread = (torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in told)
    return _Units(mean, spread)
