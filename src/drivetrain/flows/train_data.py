"""The pictures that a model is made from: run through the trunk once, and dealt to two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.items import Item, Items
from drivetrain.data.split import Split, check_classes, number_groups, order_by_seed, split_items
from drivetrain.data.targets import find_strata
from drivetrain.flows.fitting import Side
from drivetrain.flows.record import note_copies, note_groups
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.inspect.duplicates import find_duplicates
from drivetrain.learn.trunk import Trunk
from drivetrain.progress import Progress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FeatureTable, FrozenTrunk, extract_features
from drivetrain.settings import Settings

__all__ = ["TrainData", "divide_data", "extract_data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainData:
    """What was read, and how it was divided."""

    readable: Items
    table: FeatureTable
    split: Split
    train: Side
    valid: Side
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    notes: tuple[str, ...]

    def styles(self, side: Side) -> FloatArray:
        """(n, measures) of one side."""
        style_of = dict(zip(self.table.digests, self.table.styles, strict=True))
        return np.stack([style_of[digest] for digest in side.digests])


def extract_data(
    items: Items, trunk: Trunk, preprocess: Preprocess, *, settings: Settings, limits: DecodeLimits, progress: Progress
) -> FeatureTable:
    """Features, fingerprints and styles of the items that can be read, from the cache where they are there."""
    frozen = FrozenTrunk(
        model=trunk.model,
        weights_digest=trunk.weights_digest,
        feature_count=trunk.layout.count,
        map_channels=trunk.layout.last,
        preprocess=preprocess,
    )
    with FeatureCache(settings.cache_dir) as cache:
        return extract_features(
            [items.file(item) for item in items],
            trunk=frozen,
            cache=cache,
            threads=settings.worker_threads,
            limits=limits,
            progress=progress,
        )


def divide_data(items: Items, table: FeatureTable, trunk: Trunk, *, valid_share: float, seed: int) -> TrainData:
    """Two sides, copies and groups on one of them each; raises where too few pictures of a class can be read."""
    unreadable = [*items.unusable, *((items.items[index].path, reason) for index, reason in table.unreadable)]
    notes = []
    if unreadable:
        notes.append(f"Left out, because they could not be read: {len(unreadable):,} files. None was deleted.")
    readable = items.keep([items.items[row] for row in table.rows])
    check_classes(readable.items, unreadable=[items.items[index] for index, _ in table.unreadable], task=items.task)
    copies = find_duplicates(table.digests, table.fingerprints, table.features[:, : trunk.layout.last])
    alike = [[readable.items[row].path for row in rows] for rows in copies.groups]
    split = split_items(readable.items, valid_share=valid_share, seed=seed, copies=alike, task=items.task)
    groups = np.array(number_groups(readable.items, alike), dtype=np.int64)
    train, valid = (_gather(side, readable, table, groups, seed) for side in (split.train, split.valid))
    notes += note_copies(readable, copies, split)
    notes += note_groups(
        readable.classes,
        train=(find_strata(train.targets, task=items.task), train.groups),
        valid=(find_strata(valid.targets, task=items.task), valid.groups),
        parted=split.parted,
    )
    return TrainData(
        readable=readable,
        table=table,
        split=split,
        train=train,
        valid=valid,
        unreadable=tuple(sorted(unreadable)),
        notes=tuple(notes),
    )


def _gather(side: Sequence[Item], readable: Items, table: FeatureTable, groups: IntArray, seed: int) -> Side:
    row_of = {item.path: row for row, item in enumerate(readable.items)}
    shuffled = order_by_seed(side, seed)
    rows = [row_of[item.path] for item in shuffled]
    return Side(
        items=tuple(shuffled),
        files=tuple(readable.file(item) for item in shuffled),
        digests=tuple(table.digests[row] for row in rows),
        features=table.features[rows],
        targets=readable.targets(shuffled),
        groups=groups[rows],
    )
