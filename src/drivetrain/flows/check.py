"""Check: what in a folder of pictures would harm a model, before one is trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.datasheet import DATASHEET_FILE, find_open_questions, read_datasheet, update_datasheet
from drivetrain.data.edits import Change, Edit, append_edits
from drivetrain.data.items import Item, Items, read_items
from drivetrain.data.split import order_by_seed
from drivetrain.errors import InvalidConfig, MissingExtra, Unavailable
from drivetrain.files import tell_hindrance
from drivetrain.flows.clock import LapClock
from drivetrain.flows.illustrate import make_thumbnails
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.inspect.balance_findings import count_classes, find_balance_faults, find_odd_sizes
from drivetrain.inspect.check_report import CheckReport, choose_examples, write_check_report
from drivetrain.inspect.copy_findings import find_copy_faults
from drivetrain.inspect.duplicates import Duplicates, find_duplicates
from drivetrain.inspect.findings import SEVERITIES, Finding, Picture, count_of, join_names
from drivetrain.inspect.label_findings import count_names, explode, find_contradictions, find_label_faults, flatten
from drivetrain.inspect.measured import describe_pictures
from drivetrain.inspect.mirror_findings import MirrorSample, find_mirror_faults
from drivetrain.inspect.style_findings import find_style_faults, share_styles
from drivetrain.inspect.value_findings import ValueGap, find_value_faults
from drivetrain.learn.trunk import prepare_trunk
from drivetrain.progress import Progress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FeatureTable, FrozenTrunk, extract_features
from drivetrain.runtime.mirror import extract_mirrored
from drivetrain.runtime.survey import Survey, survey_pictures
from drivetrain.settings import Settings
from drivetrain.task import Task

__all__ = ["CheckConfig", "CheckResult", "check"]

_MIRRORED_PER_CLASS = 20  # pictures run once more, mirrored
_MIRRORED_IN_ALL = 400
_BY_CLASS = "what tells classes apart (looks, cameras, days, flips): only where each picture has one class"
_FINE_PARTS = ("near copies of a picture, in a class, in two classes and across the split", "whether flips are wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """What a check is told."""

    data: Path
    page: Path | None = Path("check.html")  # the report to write; None for none
    quarantine: bool = False  # write edits that leave out what harms
    by: str | None = None  # who edits; None is the system's user
    datasheet: bool = True  # write the measured part of datasheet.md
    backbone: str = "efficientnet_lite0"  # whose features tell near copies; `train` finds them in the cache
    size: int | None = None  # pixels a side that the backbone is given; None is its own

    def __post_init__(self) -> None:
        if self.by is not None and not self.by.strip():
            raise InvalidConfig("--by", got=self.by, want="a name")
        if self.page is not None and self.page.is_dir():
            raise InvalidConfig("--html", got=f"{self.page}, a folder", want="a file")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What a check found."""

    root: Path
    findings: tuple[Finding, ...]  # errors, then warnings, then notes
    task: Task
    n_pictures: int  # readable, and not quarantined
    counts: dict[str, dict[str, int]]  # part -> class, label or value -> readable pictures
    styles: dict[str, dict[str, float]]  # class, label or value -> flag -> share
    skipped: tuple[str, ...]  # checks that were left out, and why
    edits: tuple[Edit, ...]  # what --quarantine wrote
    open_questions: tuple[str, ...]  # headings of the datasheet without an answer
    page: Path | None
    notes: tuple[str, ...]
    n_decoded: int  # the other pictures came from the cache
    timings: tuple[tuple[str, float], ...]
    seconds: float

    def count(self, severity: str) -> int:
        """Findings of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "data": str(self.root),
            **({} if self.task == "classification" else {"task": self.task}),
            "n_pictures": self.n_pictures,
            "classes": {part: dict(of) for part, of in self.counts.items()},
            "n_errors": self.count("error"),
            "n_warnings": self.count("warning"),
            "n_notes": self.count("note"),
            "findings": [finding.as_json() for finding in self.findings],
            "styles": self.styles,
            "skipped": list(self.skipped),
            "quarantined": [edit.as_json() for edit in self.edits],
            "open_questions": list(self.open_questions),
            "page": None if self.page is None else str(self.page),
            "notes": list(self.notes),
            "n_decoded": self.n_decoded,
            "timings_s": dict(self.timings),
            "seconds": self.seconds,
        }


@dataclass(slots=True)
class _Run:
    """What the steps hand on."""

    config: CheckConfig
    settings: Settings
    progress: Progress
    cache: FeatureCache
    clock: LapClock = field(default_factory=LapClock)
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def limits(self) -> DecodeLimits:
        return DecodeLimits(max_bytes=self.settings.image_max_bytes, max_pixels=self.settings.image_max_pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the trunk adds: rows are those of the pictures."""

    duplicates: Duplicates
    fingerprints: FloatArray
    sample: MirrorSample | None


