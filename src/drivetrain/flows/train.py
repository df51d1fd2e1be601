"""Train: from a folder of pictures to a bundle and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.items import Item, Items, read_items
from drivetrain.data.split import check_classes, order_by_seed, split_items
from drivetrain.errors import InvalidConfig
from drivetrain.flows.calibrate import Calibration, calibrate
from drivetrain.flows.clock import LapClock
from drivetrain.flows.export import ExportInput, export_bundle
from drivetrain.flows.fixtures import FixtureSource
from drivetrain.flows.illustrate import load_thumbnails, open_pictures
from drivetrain.flows.record import count_labels, describe_lineage, describe_training, list_facts
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, ResizeMethod, declare_preprocess
from drivetrain.inspect.interpretation import Interpretation
from drivetrain.inspect.report import Report, write_report
from drivetrain.learn.head import Head, fit_head
from drivetrain.learn.trunk import Trunk, prepare_trunk
from drivetrain.progress import Progress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FeatureTable, FrozenTrunk, extract_features
from drivetrain.settings import Settings
from drivetrain.trust.calibration import softmax
from drivetrain.trust.evaluation import Evaluation, evaluate_predictions

__all__ = ["METHODS", "TrainConfig", "TrainResult", "train"]

METHODS = ("head",)
_REPORT = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What a run is told."""

    data: Path
    out: Path  # NAME.dt; its stem is the model's name
    method: str = "head"
    backbone: str = "efficientnet_lite0"
    size: int | None = None  # pixels a side; None is the backbone's own
    resize: ResizeMethod = "crop"
    valid_share: float = 0.2  # of each class, where the data has no split of its own
    seed: int = 42
    fixtures: FixtureSource = "validation"
    max_error: float = 0.05  # share of wrong decisions that the deferral promise allows

    def __post_init__(self) -> None:
        _check("--method", self.method, METHODS)
        _check("--resize", self.resize, ("crop", "pad", "squish"))
        _check("--fixtures", self.fixtures, ("validation", "synthetic"))
        if self.out.suffix != ".dt" or not self.out.stem:
            raise InvalidConfig("-o", got=str(self.out), want="a file NAME.dt", hint="Example: -o bears.dt")
        if self.out.is_dir():
            raise InvalidConfig("-o", got=f"{self.out}, a folder", want="a file NAME.dt")
        if not 0 < self.max_error < 1:
            raise InvalidConfig("--max-error", got=self.max_error, want="a share between 0 and 1, such as 0.05")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What came of a run."""

    bundle: Path
    report: Path
    version: str
    digest: str
    evaluation: Evaluation
    statement: str
    n_train: int
    n_valid: int
    n_computed: int  # pictures decoded and run; the others came from the cache
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    notes: tuple[str, ...]
    timings: tuple[tuple[str, float], ...]  # (name, seconds)
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "bundle": str(self.bundle),
            "report": str(self.report),
            "version": self.version,
            "digest": self.digest,
            "n_train": self.n_train,
            "n_valid": self.n_valid,
            "n_computed": self.n_computed,
            "statement": self.statement,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "notes": list(self.notes),
            "timings_s": dict(self.timings),
            "seconds": self.seconds,
            "evaluation": self.evaluation.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One side of the split as arrays, in an order that says nothing."""

    items: tuple[Item, ...]
    features: FloatArray
    labels: IntArray


@dataclass(slots=True)
class _Run:
    """What the steps hand on."""

    config: TrainConfig
    settings: Settings
    progress: Progress
    clock: LapClock = field(default_factory=LapClock)
    notes: list[str] = field(default_factory=list)

    @property
    def limits(self) -> DecodeLimits:
        return DecodeLimits(max_bytes=self.settings.image_max_bytes, max_pixels=self.settings.image_max_pixels)


