"""Which items train and which are held out: stratified, the same for the same seed on every machine."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivetrain.data.items import Item
from drivetrain.data.targets import encode_targets, find_strata, name_outputs, split_labels
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.task import Task

__all__ = [
    "MIN_PER_CLASS",
    "Split",
    "check_classes",
    "check_valid_share",
    "number_groups",
    "order_by_seed",
    "split_items",
]

MIN_PER_CLASS = 5  # readable pictures; with fewer no part of a class can be held out and say anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Items to train on and items held out; `left_out` are those the data itself calls test."""

    train: tuple[Item, ...]
    valid: tuple[Item, ...]
    left_out: tuple[Item, ...] = ()
    is_given: bool = False  # by the data itself, whatever stands on both sides
    parted: tuple[str, ...] = ()  # classes that are all copies of one picture: they had to be parted

    @property
    def digest(self) -> str:
        """sha256 of who stands where, labels too."""
        sides = [sorted((item.path, item.label) for item in side) for side in (self.train, self.valid)]
        return hashlib.sha256(json.dumps(sides).encode()).hexdigest()


def order_by_seed(items: Sequence[Item], seed: int) -> list[Item]:
    """A shuffle that depends on each item's path and the seed alone, not on the order given nor on the machine."""
    return sorted(items, key=lambda item: _draw(seed, item.path))


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def split_items(
    items: Sequence[Item],
    *,
    valid_share: float,
    seed: int,
    copies: Sequence[Sequence[str]] = (),
    task: Task = "classification",
) -> Split:
    """The data's own split where it has one, else `valid_share` of each class held out (at least one picture).

    Of pictures with several labels it is that share of each rarest label, of measured ones that of each of ten bins.
    Pictures of one group, and those whose paths stand together in `copies`, stay on one side; the share then holds as
    nearly as whole groups allow. Copies are parted only where else a class could not stand on both sides. Raises
    InvalidConfig for a share outside (0, 1), InvalidInput where a class or label would have no picture on one side, or
    a group some on both.
    """
    check_valid_share(valid_share)
    own = [item for item in items if item.split != "test"]
    valid = {item.path for item in own if item.split == "valid"}
    is_given = bool(valid)
    parted: tuple[str, ...] = ()
    if not is_given:
        parted = _find_stuck(own, copies, task)
        labels = {item.path: split_labels(item.label, task=task) for item in own}
        kept = [paths for paths in copies if not any(set(labels.get(path, ())) & set(parted) for path in paths)]
        groups = _join(own, kept)
        valid = _choose_valid(_name_strata(own, task), groups, valid_share, seed)
        if task == "multilabel":
            valid = _mend_sides(valid, labels, groups, seed)
    split = Split(
        train=tuple(item for item in own if item.path not in valid),
        valid=tuple(item for item in own if item.path in valid),
        left_out=tuple(item for item in items if item.split == "test"),
        is_given=is_given,
        parted=parted,
    )
    _check_sides(split, task)
    _check_groups(split)
    return split


def number_groups(items: Sequence[Item], copies: Sequence[Sequence[str]] = ()) -> list[int]:
    """A number for each item that those share which must stay together: by column `group`, by copies, or by both."""
    number_of = {item.path: number for number, group in enumerate(_join(items, copies).values()) for item in group}
    return [number_of[item.path] for item in items]


def check_valid_share(share: float) -> None:
    """Raise InvalidConfig for a share outside (0, 1)."""
    if not 0 < share < 1:
        raise InvalidConfig("--valid", got=share, want="a share between 0 and 1, such as 0.2")


def _join(items: Sequence[Item], copies: Sequence[Sequence[str]]) -> dict[str, list[Item]]:
    """Name -> the items that must stay together: by column `group`, by copies, and by both in a row.

    A picture alone bears its path; the rest the first of all their names, so that the order given plays no part.
    """
    names = {item.path: item.path if item.group is None else f"/{item.group}" for item in items}  # no path begins so
    above: dict[str, str] = {}

    def find(name: str) -> str:
        while name in above:
            name = above[name]
        return name

    for paths in copies:
        roots = sorted({find(names[path]) for path in paths if path in names})
        above.update(dict.fromkeys(roots[1:], roots[0]) if roots else {})
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[find(names[item.path])].append(item)
    return groups


def _find_stuck(items: Sequence[Item], copies: Sequence[Sequence[str]], task: Task) -> tuple[str, ...]:
    """Classes that copies, and not the groups of the data itself, tie together into one piece."""
    tied, free = (_count_pieces(_join(items, which), task) for which in (copies, ()))
    return tuple(sorted(label for label, n in tied.items() if n < 2 <= free[label]))


def _count_pieces(groups: Mapping[str, Sequence[Item]], task: Task) -> Counter[str]:
    return Counter(
        label
        for group in groups.values()
        for label in {name for item in group for name in split_labels(item.label, task=task)}
    )


def _name_strata(items: Sequence[Item], task: Task) -> dict[str, str]:
    """path -> what it is dealt by."""
    if task == "classification":
        return {item.path: item.label for item in items}
    labels = [item.label for item in items]
    targets = encode_targets(labels, task=task, classes=name_outputs(labels, task=task))
    return {item.path: str(of) for item, of in zip(items, find_strata(targets, task=task).tolist(), strict=True)}


