"""Write a bundle in one piece, and read one from a stranger without harm.

A bundle is a zip whose members are stored, not deflated: what the directory says is what there is to read, so a bomb
has nowhere to hide. Nothing is ever unpacked to disk, and nothing in it is executable.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from drivetrain.bundle.arrays import read_arrays
from drivetrain.bundle.manifest import FileEntry, Manifest
from drivetrain.bundle.onnx_guard import check_onnx
from drivetrain.errors import BundleRefused, NotFound
from drivetrain.files import write_whole

__all__ = ["Bundle", "content_files", "read_bundle", "write_bundle"]

_MANIFEST = "manifest.json"
_REQUIRED = ("model.onnx", "reference.npz", "fixtures/expected.json")
_OPTIONAL = ("MODEL_CARD.md", "DATASHEET.md", "weights.safetensors")
_FIXTURE = re.compile(r"fixtures/[A-Za-z0-9_-]{1,64}\.png")
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".bin", ".ckpt", ".npy")
_MAX_MEMBERS = 64
_MAX_BYTES = 2_000_000_000  # all members together
_MAX_SMALL_BYTES = 16_000_000  # any member but the model and the weights
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal content gives equal bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle in memory, every byte checked."""

    manifest: Manifest
    members: Mapping[str, bytes]

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
    """Write NAME.dt whole or not at all; the manifest's file list is made here."""
    bundle = Bundle(manifest=replace(manifest, files=content_files(members)), members=dict(members))
    text = json.dumps(bundle.manifest.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [(_MANIFEST, text.encode()), *sorted(members.items())]:
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    write_whole(path, out.getvalue())
    return bundle


def read_bundle(path: Path) -> Bundle:
    """Read and check all of NAME.dt. Raises NotFound, or BundleRefused naming the rule that was broken."""
    if not path.is_file():
        raise NotFound("model", got=str(path), want="a .dt file", hint="`drivetrain train DATA -o NAME.dt` makes one.")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_directory(archive, archive_bytes=path.stat().st_size)
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as exc:
        if isinstance(exc, BundleRefused):
            raise
        code = "bundle_digest" if "CRC-32" in str(exc) else "bundle_zip"
        raise BundleRefused(code, str(path), got=str(exc), want="a whole zip archive") from None
    manifest = _read_manifest(members.pop(_MANIFEST))
    _check_digests(manifest, members)
    check_onnx(members["model.onnx"])
    read_arrays(members["reference.npz"])
    return Bundle(manifest=manifest, members=members)


def _check_directory(archive: zipfile.ZipFile, *, archive_bytes: int) -> None:
    """All that can be known before a member is read."""
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise BundleRefused("bundle_size", "archive", got=f"{len(infos)} members", want=f"at most {_MAX_MEMBERS}")
    names = [info.filename for info in infos]
    for info in infos:
        _check_name(info)
        _check_storage(info)
    if len(set(names)) != len(names):
        raise BundleRefused("bundle_member", "archive", got="a member twice", want="each member once")
    total = sum(info.file_size for info in infos)
    if total > min(_MAX_BYTES, archive_bytes):  # more inside than outside: members overlap
        raise BundleRefused(
            "bundle_size", "archive", got=f"{total:,} bytes", want=f"at most {archive_bytes:,} as stored"
        )
    missing = [name for name in (_MANIFEST, *_REQUIRED) if name not in names]
    if missing:
        raise BundleRefused("bundle_member", "archive", got=f"no {', '.join(missing)}", want="a whole bundle")


def _check_name(info: zipfile.ZipInfo) -> None:
    raw = info.orig_filename  # ZipInfo.filename is already tidied: cut at NUL, separators turned
    parts = raw.replace("\\", "/").split("/")
    if raw.startswith(("/", "\\")) or ".." in parts or ":" in raw or "\0" in raw or "\\" in raw:
        raise BundleRefused("bundle_path", raw, got="a path that leads out", want="a plain name")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise BundleRefused("bundle_path", raw, got="a link or a device", want="a plain file")
    if raw.lower().endswith(_PICKLES):
        raise BundleRefused(
            "bundle_pickle", raw, got="a file that may run code when loaded", want="ONNX, JSON, npz or PNG"
        )
    if raw not in (_MANIFEST, *_REQUIRED, *_OPTIONAL) and not _FIXTURE.fullmatch(raw):
        raise BundleRefused("bundle_member", raw, got="an unknown member", want="only the files a bundle has")


def _check_storage(info: zipfile.ZipInfo) -> None:
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise BundleRefused("bundle_size", info.filename, got="a compressed or locked member", want="a stored one")
    if info.file_size != info.compress_size:
        raise BundleRefused("bundle_size", info.filename, got="two different sizes", want="one size")
    limit = _MAX_BYTES if info.filename in ("model.onnx", "weights.safetensors") else _MAX_SMALL_BYTES
    if info.file_size > limit:
        raise BundleRefused("bundle_size", info.filename, got=f"{info.file_size:,} bytes", want=f"at most {limit:,}")


def _read_manifest(data: bytes) -> Manifest:
    try:
        raw = json.loads(data.decode())
    except (ValueError, RecursionError) as exc:
        raise BundleRefused("bundle_manifest", _MANIFEST, got=str(exc), want="UTF-8 JSON") from None
    return Manifest.from_json(raw)


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
