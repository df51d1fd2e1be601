"""Split by groups that stay whole: copies of one picture, pictures of one animal, of one camera, of one day."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput

from .glimpse import glimpse_pictures
from .ordering import draw_rank, name_items
from .rows import is_empty, list_items, read_cell
from .splitters import Sides, check_pct, divide

__all__ = ["GroupSplitter"]

_GLIMPSE_SIDE = 112  # pixels: twice the samples a side of which a fingerprint is made


@dataclass(frozen=True, slots=True)
class GroupSplitter:
    """Holds out about valid_pct of the items, and never a part of a group: the same for any order and machine.

    `group` is a column, a callable of an item, or None: then near-duplicates are a group, found by looking at each
    picture (items are paths, or `get_path` gives an item's path). An item whose group is empty stands alone, and so
    does a picture that cannot be read. With `label` (a callable or a column) the share holds class by class. Groups are
    taken in the seed's order while they bring the share nearer. Raises InvalidInput where one group holds all items.
    """

    group: str | int | Callable[[Any], Hashable] | None = None
    valid_pct: float = 0.2
    seed: int = 42
    label: str | int | Callable[[Any], Hashable] | None = None
    get_path: Callable[[Any], str | Path] | None = None

    def __post_init__(self) -> None:
        check_pct("GroupSplitter(valid_pct)", self.valid_pct)

    def __call__(self, items: Any) -> Sides:
        items = list_items(items)
        names = name_items(items)
        groups: dict[str, list[int]] = defaultdict(list)
        for at, key in enumerate(self._find_groups(items, names)):
            groups[key].append(at)
        if len(groups) == 1 and len(items) > 1:
            got = f"one group of all {len(items)} items"
            raise InvalidInput("GroupSplitter(group)", got=got, want="two groups or more")
        label = self.label
        labels = ["" if label is None else str(_ask(label, item)) for item in items]
        return divide("GroupSplitter", len(items), _choose(groups, labels, self.valid_pct, self.seed))

    def _find_groups(self, items: Sequence[Any], names: Sequence[str]) -> list[str]:
        """A key for each item, the same for those of one group, and not depending on the order of the items."""
        if self.group is not None:
            values = [_ask(self.group, item) for item in items]
            return [
                f"item {name}" if is_empty(value) else f"group {value}"
                for name, value in zip(names, values, strict=True)
            ]
        clusters = _find_copies(self._list_files(items))
        first: dict[int, str] = {}
        for name, cluster in zip(names, clusters, strict=True):
            first[cluster] = min(name, first.get(cluster, name))
        return [first[cluster] for cluster in clusters]

    def _list_files(self, items: Sequence[Any]) -> list[str | Path]:
        files = [item if self.get_path is None else self.get_path(item) for item in items]
        for file in files:
            if not isinstance(file, str | Path):
                raise InvalidInput(
                    "GroupSplitter",
                    got=f"an item that is no path: {type(file).__name__}",
                    want="paths, to find copies among the pictures",
                    hint="Name a column or a callable as `group`, or give get_path.",
                )
        return files


def _ask(what: str | int | Callable[[Any], Hashable], item: Any) -> Any:
    return what(item) if callable(what) else read_cell(item, what)


def _find_copies(files: Sequence[str | Path]) -> list[int]:
    """A number for each file, the same for copies of one picture."""
    from drivetrain.imaging.fingerprint import cluster_copies, fingerprint

    def look(picture: Image.Image) -> FloatArray:
        return fingerprint(np.asarray(picture).transpose(2, 0, 1) / np.float32(127.5) - 1)  # as a network reads it

    seen = glimpse_pictures(files, look, side=_GLIMPSE_SIDE)
    readable = [at for at, found in enumerate(seen) if found is not None]
    clusters = [-1 - at for at in range(len(files))]  # what cannot be read stands alone
    if readable:
        ids = cluster_copies(np.stack([found for found in seen if found is not None]))
        for at, cluster in zip(readable, ids.tolist(), strict=True):
            clusters[at] = cluster
    return clusters


def _choose(groups: dict[str, list[int]], labels: Sequence[str], share: float, seed: int) -> list[int]:
    """The items held out: whole groups in the seed's order, each while it brings its classes nearer to their share."""
    left = {label: max(1, int(share * count)) for label, count in Counter(labels).items()}
    of_group = {key: Counter(labels[at] for at in members) for key, members in groups.items()}
    order = sorted(groups, key=lambda key: draw_rank(seed, key))
    chosen: list[str] = []
    for key in order:
        counts = of_group[key]
        if sum(abs(left[label] - n) - abs(left[label]) for label, n in counts.items()) < 0:
            chosen.append(key)
            for label, n in counts.items():
                left[label] -= n
    if order and not chosen:  # groups so large that none brought the share nearer: the smallest will have to do
        chosen.append(min(order, key=lambda key: len(groups[key])))
    return [at for key in chosen for at in groups[key]]
