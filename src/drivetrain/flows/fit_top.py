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
from drivetrain.flows.fitting import FitInput, Fitted, describe_head, fit_first_head
from drivetrain.learn.export import export_network
from drivetrain.learn.head import Head, fit_head
from drivetrain.progress import SilentProgress
from drivetrain.runtime.views import ViewRecipe

if TYPE_CHECKING:
    from drivetrain.learn.activations import Activations
    from drivetrain.learn.network import Network
    from drivetrain.learn.top import TopConfig

__all__ = ["TopPlan", "TopTrainer", "fit_by_top", "plan_top"]

_MIN_SCALE = 0.35  # the least share of a picture that a view shows
_POOLED_AT_ONCE = 256  # pictures
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


def plan_top(given: FitInput, *, is_early: bool = False) -> TopPlan:
    """The defaults for this backbone, less what the user said. `is_early`: one piece more is trained, on larger maps.

    Tuned by holding out a third of the training pictures, three times, on two sets: docs/training-methods.md.
    """
    cuts = find_cuts(given)
    options = given.options
    plan = (
        TopPlan(cut=cuts[0], views=4, epochs=6, batch=16, lr=5e-4, min_scale=0.8)
        if is_early
        else TopPlan(cut=cuts[1], views=4, epochs=6, batch=64, lr=1e-3)
    )
    return replace(
        plan,
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
    if len(maps) < 2:
        raise InvalidInput(
            "--method top",
            got=f"{given.trunk.name}, which cannot be parted into pieces with maps between them",
            want="a backbone that can",
            hint="Train with --method head or full.",
        )
    pieces = sorted(maps)
    last = min(places for _, places in maps.values())
    late = next(piece for piece in pieces if maps[piece][1] == last)
    if late == pieces[0]:  # one resolution throughout: the last quarter
        late = pieces[-max(1, len(pieces) // 4)]
    _, places = maps.get(late - 1, (0, 0))
    before = [piece for piece in pieces if piece < late and maps[piece][1] == places]
    early = min(reversed(before), key=lambda piece: maps[piece][0], default=late)
    return early, late


class TopTrainer:
    """Trains tops on one set of pictures: trials on some of them, and the last on all. Both sides' activations."""

    def __init__(self, given: FitInput, plan: TopPlan) -> None:
        from drivetrain.learn.activations import ActivationSpec, keep_activations
        from drivetrain.learn.top import TopConfig

        self.given, self.plan = given, plan
        self.config = TopConfig(epochs=plan.epochs, batch=plan.batch, lr=plan.lr, seed=given.options.seed)
        recipe = ViewRecipe(min_scale=plan.min_scale, seed=given.options.seed)
        spec = ActivationSpec(
            trunk=given.trunk, preprocess=given.preprocess, cut=plan.cut, views=plan.views, recipe=recipe
        )
        keep = partial(
            keep_activations,
            cache_dir=given.settings.cache_dir,
            max_bytes=given.settings.activation_cache_bytes,
            threads=given.settings.worker_threads,
            limits=given.limits,
            progress=given.progress,
        )
        self.train_kept = keep(given.train.files, given.train.digests, spec=spec)
        self.valid_kept = keep(
            given.valid.files, given.valid.digests, spec=replace(spec, views=0), beside=[self.train_kept]
        )
        self._spec_name = spec.name

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

    def try_fold(self, head: Head, rows: IntArray, held: IntArray, *, label: str) -> FloatArray:
        """Logits (n, k) of the rows `held`, by a network that was trained on `rows` alone, its head too.

        Half of the epochs tell enough: if anything, the whole training gains more.
        """
        from drivetrain.learn.top import predict_top

        given = self.given
        first = fit_head(
            given.train.features[rows],
            given.train.targets[rows],
            task=given.task,
            class_count=given.n_out,
            threads=given.settings.worker_threads,
            progress=SilentProgress(),
            groups=given.train.groups[rows],
            penalties=[head.penalty],
            class_weights=given.options.class_weights,  # type: ignore[arg-type]
        )
        tried = self.fit(first, rows, label=label, epochs=-(-self.plan.epochs // 2))
        return predict_top(tried, self.train_kept, held)

    def finish(self, head: Head) -> Fitted:
        """Train on all training pictures and write the model."""
        from drivetrain.learn.top import predict_top

        given, plan = self.given, self.plan
        trained = self.fit(head, np.arange(len(given.train.items)), label="Training the top on all pictures")
        tensors = {name: p.detach().numpy() for name, p in trained.named_parameters() if p.requires_grad}
        return Fitted(
            method="top",
            model=export_network(trained, size=given.trunk.size, trunk=given.trunk.model),
            tensors=tensors,
            train_frozen=_pool(self.train_kept),
            valid_frozen=_pool(self.valid_kept),
            valid_logits=predict_top(trained, self.valid_kept, np.arange(len(given.valid.items))),
            record={"head": describe_head(head), "top": {**asdict(plan), "recipe": "LP-FT, AdamW, one cycle"}},
            facts={
                "Trained": f"the pieces from {plan.cut} on, {plan.epochs} epochs over {plan.views} views a picture",
            },
        )

    def _name_fit(self, head: Head, rows: IntArray, config: TopConfig) -> str:
        """A digest of all that a training depends on."""
        given = self.given
        digest = hashlib.sha256()
        told = [_fits_version(), self._spec_name, asdict(config), given.task, given.options.class_weights]
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


def _pool(kept: Activations) -> FloatArray:
    """(n, c): the mean over the picture of each clean view, as the model's output `frozen` has it."""
    parts = [
        kept.rows[start : start + 256, 0].astype(np.float32).mean(axis=(1, 2))
        for start in range(0, len(kept.rows), 256)
    ]
    return np.concatenate(parts)


def _fits_version() -> list[Any]:
    """Of what trains: another version may give other weights."""
    from importlib.metadata import version

    return [1, version("torch"), version("drivetrain")]


def _forget_old(folder: Path) -> None:
    kept: Sequence[Path] = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_FITS_KEPT:]:
        path.unlink(missing_ok=True)
