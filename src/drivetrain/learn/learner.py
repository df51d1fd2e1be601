"""Learner: a network, its data, and how it is trained. The names are fastai's. docs/training.md"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from torch import Tensor

from drivetrain.errors import Conflict, InvalidConfig, InvalidInput
from drivetrain.progress import SilentProgress

from .answers import Answers, answer, measure
from .augment import Normalize
from .backbones import Backbone, load_backbone
from .checkpoint import read_tree, write_tree
from .data_loader import DataLoader
from .data_loaders import DataLoaders
from .draws import draws_of_our_own, seed_draws
from .fit_loop import FitPlan, run_fit
from .head import Head
from .learner_state import Callbacks, LearnerOptions, LearnerState, as_callbacks
from .network import Network, build_network
from .optimizer import capture_optimizer, restore_optimizer
from .precision import MixedPrecision, Precision
from .resume import as_plain
from .schedule import FlatSchedule, OneCycle, Rate, Schedule
from .targets import decode_answers, find_task, output_names, tell_answer, to_answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Learner", "vision_learner"]

_VERSION = 1  # of a saved model
_Kind = TypeVar("_Kind", bound="Learner")


class Learner(LearnerState):
    """Trains `model` on the training pictures of `dls`, and tells how good it is on those held out.

    The options are those of LearnerOptions.
    """

    def fit(
        self,
        n_epoch: int,
        lr: Rate | None = None,
        wd: float | None = None,
        cbs: Callbacks = None,
        *,
        reset_opt: bool = False,
        resume: bool = False,
    ) -> None:
        """Train `n_epoch` epochs at a constant rate; slice(a, b): from the stem's to the head's.

        With `resume`, go on where a killed process was, to the very weights of the unbroken run; where nothing was
        kept, begin. Raises Conflict where another training was kept, and LossNotFinite (an InvalidInput), the last
        good weights in place, where the loss is no number.
        """
        schedule = FlatSchedule(lrs=self.spread(lr))
        self._fit("fit", n_epoch, schedule, wd=wd, cbs=cbs, reset_opt=reset_opt, resume=resume)

    def fit_one_cycle(
        self,
        n_epoch: int,
        lr_max: Rate | None = None,
        div: float = 25.0,
        div_final: float = 1e5,
        pct_start: float = 0.25,
        wd: float | None = None,
        moms: tuple[float, float, float] | None = None,
        cbs: Callbacks = None,
        *,
        reset_opt: bool = False,
        resume: bool = False,
    ) -> None:
        """Train at a rate that rises from lr_max / div for `pct_start` of the steps, then falls to lr_max / div_final.

        The rest as `fit`.
        """
        schedule = OneCycle(
            lrs=self.spread(lr_max, name="lr_max"),
            div=div,
            div_final=div_final,
            pct_start=pct_start,
            moms=self.moms if moms is None else moms,
        )
        self._fit("fit_one_cycle", n_epoch, schedule, wd=wd, cbs=cbs, reset_opt=reset_opt, resume=resume)

    def fine_tune(
        self,
        epochs: int,
        base_lr: float = 2e-3,
        freeze_epochs: int = 1,
        lr_mult: float = 100,
        pct_start: float = 0.3,
        div: float = 5.0,
        **options: Any,
    ) -> None:
        """The head alone for `freeze_epochs`, then all at half the rate, the stem `lr_mult` times below the head.

        `options` go to both fit_one_cycle: wd, moms, div_final, cbs, reset_opt, resume.
        """
        if freeze_epochs:
            self.freeze()
            self.fit_one_cycle(freeze_epochs, slice(base_lr), pct_start=0.99, **options)
        self.unfreeze()
        lrs = slice(base_lr / 2 / lr_mult, base_lr / 2)
        self.fit_one_cycle(epochs, lrs, pct_start=pct_start, div=div, **options)

    def freeze(self) -> None:
        """Train the head alone from now on."""
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        """Train all weights from now on."""
        self.freeze_to(0)

    def freeze_to(self, n: int) -> None:
        """Keep the first `n` groups of weights as they are; a negative `n` leaves so many to be trained."""
        groups = self.model.groups()
        first = n + len(groups) if n < 0 else n
        if not 0 <= first < len(groups):
            want = f"{-len(groups)} to {len(groups) - 1}: there are {len(groups)} groups"
            raise InvalidConfig("freeze_to", got=n, want=want)
        self.frozen_groups = first
        for number, group in enumerate(groups):
            for weight in group:
                weight.requires_grad_(number >= first)
                weight.grad = None

    def lr_find(self, *args: Any, **options: Any) -> Any:
        """Try rates from small to large, and leave the weights as they were; see lr_find.find_lr."""
        from .lr_find import find_lr

        return find_lr(self, *args, **options)

    def to_fp16(self) -> Self:
        """Run the network in float16 where it can, with scaled losses."""
        return self._set_precision("fp16")

    def to_bf16(self) -> Self:
        """Run the network in bfloat16 where it can."""
        return self._set_precision("bf16")

    def to_fp32(self) -> Self:
        """Run the network in float32."""
        return self._set_precision("fp32")

    def validate(self, ds_idx: int = 1, dl: DataLoader | None = None) -> list[float]:
        """[loss, *metrics] on the pictures held out (ds_idx 1), on the training's, not augmented (0), or on `dl`."""
        return measure(self, self.answer(ds_idx, dl))

    def get_preds(
        self,
        ds_idx: int = 1,
        dl: DataLoader | None = None,
        with_input: bool = False,
        with_decoded: bool = False,
        with_loss: bool = False,
        act: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Any, ...]:
        """(inputs,) probabilities or values, targets (None without labels) (, decoded) (, losses), in the loader's
        order: tensors on the CPU. decoded are numbers of labels, marks of labels above 0.5, or values. `act` takes the
        place of softmax or sigmoid.
        """
        answers = self.answer(ds_idx, dl, with_inputs=with_input, with_losses=with_loss)
        preds = to_answers(answers.outputs, self.task) if act is None else act(answers.outputs)
        told: list[Any] = [answers.inputs] if with_input else []
        told += [preds, answers.targets]
        if with_decoded:
            told.append(decode_answers(preds, self.task))
        if with_loss:
            told.append(answers.losses)
        return tuple(told)

    def predict(self, item: Any) -> tuple[Any, Tensor, Tensor]:
        """(what a person reads, that as a tensor, probabilities (k,) or values (m,)) of a path, a PIL picture, a row.

        A person reads a label, a list of labels, or a number (a list where there are several).
        """
        preds, _, decoded = self.get_preds(dl=self.dls.test_dl([item]), with_decoded=True)
        return tell_answer(decoded[0], self.task, self.dls.vocab), decoded[0], preds[0]

    def answer(
        self, ds_idx: int = 1, dl: DataLoader | None = None, *, with_inputs: bool = False, with_losses: bool = False
    ) -> Answers:
        """What the model gives before softmax or sigmoid, and what get_preds is made of; see answers.answer."""
        return answer(self, self._choose_dl(ds_idx, dl), with_inputs=with_inputs, with_losses=with_losses)

    def show_results(self, ds_idx: int = 1, dl: DataLoader | None = None, max_n: int = 9, **layout: Any) -> Figure:
        """A figure of pictures, each with its label and what the model says; `layout` as in show_batch."""
        from .show_results import draw_results

        return draw_results(self, self._choose_dl(ds_idx, dl), max_n=max_n, **layout)

    def summary(self) -> str:
        """A table of the network's parts: what each gives for one picture, its weights, and which are trained."""
        from .network_table import describe_network

        return describe_network(self)

    def save(self, name: str, with_opt: bool = True) -> Path:
        """Write weights, record and the optimiser's memory to path/model_dir/NAME.safetensors; gives the path."""
        path = self.file_of(name)
        if not self.processes.share[0]:
            tree = {
                "what": "model",
                "version": _VERSION,
                "identity": self.identity(),
                "training": self.training_record(),
                "recorder": self.recorder.as_json(),
                "model": self.state_in_units(),
                "opt": capture_optimizer(self.opt) if with_opt and self.opt is not None else None,
            }
            write_tree(path, tree)
        return path

    def load(self, name: str, with_opt: bool = True) -> Self:
        """Take the weights that `save` wrote. Raises NotFound; Conflict where they are of another network or task."""
        path = self.file_of(name)
        tree = read_tree(path)
        if tree.get("what") != "model" or tree.get("version") != _VERSION:
            raise InvalidInput(str(path), got="a file of another kind or version", want="one that Learner.save wrote")
        own, its = self.identity(), tree["identity"]
        differing = [f"{key} {its.get(key)!r}, not {own[key]!r}" for key in own if its.get(key) != own[key]]
        if differing:
            raise Conflict(str(path), got=f"a model with {'; '.join(differing)}", want="one of this kind")
        self.load_in_units(tree["model"])
        if with_opt and tree["opt"] is not None:
            restore_optimizer(self.opt or self.create_opt(), tree["opt"])
        return self

    def training_record(self) -> dict[str, Any]:
        """How the model came about, in plain values: what a manifest keeps."""
        own = as_plain(self.describe())
        fits = [{key: value for key, value in fit.items() if own.get(key) != value} for fit in self.fits]
        return {**own, "epochs": self.epochs_seen, "pictures_at_once": self.memory.at_once, "fits": fits}

    @contextmanager
    def no_bar(self) -> Iterator[None]:
        """Nothing is shown for a while: no bars, no table."""
        kept, self.progress = self.progress, SilentProgress()
        try:
            yield
        finally:
            self.progress = kept

    @contextmanager
    def no_logging(self) -> Iterator[None]:
        """No table for a while."""
        kept, self.shows_table = self.shows_table, False
        try:
            yield
        finally:
            self.shows_table = kept

    def _choose_dl(self, ds_idx: int, dl: DataLoader | None) -> DataLoader:
        if dl is not None:
            return dl
        if ds_idx not in (0, 1):
            raise InvalidConfig("ds_idx", got=ds_idx, want="0 for the training pictures, 1 for those held out")
        return self.dls.valid if ds_idx else self.dls.valid.new(self.dls.train_ds)

    def _fit(
        self,
        method: str,
        n_epoch: int,
        schedule: Schedule,
        *,
        wd: float | None,
        cbs: Callbacks,
        reset_opt: bool,
        resume: bool,
    ) -> None:
        plan = FitPlan(method=method, n_epoch=n_epoch, schedule=schedule, wd=self.wd if wd is None else wd)
        callbacks = [*self.cbs, *as_callbacks(cbs)]
        if self.opt is None or reset_opt:
            self.create_opt()
        run_fit(self, plan, cbs=callbacks, resume=resume)

    def _set_precision(self, name: Precision) -> Self:
        self.precision = MixedPrecision(name)
        return self


