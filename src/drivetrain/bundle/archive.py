"""Write a bundle in one piece, and read one from a stranger without harm.

What a bundle may hold is a short list; everything else is refused before it is read. Nothing is ever unpacked to disk,
and nothing in it is executable.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from drivetrain.bundle.arrays import read_arrays
from drivetrain.bundle.manifest import FileEntry, Manifest
from drivetrain.bundle.onnx_guard import check_onnx
from drivetrain.bundle.plain_json import read_json
from drivetrain.bundle.stored_zip import read_stored_zip, write_stored_zip
from drivetrain.errors import BundleRefused, NotFound

__all__ = ["Bundle", "content_files", "parse_bundle", "read_bundle", "write_bundle"]

_MANIFEST = "manifest.json"
_REQUIRED = ("model.onnx", "reference.npz", "fixtures/expected.json")
_OPTIONAL = ("MODEL_CARD.md", "DATASHEET.md", "weights.safetensors")
_FIXTURE = re.compile(r"fixtures/[A-Za-z0-9_-]{1,64}\.png")
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".bin", ".ckpt", ".npy")
_MAX_MEMBERS = 64
_MAX_BYTES = 1_000_000_000  # the whole archive: it is held in memory
_MAX_SMALL_BYTES = 16_000_000  # any member but the model and the weights
_MAX_JSON_BYTES = 8_000_000  # parsed, JSON may take forty times its size


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle in memory, every byte checked."""

    manifest: Manifest
    members: Mapping[str, bytes]
    arrays: Mapping[str, NDArray[Any]]  # of reference.npz

    @property
    def version(self) -> str:
        """Name and the first 12 digits of the content digest: what a prediction says it came from."""
        return f"{self.manifest.name}@{self.manifest.digest[:12]}"


def content_files(members: Mapping[str, bytes]) -> tuple[FileEntry, ...]:
    """The manifest's entries for these members, sorted by path."""
    return tuple(
        FileEntry(path=path, sha256=hashlib.sha256(members[path]).hexdigest(), size=len(members[path]))
        for path in sorted(members)
    )


def write_bundle(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> Bundle:
    """Write NAME.dt whole or not at all; the manifest's file list is made here.

    What no one could read again is not written: it raises the BundleRefused that its reader would have met.
    """
    from drivetrain.files import write_whole  # late: a reader does not wait for it

    manifest = replace(manifest, files=content_files(members))
    text = json.dumps(manifest.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    data = write_stored_zip({_MANIFEST: text.encode(), **{name: members[name] for name in sorted(members)}})
    bundle = parse_bundle(io.BytesIO(data))
    write_whole(path, data)
    return bundle


def read_bundle(path: Path) -> Bundle:
    """Read and check all of NAME.dt. Raises NotFound, or BundleRefused naming the rule that was broken."""
    if not path.is_file():  # a pipe or a device would never end
        raise NotFound("model", got=str(path), want="a .dt file", hint="`drivetrain train DATA -o NAME.dt` makes one.")
    try:
        with path.open("rb") as file:
            return parse_bundle(file)
    except OSError as exc:
        raise BundleRefused("bundle_zip", str(path), got=exc.strerror or str(exc), want="a file to read") from None


def parse_bundle(file: BinaryIO) -> Bundle:
    """Read and check a bundle from an open file. Raises BundleRefused."""
    size = file.seek(0, 2)
    if size > _MAX_BYTES:
        raise BundleRefused("bundle_size", "archive", got=f"{size:,} bytes", want=f"at most {_MAX_BYTES:,}")
    members = read_stored_zip(file, where="archive", max_members=_MAX_MEMBERS, check=_check_member)
    missing = [name for name in (_MANIFEST, *_REQUIRED) if name not in members]
    if missing:
        raise BundleRefused("bundle_member", "archive", got=f"no {', '.join(missing)}", want="a whole bundle")
    manifest = Manifest.from_json(read_json(members.pop(_MANIFEST), where=_MANIFEST, code="bundle_manifest"))
    _check_digests(manifest, members)
    check_onnx(members["model.onnx"])
    return Bundle(manifest=manifest, members=members, arrays=read_arrays(members["reference.npz"]))


def _check_member(name: str, size: int) -> None:
    """All that can be known before a member is read."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in name or "\0" in name or "\\" in name:
        raise BundleRefused("bundle_path", name, got="a path that leads out", want="a plain name")
    if name.lower().endswith(_PICKLES):
        raise BundleRefused(
            "bundle_pickle", name, got="a file that may run code when loaded", want="ONNX, JSON, npz or PNG"
        )
    if name not in (_MANIFEST, *_REQUIRED, *_OPTIONAL) and not _FIXTURE.fullmatch(name):
        raise BundleRefused("bundle_member", name, got="an unknown member", want="only the files a bundle has")
    limit = _MAX_JSON_BYTES if name.endswith(".json") else _MAX_SMALL_BYTES
    if name not in ("model.onnx", "weights.safetensors") and size > limit:
        raise BundleRefused("bundle_size", name, got=f"{size:,} bytes", want=f"at most {limit:,}")


def _check_digests(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    listed = {entry.path: entry for entry in manifest.files}
    if listed.keys() != members.keys() or len(listed) != len(manifest.files):
        odd = sorted(listed.keys() ^ members.keys())
        raise BundleRefused(
            "bundle_digest", "manifest.files", got=odd or "a path twice", want="each member listed once"
        )
    for path, data in members.items():
        if len(data) != listed[path].size or hashlib.sha256(data).hexdigest() != listed[path].sha256:
            raise BundleRefused(
                "bundle_digest", path, got="other bytes than the manifest says", want="the bytes as written"
            )
