"""The description of the routes as the page /docs shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .describe import TAGS

__all__ = ["Group", "Operation", "view_docs"]

_PICTURE = "--data-binary @photo.jpg -H 'Content-Type: image/jpeg'"
# operation -> what curl is given besides the address
_CURL = {
    "predict": _PICTURE,
    "feedback": """-H 'Content-Type: application/json' -d '{"verdict": "wrong", "label": "LABEL"}'""",
    "explain": _PICTURE,
    "v2_infer": f"{_PICTURE} -H 'Inference-Header-Content-Length: 0'",
    "v2_infer_version": f"{_PICTURE} -H 'Inference-Header-Content-Length: 0'",
    "v2_repository_index": "-X POST",
    "v2_repository_load": "-X POST",
    "v2_repository_unload": "-X POST",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a schema; `fields` stand below it."""

    name: str
    kind: str
    is_required: bool
    text: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent or comes back in one media type; more than one schema: any of them."""

    media_type: str
    schemas: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One status."""

    status: str
    text: str
    bodies: tuple[Body, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path."""

    id: str
    method: str
    path: str
    summary: str
    text: tuple[str, ...]
    is_open: bool  # needs no key
    parameters: tuple[Field, ...]
    sent_text: str
    sent: tuple[Body, ...]
    replies: tuple[Reply, ...]
    curl: str


@dataclass(frozen=True, slots=True)
class Group:
    """The operations of one tag."""

    name: str
    title: str
    text: str
    operations: tuple[Operation, ...]


def view_docs(described: Mapping[str, Any], *, base: str) -> list[Group]:
    """The groups, in the order of TAGS; `base` is this server's address, for the examples."""
    found: dict[str, list[Operation]] = {name: [] for name in TAGS}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            [tag] = operation["tags"]
            found[tag].append(_operation(path, method.upper(), operation, base))
    return [Group(name, *TAGS[name], tuple(of)) for name, of in found.items() if of]


def _operation(path: str, method: str, raw: Mapping[str, Any], base: str) -> Operation:
    texts = [" ".join(part.split()) for part in raw.get("description", "").split("\n\n") if part.strip()]
    body = raw.get("requestBody", {})
    parameters = tuple(
        Field(
            one["name"],
            f"{_kind(one['schema'])}, {one['in']}",
            bool(one.get("required")),
            one.get("description", ""),
            (),
        )
        for one in raw.get("parameters", ())
    )
    return Operation(
        id=raw["operationId"],
        method=method,
        path=path,
        summary=texts[0] if texts else raw.get("summary", ""),
        text=tuple(texts[1:]),
        is_open=not raw.get("security"),
        parameters=parameters,
        sent_text=body.get("description", ""),
        sent=_bodies(body.get("content", {})),
        replies=tuple(
            Reply(str(status), one["description"], _bodies(one.get("content", {})) if status < "300" else ())
            for status, one in raw["responses"].items()
        ),
        curl=_curl(path, method, raw["operationId"], base),
    )


def _bodies(content: Mapping[str, Any]) -> tuple[Body, ...]:
    return tuple(
        Body(kind, tuple(_field("", one, is_required=True) for one in _choices(of.get("schema", {}))))
        for kind, of in content.items()
    )


def _choices(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(schema["anyOf"]) if "anyOf" in schema else [schema]


def _field(name: str, schema: Mapping[str, Any], *, is_required: bool, depth: int = 0) -> Field:
    inner = schema.get("items", {}) if schema.get("type") == "array" else schema
    fields: list[Field] = []
    if depth < 5:
        for one in _choices(inner):
            required = one.get("required", ())
            fields += [
                _field(key, value, is_required=key in required, depth=depth + 1)
                for key, value in one.get("properties", {}).items()
            ]
    return Field(name, _kind(schema), is_required, schema.get("description", ""), _once(fields))


def _once(fields: list[Field]) -> tuple[Field, ...]:
    """The fields of several schemas in one list; a name that stands in more than one is told once."""
    return tuple({one.name: one for one in reversed(fields)}.values())[::-1]


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(json.dumps(one) for one in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one) for one in schema["anyOf"]))
    kind = schema.get("type", "any")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array":
        return f"list of {_kind(schema['items'])}" if schema.get("items") else "list"
    if schema.get("format") == "binary":
        return "bytes"
    return str(kind)


def _curl(path: str, method: str, operation_id: str, base: str) -> str:
    given = _CURL.get(operation_id, "")
    address = base.rstrip("/") + path.replace("{", "").replace("}", "")
    return f"curl {given} '{address}'" if given else f"curl '{address}'" if method == "GET" else ""
