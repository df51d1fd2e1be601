"""Write a file whole or not at all, and know before the work whether it can be written."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

__all__ = ["tell_hindrance", "write_whole"]


def tell_hindrance(path: Path) -> str | None:
    """Why no file can be written at `path`, or None where one can be. Makes the folder, as `write_whole` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return None
    except OSError as exc:
        return exc.strerror or str(exc)


def write_whole(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename: a reader sees the old file or the new one, never a part. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
