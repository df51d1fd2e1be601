"""What an inference request of the Open Inference Protocol says: its JSON, and the bytes behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from drivetrain.errors import InvalidInput
from drivetrain.serve.errors import TooLarge
from drivetrain.serve.json_body import JsonLimits, kind_of, parse_json, plain_text
from drivetrain.serve.v2.tensors import DTYPES, Tensor, decode_values, read_shape

__all__ = ["Asked", "InferRequest", "json_limits", "parse_infer"]

_MAX_TENSORS = 16
_TEXT_MAX_CHARS = 256
_UNSUPPORTED = ("sequence_id", "sequence_start", "sequence_end", "shared_memory_region")
_RAW_NAME = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One output that the request names."""

    name: str
    is_binary: bool | None  # None: as the request says for all
    classification: int | None  # how many classes, best first


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A request, checked as far as it goes without a model."""

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Asked, ...] | None  # None: all
    is_binary: bool  # outputs that do not say otherwise come as bytes


def json_limits(pictures: int, side: int) -> JsonLimits:
    """What a request for so many pictures of `side` pixels may hold in JSON, nested or flat, a bracket a row."""
    return JsonLimits(values=pictures * 3 * side * side + 10_000, brackets=pictures * (3 * side + 4) + 10_000)


def parse_infer(body: bytes, header_length: str | None, limits: JsonLimits) -> InferRequest:
    """Raises InvalidInput or TooLarge. `header_length` is that of `Inference-Header-Content-Length`."""
    if header_length is None:
        return _read(parse_json(body, limits), memoryview(b""))
    if not header_length.isascii() or not header_length.isdigit() or len(header_length) > 12:
        raise InvalidInput("Inference-Header-Content-Length", got=header_length, want="a number of bytes")
    length = int(header_length)
    if length > len(body):
        want = f"at most {len(body)}, what was sent"
        raise InvalidInput("Inference-Header-Content-Length", got=header_length, want=want)
    if length == 0:  # the body is one picture
        tensor = Tensor(name=_RAW_NAME, datatype="BYTES", shape=(1,), values=[body])
        return InferRequest(id=None, inputs=(tensor,), outputs=None, is_binary=False)
    return _read(parse_json(body[:length], limits), memoryview(body)[length:])


def _read(raw: Any, binary: memoryview) -> InferRequest:
    if not isinstance(raw, dict):
        raise InvalidInput("body", got=kind_of(raw), want='an object with "inputs"')
    parameters = _parameters(raw, "parameters")
    id_ = plain_text(raw["id"], "id", max_chars=_TEXT_MAX_CHARS) if "id" in raw else None
    inputs, at = [], 0
    for number, one in enumerate(_objects(raw, "inputs")):
        tensor, at = _read_input(one, f"inputs[{number}]", binary, at)
        inputs.append(tensor)
    if not inputs:
        raise InvalidInput("inputs", got="none", want="one input")
    if at != len(binary):
        raise InvalidInput("body", got=f"{len(binary) - at} bytes behind the last tensor", want="none")
    outputs = None
    if raw.get("outputs"):
        outputs = tuple(_read_output(one, f"outputs[{n}]") for n, one in enumerate(_objects(raw, "outputs")))
        _refuse_twice("outputs", (one.name for one in outputs))
    elif "outputs" in raw:
        _objects(raw, "outputs")
    _refuse_twice("inputs", (one.name for one in inputs))
    is_binary = _flag(parameters, "binary_data_output", "parameters")
    return InferRequest(id=id_, inputs=tuple(inputs), outputs=outputs, is_binary=bool(is_binary))


def _read_input(raw: Mapping[str, Any], where: str, binary: memoryview, at: int) -> tuple[Tensor, int]:
    """The tensor, and where in `binary` the next one begins."""
    name = _name(raw, where)
    datatype = raw.get("datatype")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        got = datatype if isinstance(datatype, str) else kind_of(datatype)
        raise InvalidInput(f"{where}.datatype", got=got, want=f"one of {', '.join(DTYPES)}")
    shape = read_shape(raw.get("shape"), f"{where}.shape")
    parameters = _parameters(raw, f"{where}.parameters")
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in raw:
            raise InvalidInput(where, got="neither data nor binary_data_size", want="one of them")
        _check_content_type(parameters, datatype, where)
        values = decode_values(datatype, shape, where=f"{where}.data", data=raw["data"])
        return Tensor(name=name, datatype=datatype, shape=shape, values=values, parameters=parameters), at
    if "data" in raw:
        raise InvalidInput(where, got="both data and binary_data_size", want="one of them")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at:
        want = f"0 to {len(binary) - at}, the bytes that are left"
        raise InvalidInput(f"{where}.parameters.binary_data_size", got=str(size)[:40], want=want)
    raw_values = binary[at : at + size]
    values = decode_values(datatype, shape, where=f"{where} binary data", raw=raw_values)
    return Tensor(name=name, datatype=datatype, shape=shape, values=values, parameters=parameters), at + size


def _read_output(raw: Mapping[str, Any], where: str) -> Asked:
    parameters = _parameters(raw, f"{where}.parameters")
    count = parameters.get("classification")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise InvalidInput(f"{where}.parameters.classification", got=str(count)[:40], want="a whole number, at least 1")
    is_binary = _flag(parameters, "binary_data", f"{where}.parameters")
    return Asked(name=_name(raw, where), is_binary=is_binary, classification=count)


def _objects(raw: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = raw.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        got = kind_of(found) if not isinstance(found, list) else "a list with something else"
        raise InvalidInput(key, got=got if key in raw else "nothing", want="a list of objects")
    if len(found) > _MAX_TENSORS:
        raise TooLarge(key, got=f"{len(found)} tensors", want=f"at most {_MAX_TENSORS}")
    return found


def _name(raw: Mapping[str, Any], where: str) -> str:
    return plain_text(raw.get("name"), f"{where}.name", max_chars=_TEXT_MAX_CHARS)


def _parameters(raw: Mapping[str, Any], where: str) -> Mapping[str, object]:
    """Those of an object: text, numbers, true and false. What the server does not know is passed over."""
    found = raw.get("parameters", {})
    if not isinstance(found, dict):
        raise InvalidInput(where, got=kind_of(found), want="an object")
    for key, value in found.items():
        if not isinstance(value, str | int | float):
            raise InvalidInput(
                where, got=f"{kind_of(value)} as {key[:40]!r}", want="a string, a number or true or false"
            )
    for key in _UNSUPPORTED:
        if key in found and found[key] not in (0, "", False):
            raise InvalidInput(f"{where}.{key}", got="what this server does not do", want="none")
    return found


def _flag(parameters: Mapping[str, object], key: str, where: str) -> bool | None:
    value = parameters.get(key)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"{where}.{key}", got=str(value)[:40], want="true or false")
    return value


def _check_content_type(parameters: Mapping[str, object], datatype: str, where: str) -> None:
    kind = parameters.get("content_type", "base64")
    if datatype == "BYTES" and kind != "base64":
        raise InvalidInput(f"{where}.parameters.content_type", got=str(kind)[:40], want="base64")


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInput(what, got=f"{name!r} twice", want="each name once")
        seen.add(name)
