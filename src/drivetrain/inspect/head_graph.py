"""What a bundle's network ends in, read from its model.onnx: which maps the head reads, and with what weights.

The runtime image has no `onnx` package, so this walks the protobuf wire format, as `bundle.onnx_guard` does before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.bundle.onnx_guard import walk_fields
from drivetrain.errors import Unavailable

__all__ = ["HeadGraph", "Reading", "give_out", "read_head_graph"]

_GRAPH, _NODE, _INITIALIZER, _OUTPUT = 7, 1, 5, 12  # field numbers of onnx.proto3
_FLOAT = 1
_WANT = "a network that ends in `embedding` @ head.weight + head.bias, as `drivetrain train` writes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One number a channel that the head reads of a map (n, c, h, w): its mean over the places, or its spread."""

    tensor: str
    kind: Literal["mean", "spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadGraph:
    """logits (k,) = embedding (d,) @ weight.T + bias; embedding is the root of what `readings` give, side by side."""

    weight: FloatArray  # (k, d) float32
    bias: FloatArray  # (k,) float32
    readings: tuple[Reading, ...]  # in the order of the features; the head may read the first of them only

    @property
    def tensors(self) -> tuple[str, ...]:
        """The maps, each once."""
        return tuple(dict.fromkeys(reading.tensor for reading in self.readings))


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]


def read_head_graph(model: bytes) -> HeadGraph:
    """Raises Unavailable where there is no such head; whether it is really read so, `Explainer` proves by numbers."""
    makers: dict[str, _Node] = {}
    arrays: dict[str, FloatArray] = {}
    for graph in _pick(memoryview(model), _GRAPH):
        for number, value in walk_fields(graph):
            if number == _NODE and isinstance(value, memoryview):
                node, outputs = _read_node(value)
                makers |= dict.fromkeys(outputs, node)
            elif number == _INITIALIZER and isinstance(value, memoryview):
                name, array = _read_head_array(value)
                if array is not None:
                    arrays[name] = array
    weight, bias = arrays.get("head.weight"), arrays.get("head.bias")
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise Unavailable("why", got="a network without a linear head", want=_WANT)
    return HeadGraph(weight=weight, bias=bias, readings=_list_readings(makers))


def give_out(model: bytes, tensors: Iterable[str]) -> bytes:
    """The model, giving out these inner tensors too: protobuf reads two messages, one behind the other, as one."""
    outputs = b"".join(_pack(_OUTPUT, _pack(1, name.encode())) for name in tensors)
    return model + _pack(_GRAPH, outputs)


def _list_readings(makers: dict[str, _Node]) -> tuple[Reading, ...]:
    """The mean of the last map; then of each tap the mean, and the root of its variance."""
    features = makers.get("features")
    if features is None:  # a bundle of before, whose head read nothing else
        return (Reading(tensor="feature_map", kind="mean"),)
    parts: Sequence[_Node | None] = [features]
    if features.kind == "Concat":
        parts = [makers.get(name) for name in features.inputs]
    readings: list[Reading] = []
    for part in parts:
        if part is not None and part.kind == "ReduceMean":
            readings.append(Reading(tensor=part.inputs[0], kind="mean"))
        elif part is not None and part.kind == "Sqrt" and readings:
            readings.append(Reading(tensor=readings[-1].tensor, kind="spread"))
        else:  # a kind that we do not know: what follows would be taken for another's
            break
    return tuple(readings)


def _read_node(node: memoryview) -> tuple[_Node, list[str]]:
    inputs, outputs, kind = [], [], ""
    for number, value in walk_fields(node):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            kind = _text(value)
    return _Node(kind, tuple(inputs)), outputs


def _read_head_array(tensor: memoryview) -> tuple[str, FloatArray | None]:
    """Name and values; None for what is not the head's, or not float32 in plain bytes."""
    fields = list(walk_fields(tensor))
    name = next((_text(value) for number, value in fields if number == 8 and isinstance(value, memoryview)), "")
    if name not in ("head.weight", "head.bias"):
        return name, None
    dims = [value for number, value in fields if number == 1 and isinstance(value, int)]
    raw = next((value for number, value in fields if number == 9 and isinstance(value, memoryview)), memoryview(b""))
    is_plain = (2, _FLOAT) in [(number, value) for number, value in fields if number == 2]
    if not is_plain or not dims or len(raw) != 4 * int(np.prod(dims)):
        return name, None
    return name, np.frombuffer(bytes(raw), dtype="<f4").reshape(dims)


def _pick(message: memoryview, wanted: int) -> Iterable[memoryview]:
    return (value for number, value in walk_fields(message) if number == wanted and isinstance(value, memoryview))


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def _pack(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
