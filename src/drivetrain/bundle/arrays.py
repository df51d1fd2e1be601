"""Arrays in and out of an npz without pickle, without compression, and without trust."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.bundle.stored_zip import read_stored_zip, write_stored_zip
from drivetrain.errors import BundleRefused

__all__ = ["read_arrays", "write_arrays"]

_MEMBER = "reference.npz"
_DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8", "|u1", "|b1")
_MAX_ARRAYS = 64
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}\.npy")
# numpy's own reader evaluates the header as Python and mends old ones; ours takes what our writer writes, to the letter
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<size>..)"
    rb"(?P<header>\{'descr': '(?P<dtype>[^'\n]{2,8})', 'fortran_order': (?P<columns>True|False), "
    rb"'shape': \((?P<shape>|[0-9]{1,10},|[0-9]{1,10}(?:, [0-9]{1,10}){1,3})\), \} *\n)",
    re.DOTALL,
)


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An uncompressed npz with fixed times: equal arrays give equal bytes."""
    members: dict[str, bytes] = {}
    for name in sorted(arrays):
        member = io.BytesIO()
        np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), version=(1, 0), allow_pickle=False)
        members[f"{name}.npy"] = member.getvalue()
    return write_stored_zip(members)


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz. Raises BundleRefused: bundle_pickle for objects, bundle_size, bundle_member, bundle_zip."""
    members = read_stored_zip(io.BytesIO(data), where=_MEMBER, max_members=_MAX_ARRAYS, check=_check_name)
    return {name.removesuffix(".npy"): _read_array(member, f"{_MEMBER}/{name}") for name, member in members.items()}


def _check_name(name: str, _size: int) -> None:
    if not _NAME.fullmatch(name):
        raise BundleRefused("bundle_member", f"{_MEMBER}/{name}", got="an unknown member", want="arrays, NAME.npy")


def _read_array(data: bytes, where: str) -> NDArray[Any]:
    match = _HEADER.match(data)
    if match is None or int.from_bytes(match["size"], "little") != len(match["header"]):
        raise BundleRefused("bundle_member", where, got="another header", want="a plain npy array, version 1.0")
    dtype = match["dtype"].decode("latin-1")
    if dtype.lstrip("<>|=")[:1] == "O":
        raise BundleRefused("bundle_pickle", where, got="Python objects", want="plain numbers")
    if dtype not in _DTYPES or match["columns"] == b"True":
        raise BundleRefused("bundle_member", where, got=dtype, want="row-major " + ", ".join(_DTYPES))
    shape = tuple(int(side) for side in match["shape"].split(b",") if side)
    body_bytes = len(data) - match.end()
    if math.prod(shape) * np.dtype(dtype).itemsize != body_bytes:
        got = f"shape {shape} in {body_bytes:,} bytes"
        raise BundleRefused("bundle_size", where, got=got, want="a shape that fits")
    return np.frombuffer(data, dtype=dtype, offset=match.end()).reshape(shape)
