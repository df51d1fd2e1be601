"""What a run records of itself, for the manifest and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drivetrain.bundle.manifest import Manifest
from drivetrain.data.items import Items
from drivetrain.data.lineage import digest_items
from drivetrain.data.split import Split
from drivetrain.learn.head import Head
from drivetrain.learn.trunk import Trunk
from drivetrain.runtime.features import FeatureTable

__all__ = ["count_labels", "describe_lineage", "describe_training", "list_facts"]


def count_labels(split: Split, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """{"train": {class: n}, "valid": {class: n}}."""
    sides = {"train": split.train, "valid": split.valid}
    return {side: {name: sum(item.label == name for item in of) for name in classes} for side, of in sides.items()}


def describe_training(
    split: Split, head: Head, *, method: str, resize: str, splitter: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest's `training`: what it takes to do it again."""
    return {
        "blocks": ["ImageBlock", "CategoryBlock"],
        "splitter": dict(splitter),
        "item_tfms": [{"name": "Resize", "method": resize}],
        "batch_tfms": [],
        "method": method,
        "n_train": len(split.train),
        "n_valid": len(split.valid),
        "head": {
            "penalty": head.penalty,
            "cv_folds": head.cv_folds,
            "cv_log_loss": head.cv_log_loss,
            "cv_accuracy": head.cv_accuracy,
            "cv_path": [list(step) for step in head.cv_path],
        },
    }


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


def list_facts(manifest: Manifest, *, version: str, table: FeatureTable) -> dict[str, str]:
    """The run in a few lines for the report."""
    training, lineage, head = manifest.training, manifest.lineage, manifest.training["head"]
    size = next(op["size"] for op in reversed(manifest.preprocess) if "size" in op)
    return {
        "Version": version,
        "Method": f"{training['method']}: frozen trunk, logistic head",
        "Backbone": f"{lineage['backbone']} ({lineage['backbone_licence']})",
        "Picture size": f"{size} x {size}, by {training['item_tfms'][0]['method']}",
        "Pictures": f"{training['n_train']:,} to train on, {training['n_valid']:,} held out",
        "From the cache": f"{len(table.rows) - table.n_computed:,} of {len(table.rows):,}",
        "Penalty": f"{head['penalty']:g}, by {head['cv_folds']}-fold cross-validation "
        f"(accuracy there {100 * head['cv_accuracy']:.1f} %)",
        "Seed": str(lineage["seed"]),
    }
