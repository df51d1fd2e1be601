"""Train: from a folder of pictures to a bundle and a report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.datasheet import read_datasheet
from drivetrain.data.items import Item, Items, read_items
from drivetrain.data.split import (
    Split,
    check_classes,
    check_valid_share,
    number_groups,
    order_by_seed,
    split_items,
)
from drivetrain.errors import InvalidConfig, InvalidInput, Unavailable
from drivetrain.flows.calibrate import Calibration, calibrate
from drivetrain.flows.clock import LapClock
from drivetrain.flows.evaluate import evaluate_answers, stack_probabilities
from drivetrain.flows.export import Exported, ExportInput, export_bundle
from drivetrain.flows.fixtures import FixtureSource
from drivetrain.flows.illustrate import load_thumbnails, open_pictures
from drivetrain.flows.record import (
    count_labels,
    describe_lineage,
    describe_splitter,
    describe_training,
    list_facts,
    note_copies,
    note_groups,
)
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Fit, Preprocess, declare_preprocess
from drivetrain.inspect.duplicates import find_duplicates
from drivetrain.inspect.interpretation import Interpretation
from drivetrain.inspect.report import Report, write_report
from drivetrain.learn.head import Head, fit_head
from drivetrain.learn.trunk import Trunk, prepare_trunk
from drivetrain.progress import Progress
from drivetrain.runtime.decision import DecisionPolicy
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FeatureTable, FrozenTrunk, extract_features
from drivetrain.settings import Settings
from drivetrain.trust.evaluation import Evaluation

__all__ = ["METHODS", "TrainConfig", "TrainResult", "train"]

METHODS = ("head",)
_REPORT = "report.html"
_MOST_CANDIDATES = 8  # held-out pictures offered as fixtures, the least certain


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What a run is told."""

    data: Path
    out: Path  # NAME.dt; its stem is the model's name
    method: str = "head"
    backbone: str = "efficientnet_lite0"
    size: int | None = None  # pixels a side; None is the backbone's own
    resize: Fit = "crop"
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
        check_valid_share(self.valid_share)
        if self.seed < 0:
            raise InvalidConfig("--seed", got=self.seed, want="a whole number, at least 0")
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
    groups: IntArray  # pictures that must stay together share a number: of one group, or copies


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """What was read, and how it was divided."""

    readable: Items
    table: FeatureTable
    split: Split
    train: _Side
    valid: _Side
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What the held-out pictures say of the head."""

    calibration: Calibration
    evaluation: Evaluation
    interpretation: Interpretation


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
    _check_place(config.out)
    with run.clock.lap("reading the folder"):
        items = _read(run)
    with run.clock.lap("preparing the trunk"):
        trunk = prepare_trunk(config.backbone, size=config.size, cache_dir=settings.cache_dir, progress=progress)
        preprocess = Preprocess(declare_preprocess(trunk.size, method=config.resize, mean=trunk.mean, std=trunk.std))
    with run.clock.lap("features of the pictures"):
        table = _extract(run, items, trunk, preprocess)
    with run.clock.lap("finding copies and splitting"):
        data = _divide(run, items, table)
    with run.clock.lap("fitting the head"):
        head = fit_head(
            data.train.features,
            data.train.labels,
            class_count=len(data.readable.classes),
            threads=settings.worker_threads,
            progress=progress,
            groups=data.train.groups,
        )
    with run.clock.lap("calibrating and evaluating"):
        judged = _judge(run, head, data)
    with run.clock.lap("writing the bundle"):
        exported = _export(run, data, trunk, preprocess, head, judged)
    run.notes += [*judged.calibration.notes, *exported.notes]
    with run.clock.lap("writing the report"):
        thumbnails = load_thumbnails(
            judged.interpretation, root=items.root, limits=run.limits, threads=settings.worker_threads
        )
    report = _report(run, data, judged, exported, thumbnails)
    return TrainResult(
        bundle=config.out,
        report=report,
        version=exported.bundle.version,
        digest=exported.bundle.manifest.digest,
        evaluation=judged.evaluation,
        statement=judged.calibration.promise.statement,
        n_train=len(data.split.train),
        n_valid=len(data.split.valid),
        n_computed=data.table.n_computed,
        unreadable=data.unreadable,
        notes=tuple(run.notes),
        timings=tuple(run.clock.laps),
        seconds=run.clock.total,
    )


def _check_place(out: Path) -> None:
    """Nobody should wait for a model that cannot be written."""
    folder = out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise Unavailable("-o", got=str(out), want=f"a file that can be written; {folder} does not allow it")


def _read(run: _Run) -> Items:
    """The items to learn from. What can be wrong with them is told now, not after all pictures were read."""
    everything = read_items(run.config.data)
    items = everything.keep([item for item in everything if item.split != "test"])
    if not items.items:
        raise InvalidInput(
            "DATA",
            got=f"{len(everything):,} pictures, all of them marked test",
            want="pictures to learn from",
            hint="`drivetrain evaluate` reads those marked test.",
        )
    check_classes(items.items, unreadable=())
    split_items(everything.items, valid_share=run.config.valid_share, seed=run.config.seed)
    if len(everything) > len(items):
        run.notes.append(
            f"Left alone, because marked test: {len(everything) - len(items):,} pictures. "
            "`drivetrain evaluate` reads them."
        )
    run.notes += items.note_left_out()
    return items


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


def _divide(run: _Run, items: Items, table: FeatureTable) -> _Data:
    unreadable = [*items.unusable, *((items.items[index].path, reason) for index, reason in table.unreadable)]
    if unreadable:
        run.notes.append(f"Left out, because they could not be read: {len(unreadable):,} files. None was deleted.")
    readable = items.keep([items.items[row] for row in table.rows])
    check_classes(readable.items, unreadable=[items.items[index] for index, _ in table.unreadable])
    copies = find_duplicates(table.digests, table.fingerprints, table.features)
    alike = [[readable.items[row].path for row in rows] for rows in copies.groups]
    seed = run.config.seed
    split = split_items(readable.items, valid_share=run.config.valid_share, seed=seed, copies=alike)
    groups = np.array(number_groups(readable.items, alike), dtype=np.int64)
    train_side, valid_side = (_gather(side, readable, table, groups, seed) for side in (split.train, split.valid))
    run.notes += note_copies(readable, copies, split)
    run.notes += note_groups(
        readable.classes,
        train=(train_side.labels, train_side.groups),
        valid=(valid_side.labels, valid_side.groups),
        parted=split.parted,
    )
    return _Data(
        readable=readable,
        table=table,
        split=split,
        train=train_side,
        valid=valid_side,
        unreadable=tuple(sorted(unreadable)),
    )


def _gather(side: Sequence[Item], readable: Items, table: FeatureTable, groups: IntArray, seed: int) -> _Side:
    row_of = {item.path: row for row, item in enumerate(readable.items)}
    index_of = {name: i for i, name in enumerate(readable.classes)}
    shuffled = order_by_seed(side, seed)
    rows = [row_of[item.path] for item in shuffled]
    return _Side(
        items=tuple(shuffled),
        features=table.features[rows],
        labels=np.array([index_of[item.label] for item in shuffled], dtype=np.int64),
        groups=groups[rows],
    )


def _judge(run: _Run, head: Head, data: _Data) -> _Judged:
    valid = data.valid
    logits = head.logits(valid.features)
    calibration = calibrate(
        train_features=data.train.features,
        train_labels=data.train.labels,
        valid_features=valid.features,
        valid_labels=valid.labels,
        valid_logits=logits,
        valid_groups=valid.groups,
        max_error=run.config.max_error,
    )
    classes = data.readable.classes
    policy = DecisionPolicy(calibration.decision, calibration.arrays, feature_count=valid.features.shape[1])
    answers = [policy.decide(*one, classes, "") for one in zip(logits, valid.features, strict=True)]
    paths = [item.path for item in valid.items]
    run.notes.append(
        "Calibration and promise come from these same held-out pictures, in two halves; "
        "`drivetrain evaluate` on pictures from elsewhere is the harder and better test."
    )
    return _Judged(
        calibration=calibration,
        evaluation=evaluate_answers(answers, valid.labels, classes),
        interpretation=Interpretation(
            probs=stack_probabilities(answers), labels=valid.labels, paths=paths, classes=classes
        ),
    )


def _export(run: _Run, data: _Data, trunk: Trunk, preprocess: Preprocess, head: Head, judged: _Judged) -> Exported:
    config, readable, split = run.config, data.readable, data.split
    unsure = np.argsort(_margins(judged.interpretation.probs), kind="stable")[:_MOST_CANDIDATES]
    return export_bundle(
        ExportInput(
            path=config.out,
            trunk=trunk,
            preprocess=preprocess,
            head=head,
            classes=readable.classes,
            calibration=judged.calibration,
            evaluation=judged.evaluation,
            candidates=open_pictures([readable.file(data.valid.items[i]) for i in unsure], run.limits),
            fixture_source=config.fixtures,
            training=describe_training(
                split,
                head,
                method=config.method,
                resize=config.resize,
                splitter=describe_splitter(readable, split, valid_share=config.valid_share, seed=config.seed),
            ),
            lineage=describe_lineage(readable, data.table, split, trunk, seed=config.seed),
            counts=count_labels(split, readable.classes),
            unreadable=data.unreadable,
            datasheet=read_datasheet(readable.root),
        )
    )


def _report(run: _Run, data: _Data, judged: _Judged, exported: Exported, thumbnails: dict[str, bytes]) -> Path:
    manifest = exported.bundle.manifest
    path = run.config.out.with_name(_REPORT)
    write_report(
        path,
        Report(
            name=manifest.name,
            created_at=datetime.now(UTC),
            evaluation=judged.evaluation,
            interpretation=judged.interpretation,
            policy_statement=judged.calibration.promise.statement,
            pictures="pictures held out of training",
            root=str(data.readable.root.absolute()),
            thumbnails=thumbnails,
            facts=list_facts(manifest, version=exported.bundle.version, table=data.table),
            timings=[*run.clock.laps],
            unreadable=data.unreadable,
            notes=run.notes,
        ),
    )
    return path


def _margins(probs: FloatArray) -> FloatArray:
    ranked = np.sort(probs, axis=1)
    out: FloatArray = ranked[:, -1] - ranked[:, -2]
    return out


def _check(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidConfig(option, got=value, want="one of " + ", ".join(allowed))
