"""Train: from a folder of pictures to a bundle and a report."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivetrain.data.datasheet import read_datasheet
from drivetrain.data.items import Items, read_items
from drivetrain.data.side_counts import count_sides
from drivetrain.data.split import check_classes, split_items
from drivetrain.errors import InvalidInput, Unavailable
from drivetrain.flows.calibrate import Calibration, calibrate
from drivetrain.flows.clock import LapClock
from drivetrain.flows.evaluate_answers import AnyEvaluation, evaluate_answers, interpret_answers
from drivetrain.flows.export import Exported, ExportInput, export_bundle
from drivetrain.flows.fitting import FitInput, Fitted, fit_by_head
from drivetrain.flows.fixtures import rank_telling
from drivetrain.flows.illustrate import load_thumbnails, open_pictures
from drivetrain.flows.record import (
    describe_lineage,
    describe_splitter,
    describe_training,
    list_facts,
)
from drivetrain.flows.train_config import METHODS, TrainConfig
from drivetrain.flows.train_data import TrainData, divide_data, extract_data
from drivetrain.flows.trained_on import CALIBRATED_ON, TRAINED_ON, pack_digests
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.inspect.interpretation import AnyInterpretation
from drivetrain.inspect.report import Report, write_report
from drivetrain.learn.trunk import Trunk, prepare_trunk
from drivetrain.progress import Progress
from drivetrain.runtime.decision import open_policy
from drivetrain.settings import Settings
from drivetrain.task import Task
from drivetrain.trust.learning_curve import LearningCurve

__all__ = ["METHODS", "TrainConfig", "TrainResult", "fit_model", "train"]

_REPORT = "report.html"
_MOST_CANDIDATES = 8  # held-out pictures offered as fixtures, the least certain


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What came of a run."""

    bundle: Path
    report: Path
    version: str
    digest: str
    task: Task
    method: str  # that made the model: what auto chose
    evaluation: AnyEvaluation
    statement: str
    n_train: int
    n_valid: int
    n_computed: int  # pictures decoded and run; the others came from the cache
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    notes: tuple[str, ...]
    timings: tuple[tuple[str, float], ...]  # (name, seconds)
    seconds: float
    curve: LearningCurve | None = None  # where it was asked for

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "bundle": str(self.bundle),
            "report": str(self.report),
            "version": self.version,
            "digest": self.digest,
            "task": self.task,
            "method": self.method,
            "n_train": self.n_train,
            "n_valid": self.n_valid,
            "n_computed": self.n_computed,
            "statement": self.statement,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "notes": list(self.notes),
            "timings_s": dict(self.timings),
            "seconds": self.seconds,
            "evaluation": self.evaluation.as_json(),
            **({"learning_curve": self.curve.as_json()} if self.curve else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What the held-out pictures say of the model."""

    calibration: Calibration
    evaluation: AnyEvaluation
    interpretation: AnyInterpretation


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
        preprocess = Preprocess(
            declare_preprocess(trunk.size, method=config.resize, mean=trunk.mean, std=trunk.std, filter_=trunk.filter)
        )
    with run.clock.lap("features of the pictures"):
        table = extract_data(items, trunk, preprocess, settings=settings, limits=run.limits, progress=progress)
    with run.clock.lap("finding copies and splitting"):
        data = divide_data(items, table, trunk, valid_share=config.valid_share, seed=config.seed)
        run.notes += data.notes
    fit_input = FitInput(
        task=data.readable.task,
        classes=data.readable.classes,
        trunk=trunk,
        preprocess=preprocess,
        train=data.train,
        valid=data.valid,
        options=config.fit_options,
        settings=settings,
        limits=run.limits,
        progress=progress,
    )
    with run.clock.lap("fitting the head" if config.method == "head" else "training"):
        fitted = fit_model(config.method, fit_input)
    with run.clock.lap("calibrating and evaluating"):
        judged = _judge(run, fitted, data)
    curve = None
    if config.learning_curve:
        with run.clock.lap("learning from parts of the data"):
            try:
                curve = _draw_curve(fit_input, fitted)
                run.notes.append(f"{curve.sentence}.")
            except InvalidInput as exc:  # too few pictures, or all of one group: no reason to lose the model
                run.notes.append(f"No learning curve: {exc.message}")
    with run.clock.lap("writing the bundle"):
        exported = _export(run, data, trunk, preprocess, fitted, judged)
    run.notes += [*fitted.notes, *judged.calibration.notes, *exported.notes]
    with run.clock.lap("writing the report"):
        thumbnails = load_thumbnails(
            judged.interpretation, root=items.root, limits=run.limits, threads=settings.worker_threads
        )
    report = _report(run, data, fitted, judged, exported, thumbnails, curve)
    return TrainResult(
        bundle=config.out,
        report=report,
        version=exported.bundle.version,
        digest=exported.bundle.manifest.digest,
        task=data.readable.task,
        method=fitted.method,
        evaluation=judged.evaluation,
        statement=judged.calibration.statement,
        n_train=len(data.split.train),
        n_valid=len(data.split.valid),
        n_computed=data.table.n_computed,
        unreadable=data.unreadable,
        notes=tuple(run.notes),
        timings=tuple(run.clock.laps),
        seconds=run.clock.total,
        curve=curve,
    )


def fit_model(method: str, given: FitInput) -> Fitted:
    """By one of METHODS, each in a module of its own that is loaded when it is asked for: `head` waits for no torch."""
    if method == "head":
        return fit_by_head(given)
    if method == "top":
        from drivetrain.flows.fit_top import fit_by_top

        return fit_by_top(given)
    if method == "full":
        from drivetrain.flows.fit_full import fit_by_full

        return fit_by_full(given)
    from drivetrain.flows.auto import fit_by_auto

    return fit_by_auto(given)


def _draw_curve(given: FitInput, fitted: Fitted) -> LearningCurve:
    from drivetrain.flows.learning_curve import learning_curve  # its scipy costs 0.3 s

    return learning_curve(
        given.head_features(given.train),
        given.train.targets,
        task=given.task,
        groups=given.train.groups,
        class_count=given.n_out,
        threads=given.settings.worker_threads,
        progress=given.progress,
        seed=given.options.seed,
        classes=given.classes,
        penalty=fitted.record["head"]["penalty"],
        class_weights=given.options.class_weights,  # type: ignore[arg-type]
        blocks=given.trunk.layout.blocks,
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
    check_classes(items.items, unreadable=(), task=items.task)
    split_items(everything.items, valid_share=run.config.valid_share, seed=run.config.seed, task=items.task)
    if len(everything) > len(items):
        run.notes.append(
            f"Left alone, because marked test: {len(everything) - len(items):,} pictures. "
            "`drivetrain evaluate` reads them."
        )
    run.notes += items.note_left_out()
    return items


def _judge(run: _Run, fitted: Fitted, data: TrainData) -> _Judged:
    valid, classes, task = data.valid, data.readable.classes, data.readable.task
    valid_styles = data.styles(valid)
    calibration = calibrate(
        task=task,
        train_features=fitted.train_frozen,
        train_labels=data.train.targets,
        valid_features=fitted.valid_frozen,
        valid_labels=valid.targets,
        valid_logits=fitted.valid_logits,
        known_logits=fitted.known_logits,
        valid_groups=valid.groups,
        train_styles=data.styles(data.train),
        valid_styles=valid_styles,
        class_names=classes,
        options=run.config.policy_options,
    )
    used = {TRAINED_ON: pack_digests(data.train.digests), CALIBRATED_ON: pack_digests(valid.digests)}
    calibration = replace(calibration, arrays={**calibration.arrays, **used})
    policy = open_policy(
        task,
        calibration.decision,
        calibration.arrays,
        feature_count=fitted.valid_frozen.shape[1],
        output_count=len(classes),
    )
    rows = zip(fitted.valid_logits, fitted.valid_frozen, valid_styles, strict=True)
    answers = [policy.decide(logits, frozen, classes, "", style) for logits, frozen, style in rows]
    run.notes.append(
        "Calibration and promise come from these same held-out pictures, in two halves; "
        "`drivetrain evaluate` on pictures from elsewhere is the harder and better test."
    )
    paths = [item.path for item in valid.items]
    return _Judged(
        calibration=calibration,
        evaluation=evaluate_answers(answers, valid.targets, classes, groups=valid.groups),
        interpretation=interpret_answers(answers, valid.targets, paths=paths, classes=classes),
    )


def _export(
    run: _Run, data: TrainData, trunk: Trunk, preprocess: Preprocess, fitted: Fitted, judged: _Judged
) -> Exported:
    config, readable, split = run.config, data.readable, data.split
    policy = open_policy(
        readable.task,
        judged.calibration.decision,
        judged.calibration.arrays,
        feature_count=fitted.valid_frozen.shape[1],
        output_count=len(readable.classes),
    )
    rows = [policy.row(logits) for logits in fitted.valid_logits]
    telling = rank_telling(rows, readable.task)[:_MOST_CANDIDATES]
    return export_bundle(
        ExportInput(
            path=config.out,
            name=config.model_name,
            task=readable.task,
            backbone=f"{trunk.name} ({trunk.licence})",
            preprocess=preprocess,
            model=fitted.model,
            tensors=fitted.tensors,
            classes=readable.classes,
            calibration=judged.calibration,
            evaluation=judged.evaluation,
            candidates=open_pictures([readable.file(data.valid.items[i]) for i in telling], run.limits),
            fixture_source=config.fixtures,
            training=describe_training(
                split,
                fitted,
                task=readable.task,
                asked=config.method,
                resize=config.resize,
                class_weights=config.class_weights,
                splitter=describe_splitter(readable, split, valid_share=config.valid_share, seed=config.seed),
            ),
            lineage=describe_lineage(readable, data.table, split, trunk, seed=config.seed),
            counts=count_sides(readable, {"train": split.train, "valid": split.valid}),
            unreadable=data.unreadable,
            datasheet=read_datasheet(readable.root),
        )
    )


def _report(
    run: _Run,
    data: TrainData,
    fitted: Fitted,
    judged: _Judged,
    exported: Exported,
    thumbnails: dict[str, bytes],
    curve: LearningCurve | None,
) -> Path:
    manifest = exported.bundle.manifest
    path = run.config.out.with_name(_REPORT)
    write_report(
        path,
        Report(
            name=manifest.name,
            created_at=datetime.now(UTC),
            evaluation=judged.evaluation,
            interpretation=judged.interpretation,
            policy_statement=judged.calibration.statement,
            pictures="pictures held out of training",
            root=str(data.readable.root.absolute()),
            thumbnails=thumbnails,
            facts=list_facts(manifest, fitted, version=exported.bundle.version, table=data.table),
            timings=[*run.clock.laps],
            unreadable=data.unreadable,
            notes=run.notes,
            curve=curve,
        ),
    )
    return path