def train(config: TrainConfig, *, settings: Settings, progress: Progress) -> TrainResult:
    """Read, split, fit on frozen features, calibrate on held-out ones, write NAME.dt and report.html beside it.

    Raises DrivetrainError before anything is written when the data or the options are off.
    """
    run = _Run(config=config, settings=settings, progress=progress)
    with run.clock.lap("reading the folder"):
        everything = read_items(config.data)
        items = everything.keep([item for item in everything if item.split != "test"])
    with run.clock.lap("preparing the trunk"):
        trunk = prepare_trunk(config.backbone, size=config.size, cache_dir=settings.cache_dir, progress=progress)
        ops = declare_preprocess(trunk.size, method=config.resize, mean=trunk.mean, std=trunk.std)
        preprocess = Preprocess(ops)
    with run.clock.lap("features of the pictures"):
        table = _extract(run, items, trunk, preprocess)
    unreadable = tuple((items.items[index].path, reason) for index, reason in table.unreadable)
    readable = items.keep([items.items[row] for row in table.rows])
    check_classes(readable.items, unreadable=[items.items[index] for index, _ in table.unreadable])
    split = split_items(readable.items, valid_share=config.valid_share, seed=config.seed)
    classes = readable.classes
    sides = {name: _gather(getattr(split, name), readable, table, classes, config.seed) for name in ("train", "valid")}
    _note_left_out(run, everything, items, unreadable)
    with run.clock.lap("fitting the head"):
        head = fit_head(
            sides["train"].features,
            sides["train"].labels,
            class_count=len(classes),
            threads=settings.worker_threads,
            progress=progress,
        )
    with run.clock.lap("calibrating and evaluating"):
        calibration, evaluation, interpretation = _judge(run, head, sides, classes)
    with run.clock.lap("writing the bundle"):
        unsure = [sides["valid"].items[i] for i in np.argsort(_margins(interpretation.probs), kind="stable")[:8]]
        exported = export_bundle(
            ExportInput(
                path=config.out,
                trunk=trunk,
                preprocess=preprocess,
                head=head,
                classes=classes,
                calibration=calibration,
                evaluation=evaluation,
                candidates=open_pictures([readable.file(item) for item in unsure], run.limits),
                fixture_source=config.fixtures,
                training=describe_training(
                    split, head, method=config.method, resize=config.resize, splitter=_splitter(config, items)
                ),
                lineage=describe_lineage(readable, table, split, trunk, seed=config.seed),
                counts=count_labels(split, classes),
                unreadable=unreadable,
            )
        )
    run.notes += [*calibration.notes, *exported.notes]
    report = config.out.with_name(_REPORT)
    with run.clock.lap("writing the report"):
        thumbnails = load_thumbnails(
            interpretation, root=readable.root, limits=run.limits, threads=settings.worker_threads
        )
    timings = [*run.clock.laps]
    write_report(
        report,
        Report(
            name=exported.bundle.manifest.name,
            created_at=datetime.now(UTC),
            evaluation=evaluation,
            interpretation=interpretation,
            policy_statement=calibration.promise.statement,
            pictures="pictures held out of training",
            root=str(readable.root.absolute()),
            thumbnails=thumbnails,
            facts=list_facts(exported.bundle.manifest, version=exported.bundle.version, data=config.data, table=table),
            timings=timings,
            unreadable=unreadable,
            notes=run.notes,
        ),
    )
    return TrainResult(
        bundle=config.out,
        report=report,
        version=exported.bundle.version,
        digest=exported.bundle.manifest.digest,
        evaluation=evaluation,
        statement=calibration.promise.statement,
        n_train=len(split.train),
        n_valid=len(split.valid),
        n_computed=table.n_computed,
        unreadable=unreadable,
        notes=tuple(run.notes),
        timings=tuple(timings),
        seconds=run.clock.total,
    )


def _extract(run: _Run, items: Items, trunk: Trunk, preprocess: Preprocess) -> FeatureTable:
    frozen = FrozenTrunk(
        model=trunk.model,
        weights_digest=trunk.weights_digest,
        feature_count=trunk.feature_count,
        preprocess=preprocess,
    )
    with FeatureCache(run.settings.cache_dir) as cache:
        return extract_features(
            [items.file(item) for item in items],
            trunk=frozen,
            cache=cache,
            threads=run.settings.worker_threads,
            limits=run.limits,
            progress=run.progress,
        )


def _gather(side: Sequence[Item], readable: Items, table: FeatureTable, classes: Sequence[str], seed: int) -> _Side:
    row_of = {item.path: row for row, item in enumerate(readable.items)}
    index_of = {name: i for i, name in enumerate(classes)}
    shuffled = order_by_seed(side, seed)
    return _Side(
        items=tuple(shuffled),
        features=table.features[[row_of[item.path] for item in shuffled]],
        labels=np.array([index_of[item.label] for item in shuffled], dtype=np.int64),
    )


def _judge(
    run: _Run, head: Head, sides: dict[str, _Side], classes: Sequence[str]
) -> tuple[Calibration, Evaluation, Interpretation]:
    valid = sides["valid"]
    logits = head.logits(valid.features)
    calibration = calibrate(
        train_features=sides["train"].features,
        train_labels=sides["train"].labels,
        valid_features=valid.features,
        valid_labels=valid.labels,
        valid_logits=logits,
        max_error=run.config.max_error,
    )
    probs = softmax(logits, temperature=calibration.decision["temperature"])
    flagged = calibration.flag(valid.features)
    evaluation = evaluate_predictions(
        probs,
        valid.labels,
        classes=classes,
        accepted=~flagged & (probs.max(axis=1) > calibration.promise.threshold),
        flagged=flagged,
    )
    paths = [item.path for item in valid.items]
    interpretation = Interpretation(probs=probs, labels=valid.labels, paths=paths, classes=tuple(classes))
    run.notes.append(
        "Calibration and promise come from these same held-out pictures, in two halves; "
        "`drivetrain evaluate` on pictures from elsewhere is the harder and better test."
    )
    return calibration, evaluation, interpretation


def _margins(probs: FloatArray) -> FloatArray:
    ranked = np.sort(probs, axis=1)
    out: FloatArray = ranked[:, -1] - ranked[:, -2]
    return out


def _note_left_out(run: _Run, everything: Items, items: Items, unreadable: Sequence[tuple[str, str]]) -> None:
    if len(everything) > len(items):
        run.notes.append(
            f"{len(everything) - len(items)} pictures marked test were left alone; `drivetrain evaluate` reads them."
        )
    if everything.others:
        run.notes.append(f"{everything.others} files are no pictures by their name, or stand in no class: left out.")
    if unreadable:
        run.notes.append(f"{len(unreadable)} pictures could not be read and were left out; none was deleted.")


def _splitter(config: TrainConfig, items: Items) -> dict[str, Any]:
    if any(item.split == "valid" for item in items):
        return {"name": "given"}
    return {"name": "stratified", "valid": config.valid_share, "seed": config.seed}


def _check(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidConfig(option, got=value, want="one of " + ", ".join(allowed))
