from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivetrain.bundle import archive
from drivetrain.bundle.archive import Bundle, parse_bundle, read_bundle, write_bundle
from drivetrain.bundle.manifest import Manifest
from drivetrain.errors import BundleRefused, NotFound
from drivetrain.flows.train import TrainResult
from drivetrain.runtime.predictor import load

from .forge import Parts, directory_at, rezip, unzip


def manifest_of(parts: Parts) -> Manifest:
    return Manifest.from_json({**parts.manifest, "files": []})


def parse(data: bytes) -> Bundle:
    return parse_bundle(io.BytesIO(data))


# --- what is written can be read


def test_round_trip(tiny: Parts, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tiny.dt"
    written = write_bundle(path, manifest_of(tiny), tiny.members)
    read = read_bundle(path)
    assert read.manifest == written.manifest
    assert dict(read.members) == tiny.members
    assert read.version == written.version == f"tiny@{read.manifest.digest[:12]}"
    assert load(path).classes == ("circle", "square")


def test_any_zip_tool_opens_it(tiny: Parts) -> None:
    data = tiny.archive()
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert {info.compress_type for info in opened.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(info.external_attr >> 16) for info in opened.infolist()} == {0o644}
    assert unzip(data).keys() == tiny.members.keys() | {"manifest.json"}


def test_a_trained_bundle_is_read_back(trained: TrainResult) -> None:
    bundle = read_bundle(trained.bundle)
    assert bundle.version == trained.version
    assert {"ood_known", "ood_calibration", "style_calibration", "trained_on", "calibrated_on"} <= bundle.arrays.keys()


def test_same_content_same_bytes(tiny: Parts, tmp_path: Path) -> None:
    backwards = dict(reversed(tiny.members.items()))
    write_bundle(tmp_path / "a.dt", manifest_of(tiny), tiny.members)
    write_bundle(tmp_path / "b.dt", manifest_of(tiny), backwards)
    assert (tmp_path / "a.dt").read_bytes() == (tmp_path / "b.dt").read_bytes()


def test_the_digest_leaves_out_when_it_was_made(tiny: Parts) -> None:
    later = tiny.changed(created_at="2031-01-01T00:00:00+00:00")
    assert parse(later.archive()).manifest.digest == parse(tiny.archive()).manifest.digest
    assert later.archive() != tiny.archive()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"classes": ["square", "circle"]},
        {"training": {"method": "full"}},
        {"evaluation": {"accuracy": 0.6}},
        {"lineage": {"seed": 43}},
        {"runtime": {"onnxruntime": "2"}},
        {"tolerance": 2e-3},
        {"notes": ["a section of a later version"]},
        {"members": {"MODEL_CARD.md": b"# tinier\n"}},
        {"members": {"DATASHEET.md": None}},
    ],
    ids="-".join,
)
def test_the_digest_changes_with_the_content(change: dict[str, Any], tiny: Parts) -> None:
    assert parse(tiny.changed(**change).archive()).manifest.digest != parse(tiny.archive()).manifest.digest


def test_sections_of_a_later_minor_version_are_kept(tiny: Parts, tmp_path: Path) -> None:
    bundle = parse(tiny.changed(schema_version="1.7", levers={"price": [1, 2]}).archive())
    again = write_bundle(tmp_path / "again.dt", bundle.manifest, bundle.members)
    assert again.manifest.as_json()["levers"] == {"price": [1, 2]}
    assert again.version == bundle.version


