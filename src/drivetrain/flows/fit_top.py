"""The method `top`: a head, then the last pieces of the network with it, from activations kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.flows.fitting import FitInput, Fitted, Side, describe_head, fit_first_head, fit_head_on
from drivetrain.imaging.style_measures import find_style_kernel
from drivetrain.inspect.mirror_findings import find_mirror_faults
from drivetrain.learn.export import export_network
from drivetrain.learn.head import Head
from drivetrain.learn.layout import choose_cut
from drivetrain.progress import SilentProgress
from drivetrain.runtime.views import ViewRecipe

if TYPE_CHECKING:
    from drivetrain.learn.network import Network
    from drivetrain.learn.top import TopConfig

__all__ = ["TopPlan", "TopTrainer", "fit_by_top", "plan_top"]

_MIN_SCALE = 0.35  # the least share of a picture that a view shows
_FITS_KEPT = 24  # trainings whose weights stay in the cache, so that a run done again costs nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class TopPlan:
    """Where to cut, what to show, and how long."""

    cut: int  # the piece that training begins with
    views: int
    epochs: int
    batch: int
    lr: float
    min_scale: float = _MIN_SCALE
    blend: float = 1.0  # of what was learned; the rest is the weights it began with
    flip: bool = True  # whether half of the views are mirrored


def plan_top(given: FitInput, *, is_early: bool = False) -> TopPlan:
    """The defaults for this backbone, less what the user said. `is_early`: one piece more is trained, on larger maps.

    Tuned by holding out a third of the training pictures, three times, on two sets: docs/training-methods.md.
    """
    cuts = find_cuts(given)
    options = given.options
    plan = (
        TopPlan(cut=cuts[0], views=4, epochs=6, batch=16, lr=5e-4, min_scale=0.8)
        if is_early
        else TopPlan(cut=cuts[1], views=3, epochs=8, batch=64, lr=1e-3, blend=0.8)
    )
    return replace(
        plan,
        flip=_may_flip(given),
        views=plan.views if options.views is None else options.views,
        epochs=options.epochs or plan.epochs,
        batch=options.batch or plan.batch,
        lr=options.lr or plan.lr,
    )


def find_cuts(given: FitInput) -> tuple[int, int]:
    """(early, late): where training may begin.

    Late is the first piece that is given maps of the last resolution: little to keep, much to train. Early is of the
    resolution before it, the last of the pieces that are given least. Raises InvalidInput where there are none.
    """
    from drivetrain.learn.activations import measure_maps

    maps = measure_maps(given.trunk)
    late = choose_cut(maps)
    if late is None:
        raise InvalidInput(
            "--method top",
            got=f"{given.trunk.name}, which cannot be parted into pieces with maps between them",
            want="a backbone that can",
            hint="Train with --method head or full.",
        )
    pieces = sorted(maps)
    _, places = maps.get(late - 1, (0, 0))
    before = [piece for piece in pieces if piece < late and maps[piece][1] == places]
    early = min(reversed(before), key=lambda piece: maps[piece][0], default=late)
    return early, late


def _may_flip(given: FitInput) -> bool:
    """Whether a mirrored picture keeps its label, as far as the labels' names tell."""
    return given.task == "regression" or not find_mirror_faults(given.classes, None, pairs=())


