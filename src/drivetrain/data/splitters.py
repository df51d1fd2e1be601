"""Splitters: which items train and which are held out. Each is called with the items and gives two lists of indices.

Where one draws, the draw hangs on the seed and on what each item is called (`data.ordering`): the same split for any
order of the files and on any machine. Items are paths, rows of a table, or a pandas frame.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetrain.errors import InvalidInput

from .ordering import name_items, shuffle_by_name
from .rows import list_items, read_cell

__all__ = [
    "ColSplitter",
    "FuncSplitter",
    "GrandparentSplitter",
    "IndexSplitter",
    "RandomSplitter",
    "Sides",
    "TrainTestSplitter",
    "check_pct",
    "divide",
]

Sides = tuple[list[int], list[int]]  # train, valid; each ascending
Labels = Sequence[Hashable] | Callable[[Any], Hashable] | str

_TRUE = frozenset({"true", "yes", "1", "1.0"})
_FALSE = frozenset({"false", "no", "0", "0.0"})


@dataclass(frozen=True, slots=True)
class RandomSplitter:
    """Holds out int(valid_pct * n) of n items, drawn by `seed`.

    Without a seed it draws anew at each call, as fastai does: a model trained on before may then have seen what is held
    out now. Raises InvalidInput for a share outside (0, 1), or where a side would be empty.
    """

    valid_pct: float = 0.2
    seed: int | None = None

    def __post_init__(self) -> None:
        check_pct("RandomSplitter(valid_pct)", self.valid_pct)

    def __call__(self, items: Any) -> Sides:
        items = list_items(items)
        order = shuffle_by_name(name_items(items), _seed_of(self.seed))
        n_valid = int(self.valid_pct * len(items))
        hint = f"{self.valid_pct:g} of {len(items)} is less than one: take a larger valid_pct, or more items."
        return divide("RandomSplitter", len(items), order[:n_valid], hint="" if n_valid else hint)


@dataclass(frozen=True, slots=True)
class TrainTestSplitter:
    """Holds out a share of each class: `stratify` gives the labels (one for each item, a callable, or a column).

    `test_size` is a share (rounded up, as in scikit-learn) or a number of items; without `stratify` all items are one
    class. The numbers per class are as near to the share as whole items allow. Without `random_state` it draws anew at
    each call. Raises InvalidInput where a class has one item, or a side has fewer items than there are classes.
    """

    test_size: float = 0.2
    random_state: int | None = None
    stratify: Labels | None = None

    def __post_init__(self) -> None:
        if not _is_whole(self.test_size) or self.test_size < 1:
            check_pct("TrainTestSplitter(test_size)", self.test_size, also=", or a number of items")

    def __call__(self, items: Any) -> Sides:
        items = list_items(items)
        labels = self._read_labels(items)
        n_valid = int(self.test_size) if _is_whole(self.test_size) else math.ceil(self.test_size * len(items))
        left: dict[Hashable, int] = {None: n_valid}
        if self.stratify is not None:
            left = _deal_by_class(Counter(labels), n_valid)
        valid = []
        for at in shuffle_by_name(name_items(items), _seed_of(self.random_state)):
            if left[labels[at]] > 0:
                left[labels[at]] -= 1
                valid.append(at)
        return divide("TrainTestSplitter", len(items), valid)

    def _read_labels(self, items: Sequence[Any]) -> list[Hashable]:
        if self.stratify is None:
            return [None] * len(items)
        if callable(self.stratify):
            return [self.stratify(item) for item in items]
        if isinstance(self.stratify, str):
            return [read_cell(item, self.stratify) for item in items]
        labels = list(self.stratify)
        if len(labels) != len(items):
            got, want = f"{len(labels)} labels for {len(items)} items", "a label for each item"
            raise InvalidInput("TrainTestSplitter(stratify)", got=got, want=want)
        return labels


def _deal_by_class(counts: Counter[Hashable], n_valid: int) -> dict[Hashable, int]:
    """How many of each class are held out: its exact share rounded down, what is left to the largest remainders."""
    n = counts.total()
    poor = sorted(str(label) for label, count in counts.items() if count < 2)
    if poor:
        got = f"one item of {', '.join(map(repr, poor))}"
        raise InvalidInput("TrainTestSplitter(stratify)", got=got, want="two items of each class or more")
    if min(n_valid, n - n_valid) < len(counts):
        raise InvalidInput(
            "TrainTestSplitter(test_size)",
            got=f"{n_valid} of {n} items held out, of {len(counts)} classes",
            want="as many items on each side as there are classes, or more",
        )
    dealt = {label: count * n_valid // n for label, count in counts.items()}
    by_remainder = sorted(counts, key=lambda label: (-(counts[label] * n_valid % n), str(label)))
    for label in by_remainder[: n_valid - sum(dealt.values())]:
        dealt[label] += 1
    return dealt


@dataclass(frozen=True, slots=True)
class GrandparentSplitter:
    """By the name of the folder above a picture's folder: train/grizzly/1.jpg trains, valid/grizzly/2.jpg is held out.

    Either name may be several; items in other folders stand on neither side. Raises InvalidInput where a side is empty.
    """

    train_name: str | Sequence[str] = "train"
    valid_name: str | Sequence[str] = "valid"

    def __post_init__(self) -> None:
        both = set(_listed(self.train_name)) & set(_listed(self.valid_name))
        if both:
            raise InvalidInput("GrandparentSplitter", got=f"{min(both)!r} on both sides", want="a folder on one side")

    def __call__(self, items: Any) -> Sides:
        names = [Path(item).parent.parent.name for item in list_items(items)]
        sides = []
        for what, wanted in (("train_name", self.train_name), ("valid_name", self.valid_name)):
            sides.append([at for at, name in enumerate(names) if name in _listed(wanted)])
            if not sides[-1]:
                there = ", ".join(sorted(map(repr, set(names)))[:10]) or "no item"
                want = f"items two folders below one of these: {there}"
                raise InvalidInput(f"GrandparentSplitter({what})", got=wanted, want=want)
        return sides[0], sides[1]


@dataclass(frozen=True, slots=True)
class ColSplitter:
    """By a column: held out are the rows where it says so (true, yes, 1), or where it holds `on`, or one of `on`.

    The column is named, or a position. Raises NotFound for a column that is not there, InvalidInput for a cell that is
    neither true nor false, or where a side would be empty.
    """

    col: str | int = "is_valid"
    on: Any = None

    def __call__(self, items: Any) -> Sides:
        cells = [read_cell(row, self.col) for row in list_items(items)]
        if self.on is None:
            valid = [at for at, cell in enumerate(cells) if self._is_true(at, cell)]
        else:
            wanted = list(self.on) if isinstance(self.on, list | tuple | set | frozenset) else [self.on]
            valid = [at for at, cell in enumerate(cells) if cell in wanted]
        return divide("ColSplitter", len(cells), valid)

    def _is_true(self, at: int, cell: Any) -> bool:
        text = str(cell).strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise InvalidInput(
            f"ColSplitter({self.col!r}), row {at}",
            got=cell,
            want="true or false (yes or no, 1 or 0)",
            hint="Name what is held out: ColSplitter(col, on='valid').",
        )


@dataclass(frozen=True, slots=True)
class IndexSplitter:
    """Holds out the items at these positions. Raises InvalidInput for a position that is none."""

    valid_idx: Iterable[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "valid_idx", tuple(int(at) for at in self.valid_idx))

    def __call__(self, items: Any) -> Sides:
        n = len(list_items(items))
        for at in self.valid_idx:
            if not 0 <= at < n:
                raise InvalidInput("IndexSplitter(valid_idx)", got=at, want=f"0 to {n - 1}, for {n} items")
        return divide("IndexSplitter", n, self.valid_idx)


@dataclass(frozen=True, slots=True)
class FuncSplitter:
    """Holds out the items for which `func` is true. Raises InvalidInput where a side would be empty."""

    func: Callable[[Any], Any]

    def __call__(self, items: Any) -> Sides:
        items = list_items(items)
        return divide("FuncSplitter", len(items), [at for at, item in enumerate(items) if self.func(item)])


def divide(what: str, n: int, valid: Iterable[int], *, hint: str = "") -> Sides:
    """The two sides, ascending. Raises InvalidInput, in the name of the splitter, where one would be empty."""
    held = set(valid)
    if not 0 < len(held) < n:
        raise InvalidInput(
            what,
            got=f"{len(held)} of {n} items held out",
            want="at least one item on each side",
            hint=hint if n else "There are no items: look at what get_items finds.",
        )
    return [at for at in range(n) if at not in held], sorted(held)


def check_pct(what: str, share: object, *, also: str = "") -> None:
    """Raise InvalidInput for a share outside (0, 1)."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise InvalidInput(what, got=share, want=f"a share between 0 and 1, such as 0.2{also}")


def _seed_of(seed: int | None) -> int:
    return secrets.randbits(64) if seed is None else seed


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names