def test_a_write_that_fails_leaves_the_old_file(tiny: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.dt"
    write_bundle(path, manifest_of(tiny), tiny.members)
    old = path.read_bytes()

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(path, replace(manifest_of(tiny), name="other"), tiny.members)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("section", "value", "code"),
    [("classes", ("a\nb", "c"), "bundle_manifest"), ("tolerance", 0.5, "bundle_manifest")],
)
def test_what_could_not_be_loaded_is_not_written(
    section: str, value: object, code: str, tiny: Parts, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.dt"
    with pytest.raises(BundleRefused) as caught:
        write_bundle(path, replace(manifest_of(tiny), **{section: value}), tiny.members)
    assert caught.value.code == code
    assert not path.exists()


# --- what a stranger may send


def test_no_file() -> None:
    with pytest.raises(NotFound, match=r"model: got nowhere\.dt; want a \.dt file"):
        load("nowhere.dt")


def test_a_folder_and_a_pipe_are_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dt")
    for path in (tmp_path, tmp_path / "pipe.dt"):
        with pytest.raises(NotFound):
            load(path)
    with pytest.raises(NotFound):
        load("nul\0.dt")


Hostile = Callable[[Parts, Path], None]


def add(name: str, data: bytes = b"x", *, in_manifest: bool = True) -> Hostile:
    """One more member, listed in the manifest with its true digest."""

    def write(tiny: Parts, path: Path) -> None:
        parts = tiny.changed({name: data})
        rezip(path, {"manifest.json": (parts if in_manifest else tiny).manifest_bytes(), **parts.members})

    return write


def without(name: str) -> Hostile:
    def write(tiny: Parts, path: Path) -> None:
        path.write_bytes(tiny.changed({name: None}).archive())

    return write


def surround(*, before: bytes = b"", after: bytes = b"") -> Hostile:
    def write(tiny: Parts, path: Path) -> None:
        path.write_bytes(before + tiny.archive() + after)

    return write


def patch(offset: int, new: bytes, *, at_end: bool = False) -> Hostile:
    """Bytes put over those at `offset` of the directory's first entry, or of the record at the end."""

    def write(tiny: Parts, path: Path) -> None:
        data = bytearray(tiny.archive())
        at = offset + (len(data) - 22 if at_end else directory_at(data))
        data[at : at + len(new)] = new
        path.write_bytes(bytes(data))

    return write


def nul_in_a_name(tiny: Parts, path: Path) -> None:
    path.write_bytes(tiny.archive().replace(b"DATASHEET.md", b"DATASHEE\0.md"))


def two_headers(tiny: Parts, path: Path) -> None:
    data = bytearray(tiny.archive())
    data[10:12] = b"\1\0"  # the time, in the header before the first member
    path.write_bytes(bytes(data))


def deflate_a_bomb(tiny: Parts, path: Path) -> None:
    rezip(path, {"manifest.json": tiny.manifest_bytes(), **tiny.members, "model.onnx": b""})
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in {"manifest.json": tiny.manifest_bytes(), **tiny.members}.items():
            bomb = name == "model.onnx"
            opened.writestr(
                zipfile.ZipInfo(name), bytes(100_000_000) if bomb else data, zipfile.ZIP_DEFLATED if bomb else None
            )
    assert path.stat().st_size < 200_000


def overlap(tiny: Parts, path: Path) -> None:
    """A directory whose second member begins where the first one does."""
    data = bytearray(tiny.archive())
    first = directory_at(data)
    second = data.index(b"PK\1\2", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(bytes(data))


def say_it_is_huge(tiny: Parts, path: Path) -> None:
    data = bytearray(tiny.archive())
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"model.onnx"))
    data[entry + 20 : entry + 28] = struct.pack("<2L", 3_000_000_000, 3_000_000_000)
    path.write_bytes(bytes(data))


