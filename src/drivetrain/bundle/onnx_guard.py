"""Look through a stranger's ONNX file before a runtime opens it.

No file outside it, no operator that brings code, no subgraph: what is left is arithmetic in a straight line.
The runtime image has no `onnx` package, so this walks the protobuf wire format itself. Field numbers are those of
onnx.proto3: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from __future__ import annotations

from collections.abc import Iterator

from drivetrain.errors import BundleRefused

__all__ = ["check_onnx", "walk_fields"]

_MEMBER = "model.onnx"
_DOMAINS = ("", "ai.onnx")
_MAX_FIELDS = 200_000  # a hundred times what a large backbone has

# message -> {field number: the message it holds}, only along the ways that lead to a tensor or a node
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
# message -> {field number: what it would bring}
_REFUSED: dict[str, dict[int, str]] = {
    "model": {20: "training steps", 25: "functions of its own"},
    "attribute": {6: "a graph inside an operator", 11: "graphs inside an operator"},
    "tensor": {13: "tensor data in another file"},
}
_DOMAIN_FIELD = {"opset": 1, "node": 7}
_DATA_LOCATION = 14  # of a tensor: 0 here, 1 in another file


def check_onnx(data: bytes) -> None:
    """Raise BundleRefused (bundle_model) on external tensor data, a foreign operator domain, functions, subgraphs, or
    what is no ONNX."""
    if not data:
        raise _refuse("an empty file", "an ONNX model")
    waiting = [(memoryview(data), "model")]
    seen = 0
    while waiting:
        message, kind = waiting.pop()
        for number, value in walk_fields(message):
            seen += 1
            if seen > _MAX_FIELDS:
                raise _refuse("a message of countless parts", f"at most {_MAX_FIELDS:,} fields")
            _check_field(kind, number, value)
            child = _CHILDREN[kind].get(number)
            if child is not None:
                if not isinstance(value, memoryview):
                    raise _refuse("a damaged message", "an ONNX model")
                waiting.append((value, child))


def _check_field(kind: str, number: int, value: int | memoryview) -> None:
    what = _REFUSED.get(kind, {}).get(number)
    if kind == "tensor" and number == _DATA_LOCATION and value != 0:
        what = "tensor data in another file"
    if what is not None:
        raise _refuse(what, "one graph with all tensors inside model.onnx")
    if number == _DOMAIN_FIELD.get(kind):
        domain = bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else str(value)
        if domain not in _DOMAINS:
            raise _refuse(f"operators of {domain!r}", "standard ONNX operators only")


def walk_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one message; length-delimited values as views, fixed-width ones skipped over as 0."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:  # a protobuf reader would drop the high bits, and so see another field than we
            raise _refuse("a damaged message", "an ONNX model")
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
