"""Which items train and which are held out: stratified, the same for the same seed on every machine."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from drivetrain.data.items import Item
from drivetrain.errors import InvalidConfig, InvalidInput

__all__ = ["MIN_PER_CLASS", "Split", "check_classes", "order_by_seed", "split_items"]

MIN_PER_CLASS = 5  # readable pictures; with fewer no part of a class can be held out and say anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Items to train on and items held out; `left_out` are those the data itself calls test."""

    train: tuple[Item, ...]
    valid: tuple[Item, ...]
    left_out: tuple[Item, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 of who stands where, labels too."""
        sides = [sorted((item.path, item.label) for item in side) for side in (self.train, self.valid)]
        return hashlib.sha256(json.dumps(sides).encode()).hexdigest()


def order_by_seed(items: Sequence[Item], seed: int) -> list[Item]:
    """A shuffle that depends on each item's path and the seed alone, not on the order given nor on the machine."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed}:{item.path}".encode()).digest())


def split_items(items: Sequence[Item], *, valid_share: float, seed: int) -> Split:
    """The data's own split where it has one, else `valid_share` of each class held out (at least one picture).

    Raises InvalidConfig for a share outside (0, 1), InvalidInput where a class would have no picture on one side.
    """
    if not 0 < valid_share < 1:
        raise InvalidConfig("--valid", got=valid_share, want="a share between 0 and 1, such as 0.2")
    own = [item for item in items if item.split != "test"]
    left_out = tuple(item for item in items if item.split == "test")
    if any(item.split == "valid" for item in own):
        split = Split(
            train=tuple(item for item in own if item.split != "valid"),
            valid=tuple(item for item in own if item.split == "valid"),
            left_out=left_out,
        )
    else:
        split = _split_by_share(own, valid_share, seed, left_out)
    _check_sides(split)
    return split


def _split_by_share(items: Sequence[Item], share: float, seed: int, left_out: tuple[Item, ...]) -> Split:
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_class[item.label].append(item)
    valid: set[str] = set()
    for members in by_class.values():
        count = min(len(members) - 1, max(1, round(share * len(members))))
        valid.update(item.path for item in order_by_seed(members, seed)[:count])
    return Split(
        train=tuple(item for item in items if item.path not in valid),
        valid=tuple(item for item in items if item.path in valid),
        left_out=left_out,
    )


def check_classes(items: Sequence[Item], *, unreadable: Sequence[Item]) -> None:
    """Raise InvalidInput unless there are two classes with MIN_PER_CLASS readable pictures each; test items aside."""
    counts: dict[str, int] = defaultdict(int)
    broken: dict[str, int] = defaultdict(int)
    for item in unreadable:
        broken[item.label] += 1
        counts[item.label] += 0
    for item in items:
        counts[item.label] += item.split != "test"
    if not sum(counts.values()):
        got = f"no readable picture ({len(unreadable)} could not be read)"
        raise InvalidInput("DATA", got=got, want="pictures of two classes or more")
    if len(counts) < 2:
        raise InvalidInput(
            "DATA",
            got=f"one class, {next(iter(counts))!r}",
            want="two classes or more",
            hint="Add a folder with pictures of what it could be mistaken for.",
        )
    poor = [
        f"{label!r} has {count}" + (f" ({broken[label]} more could not be read)" if broken[label] else "")
        for label, count in sorted(counts.items())
        if count < MIN_PER_CLASS
    ]
    if poor:
        raise InvalidInput(
            "DATA",
            got="too few readable pictures: " + "; ".join(poor),
            want=f"at least {MIN_PER_CLASS} in each class, and better 50",
            hint="Add pictures, or take the class out.",
        )


def _check_sides(split: Split) -> None:
    train, valid = ({item.label for item in side} for side in (split.train, split.valid))
    for side, other, name in ((train, valid, "valid"), (valid, train, "train")):
        missing = sorted(side - other)
        if missing:
            raise InvalidInput(
                "split",
                got=f"no picture of {', '.join(map(repr, missing))} in {name}",
                want="every class on both sides",
                hint="Move some pictures over, or drop the split and let drivetrain make one.",
            )
