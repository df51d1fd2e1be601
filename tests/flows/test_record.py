from __future__ import annotations

import numpy as np

from drivetrain.arrays import IntArray
from drivetrain.bundle.archive import read_bundle
from drivetrain.flows.fitting import Fitted
from drivetrain.flows.record import list_facts, note_groups
from drivetrain.flows.train import TrainResult


def test_the_manifest_says_what_it_takes_to_do_it_again(trained: TrainResult) -> None:
    manifest = read_bundle(trained.bundle).manifest
    training, lineage = manifest.training, manifest.lineage
    assert training["splitter"] == {"name": "stratified", "valid": 0.4, "seed": 42, "group_by": ["copies"]}
    assert training["item_tfms"] == [{"name": "Resize", "method": "crop"}]
    assert (training["method"], training["n_train"], training["n_valid"]) == ("head", trained.n_train, trained.n_valid)
    head = training["head"]
    assert head["penalty"] == min(head["cv_path"], key=lambda step: step[1])[0]
    assert head["cv_folds"] == 5
    assert lineage.keys() >= {"data_digest", "split_digest", "seed", "backbone", "weights_digest", "drivetrain"}
    assert (lineage["seed"], lineage["backbone"], lineage["parent"]) == (42, "efficientnet_lite0", None)


def test_facts_are_those_of_the_run(trained: TrainResult) -> None:
    manifest = read_bundle(trained.bundle).manifest

    class Table:
        rows = range(180)
        n_computed = 100

    nothing = np.empty((0, 0), np.float32)
    fitted = Fitted(
        method="head",
        model=b"",
        tensors={},
        train_frozen=nothing,
        valid_frozen=nothing,
        valid_logits=nothing,
        known_logits=None,
        record={},
        facts={"Penalty": "0.1, by 5-fold cross-validation (accuracy there 90.0 %)"},
    )
    facts = list_facts(manifest, fitted, version=trained.version, table=Table())  # type: ignore[arg-type]
    assert facts["Version"] == trained.version
    assert facts["Picture size"] == "96 x 96, by crop"
    assert facts["Pictures"] == f"{trained.n_train} to train on, {trained.n_valid} held out"
    assert facts["From the cache"] == "80 of 180"
    assert facts["Penalty"] == fitted.facts["Penalty"]
    assert facts["Method"] == "head: frozen trunk, linear head, chosen by auto"
    assert facts["Seed"] == "42"


def side(labels: list[int], groups: list[int]) -> tuple[IntArray, IntArray]:
    return np.array(labels), np.array(groups)


def test_groups_are_told_where_they_matter() -> None:
    alone = side([0, 0, 1, 1], [0, 1, 2, 3])
    grouped = side([0, 0, 0, 1, 1], [0, 0, 1, 2, 3])
    tied = side([0, 0, 1, 1], [0, 0, 2, 3])
    classes = ("cat", "dog")
    assert note_groups(classes, train=alone, valid=alone, parted=()) == []
    assert note_groups(classes, train=grouped, valid=alone, parted=()) == []
    assert note_groups(classes, train=alone, valid=grouped, parted=()) == [
        "Held-out pictures of one group stand in one half, the one that shapes the rule or the one that tests the "
        "promise. Within a half the promise counts every picture by itself, although pictures of one group are alike."
    ]
    assert note_groups(classes, train=tied, valid=tied, parted=()) == [
        "All pictures to train on of 'cat' are of one group, so it stands in several folds of the cross-validation "
        "after all: the head may trust these pictures too much. Add other groups.",
        "Held-out pictures of one group stand in one half, the one that shapes the rule or the one that tests the "
        "promise, save those of 'cat', which are all of one group: they shape the rule that they test, so add other "
        "groups. Within a half the promise counts every picture by itself, although pictures of one group are alike.",
    ]
    assert note_groups(classes, train=tied, valid=alone, parted=("cat",)) == []  # told already
