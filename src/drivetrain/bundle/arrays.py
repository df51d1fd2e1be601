"""Arrays in and out of an npz without pickle, without compression, and without trust."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.errors import BundleRefused

__all__ = ["read_arrays", "write_arrays"]

_MEMBER = "reference.npz"
_DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8", "|u1", "|b1")


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An uncompressed npz with fixed times: equal arrays give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
    return out.getvalue()


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz. Raises BundleRefused: bundle_pickle for objects, bundle_size, bundle_member."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > len(data) or any(info.compress_type for info in infos):
                raise BundleRefused("bundle_size", _MEMBER, got="a compressed archive", want="a stored one")
            for info in infos:
                arrays[info.filename.removesuffix(".npy")] = _read_array(archive.read(info), info.filename)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as exc:
        raise BundleRefused("bundle_member", _MEMBER, got=str(exc), want="an npz archive") from None
    return arrays


def _read_array(data: bytes, name: str) -> NDArray[Any]:
    where = f"{_MEMBER}/{name}"
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read_header(stream)
    except (ValueError, SyntaxError, TypeError) as exc:
        raise BundleRefused("bundle_member", where, got=str(exc), want="an npy array") from None
    if dtype.hasobject:
        raise BundleRefused("bundle_pickle", where, got="Python objects", want="plain numbers")
    if dtype.str not in _DTYPES or in_columns:
        raise BundleRefused("bundle_member", where, got=dtype.str, want="row-major " + ", ".join(_DTYPES))
    body = data[stream.tell() :]
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(body):
        raise BundleRefused("bundle_size", where, got=f"shape {shape} in {len(body):,} bytes", want="a shape that fits")
    return np.frombuffer(body, dtype=dtype).reshape(shape)
