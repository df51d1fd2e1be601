"""What a run records of itself, for the manifest and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.arrays import IntArray
from drivetrain.bundle.manifest import Manifest
from drivetrain.data.items import Items
from drivetrain.data.lineage import digest_items
from drivetrain.data.split import Split
from drivetrain.flows.fitting import Fitted
from drivetrain.inspect.duplicates import Duplicates
from drivetrain.learn.head import find_tied
from drivetrain.learn.trunk import Trunk
from drivetrain.runtime.features import FeatureTable
from drivetrain.task import Task

__all__ = [
    "describe_lineage",
    "describe_splitter",
    "describe_training",
    "list_facts",
    "note_copies",
    "note_groups",
]


_BLOCKS: dict[Task, str] = {
    "classification": "CategoryBlock",
    "multilabel": "MultiCategoryBlock",
    "regression": "RegressionBlock",
}


def describe_training(
    split: Split,
    fitted: Fitted,
    *,
    task: Task,
    asked: str,
    resize: str,
    class_weights: str | None,
    splitter: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest's `training`: what it takes to do it again."""
    return {
        "blocks": ["ImageBlock", _BLOCKS[task]],
        "splitter": dict(splitter),
        "item_tfms": [{"name": "Resize", "method": resize}],
        "batch_tfms": [],
        "method": fitted.method,
        **({"asked": asked} if asked != fitted.method else {}),
        **({"class_weights": class_weights} if class_weights else {}),
        "n_train": len(split.train),
        "n_valid": len(split.valid),
        **fitted.record,
    }


def describe_splitter(items: Items, split: Split, *, valid_share: float, seed: int) -> dict[str, Any]:
    """How the sides came about, for `describe_training`."""
    if split.is_given:
        return {"name": "given"}
    column = ["group"] if any(item.group is not None for item in items) else []
    return {"name": "stratified", "valid": valid_share, "seed": seed, "group_by": [*column, "copies"]}


def note_copies(items: Items, copies: Duplicates, split: Split) -> list[str]:
    """What a person should know of the copies among `items`, whose rows `copies` names, and of groups."""
    notes = []
    if split.is_given:
        notes += _note_across(items, copies, split)
    elif copies.groups:
        first, second = (items.items[row].path for row in copies.groups[0][:2])
        notes.append(
            f"{copies.n_copies:,} pictures are copies of others ({_count(len(copies.groups), 'group')}): each group "
            f"stays on one side of the split. Such as {first} and {second}."
        )
    if split.parted:
        notes.append(
            f"All pictures of {_quote(split.parted)} are copies of one picture, so they stand on both "
            "sides after all: the numbers say nothing of that class. Add pictures that are not copies."
        )
    mixed = [rows for rows in copies.groups if len({items.items[row].label for row in rows}) > 1]
    if mixed:
        first, second = _pick_two_labels(items, mixed[0])
        notes.append(
            f"Pictures that stand in two classes, as copies: {_count(len(mixed), 'group')}, such as {first} and "
            f"{second}. One of the labels is wrong, or the picture shows both."
        )
    return notes


_Told = tuple[IntArray, IntArray]  # labels (n,) and groups (n,) of one side


def note_groups(classes: Sequence[str], *, train: _Told, valid: _Told, parted: Sequence[str]) -> list[str]:
    """What groups, copies among them, make of the cross-validation and of the promise; `parted` were told already."""
    notes = []
    tied_train, tied_valid = ([classes[i] for i in find_tied(*side)] for side in (train, valid))
    untold = [name for name in tied_train if name not in parted]
    if untold:
        notes.append(
            f"All pictures to train on of {_quote(untold)} are of one group, so it stands in several folds of the "
            "cross-validation after all: the head may trust these pictures too much. Add other groups."
        )
    if len(np.unique(valid[1])) < len(valid[1]):
        save = (
            f", save those of {_quote(tied_valid)}, which are all of one group: they shape the rule that they test, so "
            "add other groups"
        )
        notes.append(
            "Held-out pictures of one group stand in one half, the one that shapes the rule or the one that tests the "
            f"promise{save if tied_valid else ''}. Within a half the promise counts every picture by itself, although "
            "pictures of one group are alike."
        )
    return notes


def _quote(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _note_across(items: Items, copies: Duplicates, split: Split) -> list[str]:
    """The copies that the data's own split has on both sides."""
    trained = {item.path for item in split.train}
    paths = [item.path for item in items]
    twin_of = {  # held-out row -> a row trained on
        row: next(other for other in rows if paths[other] in trained)
        for rows in copies.groups
        if any(paths[other] in trained for other in rows)
        for row in rows
        if paths[row] not in trained
    }
    if not twin_of:
        return []
    same = {row for rows in copies.exact if any(paths[other] in trained for other in rows) for row in rows}
    row = min(twin_of)
    n_same = len(same & twin_of.keys())
    return [
        f"Held-out pictures that are copies of ones trained on: {len(twin_of):,} ({n_same:,} of them the same file), "
        f"such as {paths[row]}, of {paths[twin_of[row]]}. They flatter every number here: remove them, or drop the "
        "split of the data, and drivetrain makes one that keeps copies together."
    ]


def _pick_two_labels(items: Items, rows: Sequence[int]) -> tuple[str, str]:
    first = items.items[rows[0]]
    second = next(items.items[row] for row in rows if items.items[row].label != first.label)
    return first.path, second.path


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def describe_lineage(readable: Items, table: FeatureTable, split: Split, trunk: Trunk, *, seed: int) -> dict[str, Any]:
    """The manifest's `lineage`: which pictures, which weights; by content, so a moved folder is the same."""
    return {
        "data_digest": digest_items(zip(readable, table.digests, strict=True)),
        "split_digest": split.digest,
        "seed": seed,
        "backbone": trunk.name,
        "backbone_licence": trunk.licence,
        "weights_digest": trunk.weights_digest,
        "parent": None,
    }


def list_facts(manifest: Manifest, fitted: Fitted, *, version: str, table: FeatureTable) -> dict[str, str]:
    """The run in a few lines for the report."""
    training, lineage = manifest.training, manifest.lineage
    size = next(op["size"] for op in reversed(manifest.preprocess) if "size" in op)
    chosen = ", chosen by auto" if training.get("asked") == "auto" else ""
    return {
        "Version": version,
        "Method": f"{training['method']}: {_METHODS[training['method']]}{chosen}",
        "Backbone": f"{lineage['backbone']} ({lineage['backbone_licence']})",
        "Picture size": f"{size} x {size}, by {training['item_tfms'][0]['method']}",
        "Pictures": f"{training['n_train']:,} to train on, {training['n_valid']:,} held out",
        "From the cache": f"{len(table.rows) - table.n_computed:,} of {len(table.rows):,}",
        **fitted.facts,
        "Seed": str(lineage["seed"]),
    }


_METHODS = {
    "head": "frozen trunk, linear head",
    "top": "frozen trunk, its last pieces trained with the head",
    "full": "all of the network trained",
}
