"""Tensors of the Open Inference Protocol, from and to JSON and little-endian bytes. No request, no model."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.errors import InvalidInput
from drivetrain.serve.errors import TooLarge
from drivetrain.serve.json_body import kind_of

__all__ = ["DTYPES", "Tensor", "decode_values", "encode_binary", "encode_json_data", "read_shape", "unpack_bytes"]

# datatype -> numpy's little-endian form; BYTES has none
DTYPES: dict[str, str | None] = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BYTES": None,
}  # fmt: skip
_MAX_DIMENSIONS = 8
_MAX_ELEMENTS = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor: numbers (shape), or for BYTES a flat list of strings of bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | list[bytes]
    parameters: Mapping[str, object] = field(default_factory=dict)


def read_shape(raw: object, where: str) -> tuple[int, ...]:
    """A shape whose product is that of a tensor which could be sent; Python's own integers, so nothing overflows."""
    if not isinstance(raw, list) or len(raw) > _MAX_DIMENSIONS:
        raise InvalidInput(where, got=kind_of(raw), want=f"a list of at most {_MAX_DIMENSIONS} whole numbers")
    for size in raw:
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidInput(where, got=str(size)[:40], want="whole numbers of at least 0")
    if math.prod(raw) > _MAX_ELEMENTS:
        raise TooLarge(where, got="a shape of too many elements", want=f"at most {_MAX_ELEMENTS}")
    return tuple(raw)


def decode_values(
    datatype: str,
    shape: tuple[int, ...],
    *,
    where: str,
    data: object = None,
    raw: memoryview | None = None,
) -> NDArray[Any] | list[bytes]:
    """The values, from JSON `data` (flat or nested) or from `raw` bytes. Raises InvalidInput where they do not fit."""
    dtype, count = DTYPES[datatype], math.prod(shape)
    if raw is not None:
        if dtype is None:
            return unpack_bytes(raw, count, where)
        wanted = count * np.dtype(dtype).itemsize
        if len(raw) != wanted:
            raise InvalidInput(where, got=f"{len(raw)} bytes", want=f"{wanted} for {datatype} of shape {list(shape)}")
        return np.frombuffer(raw, dtype).reshape(shape)
    if datatype == "FP16":
        raise InvalidInput(where, got="FP16 in JSON", want="binary data, or FP32")
    flat = _flatten(data, shape, where)
    if len(flat) != count:
        raise InvalidInput(where, got=f"{len(flat)} elements", want=f"{count} for shape {list(shape)}")
    if dtype is None:
        return [_from_base64(one, where) for one in flat]
    return _numbers(flat, datatype, dtype, where).reshape(shape)


def unpack_bytes(raw: memoryview, count: int, where: str) -> list[bytes]:
    """`count` elements, each behind its length in 4 bytes."""
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) < count:
        if at + 4 > len(raw):
            break
        (length,) = struct.unpack_from("<I", raw, at)
        if at + 4 + length > len(raw):
            break
        found.append(bytes(raw[at + 4 : at + 4 + length]))
        at += 4 + length
    if at != len(raw) or len(found) != count:
        raise InvalidInput(where, got=f"{len(raw)} bytes that are not {count} elements", want="length, bytes, ...")
    return found


def encode_binary(tensor: Tensor) -> bytes:
    """As `binary_tensor_data` has it."""
    if isinstance(tensor.values, list):
        return b"".join(struct.pack("<I", len(one)) + one for one in tensor.values)
    dtype = DTYPES[tensor.datatype]
    assert dtype is not None
    return tensor.values.astype(dtype, copy=False).tobytes()


def encode_json_data(tensor: Tensor) -> list[Any]:
    """Flat, row by row; BYTES of ours are text."""
    if isinstance(tensor.values, list):
        return [one.decode() for one in tensor.values]
    flat: list[Any] = tensor.values.ravel().tolist()
    return flat


def _flatten(data: object, shape: tuple[int, ...], where: str) -> Sequence[Any]:
    """The elements of flat data, or of data nested exactly as `shape`."""
    if not isinstance(data, list):
        raise InvalidInput(where, got=kind_of(data), want="a list")
    if not data or not isinstance(data[0], list):
        return data  # a list among its elements is told as no number
    rows: list[Any] = [data]
    for depth, size in enumerate(shape):
        for row in rows:
            if not isinstance(row, list) or len(row) != size:
                got = f"{len(row)} elements" if isinstance(row, list) else kind_of(row)
                raise InvalidInput(where, got=f"{got} at depth {depth}", want=f"lists nested as shape {list(shape)}")
        rows = [one for row in rows for one in row]
    return rows


def _numbers(flat: Sequence[Any], datatype: str, dtype: str, where: str) -> NDArray[Any]:
    kinds = set(map(type, flat))
    allowed = {bool} if datatype == "BOOL" else {int, float} if datatype.startswith("FP") else {int}
    if kinds - allowed:
        odd = next(one for one in flat if type(one) not in allowed)
        raise InvalidInput(where, got=kind_of(odd), want=f"elements of {datatype}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype)
    except (OverflowError, ValueError):
        raise InvalidInput(where, got="a number out of range", want=f"elements of {datatype}") from None


def _from_base64(text: object, where: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidInput(where, got=kind_of(text), want="base64 in strings")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(where, got="no base64", want="A-Z a-z 0-9 + / and = at its end") from None