def vision_learner(
    dls: DataLoaders,
    arch: str | Backbone | Network,
    *,
    pretrained: bool = True,
    normalize: bool = True,
    dropout: float = 0.0,
    head: Head | None = None,
    kind: type[_Kind] = Learner,  # type: ignore[assignment]
    **options: Unpack[LearnerOptions],
) -> _Kind:
    """A Learner of a pretrained backbone with a head for the labels of `dls`.

    arch is a name (efficientnet_lite0, timm:NAME, hf:REPO), a Backbone, or a Network that has its head already.
    pretrained=False begins from random weights, with batch norms that learn. normalize adds the backbone's Normalize to
    `dls` where there is none. dropout is the head's; `head` gives it fitted weights. kind is the class of what comes
    out. Raises InvalidInput, InvalidConfig, MissingExtra.
    """
    seed = options.get("seed")
    with draws_of_our_own():
        seed_draws(dls.train.config.seed if seed is None else seed)
        network = _make_network(dls, arch, dropout=dropout, head=head, pretrained=pretrained)
    if not pretrained:
        options.setdefault("train_bn", True)
    if normalize:
        _normalise(dls, network.backbone)
    learn = kind(dls, network, **options)
    if learn.deviations is not None and network is not arch and head is None:
        layer = network.head.linear
        learn.deviations.turn(layer.weight, layer.bias, to_units=True)  # random around the mean, not around 0
    return learn


