"""What every method is given and gives back, and the method `head`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.items import Item
from drivetrain.flows.fit_known import choose_known
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.imaging.style_measures import find_style_kernel
from drivetrain.learn.export import attach_head
from drivetrain.learn.head import Head, fit_head
from drivetrain.learn.trunk import Trunk
from drivetrain.progress import Progress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FrozenTrunk
from drivetrain.runtime.views import ViewRecipe, extract_views
from drivetrain.settings import Settings
from drivetrain.task import Task

__all__ = ["FitInput", "FitOptions", "Fitted", "Side", "fit_by_head", "fit_first_head", "fit_head_on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of the split as arrays, in an order that says nothing."""

    items: tuple[Item, ...]
    files: tuple[Path, ...]
    digests: tuple[bytes, ...]  # sha256 of each file
    features: FloatArray  # (n, layout.count) frozen, as the trunk's layout says
    targets: IntArray | FloatArray
    groups: IntArray  # pictures that must stay together share a number: of one group, or copies


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """What a user may say about the fit; None: the method knows."""

    seed: int = 42
    views: int | None = None  # augmented ones a picture
    epochs: int | None = None
    batch: int | None = None
    lr: float | None = None
    class_weights: str | None = None  # "balanced", or None
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FitInput:
    """Pictures to learn from, pictures held out, and where everything is."""

    task: Task
    classes: tuple[str, ...]
    trunk: Trunk
    preprocess: Preprocess
    train: Side
    valid: Side
    options: FitOptions
    settings: Settings
    limits: DecodeLimits
    progress: Progress

    @property
    def n_out(self) -> int:
        """Outputs of the network."""
        return len(self.classes)

    @property
    def known_rows(self) -> IntArray | None:
        """The training pictures whose logits tell strangers; None where no classes are told apart."""
        return (
            choose_known(np.asarray(self.train.targets, dtype=np.int64), outputs=self.n_out)
            if self.task == "classification"
            else None
        )

    def head_features(self, side: Side) -> FloatArray:
        """(n, layout.head_count): what the head reads."""
        return side.features[:, : self.trunk.layout.head_count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a method made: a model, and what it says of both sides."""

    method: str
    model: bytes  # model.onnx
    tensors: Mapping[str, NDArray[Any]]  # weights.safetensors: what was fitted
    train_frozen: FloatArray  # (n, f) what the model's output `frozen` says of the training pictures
    valid_frozen: FloatArray
    valid_logits: FloatArray  # (n, k)
    known_logits: FloatArray | None  # (m, k) of the training pictures of `FitInput.known_rows`; None without classes
    record: Mapping[str, Any]  # for the manifest's `training`
    facts: Mapping[str, str] = field(default_factory=dict)  # for the report
    notes: tuple[str, ...] = ()


def fit_first_head(given: FitInput) -> Head:
    """The head that every method begins with, or ends with: penalty by cross-validation among the training pictures."""
    return fit_head_on(given)


def fit_head_on(
    given: FitInput,
    rows: IntArray | None = None,
    *,
    features: FloatArray | None = None,
    views: FloatArray | None = None,
    penalties: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> Head:
    """A head on some rows of the training side, None: on all; on other `features` (rows, d) of them, if given."""
    train = given.train
    rows = np.arange(len(train.items)) if rows is None else rows
    return fit_head(
        given.head_features(train)[rows] if features is None else features,
        train.targets[rows],
        task=given.task,
        class_count=given.n_out,
        threads=given.settings.worker_threads,
        progress=progress or given.progress,
        groups=train.groups[rows],
        views=views,
        penalties=penalties,
        class_weights=given.options.class_weights,  # type: ignore[arg-type]
        blocks=given.trunk.layout.blocks if features is None else None,
    )


def fit_by_head(given: FitInput, head: Head | None = None) -> Fitted:
    """A linear head on the frozen trunk; with `views`, also on features of augmented pictures, kept in the cache."""
    count = given.options.views or 0
    if count:
        head = fit_head_on(given, views=_extract_views(given, count))
    elif head is None:
        head = fit_first_head(given)
    rows = given.known_rows
    return Fitted(
        method="head",
        model=attach_head(
            given.trunk.model, weight=head.weight, bias=head.bias, style=find_style_kernel(given.preprocess)
        ),
        tensors={"head.weight": head.weight, "head.bias": head.bias},
        train_frozen=given.train.features[:, : given.trunk.layout.last],
        valid_frozen=given.valid.features[:, : given.trunk.layout.last],
        valid_logits=head.logits(given.head_features(given.valid)),
        known_logits=None if rows is None else head.logits(given.head_features(given.train)[rows]),
        record={"head": describe_head(head), **({"views": count} if count else {})},
        facts={
            "Penalty": f"{head.penalty:g}, by {_count_folds(head, len(given.train.items))} "
            f"({head.score_name} there {_show_score(head)})"
        },
    )


def describe_head(head: Head) -> dict[str, Any]:
    """The manifest's record of a head."""
    names = ("cv_log_loss", "cv_accuracy") if head.task == "classification" else ("cv_loss", "cv_score")
    return {
        "penalty": head.penalty,
        "cv_folds": head.cv_folds,
        names[0]: head.cv_loss,
        names[1]: head.cv_score,
        **({} if head.task == "classification" else {"score_name": head.score_name}),
        "cv_path": [list(step) for step in head.cv_path],
    }


def _show_score(head: Head) -> str:
    return f"{head.cv_score:.3f}" if head.task == "regression" else f"{100 * head.cv_score:.1f} %"


def _count_folds(head: Head, n: int) -> str:
    return "leaving out each picture in turn" if head.cv_folds == n else f"{head.cv_folds}-fold cross-validation"


def _extract_views(given: FitInput, count: int) -> FloatArray:
    frozen = FrozenTrunk(
        model=given.trunk.model,
        weights_digest=given.trunk.weights_digest,
        feature_count=given.trunk.layout.count,
        map_channels=given.trunk.layout.last,
        preprocess=given.preprocess,
    )
    with FeatureCache(given.settings.cache_dir) as cache:
        views: FloatArray = np.asarray(
            extract_views(
                given.train.files,
                given.train.digests,
                trunk=frozen,
                recipe=ViewRecipe(seed=given.options.seed),
                count=count,
                cache=cache,
                threads=given.settings.worker_threads,
                limits=given.limits,
                progress=given.progress,
            )
        )
    return views[..., : given.trunk.layout.head_count]
