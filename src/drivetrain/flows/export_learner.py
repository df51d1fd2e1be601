"""A trained Learner as a bundle: asked as it will be served, calibrated and judged on the pictures held out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.datasheet import read_datasheet
from drivetrain.data.items import Item, Items
from drivetrain.data.lineage import digest_items
from drivetrain.data.side_counts import count_sides
from drivetrain.data.split import Split
from drivetrain.data.targets import SEPARATOR, clean_label
from drivetrain.errors import InvalidConfig, InvalidInput, UnreadablePicture
from drivetrain.flows.calibrate import Calibration, calibrate
from drivetrain.flows.evaluate import evaluate_answers
from drivetrain.flows.export import ExportInput, export_bundle
from drivetrain.flows.fit_known import choose_known
from drivetrain.flows.fixtures import rank_telling
from drivetrain.flows.illustrate import open_pictures
from drivetrain.flows.record import note_copies
from drivetrain.flows.record_learner import describe_learner
from drivetrain.flows.trained_on import CALIBRATED_ON, TRAINED_ON, pack_digests
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.fingerprint import fingerprint
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.imaging.style_measures import StyledPreprocess, find_style_kernel
from drivetrain.inspect.duplicates import Duplicates, find_duplicates
from drivetrain.learn.export import export_network
from drivetrain.learn.trunk import BACKBONES, Trunk, find_weights
from drivetrain.runtime.decision import AnyPolicy, open_policy
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.session import Session
from drivetrain.settings import Settings, load_settings
from drivetrain.task import Task

if TYPE_CHECKING:
    from drivetrain.learn.datasets import Dataset
    from drivetrain.learn.vision_learner import VisionLearner

__all__ = ["export_learner"]

_MOST_CANDIDATES = 8  # held-out pictures offered as fixtures, the least certain
_LEAST_HELD_OUT = 2  # a half to calibrate on, a half to test the promise by


_Listed = tuple[Path, str, Any]  # file, label as the data would write it, target


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A picture that was read, and what the exported model says of it."""

    item: Item
    file: Path
    sha256: bytes
    frozen: FloatArray  # (f,)
    logits: FloatArray  # (k,)
    fingerprint: FloatArray
    style: FloatArray
    target: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Both sides as served, each in an order that says nothing."""

    items: Items
    train: Sequence[_Row]
    valid: Sequence[_Row]
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    copies: Duplicates

    @property
    def rows(self) -> list[_Row]:
        return [*self.train, *self.valid]

    @property
    def split(self) -> Split:
        train, valid = (tuple(row.item for row in side) for side in (self.train, self.valid))
        return Split(train=train, valid=valid, is_given=True)


def export_learner(learn: VisionLearner, path: Path) -> Path:
    """Write `path` whole or not at all. Raises InvalidInput, InvalidConfig, UnreadablePicture."""
    from drivetrain.learn.frozen_part import find_trunk  # torch

    if path.suffix != ".dt" or not path.stem:
        raise InvalidConfig("export(path)", got=str(path), want="a file NAME.dt", hint='Example: export("bears.dt").')
    settings = learn.settings or load_settings()
    preprocess = Preprocess(learn.dls.valid_ops)  # says why, where it cannot be written down
    trunk = find_trunk(
        learn.model.backbone, side=preprocess.size, cache_dir=settings.cache_dir, progress=learn.progress
    )
    model = export_network(
        learn.model,
        size=preprocess.size,
        trunk=None if trunk is None else trunk.model,
        style=find_style_kernel(preprocess),
    )
    asked = _ask(learn, Session(model), preprocess, settings)
    calibration = _calibrate(learn, asked)
    policy = open_policy(
        learn.task,
        calibration.decision,
        calibration.arrays,
        feature_count=len(asked.valid[0].frozen),
        output_count=len(learn.names),
    )
    classes = tuple(learn.names)
    answers = [policy.decide(row.logits, row.frozen, classes, "", row.style) for row in asked.valid]
    spec = learn.model.backbone.spec
    exported = export_bundle(
        ExportInput(
            path=path,
            name=path.stem,
            task=learn.task,
            backbone=f"{spec.name} ({spec.licence})",
            preprocess=preprocess,
            model=model,
            tensors={name: value.detach().cpu().numpy() for name, value in learn.model.state_dict().items()},
            classes=classes,
            calibration=calibration,
            evaluation=evaluate_answers(
                answers, np.stack([row.target for row in asked.valid]), classes, groups=_group_valid(asked)
            ),
            candidates=_list_candidates(asked, policy, learn.task, _limits(settings)),
            fixture_source="validation",
            training=describe_learner(learn, n_train=len(asked.train), n_valid=len(asked.valid)),
            lineage=_describe_lineage(learn, asked, trunk),
            counts=count_sides(asked.items, {"train": asked.split.train, "valid": asked.split.valid}),
            unreadable=asked.unreadable,
            datasheet=read_datasheet(asked.items.root),
        )
    )
    notes = [*calibration.notes, *note_copies(asked.items, asked.copies, asked.split), *exported.notes]
    for line in [f"{path}: {exported.bundle.version}. {calibration.statement}", *notes]:
        learn.progress.say(line)
    return path


def _limits(settings: Settings) -> DecodeLimits:
    return DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels)


def _ask(learn: VisionLearner, session: Session, preprocess: Preprocess, settings: Settings) -> _Asked:
    """Read all pictures of both sides and run the model as production will."""
    sides = [_list_side(dataset, learn) for dataset in (learn.dls.train_ds, learn.dls.valid_ds)]
    root = Path(os.path.commonpath([file.absolute().parent for side in sides for file, _, _ in side]))
    limits, styled = _limits(settings), StyledPreprocess(preprocess)

    def work(given: _Listed) -> _Row | tuple[str, str]:
        file, label, target = given
        path = file.absolute().relative_to(root).as_posix()  # from the pictures' folder, which may move
        try:
            data = read_picture_file(file, name=str(file), limits=limits)
            pixels, style = styled.from_bytes(data, name=str(file), limits=limits)
        except UnreadablePicture as exc:
            return path, exc.reason
        frozen, logits = session.run(["frozen", "logits"], pixels[np.newaxis])
        return _Row(
            item=Item(path=path, label=label),
            file=file,
            sha256=hashlib.sha256(data).digest(),
            frozen=frozen[0],
            logits=logits[0],
            fingerprint=fingerprint(pixels),
            style=style,
            target=target,
        )

    found: list[list[_Row | tuple[str, str]]] = [[], []]
    with learn.progress.task("Asking the exported model", total=sum(map(len, sides))) as advance:
        for side, rows in zip(sides, found, strict=True):
            for row in map_in_order(work, side, threads=callers_for(settings.worker_threads)):
                rows.append(row)
                advance(1)
    return _order(learn, found, root)


def _order(learn: VisionLearner, found: Sequence[Sequence[_Row | tuple[str, str]]], root: Path) -> _Asked:
    unreadable = sorted(row for side in found for row in side if not isinstance(row, _Row))
    sides = []
    for side in found:
        rows = [row for row in side if isinstance(row, _Row)]
        sides.append([rows[at] for at in np.random.default_rng(learn.seed).permutation(len(rows))])
    train, valid = sides
    if len(valid) < _LEAST_HELD_OUT:
        got, want = f"{len(valid)} held-out pictures that can be read", f"{_LEAST_HELD_OUT} at least"
        raise InvalidInput("export", got=got, want=want)
    both = [*train, *valid]
    return _Asked(
        items=Items(root=root, items=tuple(row.item for row in both), task=learn.task),
        train=train,
        valid=valid,
        unreadable=tuple(unreadable),
        copies=find_duplicates([row.sha256 for row in both], np.stack([row.fingerprint for row in both]), None),
    )


def _list_side(dataset: Dataset, learn: VisionLearner) -> list[_Listed]:
    from drivetrain.learn.targets import read_targets  # torch

    listed = []
    for at, target in enumerate(read_targets(dataset, learn.task)):
        source = dataset.value(at, 0)
        if not isinstance(source, str | Path):
            raise InvalidInput(
                f"export, {dataset.name(at)}",
                got=f"a picture that is a {type(source).__name__}",
                want="a file: the bundle says which pictures the model was made from",
            )
        listed.append((Path(source), _write_label(target, learn), target))
    return listed


def _write_label(target: NDArray[Any], learn: VisionLearner) -> str:
    """The canonical text of data.targets."""
    if learn.task == "classification":
        text = learn.names[int(target)]
    elif learn.task == "multilabel":
        text = SEPARATOR.join(name for name, is_on in zip(learn.names, target.tolist(), strict=True) if is_on)
    else:
        text = SEPARATOR.join(str(value) for value in target)  # float32's own shortest text
    return clean_label(text, task=learn.task, where="label")


def _group_valid(asked: _Asked) -> IntArray:
    """(n,): copies among the held-out pictures share a number."""
    groups: IntArray = asked.copies.clusters[len(asked.train) :]
    return groups


def _calibrate(learn: VisionLearner, asked: _Asked) -> Calibration:
    train, valid = asked.train, asked.valid
    labels, known = np.stack([row.target for row in train]), None
    if learn.task == "classification":
        known = np.stack([train[row].logits for row in choose_known(labels, outputs=len(learn.names))])
    made = calibrate(
        task=learn.task,
        train_features=np.stack([row.frozen for row in train]),
        train_labels=labels,
        valid_features=np.stack([row.frozen for row in valid]),
        valid_labels=np.stack([row.target for row in valid]),
        valid_logits=np.stack([row.logits for row in valid]),
        known_logits=known,
        valid_groups=_group_valid(asked),
        train_styles=np.stack([row.style for row in train]),
        valid_styles=np.stack([row.style for row in valid]),
        class_names=tuple(learn.names),
    )
    used = {TRAINED_ON: train, CALIBRATED_ON: valid}
    digests = {name: pack_digests(row.sha256 for row in rows) for name, rows in used.items()}
    return replace(made, arrays={**made.arrays, **digests})


def _list_candidates(asked: _Asked, policy: AnyPolicy, task: Task, limits: DecodeLimits) -> list[Any]:
    telling = rank_telling([policy.row(row.logits) for row in asked.valid], task)[:_MOST_CANDIDATES]
    return open_pictures([asked.valid[at].file for at in telling], limits)


def _describe_lineage(learn: VisionLearner, asked: _Asked, trunk: Trunk | None) -> dict[str, Any]:
    """The manifest's `lineage`; weights_digest is None where it did not begin from pretrained weights."""
    spec = learn.model.backbone.spec
    digest = None
    if learn.pretrained is not None:
        if trunk is not None:
            digest = trunk.weights_digest
        elif spec.name in BACKBONES:
            digest = hashlib.sha256(find_weights(spec).read_bytes()).hexdigest()
    return {
        "data_digest": digest_items((row.item, row.sha256) for row in asked.rows),
        "split_digest": asked.split.digest,
        "seed": learn.seed,
        "backbone": spec.name,
        "backbone_licence": spec.licence,
        "weights_digest": digest,
        "parent": None,
    }
