"""The split where pictures bear any number of labels, or measured values."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from drivetrain.data.items import Item
from drivetrain.data.split import Split, check_classes, split_items
from drivetrain.data.targets import split_labels
from drivetrain.errors import InvalidInput
from drivetrain.task import Task


def labelled(n: int, shares: dict[str, float], *, seed: int = 0, **fields: str) -> list[Item]:
    rng = np.random.default_rng(seed)
    draws = [";".join(name for name, share in shares.items() if rng.random() < share) for _ in range(n)]
    return [Item(path=f"{at:05}.jpg", label=label, **fields) for at, label in enumerate(draws)]


def measured(values: Sequence[float], **fields: str) -> list[Item]:
    return [Item(path=f"{at:05}.jpg", label=f"{value:g}", **fields) for at, value in enumerate(values)]


def split(items: Sequence[Item], task: Task, *, share: float = 0.2, seed: int = 42, **given: object) -> Split:
    return split_items(items, valid_share=share, seed=seed, task=task, **given)  # type: ignore[arg-type]


def counts(items: Sequence[Item]) -> Counter[str]:
    return Counter(label for item in items for label in split_labels(item.label, task="multilabel"))


def test_each_label_keeps_its_share() -> None:
    items = labelled(600, {"a": 0.6, "b": 0.3, "c": 0.05})
    made = split(items, "multilabel")
    assert 110 <= len(made.valid) <= 130
    whole, held = counts(items), counts(made.valid)
    for label, n in whole.items():
        assert abs(held[label] - 0.2 * n) <= max(3, 0.06 * n), label
    again = split(random.Random(0).sample(items, len(items)), "multilabel")
    assert (again.digest, split(items, "multilabel", seed=1).digest != made.digest) == (made.digest, True)


@pytest.mark.parametrize("seed", range(25))
def test_a_rare_label_stands_on_both_sides(seed: int) -> None:
    """Five pictures of "rare", each with a rarer label beside it, by which it is dealt."""
    items = [Item(path=f"r{at}.jpg", label=f"rare;z{at}") for at in range(5)]
    items += [Item(path=f"s{at}{more}.jpg", label=f"z{at}") for at in range(5) for more in range(3)]
    items += labelled(60, {"a": 0.5})
    made = split(items, "multilabel", seed=seed)
    assert counts(made.train).keys() == counts(made.valid).keys() == counts(items).keys()


def test_values_of_every_size_are_held_out() -> None:
    values = np.random.default_rng(0).lognormal(size=300)
    made = split(measured(values), "regression")
    assert len(made.valid) == 60
    held = np.array([float(item.label) for item in made.valid])
    edges = np.quantile(values, np.linspace(0, 1, 11))
    inside = np.histogram(held, bins=edges)[0]
    assert inside.min() >= 5
    assert inside.max() <= 7


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_groups_and_copies_stay_together(task: Task) -> None:
    items = labelled(200, {"a": 0.5, "b": 0.2}) if task == "multilabel" else measured(range(200))
    grouped = [Item(path=item.path, label=item.label, group=f"g{at // 4}") for at, item in enumerate(items)]
    made = split(grouped, task)
    assert not {item.group for item in made.train} & {item.group for item in made.valid}
    assert 0.12 <= len(made.valid) / 200 <= 0.28
    copies = [[item.path for item in items[at : at + 5]] for at in range(0, 200, 5)]
    made = split(items, task, copies=copies)
    held = {item.path for item in made.valid}
    assert all(len(held.intersection(paths)) in {0, 5} for paths in copies)
    assert made.parted == ()


def test_a_label_of_copies_alone_is_parted_and_told() -> None:
    items = [*labelled(80, {"a": 0.5}), *(Item(path=f"x{at}.jpg", label="a;x") for at in range(6))]
    made = split(items, "multilabel", copies=[[f"x{at}.jpg" for at in range(6)]])
    assert made.parted == ("x",)
    assert counts(made.train)["x"]
    assert counts(made.valid)["x"]


def test_a_given_split_is_kept_and_must_hold_every_label() -> None:
    train, valid = labelled(30, {"a": 0.5, "b": 0.5}, split="train"), labelled(20, {"a": 0.5}, split="valid", seed=1)
    moved = [Item(path=f"v/{item.path}", label=item.label, split="valid") for item in valid]
    with pytest.raises(InvalidInput, match="no picture of 'b' in valid; want every class on both sides"):
        split([*train, *moved], "multilabel")
    kept = split([*train, *moved, Item(path="v/b.jpg", label="b", split="valid")], "multilabel")
    assert (len(kept.train), len(kept.valid), kept.is_given) == (30, 21, True)
    with pytest.raises(InvalidInput, match="no picture in train; want pictures on both sides"):
        split(measured(range(9), split="valid"), "regression")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 4 + ["b"] * 20, "'a' is on 4"),
        (["a;b"] * 20 + ["b"] * 20, "'b' is missing on 0"),
        (["a"] * 3 + ["b"] * 30, r"got too few of 33 .*: 'a' is on 3; 'b' is missing on 3; want at least 5"),
        ([""] * 20, "none of which bears a label"),
    ],
)
def test_labels_that_cannot_be_learned(labels: list[str], message: str) -> None:
    items = [Item(path=f"{at}.jpg", label=label) for at, label in enumerate(labels)]
    with pytest.raises(InvalidInput, match=message):
        check_classes(items, unreadable=(), task="multilabel")
    tests = [Item(path=f"t{at}.jpg", label="c", split="test") for at in range(9)]
    with pytest.raises(InvalidInput, match=message):
        check_classes([*items, *tests], unreadable=(), task="multilabel")


def test_one_label_is_enough() -> None:
    check_classes([Item(path=f"{at}.jpg", label="a" * (at < 5)) for at in range(10)], unreadable=(), task="multilabel")


def test_values_that_cannot_be_learned() -> None:
    with pytest.raises(InvalidInput, match="got 9 readable pictures; want at least 10 with a value"):
        check_classes(measured(range(9)), unreadable=(), task="regression")
    with pytest.raises(InvalidInput, match="got the value 3 for every picture; want values that differ"):
        check_classes(measured([3] * 20), unreadable=(), task="regression")
    check_classes(measured(range(10)), unreadable=(), task="regression")
