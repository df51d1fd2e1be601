"""A folder that is ready to push: the model, the exact packages it was tried with, and what a host needs to run it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from drivetrain.bundle.archive import read_bundle
from drivetrain.errors import Conflict, InvalidConfig
from drivetrain.runtime.predictor import Predictor

from .package_files import Contents, docker_files, spaces_files
from .pins import pin_base_install, python_here
from .wheel import build_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TARGETS", "Packaged", "Target", "package_model"]

Target = Literal["docker", "spaces"]
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """What was written where."""

    folder: Path
    target: Target
    version: str  # of the model: name@digest
    files: tuple[str, ...]
    n_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "folder": str(self.folder),
            "target": self.target,
            "version": self.version,
            "files": list(self.files),
            "bytes": self.n_bytes,
        }


def package_model(bundle: Path, dest: Path, *, target: Target) -> Packaged:
    """Write the folder whole or not at all; the model is proved by its fixtures first.

    Raises InvalidConfig for another target, Conflict where `dest` holds anything, NotFound or BundleRefused.
    """
    if target not in TARGETS:
        raise InvalidConfig("target", got=target, want=" or ".join(TARGETS))
    _check_free(dest)
    read = read_bundle(bundle)
    predictor = Predictor(read, threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    wheel_name, wheel = build_wheel()
    contents = Contents(
        name=predictor.name,
        version=predictor.version,
        classes=predictor.classes,
        statement=str(predictor.manifest.decision.get("statement") or ""),
        python=python_here(),
        wheel=f"wheels/{wheel_name}",
        pins=tuple(pin_base_install()),
        has_card="MODEL_CARD.md" in read.members,
    )
    files: dict[str, bytes] = {name: text.encode() for name, text in _texts(contents, target).items()}
    files |= {contents.model: bundle.read_bytes(), contents.wheel: wheel}
    if contents.has_card:
        files["MODEL_CARD.md"] = read.members["MODEL_CARD.md"]
    with _whole_folder(dest) as aside:
        for name, data in files.items():
            _write(aside / name, data)
    return Packaged(
        folder=dest,
        target=target,
        version=predictor.version,
        files=tuple(sorted(files)),
        n_bytes=sum(map(len, files.values())),
    )


def _texts(contents: Contents, target: Target) -> Mapping[str, str]:
    return docker_files(contents) if target == "docker" else spaces_files(contents)


def _check_free(dest: Path) -> None:
    if not os.path.lexists(dest):
        return
    if not dest.is_dir() or dest.is_symlink():
        raise Conflict("dest", got=f"{dest}, which is no folder", want="a folder that is empty or not there yet")
    held = sorted(path.name for path in dest.iterdir())
    if held:
        raise Conflict(
            "dest",
            got=f"{dest}, which holds {len(held)} files, {held[0]!r} among them",
            want="a folder that is empty or not there yet",
            hint="Nothing is overwritten: name another, or empty it yourself.",
        )


@contextmanager
def _whole_folder(dest: Path) -> Iterator[Path]:
    """A folder beside `dest` that takes its name at the end, and is gone if anything fails."""
    dest.absolute().parent.mkdir(parents=True, exist_ok=True)
    aside = dest.absolute().with_name(f".{dest.absolute().name}.{secrets.token_hex(4)}")
    aside.mkdir()
    try:
        yield aside
        _check_free(dest)  # somebody may have been quicker
        if dest.exists():
            dest.rmdir()
        aside.rename(dest)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
