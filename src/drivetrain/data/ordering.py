"""A shuffle of items that is the same for the same seed, whatever order they come in and wherever they lie."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.errors import InvalidInput

from .rows import is_row, name_cells

__all__ = ["draw_rank", "name_items", "shuffle_by_name"]


def shuffle_by_name(names: Sequence[str], seed: int) -> list[int]:
    """Indices of `names` in an order that depends on the set of names and the seed alone.

    Equal names stand for equal items; the first of them is the first in the order given.
    """
    seen: Counter[str] = Counter()
    ranks = []
    for name in names:
        ranks.append(draw_rank(seed, f"{name}\0{seen[name]}"))
        seen[name] += 1
    return sorted(range(len(names)), key=lambda at: ranks[at])


def draw_rank(seed: int, name: str) -> bytes:
    """Where a name stands in the order of a seed."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()


def name_items(items: Sequence[Any]) -> list[str]:
    """What each item is called everywhere: a path from the folder that all have in common, a row by its cells.

    Raises InvalidInput for items that no other run would know again.
    """
    if items and all(isinstance(item, str | Path) for item in items):
        return _name_paths(items)
    return [_name(item) for item in items]


def _name_paths(paths: Sequence[str | Path]) -> list[str]:
    files = [Path(os.path.normpath(Path(path).absolute())) for path in paths]
    try:
        root = os.path.commonpath([file.parent for file in files])
    except ValueError:  # pragma: no cover - Windows: on two drives
        return [unicodedata.normalize("NFC", file.as_posix()) for file in files]
    return [unicodedata.normalize("NFC", file.relative_to(root).as_posix()) for file in files]


def _name(item: Any) -> str:
    if isinstance(item, str | Path):
        return unicodedata.normalize("NFC", Path(item).as_posix())
    if is_row(item):
        return repr(sorted((str(name), _name(cell)) for name, cell in name_cells(item).items()))
    if isinstance(item, list | tuple):
        return repr([_name(part) for part in item])
    if isinstance(item, np.ndarray):
        return f"{item.dtype} {item.shape} {hashlib.sha256(item.tobytes()).hexdigest()}"
    if isinstance(item, set | frozenset):
        return repr(sorted(_name(part) for part in item))
    if isinstance(item, np.generic):
        item = item.item()
    text = repr(item)
    if " at 0x" in text:  # an address differs from run to run
        want = "paths, rows of a table, numbers or arrays, which are the same in every run"
        raise InvalidInput("items", got=f"a {type(item).__name__}", want=want)
    return text
