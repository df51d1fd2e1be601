"""A Learner of pictures that knows a cheap way to be tuned where there is no GPU, and how to become a bundle."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from drivetrain.errors import Conflict, InvalidConfig
from drivetrain.settings import Settings, load_settings

from .backbones import measure_pieces
from .blocks import name_of
from .callbacks import Callback
from .fit_kept import KeptPlan, fit_kept_head, fit_kept_top
from .frozen_part import FrozenPart, find_trunk
from .layout import choose_cut
from .learner import Learner
from .learner_state import as_callbacks
from .losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from .optimizer import adamw

__all__ = ["Method", "VisionLearner"]

Method = Literal["auto", "head", "top", "full"]

_METHODS = ("auto", "head", "top", "full")
_MOST_VIEWS = 4
# A few large steps throw a fitted head off. Seen on 144 photographs of three kinds of clothing, 4 epochs, mean error on
# 210 others: batch 64 at 1e-3 0.25 where the head alone has 0.14; batch 16 at 5e-5 0.076 where it has 0.086, which is
# within chance of it. The smallest rate was picked after this look. On some thousands 64 at 1e-3 is the plan of `top`.
_LEAST_BATCH, _BATCHES = 16, 40  # so many batches an epoch before they grow
_STEPS, _LEAST_RATE = 500, 0.05  # with fewer steps the rate is less in proportion, down to a twentieth
_TIMED = 8  # pictures that tell how long the others take
_BACKWARD = 3  # a step takes as long as so many forward passes
_MOMS = (0.95, 0.85, 0.95)  # of one cycle, which the top goes by
_FULL_ONLY: dict[str, Any] = {"lr_mult": 100, "pct_start": 0.3, "div": 5.0}  # of fine_tune, with what stands for "any"


class VisionLearner(Learner):
    """A Learner whose `fine_tune` trains as much as the machine bears, and which `export`s a bundle.

    `settings`, `pretrained` and `exporter` are set by `flows.vision_learner`, which makes it.
    """

    settings: Settings | None = None
    pretrained: str | None = None  # the backbone by name, where it began from pretrained weights
    exporter: Callable[[VisionLearner, Path], Path] | None = None

    def fine_tune(
        self,
        epochs: int,
        base_lr: float = 2e-3,
        freeze_epochs: int = 1,
        lr_mult: float = 100,
        pct_start: float = 0.3,
        div: float = 5.0,
        *,
        method: Method = "auto",
        **options: Any,
    ) -> None:
        """Train the head, then more of the network, `epochs` epochs; says once which method, and why.

        "full" is fastai's way, all weights. "head" fits the head alone, to its end, whatever `epochs`. "top" fits the
        head, then head and last pieces at base_lr / 2, less on few pictures; what lies below is run once over a clean
        and up to four augmented views of each, as the training's own transforms draw them. "auto" is full on a GPU,
        else top where nothing speaks against it. `options` are cbs, for top also wd, for full all that fit_one_cycle
        takes. Raises InvalidConfig for what a method cannot do.
        """
        if method not in _METHODS:
            raise InvalidConfig("fine_tune(method)", got=method, want="one of " + ", ".join(_METHODS))
        if type(epochs) is not int or epochs < 1:
            raise InvalidConfig("fine_tune(epochs)", got=epochs, want="a whole number of at least 1")
        shape = {"lr_mult": lr_mult, "pct_start": pct_start, "div": div}
        asked = {**options, **{name: value for name, value in shape.items() if value != _FULL_ONLY[name]}}
        if method == "auto":
            method = self._choose_method(asked)
        elif method != "full" and (reasons := self._why_full(asked, allowed=("cbs", "wd")[: 1 + (method == "top")])):
            raise InvalidConfig(
                f'fine_tune(method="{method}")', got="; ".join(reasons), want='none of these, or method="full"'
            )
        if method == "full":
            self._say_full(epochs, freeze_epochs)
            super().fine_tune(epochs, base_lr, freeze_epochs, **shape, **options)
        elif method == "head":
            self._fit_head(**options)
        else:
            self._fit_top(epochs, base_lr / 2, fits_head=freeze_epochs > 0, **options)

    def export(self, path: str | Path) -> Path:
        """Write the trained model as a bundle, NAME.dt: `drivetrain.load(path).predict(picture)` then needs no torch.

        Calibrated and judged on the pictures held out, which nothing else may have been chosen by. Raises InvalidInput
        where the preprocessing cannot be written down, or a picture is no file.
        """
        if self.exporter is None:
            raise Conflict("export", got="a Learner made by hand", want="one of drivetrain.vision_learner")
        return self.exporter(self, Path(path))

    def _fit(self, *args: Any, **options: Any) -> None:
        if self.frozen_groups < len(self.model.groups()) - 1:
            # strange pictures are known by a stage that hardly moves: the last learns to see nothing but the classes
            self.model.cut = min(self.model.backbone.layout.head_pieces, default=None)
        super()._fit(*args, **options)

    # which method

    def _choose_method(self, asked: dict[str, Any]) -> Literal["top", "full"]:
        if self.device.type != "cpu":
            return "full"
        reasons = self._why_full(asked)
        if not reasons and self._find_cut() is not None:
            return "top"
        why = "; ".join(reasons) or f"{self.model.backbone.spec.name} cannot be parted into pieces with maps between"
        self.progress.say(f"No GPU, yet all weights are trained: {why}.")
        return "full"

    def _why_full(self, asked: dict[str, Any], *, allowed: Sequence[str] = ("cbs", "wd")) -> list[str]:
        """What only the training of all weights, picture by picture, can do."""
        reasons = [f"{name}={value!r}" for name, value in asked.items() if name not in allowed]
        own = type(self.loss_func) not in (CrossEntropy, BinaryCrossEntropy, SquaredError)
        told = {
            f"loss_func={name_of(self.loss_func)}": own,
            f"opt_func={name_of(self.opt_func)}": self.opt_func is not adamw,
            f"moms={self.moms}": tuple(self.moms) != _MOMS,
            "train_bn=True": self.train_bn,
            "wd_bn_bias=True": self.wd_bn_bias,
            f"dropout={self.model.head.dropout}": self.model.head.dropout > 0,
            "standardise=False": self.task == "regression" and self.deviations is None,
            f"{self.precision.name}": self.precision.name != "fp32",
            "several processes": self.processes.share[1] > 1,
        }
        reasons += [reason for reason, holds in told.items() if holds]
        callbacks = [*self.cbs, *as_callbacks(asked.get("cbs"))]
        return reasons + [f"{type(cb).__name__} looks at batches" for cb in callbacks if _looks_at_batches(cb)]

    def _find_cut(self) -> int | None:
        return choose_cut(measure_pieces(self._cpu_backbone(), side=self._side()))

    # the methods

    def _fit_head(self, *, cbs: Any = None) -> None:
        part = self._open_part(None)
        seconds = len(self.dls.train_ds) * (part.seconds + self._time_loading())
        self.progress.say(
            f"Method head: a linear head on the frozen {self.model.backbone.spec.name}, fitted to its end. "
            f"{_about(seconds)}."
        )
        fit_kept_head(self, part, threads=self._settings.worker_threads, cbs=[*self.cbs, *as_callbacks(cbs)])
        self.place_model()

    def _fit_top(self, epochs: int, lr: float, *, fits_head: bool, wd: float | None = None, cbs: Any = None) -> None:
        cut = self._find_cut()
        if cut is None:
            name = self.model.backbone.spec.name
            raise InvalidConfig(
                'fine_tune(method="top")', got=f"{name}, which cannot be parted", want='method="head" or "full"'
            )
        views = min(epochs, _MOST_VIEWS)
        part = self._open_part(cut)
        n, n_valid = len(self.dls.train_ds), len(self.dls.valid_ds)
        looking = (n * (1 + views) + n_valid) * (part.seconds + self._time_loading())
        seconds = looking + epochs * (_BACKWARD * n + n_valid) * self._time_top(part, cut)
        self.progress.say(
            f"{'' if self.device.type != 'cpu' else 'No GPU, so '}method top: the head first, then pieces {cut} to "
            f"{len(self.model.backbone.pieces) - 1} of {self.model.backbone.spec.name} with it, {epochs} "
            f"epoch{'s' * (epochs > 1)}; what lies below is run once over {1 + views} views of each picture. "
            f'{_about(seconds)}. method="full" trains all weights.'
        )
        batch = min(self.dls.bs, max(_LEAST_BATCH, n // _BATCHES))
        steps = epochs * max(1, n // batch)
        plan = KeptPlan(
            epochs=epochs,
            views=views,
            batch=batch,
            lr=lr * min(1.0, max(_LEAST_RATE, steps / _STEPS)),
            wd=self.wd if wd is None else wd,
            fits_head=fits_head,
            threads=self._settings.worker_threads,
            folder=self._settings.cache_dir,
        )
        fit_kept_top(self, part, plan, cbs=[*self.cbs, *as_callbacks(cbs)])
        self.unfreeze()

    def _say_full(self, epochs: int, freeze_epochs: int) -> None:
        told = f"Method full: {f'the head for {freeze_epochs}, then ' if freeze_epochs else ''}all weights for {epochs}"
        if self.device.type == "cpu":
            began = time.perf_counter()
            with torch.inference_mode():
                self.model(torch.zeros(_TIMED, 3, self._side(), self._side()))
            step = (time.perf_counter() - began) / _TIMED
            passes = freeze_epochs + _BACKWARD * epochs
            n, n_valid = len(self.dls.train_ds), len(self.dls.valid_ds)
            seconds = n * passes * step + n_valid * (epochs + freeze_epochs) * step
            seconds += (n + n_valid) * (epochs + freeze_epochs) * self._time_loading()
            told += f". {_about(seconds)}"
        self.progress.say(f"{told}.")

    # what they stand on

    @property
    def _settings(self) -> Settings:
        return self.settings or load_settings()

    def _cpu_backbone(self) -> Any:
        backbone = self.model.backbone.eval()
        return backbone if self.device.type == "cpu" else copy.deepcopy(backbone).cpu()

    def _open_part(self, cut: int | None) -> FrozenPart:
        backbone, side = self._cpu_backbone(), self._side()
        trunk = find_trunk(backbone, side=side, cache_dir=self._settings.cache_dir, progress=self.progress)
        return FrozenPart(backbone, cut=cut, trunk=trunk, side=side, threads=self._settings.worker_threads)

    def _side(self) -> int:
        """Pixels of the pictures that come, which are squares but for what nobody declared."""
        return int(self._one_batch().shape[-1])

    def _one_batch(self) -> torch.Tensor:
        dls = self.dls
        return dls.valid.new(dls.valid_ds, bs=1).one_batch()[0]

    def _time_loading(self) -> float:
        """Seconds a picture takes to be read, decoded and varied."""
        loader = self.dls.train.new(self.dls.train_ds, bs=min(_TIMED, len(self.dls.train_ds)), drop_last=False)
        loader.left_out = dict(self.dls.train.left_out)
        began = time.perf_counter()
        count = len(loader.one_batch()[0])
        return (time.perf_counter() - began) / count

    @torch.inference_mode()
    def _time_top(self, part: FrozenPart, cut: int) -> float:
        """Seconds a picture takes from the cut on."""
        pixels = torch.zeros(_TIMED, 3, self._side(), self._side()).numpy()
        maps = torch.from_numpy(part.run(pixels)).to(self.device)
        began = time.perf_counter()
        self.model.run_from(maps, cut)
        return (time.perf_counter() - began) / _TIMED


def _looks_at_batches(cb: Callback) -> bool:
    names: Sequence[str] = ("before_batch", "after_batch")
    return any(inspect.getattr_static(type(cb), name) is not vars(Callback)[name] for name in names)


def _about(seconds: float) -> str:
    return f"About {max(5, round(seconds / 5) * 5)} seconds" if seconds < 90 else f"About {round(seconds / 60)} minutes"
