"""Look through a stranger's ONNX file before a runtime opens it: no file outside it, no operator that brings code.

The runtime image has no `onnx` package, so this walks the protobuf wire format itself. Field numbers are those of
onnx.proto3: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from __future__ import annotations

from collections.abc import Iterator

from drivetrain.errors import BundleRefused

__all__ = ["check_onnx"]

_MEMBER = "model.onnx"
_DOMAINS = ("", "ai.onnx")
_MAX_DEPTH = 16

# message -> {field number: the message it holds}, only along the ways that lead to a tensor or a node
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
_DOMAIN_FIELD = {"opset": 1, "node": 7}


def check_onnx(data: bytes) -> None:
    """Raise BundleRefused (bundle_model) on external tensor data, a foreign operator domain, or what is no ONNX."""
    if not data:
        raise _refuse("an empty file", "an ONNX model")
    _check_message(memoryview(data), "model", depth=0)


def _check_message(data: memoryview, kind: str, *, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _refuse("messages nested without end", f"at most {_MAX_DEPTH} levels")
    children = _CHILDREN[kind]
    for number, value in _fields(data):
        if kind == "tensor" and (number == 13 or (number == 14 and value != 0)):
            raise _refuse("tensor data in another file", "all tensors inside model.onnx")
        if number == _DOMAIN_FIELD.get(kind) and isinstance(value, memoryview):
            domain = bytes(value).decode("utf-8", "replace")
            if domain not in _DOMAINS:
                raise _refuse(f"operators of {domain!r}", "standard ONNX operators only")
        if number in children:
            if not isinstance(value, memoryview):
                raise _refuse("a damaged message", "an ONNX model")
            _check_message(value, children[number], depth=depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one message; length-delimited values as views, fixed-width ones skipped over as 0."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _refuse("a damaged message", "an ONNX model")
        if at + size > end:
            raise _refuse("a message cut short", "an ONNX model")
        yield number, data[at : at + size] if wire == 2 else 0
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            raise _refuse("a message cut short", "an ONNX model")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise _refuse("a number that never ends", "an ONNX model")


def _refuse(got: str, want: str) -> BundleRefused:
    return BundleRefused("bundle_model", _MEMBER, got=got, want=want)