def _make_network(dls: DataLoaders, arch: object, *, dropout: float, head: Head | None, pretrained: bool) -> Network:
    if isinstance(arch, Network):
        given = {"dropout": dropout != 0, "head": head is not None, "pretrained": not pretrained}
        for name, is_given in given.items():
            if is_given:
                raise InvalidConfig(f"vision_learner({name})", got="it beside a Network", want="a Network as it is")
        return arch
    backbone = load_backbone(arch) if isinstance(arch, str) else arch
    if not isinstance(backbone, Backbone):
        raise InvalidConfig("vision_learner(arch)", got=arch, want="the name of a backbone, a Backbone or a Network")
    if not 0 <= dropout < 1:
        raise InvalidConfig("vision_learner(dropout)", got=dropout, want="a share, 0 to below 1")
    n_out = len(output_names(dls, find_task(dls)))
    network = build_network(backbone, n_out=n_out, head=head, dropout=dropout)
    if not pretrained:
        for module in network.backbone.modules():
            reset: Any = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
    return network


def _normalise(dls: DataLoaders, backbone: Backbone) -> None:
    """See to it that pictures come as the backbone knows them."""
    wanted = tuple(map(float, backbone.spec.mean)), tuple(map(float, backbone.spec.std))
    found = [tfm for tfm in dls.valid.batch_tfms if isinstance(tfm, Normalize)]
    if not found:
        dls.add_tfms(Normalize(*wanted))
    for tfm in found:
        if (tuple(tfm.mean), tuple(tfm.std)) != wanted:
            warnings.warn(
                f"pictures are normalised by mean {tfm.mean} and std {tfm.std}, but {backbone.spec.name} was trained "
                f"with {wanted[0]} and {wanted[1]}: leave Normalize out, and the right one is added",
                UserWarning,
                stacklevel=3,
            )
