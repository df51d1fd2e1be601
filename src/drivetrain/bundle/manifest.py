"""The manifest: everything about a model that is not a tensor."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivetrain.errors import BundleRefused
from drivetrain.task import TASKS, Task

__all__ = ["SCHEMA_VERSION", "FileEntry", "Manifest"]

SCHEMA_VERSION = "1.0"  # the major number rises when an older reader would misread the file
_MAX_CLASSES = 10_000
_MAX_NAME_CHARS = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a name with these would steer the terminal that prints it


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One member of the archive."""

    path: str
    sha256: str
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `manifest.json` says. Sections that only people and later versions read are plain mappings."""

    name: str
    created_at: str  # UTC, ISO 8601; left out of the digest
    task: Task
    classes: tuple[str, ...]  # the labels, or the names of the values, by the network's outputs
    preprocess: Sequence[Mapping[str, Any]]
    training: Mapping[str, Any]
    decision: Mapping[str, Any]  # by task; always the out-of-domain rule, what is promised, and its statement
    evaluation: Mapping[str, Any]
    lineage: Mapping[str, Any]
    runtime: Mapping[str, Any]
    tolerance: float  # largest difference, of a probability or as a share, that the fixtures may show at load
    files: tuple[FileEntry, ...] = ()
    schema_version: str = SCHEMA_VERSION
    extra: Mapping[str, Any] = field(default_factory=dict)  # sections a newer minor version added

    def as_json(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return {
            "schema_version": self.schema_version,
            "name": self.name,
            "created_at": self.created_at,
            "task": self.task,
            "classes": list(self.classes),
            "preprocess": [dict(op) for op in self.preprocess],
            "training": dict(self.training),
            "decision": dict(self.decision),
            "evaluation": dict(self.evaluation),
            "lineage": dict(self.lineage),
            "runtime": dict(self.runtime),
            "tolerance": self.tolerance,
            "files": [{"path": f.path, "sha256": f.sha256, "size": f.size} for f in self.files],
            **self.extra,
        }

    @property
    def digest(self) -> str:
        """sha256 of the content: the same data, seed and machine give the same digest, whenever it was made."""
        content = {key: value for key, value in self.as_json().items() if key != "created_at"}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def from_json(cls, raw: object) -> Manifest:
        """Check every section's shape. Raises BundleRefused with code bundle_schema or bundle_manifest."""
        if not isinstance(raw, dict):
            raise _off("manifest.json", type(raw).__name__, "a JSON object")
        _check_schema(raw.get("schema_version"))
        values: dict[str, Any] = {}
        for name, kind in _SECTIONS.items():
            if not isinstance(raw.get(name), kind):
                got = type(raw[name]).__name__ if name in raw else "nothing"
                raise _off(f"manifest.{name}", got, f"a value of type {kind}")
            values[name] = raw[name]
        _check_values(values)
        values["classes"] = tuple(values["classes"])
        values["preprocess"] = tuple(values["preprocess"])
        values["files"] = tuple(_read_entry(entry) for entry in values["files"])
        extra = {key: value for key, value in raw.items() if key not in _SECTIONS}
        return cls(**values, extra=extra)


_SECTIONS: dict[str, type | tuple[type, ...]] = {
    "schema_version": str,
    "name": str,
    "created_at": str,
    "task": str,
    "classes": list,
    "preprocess": list,
    "training": dict,
    "decision": dict,
    "evaluation": dict,
    "lineage": dict,
    "runtime": dict,
    "tolerance": float,
    "files": list,
}


def _off(where: str, got: object, want: str) -> BundleRefused:
    return BundleRefused("bundle_manifest", where, got=got, want=want)


def _check_schema(version: object) -> None:
    major = SCHEMA_VERSION.partition(".")[0]
    if not isinstance(version, str) or not re.fullmatch(rf"{major}\.[0-9]{{1,4}}", version):
        raise BundleRefused(
            "bundle_schema",
            "manifest.schema_version",
            got=version,
            want=f"{major}.x",
            hint="Another generation of drivetrain made this file; install that one, or export anew.",
        )


def _check_values(values: Mapping[str, Any]) -> None:
    if values["task"] not in TASKS:
        raise _off("manifest.task", values["task"], "one of " + ", ".join(TASKS))
    if not _is_name(values["name"]):
        raise _off("manifest.name", values["name"], f"1 to {_MAX_NAME_CHARS} characters to print")
    classes = values["classes"]
    least = 2 if values["task"] == "classification" else 1  # one label is there or not, one value is more or less
    if not least <= len(classes) <= _MAX_CLASSES:
        raise _off("manifest.classes", f"{len(classes)} classes", f"{least} to {_MAX_CLASSES}")
    if not all(_is_name(name) for name in classes) or len(set(classes)) != len(classes):
        raise _off("manifest.classes", classes, f"different names of 1 to {_MAX_NAME_CHARS} characters to print")
    if not all(isinstance(op, dict) for op in values["preprocess"]):
        raise _off("manifest.preprocess", values["preprocess"], "a list of ops")
    if not 0 < values["tolerance"] <= 0.01:  # a stranger's bundle must not wave its own fixtures through
        raise _off("manifest.tolerance", values["tolerance"], "above 0 and at most 0.01")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME_CHARS and not _CONTROL.search(value)


def _read_entry(entry: object) -> FileEntry:
    if isinstance(entry, dict) and entry.keys() == {"path", "sha256", "size"}:
        path, sha256, size = entry["path"], entry["sha256"], entry["size"]
        if isinstance(path, str) and isinstance(sha256, str) and type(size) is int:
            return FileEntry(path=path, sha256=sha256, size=size)
    raise _off("manifest.files", entry, "path, sha256 and size")