def check(config: CheckConfig, *, settings: Settings, progress: Progress) -> CheckResult:
    """Look at every picture of DATA and say what would harm a model; nothing is moved or deleted.

    Writes the page, the measured part of the datasheet and, when asked to, edits to the journal. Without the extra
    `train` the checks that need a network are left out and named. Raises DrivetrainError.
    """
    with FeatureCache(settings.cache_dir) as cache:
        run = _Run(config=config, settings=settings, progress=progress, cache=cache)
        with run.clock.lap("reading the folder"):
            items = read_items(config.data)
            _check_page(config.page)
            run.notes += items.note_left_out()
        with run.clock.lap("looking at the pictures"):
            survey = _survey(run, items)
        pictures = _join(items, survey)
        with run.clock.lap("features of the pictures"):
            seen = _see(run, items, pictures)
    with run.clock.lap("comparing"):
        findings = _find(run, items, survey, pictures, seen)
    with run.clock.lap("writing the page"):  # before the edits: where it fails, none was made
        _write_page(run, items, pictures, findings)
    edits = _quarantine(run, items, findings)
    _write_datasheet(run, items, pictures, findings, edits)
    return CheckResult(
        root=config.data,
        findings=findings,
        task=items.task,
        n_pictures=len(pictures),
        counts=_count(items, pictures),
        styles=share_styles(_name(items, pictures)),
        skipped=tuple(run.skipped),
        edits=edits,
        open_questions=_list_open_questions(items),
        page=config.page,
        notes=tuple(run.notes),
        n_decoded=survey.n_decoded,
        timings=tuple(run.clock.laps),
        seconds=run.clock.total,
    )


def _check_page(page: Path | None) -> None:
    """Raise where the page cannot be written: better told before the pictures are looked at than after."""
    if page is not None and (hindrance := tell_hindrance(page)) is not None:
        raise InvalidConfig(
            "--html",
            got=f"{page} ({hindrance})",
            want="a file in a folder that can be written",
            hint="--no-html writes no page.",
        )


def _survey(run: _Run, items: Items) -> Survey:
    return survey_pictures(
        [items.file(item) for item in items],
        cache=run.cache,
        threads=run.settings.worker_threads,
        limits=run.limits,
        progress=run.progress,
    )


def _join(items: Items, survey: Survey) -> list[Picture]:
    rows = zip(survey.rows, survey.facts, survey.digests, strict=True)
    return [Picture(item=items.items[row], facts=facts, digest=digest) for row, facts, digest in rows]


def _see(run: _Run, items: Items, pictures: Sequence[Picture]) -> _Seen | None:
    """Copies and mirror images through the trunk; None, and told, where what trains is not installed."""
    if not pictures:
        return None
    try:
        trunk = _open_trunk(run)
    except MissingExtra as exc:
        run.skipped += [f"{part}: {exc.hint}" for part in _FINE_PARTS]
        return None
    table = extract_features(
        [items.file(picture.item) for picture in pictures],
        trunk=trunk,
        cache=run.cache,
        threads=run.settings.worker_threads,
        limits=run.limits,
        progress=run.progress,
    )
    duplicates, fingerprints = _spread(pictures, table, channels=trunk.map_channels)
    if items.task != "classification":
        return _Seen(duplicates=duplicates, fingerprints=fingerprints, sample=None)
    chosen = _choose_mirrored(pictures)
    mirrors = extract_mirrored(
        [items.file(pictures[row].item) for row in chosen],
        trunk=trunk,
        cache=run.cache,
        threads=run.settings.worker_threads,
        limits=run.limits,
        progress=run.progress,
    )
    rows = [chosen[at] for at in mirrors.rows]
    return _Seen(
        duplicates=duplicates,
        fingerprints=fingerprints,
        sample=MirrorSample(
            paths=[pictures[row].item.path for row in rows],
            labels=[pictures[row].item.label for row in rows],
            clusters=duplicates.clusters[rows],
            originals=mirrors.originals,
            mirrored=mirrors.mirrored,
        ),
    )


