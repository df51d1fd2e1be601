"""Numbers and arrays of a bundle's policy, read as if a stranger had written them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray
from drivetrain.errors import BundleRefused

__all__ = ["WHERE", "check_number", "read_column", "read_floats", "read_list", "read_number", "read_numbers", "refuse"]

WHERE = "manifest.decision"


def read_number(decision: Mapping[str, Any], *keys: str, low: float, high: float) -> float:
    """The number under these keys, from low to high; BundleRefused otherwise, as all of these."""
    value: Any = decision
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return check_number(value, ".".join((WHERE, *keys)), low=low, high=high)


def check_number(value: Any, where: str, *, low: float, high: float) -> float:
    """The value as a float."""
    if type(value) not in (int, float) or not (math.isfinite(value) and low <= value <= high):
        raise refuse(where, value, f"a number from {low:g} to {high:g}")
    return float(value)


def read_list(section: Mapping[str, Any], name: str, *, length: int) -> Sequence[Any]:
    """The list of this name, of this length."""
    found = section.get(name)
    if not isinstance(found, list | tuple) or len(found) != length:
        got = f"{len(found)} of them" if isinstance(found, list | tuple) else found
        raise refuse(f"{WHERE}.{name}", got, f"a list of {length}, one for each output")
    return found


def read_numbers(decision: Mapping[str, Any], *keys: str, length: int, low: float, high: float) -> FloatArray | None:
    """(length,): the list of numbers under these keys; None where there is no such key."""
    section: Any = decision
    for key in keys[:-1]:
        section = section.get(key) if isinstance(section, Mapping) else None
    if not isinstance(section, Mapping) or keys[-1] not in section:
        return None
    where, values = ".".join((WHERE, *keys)), section[keys[-1]]
    if not isinstance(values, list | tuple) or len(values) != length:
        got = f"{len(values)} of them" if isinstance(values, list | tuple) else values
        raise refuse(where, got, f"a list of {length}, one for each class")
    return np.array([check_number(value, where, low=low, high=high) for value in values])


def read_column(rules: Sequence[Any], name: str, *, low: float, high: float, where: str) -> FloatArray:
    """(n,): a number of each rule."""
    values = [rule.get(name) if isinstance(rule, Mapping) else None for rule in rules]
    return np.array([check_number(value, f"{where}.{name}", low=low, high=high) for value in values])


def read_floats(arrays: Mapping[str, NDArray[Any]], name: str) -> FloatArray:
    """The array of this name: floats, all finite."""
    array = arrays.get(name)
    if array is None or array.dtype.kind != "f" or not np.isfinite(array).all():
        got = "no such array" if array is None else f"{array.dtype} of shape {array.shape}"
        raise refuse(f"reference.npz/{name}", got, "finite floats")
    return array


def refuse(where: str, got: object, want: str) -> BundleRefused:
    """The error for a policy that is none."""
    return BundleRefused("bundle_manifest", where, got=got, want=want)
