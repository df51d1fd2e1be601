"""Bytes under the name of their sha256: in a folder, or wherever fsspec reaches."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from drivetrain.errors import InvalidConfig, Unavailable

__all__ = ["Blobs", "FolderBlobs", "RemoteBlobs", "open_blobs"]


class Blobs(Protocol):
    """A place for bytes; a reader sees all of them or none."""

    def put(self, sha256: str, data: bytes) -> None:
        """On disk when this returns."""

    def get(self, sha256: str) -> bytes | None:
        """None where they are not."""

    def has(self, sha256: str, size: int) -> bool:
        """Whether they are there, all of them."""

    def remove(self, sha256: str) -> None:
        """Gone when this returns; nothing where they were not."""


def open_blobs(where: str) -> Blobs:
    """A folder, or a URL as fsspec knows them (s3://bucket/folder). Nothing is made yet."""
    scheme, separator, rest = where.partition("://")
    if not separator:
        return FolderBlobs(Path(where).expanduser().absolute())
    if scheme == "file":
        return FolderBlobs(Path(rest).expanduser().absolute())
    try:
        import fsspec  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise _missing(scheme, "no package 'fsspec' here", "fsspec") from None
    try:
        files, root = fsspec.core.url_to_fs(where)
    except ImportError as exc:  # fsspec knows the scheme, and its package is not here
        raise _missing(scheme, str(exc), exc.name or "the package that it names") from None
    except ValueError as exc:
        raise InvalidConfig("images", got=f"{scheme}:// ({exc})", want="a folder, or a URL that fsspec knows") from None
    return RemoteBlobs(files, root.rstrip("/"))


@dataclass(frozen=True, slots=True)
class FolderBlobs:
    """`ab/abcdef...`, for the owner alone."""

    root: Path

    def put(self, sha256: str, data: bytes) -> None:
        path = self._path(sha256)
        aside = path.with_name(f".{sha256}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(path)
                _sync_folder(path.parent)  # else a power cut may take the name back
            finally:
                aside.unlink(missing_ok=True)
        except OSError as exc:
            raise _told(exc, path) from None

    def get(self, sha256: str) -> bytes | None:
        try:
            return self._path(sha256).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _told(exc, self._path(sha256)) from None

    def has(self, sha256: str, size: int) -> bool:
        try:
            return self._path(sha256).stat().st_size == size
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise _told(exc, self._path(sha256)) from None

    def remove(self, sha256: str) -> None:
        path = self._path(sha256)
        try:
            path.unlink(missing_ok=True)
            if path.parent.exists():
                _sync_folder(path.parent)
        except OSError as exc:
            raise _told(exc, path) from None

    def _path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256


@dataclass(frozen=True, slots=True)
class RemoteBlobs:
    """An object of its own for each; stores of objects show a whole one or none."""

    files: Any  # fsspec.AbstractFileSystem
    root: str

    def put(self, sha256: str, data: bytes) -> None:
        try:
            self.files.makedirs(f"{self.root}/{sha256[:2]}", exist_ok=True)
            self.files.pipe_file(self._path(sha256), data)
        except OSError as exc:
            raise _told(exc, self._path(sha256)) from None

    def get(self, sha256: str) -> bytes | None:
        try:
            return bytes(self.files.cat_file(self._path(sha256)))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise _told(exc, self._path(sha256)) from None

    def has(self, sha256: str, size: int) -> bool:
        try:
            return int(self.files.info(self._path(sha256))["size"]) == size
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise _told(exc, self._path(sha256)) from None

    def remove(self, sha256: str) -> None:
        try:
            self.files.rm_file(self._path(sha256))
        except FileNotFoundError:
            return
        except OSError as exc:
            raise _told(exc, self._path(sha256)) from None

    def _path(self, sha256: str) -> str:
        return f"{self.root}/{sha256[:2]}/{sha256}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _missing(scheme: str, got: str, package: str) -> Unavailable:
    want = f"fsspec and its package for {scheme}://, or a folder"
    return Unavailable("images", got=got, want=want, hint=f"Install it: pip install {package}")


def _told(exc: OSError, where: object) -> Unavailable:
    return Unavailable("images", got=f"{exc.strerror or type(exc).__name__} ({where})", want="a place that takes them")