class TopTrainer:
    """Trains tops on one set of pictures: trials on some of them, and the last on all. Both sides' activations."""

    def __init__(self, given: FitInput, plan: TopPlan) -> None:
        from drivetrain.learn.activations import ActivationSpec, keep_activations
        from drivetrain.learn.top import TopConfig

        self.given, self.plan = given, plan
        self.config = TopConfig(
            epochs=plan.epochs, batch=plan.batch, lr=plan.lr, blend=plan.blend, seed=given.options.seed
        )
        recipe = ViewRecipe(min_scale=plan.min_scale, flip=plan.flip, seed=given.options.seed)
        spec = ActivationSpec(
            trunk=given.trunk,
            preprocess=given.preprocess,
            cut=plan.cut,
            views=plan.views,
            recipe=recipe,
            has_clean=not plan.views,
        )
        self._spec = spec
        self._keep = partial(
            keep_activations,
            cache_dir=given.settings.cache_dir,
            max_bytes=given.settings.activation_cache_bytes,
            threads=given.settings.worker_threads,
            limits=given.limits,
            progress=given.progress,
        )
        self.train_kept = self._keep(given.train.files, given.train.digests, spec=spec)

    def fit(self, head: Head, rows: IntArray, *, label: str, epochs: int | None = None) -> Network:
        """A network trained on some rows of the training side, from a head that saw no others."""
        from drivetrain.learn.backbones import load_backbone
        from drivetrain.learn.network import build_network
        from drivetrain.learn.top import TopInput, TopRun, fit_top

        given = self.given
        network = build_network(load_backbone(given.trunk.name), n_out=given.n_out, head=head)
        network.cut = self.plan.cut
        config = replace(self.config, epochs=epochs or self.plan.epochs)
        key = self._name_fit(head, rows, config)
        folder = given.settings.cache_dir / "fits"
        trained = fit_top(
            network,
            TopInput(
                activations=self.train_kept,
                rows=rows,
                targets=given.train.targets,
                names=[item.path for item in given.train.items],
                task=given.task,
                class_weights=given.options.class_weights,
            ),
            config=config,
            progress=given.progress,
            run=TopRun(
                checkpoint=folder / f"{key[:24]}.safetensors", key=key, resume=given.options.resume, label=label
            ),
        )
        _forget_old(folder)
        return trained

    def try_part(self, head: Head, rows: IntArray, held: IntArray, *, label: str) -> tuple[FloatArray, FloatArray]:
        """Logits (n, k) of the rows `held` by a head, and by a top on it, both trained on `rows` alone.

        A third of the epochs tells enough: if anything, the whole training gains more.
        """
        given = self.given
        first = fit_head_on(given, rows, penalties=[head.penalty], progress=SilentProgress())
        tried = self.fit(first, rows, label=label, epochs=-(-self.plan.epochs // 3))
        return first.logits(given.head_features(given.train)[held]), self.answer(tried, given.train, held)

    def finish(self, head: Head) -> Fitted:
        """Train on all training pictures and write the model."""
        given, plan = self.given, self.plan
        means = given.trunk.layout.find_means(plan.cut)
        assert means is not None  # the cuts of `find_cuts` are taps
        trained = self.fit(head, np.arange(len(given.train.items)), label="Training the top on all pictures")
        rows = given.known_rows
        tensors = {name: p.detach().numpy() for name, p in trained.named_parameters() if p.requires_grad}
        return Fitted(
            method="top",
            model=export_network(
                trained,
                size=given.trunk.size,
                trunk=given.trunk.model,
                style=find_style_kernel(given.preprocess),
            ),
            tensors=tensors,
            train_frozen=given.train.features[:, means],
            valid_frozen=given.valid.features[:, means],
            valid_logits=self.answer(trained, given.valid, np.arange(len(given.valid.items))),
            known_logits=None if rows is None else self.answer(trained, given.train, rows),
            record={"head": describe_head(head), "top": {**asdict(plan), "recipe": "LP-FT, AdamW, one cycle"}},
            facts={
                "Trained": f"the pieces from {plan.cut} on, {plan.epochs} epochs over {plan.views} views a picture"
                + ("" if plan.flip else ", none of them mirrored: the labels' names speak against it"),
            },
        )

    def answer(self, network: Network, side: Side, rows: IntArray) -> FloatArray:
        """Logits (n, k) of some pictures of a side, as production sees them."""
        from drivetrain.learn.top import predict_top

        files, digests = [side.files[row] for row in rows.tolist()], [side.digests[row] for row in rows.tolist()]
        spec = replace(self._spec, views=0, has_clean=True)
        clean = self._keep(files, digests, spec=spec, beside=[self.train_kept])
        return predict_top(network, clean, np.arange(len(rows)))

    def _name_fit(self, head: Head, rows: IntArray, config: TopConfig) -> str:
        """A digest of all that a training depends on."""
        given = self.given
        digest = hashlib.sha256()
        told = [_fits_version(), self._spec.name, asdict(config), given.task, given.options.class_weights]
        digest.update(json.dumps(told).encode())
        for array in (head.weight, head.bias, np.asarray(rows), np.ascontiguousarray(given.train.targets[rows])):
            digest.update(np.ascontiguousarray(array).tobytes())
        for row in rows.tolist():
            digest.update(given.train.digests[row])
        return digest.hexdigest()


def fit_by_top(given: FitInput) -> Fitted:
    """Head, then top, as planned by default or as the user said."""
    head = fit_first_head(given)
    return TopTrainer(given, plan_top(given)).finish(head)


def _fits_version() -> list[Any]:
    """Of what trains: another version may give other weights."""
    from importlib.metadata import version

    return [2, version("torch"), version("drivetrain")]


def _forget_old(folder: Path) -> None:
    kept: Sequence[Path] = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_FITS_KEPT:]:
        path.unlink(missing_ok=True)