def _open_trunk(run: _Run) -> FrozenTrunk:
    """The very trunk and preprocessing of `train`, so that both find each other's features."""
    trunk = prepare_trunk(
        run.config.backbone, size=run.config.size, cache_dir=run.settings.cache_dir, progress=run.progress
    )
    return FrozenTrunk(
        model=trunk.model,
        weights_digest=trunk.weights_digest,
        feature_count=trunk.layout.count,
        map_channels=trunk.layout.last,
        preprocess=Preprocess(
            declare_preprocess(trunk.size, method="crop", mean=trunk.mean, std=trunk.std, filter_=trunk.filter)
        ),
    )


def _spread(pictures: Sequence[Picture], table: FeatureTable, *, channels: int) -> tuple[Duplicates, FloatArray]:
    """Copies among the pictures; one that changed or went since it was surveyed has none."""
    features = np.zeros((len(pictures), channels), dtype=np.float32)
    fingerprints = np.zeros((len(pictures), table.fingerprints.shape[1]), dtype=np.float32)
    rows: IntArray = np.array(table.rows, dtype=np.int64)
    features[rows], fingerprints[rows] = table.features[:, :channels], table.fingerprints
    return find_duplicates([picture.digest for picture in pictures], fingerprints, features), fingerprints


def _choose_mirrored(pictures: Sequence[Picture]) -> list[int]:
    """Rows of a few pictures of each class, by a hash of their path: the same ones every time."""
    row_of = {picture.item.path: row for row, picture in enumerate(pictures)}
    ordered = order_by_seed([picture.item for picture in pictures], 0)
    labels = {item.label for item in ordered}
    most = min(_MIRRORED_PER_CLASS, max(4, _MIRRORED_IN_ALL // len(labels)))
    taken: dict[str, int] = {}
    chosen = []
    for item in ordered:
        if taken.get(item.label, 0) < most:
            taken[item.label] = taken.get(item.label, 0) + 1
            chosen.append(row_of[item.path])
    return chosen[:_MIRRORED_IN_ALL]


def _find(
    run: _Run, items: Items, survey: Survey, pictures: Sequence[Picture], seen: _Seen | None
) -> tuple[Finding, ...]:
    if items.task == "classification":
        found = _find_in_classes(pictures, seen)
    else:
        run.skipped.append(_BY_CLASS)
        found = _find_in_targets(items, pictures, seen)
    found = [*_find_unreadable(items, survey), *found]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _find_in_targets(items: Items, pictures: Sequence[Picture], seen: _Seen | None) -> list[Finding]:
    """Where pictures bear any number of labels, or values: looks as if all were of one class."""
    duplicates = seen.duplicates if seen else None
    copies = find_copy_faults(pictures, duplicates, seen.fingerprints if seen else None)
    differ: Callable[[Item, Item], bool]
    if items.task == "multilabel":
        differ, words, kind = _differ_in_labels, "labels", "labels"
        balance = find_label_faults(pictures, _count(items, pictures))
        names = find_mirror_faults(items.classes, None, pairs=[])
    else:
        differ, words, kind = ValueGap(pictures), "values", "values"
        balance, names = find_value_faults(pictures, items.classes), []
    return [
        *find_contradictions(pictures, duplicates, differ=differ, words=words, kind=kind),
        # what copies in two classes would be is told above; the others bear the same text
        *(
            replace(one, what=one.what.replace("of the same class", f"with the same {words}"))
            for one in copies.findings
            if one.code not in {"two_labels", "near_two_labels"}
        ),
        *balance,
        *find_style_faults(flatten(pictures)),
        *find_odd_sizes(pictures),
        *names,
    ]


def _differ_in_labels(one: Item, other: Item) -> bool:
    return one.label != other.label


def _count(items: Items, pictures: Sequence[Picture]) -> dict[str, dict[str, int]]:
    """part -> class, label or value -> pictures."""
    if items.task == "classification":
        return count_classes(pictures)
    return count_names(pictures, items.classes, partial(_names_of, items))


def _name(items: Items, pictures: Sequence[Picture]) -> Sequence[Picture]:
    """The pictures, each as often as it has names to be counted under."""
    return pictures if items.task == "classification" else explode(pictures, partial(_names_of, items))


def _names_of(items: Items, item: Item) -> tuple[str, ...]:
    return items.classes if items.task == "regression" else items.labels_of(item)


def _find_in_classes(pictures: Sequence[Picture], seen: _Seen | None) -> list[Finding]:
    copies = find_copy_faults(pictures, seen.duplicates if seen else None, seen.fingerprints if seen else None)
    return [
        *copies.findings,
        *find_balance_faults(pictures),
        *find_style_faults(pictures),
        *find_odd_sizes(pictures),
        *find_mirror_faults(
            sorted({picture.item.label for picture in pictures}),
            seen.sample if seen else None,
            pairs=[(pictures[one].item, pictures[other].item) for one, other in copies.mirrored],
        ),
    ]


def _find_unreadable(items: Items, survey: Survey) -> list[Finding]:
    here = [(items.items[row].path, reason) for row, reason in survey.unreadable]
    reasons = [*here, *items.unusable]
    if not reasons:
        return []
    return [
        Finding(
            code="unreadable",
            severity="error",
            what=f"{count_of(len(reasons), 'file')} cannot be read.",
            why="They are no pictures, damaged, or of a kind that is not supported; `train` leaves them out each time.",
            next_step="Save them again as JPEG or PNG, or take them out. `--quarantine` leaves them out.",
            count=len(reasons),
            groups=tuple((path,) for path, _ in reasons),
            details=tuple(f"{path}: {reason}" for path, reason in reasons),
            quarantine=tuple((path, f"cannot be read: {reason}") for path, reason in here),
        )
    ]


def _quarantine(run: _Run, items: Items, findings: Sequence[Finding]) -> tuple[Edit, ...]:
    if not run.config.quarantine:
        return ()
    labels = {item.path: item.label for item in items}
    reasons: dict[str, str] = {}
    for finding in findings:
        for path, reason in finding.quarantine:
            reasons.setdefault(path, reason)
    if reasons and not labels.keys() - reasons.keys():
        raise Unavailable(
            "--quarantine",
            got=f"all {len(labels):,} pictures would be left out",
            want="pictures that remain",
            hint="Mend the data by hand: `drivetrain check DATA` without it says what is wrong.",
        )
    changes = [
        Change(action="quarantine", path=path, old=labels[path], reason=reason) for path, reason in reasons.items()
    ]
    edits = append_edits(items.root, changes, by=run.config.by)
    emptied = sorted(
        {name for item in items for name in items.labels_of(item)}
        - {name for item in items if item.path not in reasons for name in items.labels_of(item)}
    )
    if emptied:
        run.notes.append(
            f"`--quarantine` left no picture of {join_names(emptied)}: `drivetrain undo` brings them back."
        )
    return edits


def _list_open_questions(items: Items) -> tuple[str, ...]:
    return find_open_questions(read_datasheet(items.root) or "")


def _write_datasheet(
    run: _Run, items: Items, pictures: Sequence[Picture], findings: Sequence[Finding], edits: Sequence[Edit]
) -> None:
    """The measured part, of the pictures that remain after the edits."""
    if not run.config.datasheet:
        return
    out = {edit.change.path for edit in edits}
    kept = [picture for picture in pictures if picture.item.path not in out]
    measured = describe_pictures(
        kept,
        findings,
        task=items.task,
        counts=_count(items, kept),
        n_quarantined=len(items.quarantined),
        n_relabelled=len(items.relabelled),
        n_left_out_now=len(out),
    )
    state = update_datasheet(items.root, name=items.root.resolve().name, measured=measured)
    if state.trouble:
        run.notes.append(f"The datasheet was not brought up to date. {state.trouble}.".replace("..", "."))
    elif state.is_written:
        run.notes.append(f"The measured part of {items.root / DATASHEET_FILE} was written.")


def _write_page(run: _Run, items: Items, pictures: Sequence[Picture], findings: Sequence[Finding]) -> None:
    page = run.config.page
    if page is None:
        return
    thumbnails = make_thumbnails(
        choose_examples(findings), root=items.root, limits=run.limits, threads=run.settings.worker_threads
    )
    write_check_report(
        page,
        CheckReport(
            name=items.root.resolve().name,
            root=os.fspath(items.root.absolute()),
            findings=findings,
            task=items.task,
            n_pictures=len(pictures),
            counts=_count(items, pictures),
            styles=share_styles(_name(items, pictures)),
            thumbnails=thumbnails,
            labels={picture.item.path: picture.item.label for picture in pictures},
            splits={picture.item.path: picture.item.split or "" for picture in pictures},
            open_questions=_list_open_questions(items),
            skipped=run.skipped,
            notes=run.notes,
        ),
    )
