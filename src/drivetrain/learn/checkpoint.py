"""Trees of tensors and plain values in one file, written whole: safetensors, with the plain values as JSON in its head.

One file and not two, so that a rename swaps all of it: tensors and JSON of two moments never meet. Nothing is pickled.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from drivetrain.errors import InvalidConfig, InvalidInput, NotFound

__all__ = ["SUFFIX", "CheckpointConfig", "read_tree", "write_tree"]

SUFFIX = ".safetensors"
_PLAIN = "drivetrain"  # key of the JSON in the file's head
_MARKS = frozenset({"$tensor", "$array", "$tuple", "$pairs"})
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """When a running training is kept so that it can be resumed: at the end of each epoch, and between."""

    name: str = "last"  # of the file in model_dir
    every_s: float = 60.0  # seconds between two; inf: at the ends of epochs only
    every_batches: int | None = None

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name:
            raise InvalidConfig("checkpoint.name", got=self.name, want="the name of a file, without its suffix")
        if not self.every_s >= 0 or math.isnan(self.every_s):
            raise InvalidConfig("checkpoint.every_s", got=self.every_s, want="seconds, at least 0")
        if self.every_batches is not None and self.every_batches < 1:
            raise InvalidConfig("checkpoint.every_batches", got=self.every_batches, want="at least 1, or None")


def write_tree(path: Path, tree: Mapping[str, Any]) -> None:
    """Write aside, fsync, rename: a reader, or a run that comes after a kill, finds the old file or the new one.

    The tree's leaves are tensors, arrays, texts, numbers, booleans and None; raises InvalidInput, with the place, for
    another. Makes the folder.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_pack(tree, "", tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        safetensors.torch.save_file(_unshare(tensors), aside, metadata={_PLAIN: plain})
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def read_tree(path: Path) -> dict[str, Any]:
    """What write_tree wrote; tensors in main memory. Raises NotFound, or InvalidInput for a file that is not ours."""
    if not path.is_file():
        raise NotFound(str(path), got="no such file", want=f"one that was saved, NAME{SUFFIX}")
    try:
        with safe_open(path, framework="pt") as file:
            plain = (file.metadata() or {}).get(_PLAIN)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no mapping
        if plain is None:
            raise KeyError(_PLAIN)
        tree: dict[str, Any] = _unpack(json.loads(plain), tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as exc:
        raise InvalidInput(
            str(path),
            got=f"a file that cannot be read as ours: {type(exc).__name__}: {exc}",
            want=f"one that a Learner saved, NAME{SUFFIX}",
            hint="Save it anew, or leave it out.",
        ) from exc
    return tree


def _pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """The tree with each tensor replaced by its name in `tensors`."""
    if isinstance(value, Tensor):
        tensors[place] = value.detach()
        return {"$tensor": place}
    if isinstance(value, np.ndarray):
        tensors[place] = torch.from_numpy(np.ascontiguousarray(value))
        return {"$array": place}
    if isinstance(value, np.generic):
        return _pack(value.item(), place, tensors)
    if isinstance(value, tuple):
        return {"$tuple": [_pack(one, f"{place}/{at}", tensors) for at, one in enumerate(value)]}
    if isinstance(value, list):
        return [_pack(one, f"{place}/{at}", tensors) for at, one in enumerate(value)]
    if isinstance(value, Mapping):
        packed = [(key, _pack(one, f"{place}/{key}" if place else str(key), tensors)) for key, one in value.items()]
        if all(isinstance(key, str) and key not in _MARKS for key in value):
            return dict(packed)
        return {"$pairs": [[_pack(key, f"{place}/key", tensors), one] for key, one in packed]}
    if isinstance(value, _SCALARS):
        return value
    raise InvalidInput(
        f"{place or 'what is saved'}",
        got=f"a {type(value).__name__}",
        want="tensors, arrays, texts, numbers, booleans, None, and lists and dicts of these",
        hint="Nothing is pickled: a file that is loaded must not be able to run code.",
    )


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((mark, content),) = value.items()
        if mark == "$tensor":
            return tensors[content]
        if mark == "$array":
            return tensors[content].numpy()
        if mark == "$tuple":
            return tuple(_unpack(one, tensors) for one in content)
        if mark == "$pairs":
            return {_unpack(key, tensors): _unpack(one, tensors) for key, one in content}
    return {key: _unpack(one, tensors) for key, one in value.items()}


def _unshare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors with memory of their own: the format knows neither strides nor sharing."""
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = tensor.contiguous()
        start = whole.untyped_storage().data_ptr()
        own[name] = whole.clone() if start in seen else whole
        seen.add(start)
    return own


def _sync_folder(folder: Path) -> None:
    """Let the rename outlive a loss of power, where the system can say so of a folder."""
    if os.name != "posix":  # pragma: no cover -- Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