def link(tiny: Parts, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in {"manifest.json": tiny.manifest_bytes(), **tiny.members}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16 if name == "DATASHEET.md" else 0o644 << 16
            opened.writestr(info, b"/etc/passwd" if name == "DATASHEET.md" else data)


def twice(tiny: Parts, path: Path) -> None:
    path.write_bytes(tiny.changed({"MODEL_CARD.mx": b"other"}).archive().replace(b"MODEL_CARD.mx", b"MODEL_CARD.md"))


def too_many(tiny: Parts, path: Path) -> None:
    path.write_bytes(tiny.changed({f"fixtures/x{i}.png": b"" for i in range(100)}).archive())


def zipped_by_another_tool(tiny: Parts, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in {"manifest.json": tiny.manifest_bytes(), **tiny.members}.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            opened.writestr(info, data)


def cut(tiny: Parts, path: Path) -> None:
    data = tiny.archive()
    path.write_bytes(data[: len(data) // 2])


def unlisted(tiny: Parts, path: Path) -> None:
    rezip(path, {"manifest.json": tiny.changed({"DATASHEET.md": None}).manifest_bytes(), **tiny.members})
    path.write_bytes(
        archive.write_stored_zip(
            {"manifest.json": tiny.changed({"DATASHEET.md": None}).manifest_bytes(), **tiny.members}
        )
    )


def listed_besides(tiny: Parts, path: Path) -> None:
    more = tiny.changed({"weights.safetensors": b"x"})
    path.write_bytes(archive.write_stored_zip({"manifest.json": more.manifest_bytes(), **tiny.members}))


def altered(name: str) -> Hostile:
    """One bit of a member turned, in an archive whose own checksums are made to fit again."""

    def write(tiny: Parts, path: Path) -> None:
        data = bytearray(tiny.members[name])
        data[len(data) // 2] ^= 1
        members = {"manifest.json": tiny.manifest_bytes(), **tiny.members, name: bytes(data)}
        path.write_bytes(archive.write_stored_zip(members))

    return write


def one_byte_in_transit(tiny: Parts, path: Path) -> None:
    data = bytearray(tiny.archive())
    data[data.index(tiny.members["model.onnx"]) + 40] ^= 1
    path.write_bytes(bytes(data))


HOSTILE: dict[str, tuple[Hostile, str, str]] = {
    "empty": (lambda tiny, path: path.write_bytes(b"") and None, "bundle_zip", "got 0 bytes; want a zip archive"),
    "text": (lambda tiny, path: path.write_text("not a model " * 9) and None, "bundle_zip", "no zip directory"),
    "cut": (cut, "bundle_zip", "no zip directory at its end"),
    "data before": (surround(before=b"#!/bin/sh\n"), "bundle_zip", "bytes before, between or behind its parts"),
    "data after": (surround(after=b"\0"), "bundle_zip", "nothing behind it"),
    "comment": (
        lambda tiny, path: path.write_bytes(tiny.archive()[:-2] + b"\2\0hi") and None,
        "bundle_zip",
        "no zip directory at its end",
    ),
    "two disks": (patch(4, b"\1\0", at_end=True), "bundle_zip", "bytes before, between or behind"),
    "another tool's zip": (zipped_by_another_tool, "bundle_zip", "a directory with fields of its own"),
    "headers differ": (two_headers, "bundle_zip", "two headers of manifest.json that differ"),
    "broken directory": (patch(0, b"PK\7\7"), "bundle_zip", "a damaged directory"),
    "count off": (patch(8, b"\3\0\3\0", at_end=True), "bundle_zip", "members in a directory of 3"),
    "zip slip": (add("../../.bashrc"), "bundle_path", "../../.bashrc: got a path that leads out"),
    "zip slip in fixtures": (add("fixtures/../../x.png"), "bundle_path", "got a path that leads out"),
    "absolute": (add("/etc/cron.d/x"), "bundle_path", "/etc/cron.d/x: got a path that leads out"),
    "drive letter": (add("C:x"), "bundle_path", "C:x: got a path that leads out"),
    "backslash": (add("..\\..\\x"), "bundle_path", "got a path that leads out"),
    "not ASCII": (add("fixtures/é.png", in_manifest=False), "bundle_path", "want names of ASCII letters"),
    "NUL in a name": (
        nul_in_a_name,
        "bundle_path",
        "got a path that leads out",
    ),
    "symlink": (link, "bundle_path", "DATASHEET.md: got a link or a device"),
    "pickle": (add("weights.pkl"), "bundle_pickle", "weights.pkl: got a file that may run code when loaded"),
    "torch pickle": (add("fixtures/MODEL.PT"), "bundle_pickle", "got a file that may run code when loaded"),
    "unknown member": (add("run.sh"), "bundle_member", "run.sh: got an unknown member"),
    "folder": (add("fixtures/"), "bundle_member", "fixtures/: got an unknown member"),
    "twice": (twice, "bundle_member", "got a member twice"),
    "no model": (without("model.onnx"), "bundle_member", "got no model.onnx"),
    "no arrays": (without("reference.npz"), "bundle_member", "got no reference.npz"),
    "no answers": (without("fixtures/expected.json"), "bundle_member", "got no fixtures/expected.json"),
    "no manifest": (
        lambda tiny, path: path.write_bytes(archive.write_stored_zip(tiny.members)) and None,
        "bundle_member",
        "got no manifest.json",
    ),
    "bomb, deflated": (deflate_a_bomb, "bundle_size", "model.onnx: got a compressed or locked member"),
    "bomb, overlapping": (overlap, "bundle_size", "members overlap, or hide something"),
    "bomb, by its word": (say_it_is_huge, "bundle_size", "members overlap, or hide something"),
    "bomb, in small members": (add("MODEL_CARD.md", bytes(16_000_001)), "bundle_size", "at most 16,000,000"),
    "locked": (patch(8, b"\1\0"), "bundle_size", "got a compressed or locked member"),
    "two sizes": (patch(20, b"\1\0\0\0"), "bundle_size", "got two different sizes"),
    "too many": (too_many, "bundle_size", "want at most 64"),
    "altered model": (altered("model.onnx"), "bundle_digest", "model.onnx: got other bytes than the manifest says"),
    "altered arrays": (altered("reference.npz"), "bundle_digest", "reference.npz: got other bytes"),
    "altered card": (altered("MODEL_CARD.md"), "bundle_digest", "MODEL_CARD.md: got other bytes"),
    "altered answers": (altered("fixtures/expected.json"), "bundle_digest", "expected.json: got other bytes"),
    "altered in transit": (one_byte_in_transit, "bundle_digest", "model.onnx: got other bytes than its checksum says"),
    "unlisted member": (unlisted, "bundle_digest", "manifest.files: got ['DATASHEET.md']"),
    "listed, not there": (listed_besides, "bundle_digest", "manifest.files: got ['weights.safetensors']"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tiny: Parts, tmp_path: Path) -> None:
    write, code, text = HOSTILE[name]
    path = tmp_path / "hostile.dt"
    write(tiny, path)
    with pytest.raises(BundleRefused) as caught:
        load(path)
    assert (caught.value.code, text in caught.value.message) == (code, True), caught.value.message
    assert [entry.name for entry in tmp_path.iterdir()] == ["hostile.dt"]  # nothing is ever unpacked


def test_a_whole_archive_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.dt"
    with path.open("wb") as file:
        file.truncate(1_000_000_001)  # a hole: it takes no room on the disk
    with pytest.raises(BundleRefused, match=r"1,000,000,001 bytes; want at most 1,000,000,000") as caught:
        load(path)
    assert caught.value.code == "bundle_size"


def test_a_huge_directory_is_refused_unread(tiny: Parts, tmp_path: Path) -> None:
    path = tmp_path / "directory.dt"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 64, 64, 50_000_000, 0, 0)
    with path.open("wb") as file:
        file.truncate(50_000_000)
        file.seek(0, 2)
        file.write(end)
    with pytest.raises(BundleRefused, match=r"a directory of 50,000,000 bytes") as caught:
        load(path)
    assert caught.value.code == "bundle_size"


def entries_at(data: bytes) -> list[int]:
    """Where each entry of the directory begins."""
    found, at = [], directory_at(data)
    while at < len(data) - 22:
        found.append(at)
        at += 46 + int.from_bytes(data[at + 28 : at + 30], "little")
    return found


def test_no_bit_of_the_container_can_be_turned_unseen(tiny: Parts) -> None:
    """Every byte of every header counts: all 8 bits of all of them, in the directory and before each member."""
    data = tiny.archive()
    directory = directory_at(data)
    headers = [int.from_bytes(data[at + 42 : at + 46], "little") for at in entries_at(data)]
    assert len(headers) == len(tiny.members) + 1
    places = [*range(directory, len(data)), *(at + i for at in headers for i in range(30))]
    assert len(places) > 500
    for place in places:
        for bit in (0, 7):
            turned = bytearray(data)
            turned[place] ^= 1 << bit
            with pytest.raises(BundleRefused):
                parse(bytes(turned))