def _choose_valid(
    stratum: Mapping[str, str], groups: Mapping[str, Sequence[Item]], share: float, seed: int
) -> set[str]:
    """Paths to hold out: groups in the seed's order, while they bring us nearer to the share of each stratum."""
    sizes = Counter(stratum.values())
    wanted = {label: min(n - 1, max(1, round(share * n))) for label, n in sizes.items()}
    order = sorted(groups, key=lambda name: _draw(seed, name))
    chosen: set[str] = set()
    for name in order:
        counts = Counter(stratum[item.path] for item in groups[name])
        if sum(abs(wanted[label] - n) - abs(wanted[label]) for label, n in counts.items()) < 0:
            chosen.add(name)
            for label, n in counts.items():
                wanted[label] -= n
    for label in sizes:  # groups so large that none brought this class nearer: its smallest will have to do
        of_label = {name: sum(stratum[item.path] == label for item in groups[name]) for name in order}
        having = [name for name, n in of_label.items() if n]
        if len(having) > 1 and not chosen.intersection(having):
            chosen.add(min(having, key=lambda name: of_label[name]))
    return {item.path for name in chosen for item in groups[name]}


def _mend_sides(
    valid: set[str], labels: Mapping[str, tuple[str, ...]], groups: Mapping[str, Sequence[Item]], seed: int
) -> set[str]:
    """Move the smallest group of a label that stands on one side only, the rarest label first; where it has two."""
    order = sorted(groups, key=lambda name: (len(groups[name]), _draw(seed, name)))
    bearers: dict[str, list[str]] = defaultdict(list)  # label -> names of its groups, the smallest first
    for name in order:
        for label in {label for item in groups[name] for label in labels[item.path]}:
            bearers[label].append(name)
    chosen = {name for name in order if groups[name][0].path in valid}
    for names in sorted(bearers.values(), key=lambda names: (len(names), names)):
        held = chosen.intersection(names)
        if len(names) > 1 and not held:
            chosen.add(names[0])
        elif len(names) > 1 and len(held) == len(names):
            chosen.remove(names[0])
    return {item.path for name in chosen for item in groups[name]}


def check_classes(items: Sequence[Item], *, unreadable: Sequence[Item], task: Task = "classification") -> None:
    """Raise InvalidInput unless there are two classes with MIN_PER_CLASS readable pictures each; test items aside.

    Of labels it takes one, with as many pictures that bear it and that do not; of values, twice as many pictures that
    are not all of one value.
    """
    if task == "multilabel":
        _check_labels([item for item in items if item.split != "test"])
        return
    if task == "regression":
        _check_values([item for item in items if item.split != "test"])
        return
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
            got=f"one class, {next(iter(counts))!r} ({sum(counts.values()):,} pictures)",
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


def _check_labels(items: Sequence[Item]) -> None:
    n_of = Counter(label for item in items for label in split_labels(item.label, task="multilabel"))
    if not n_of:
        got = f"{len(items):,} readable pictures, none of which bears a label"
        raise InvalidInput("DATA", got=got, want="labels, several separated by ';'")
    poor = [f"{label!r} is on {n:,}" for label, n in sorted(n_of.items()) if n < MIN_PER_CLASS]
    rife = [
        f"{label!r} is missing on {len(items) - n:,}"
        for label, n in sorted(n_of.items())
        if len(items) - n < MIN_PER_CLASS
    ]
    if poor or rife:
        raise InvalidInput(
            "DATA",
            got=f"too few of {len(items):,} readable pictures to tell by: {'; '.join([*poor, *rife])}",
            want=f"at least {MIN_PER_CLASS} with each label and as many without it, and better 50",
            hint="Add pictures, or take the label out.",
        )


def _check_values(items: Sequence[Item]) -> None:
    least = 2 * MIN_PER_CLASS
    if len(items) < least:
        got = f"{len(items):,} readable pictures"
        raise InvalidInput("DATA", got=got, want=f"at least {least} with a value, and better 200")
    if len({item.label for item in items}) < 2:
        raise InvalidInput("DATA", got=f"the value {items[0].label} for every picture", want="values that differ")


def _check_sides(split: Split, task: Task) -> None:
    if task != "classification" and not (split.train and split.valid):  # of classes, more can be told
        name = "valid" if split.train else "train"
        raise InvalidInput("split", got=f"no picture in {name}", want="pictures on both sides")
    train, valid = (
        {label for item in side for label in split_labels(item.label, task=task)} for side in (split.train, split.valid)
    )
    is_grouped = any(item.group is not None for item in (*split.train, *split.valid))
    hint = "Move some pictures over, or drop the split and let drivetrain make one."
    if is_grouped:
        hint = "Pictures of one group stay together, so a class needs two groups at least."
    for side, other, name in ((train, valid, "valid"), (valid, train, "train")):
        missing = sorted(side - other)
        if missing:
            got = f"no picture of {', '.join(map(repr, missing))} in {name}"
            raise InvalidInput("split", got=got, want="every class on both sides", hint=hint)


def _check_groups(split: Split) -> None:
    sides_of: dict[str, set[str]] = defaultdict(set)
    for name, items in (("train", split.train), ("valid", split.valid), ("test", split.left_out)):
        for item in items:
            if item.group is not None:
                sides_of[item.group].add(name)
    torn = sorted(group for group, names in sides_of.items() if len(names) > 1)
    if torn:
        raise InvalidInput(
            "split",
            got=f"pictures of group {torn[0]!r} in {' and '.join(sorted(sides_of[torn[0]]))}"
            + (f", and {len(torn) - 1:,} more groups like it" if len(torn) > 1 else ""),
            want="each group on one side",
            hint="Give all pictures of a group the same split, or drop the column `split`.",
        )
