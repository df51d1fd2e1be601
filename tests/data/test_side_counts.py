from __future__ import annotations

from pathlib import Path

from drivetrain.data.datasheet import write_datasheet
from drivetrain.data.items import Item, Items
from drivetrain.data.side_counts import SideCounts, count_sides


def items_of(task: str, *labels: str) -> Items:
    rows = tuple(Item(path=f"{at}.jpg", label=label) for at, label in enumerate(labels))
    return Items(root=Path(), items=rows, task=task)  # type: ignore[arg-type]


def test_classes_are_counted_as_ever() -> None:
    items = items_of("classification", "b", "a", "a")
    counts = count_sides(items, {"train": items.items[:2], "valid": items.items[2:]})
    plain = {"train": {"a": 1, "b": 1}, "valid": {"a": 1, "b": 0}}
    assert counts.labels == plain
    assert counts == SideCounts.of(plain)
    assert counts.pictures == {"train": 2, "valid": 1}
    sheets = {write_datasheet("m", counts=given, unreadable=[]) for given in (counts, plain)}
    assert len(sheets) == 1
    assert "| class | to train on | held out |\n|---|---:|---:|\n| a | 1 | 1 |" in sheets.pop()


def test_labels() -> None:
    items = items_of("multilabel", "a;b|x", "", "a")
    counts = count_sides(items, {"train": items.items[:2], "valid": items.items[2:]})
    assert counts.labels == {"train": {"a": 1, "b|x": 1}, "valid": {"a": 1, "b|x": 0}}
    sheet = write_datasheet("m", counts=counts, unreadable=[])
    assert "| label | to train on | held out |" in sheet
    assert "| b\\|x | 1 | 0 |\n| all pictures | 2 | 1 |" in sheet
    assert "3 pictures with 2 labels, none to many a picture; the commonest, a, has 2.0 times" in sheet


def test_values() -> None:
    items = items_of("regression", "1;10", "3;20", "8;40")
    counts = count_sides(items, {"train": items.items, "valid": items.items[:1]})
    train = counts.values["train"]["value 1"]
    assert (train.low, train.median, train.high, round(train.spread, 3)) == (1, 3, 8, 2.944)
    sheet = write_datasheet("m", counts=counts, unreadable=[])
    assert "| value 2 | to train on | 3 | 10 | 20 | 40 | 12.47 |" in sheet
    assert "| value 1 | held out | 1 | 1 | 1 | 1 | 0 |" in sheet
    assert "4 pictures, each with its values." in sheet
