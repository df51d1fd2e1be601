"""What the trunk said about a picture, kept so that the same picture is never decoded or run twice.

One SQLite file. `file` remembers a path's sha256 by size and mtime; `feature` holds a row per (sha256, recipe), where a
recipe is the preprocessing and the weights. Every commit leaves it whole: a killed run loses its last second of work.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidConfig

__all__ = ["FeatureCache", "FileStamp", "stamp_file"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feature (sha256 BLOB, recipe BLOB, vector BLOB, PRIMARY KEY (sha256, recipe));
"""
_CHUNK = 500  # values in one IN (...); SQLite's limit is 999 on old builds
_SETTLED_NS = 2_000_000_000  # a file touched within 2 s may change again without its mtime showing it


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStamp:
    """What tells, without reading a file, that it is the same as before."""

    path: str
    size: int  # bytes
    mtime_ns: int


def stamp_file(path: Path) -> FileStamp:
    """Raises OSError if the file is not there."""
    status = path.stat()
    return FileStamp(path=str(path.absolute()), size=status.st_size, mtime_ns=status.st_mtime_ns)


class FeatureCache:
    """The cache in `folder`; used by one thread, shared by several processes."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "features.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
        except (OSError, sqlite3.OperationalError) as exc:
            raise InvalidConfig(
                "cache_dir",
                got=f"{folder} ({exc})",
                want="a folder that can be written",
                hint="Set DRIVETRAIN_CACHE_DIR.",
            ) from None

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; all that was added is on disk."""
        self._db.close()

    def digests(self, stamps: Sequence[FileStamp]) -> dict[str, bytes]:
        """path -> sha256 of those files that have not changed since they were last read."""
        wanted = {stamp.path: stamp for stamp in stamps}
        found: dict[str, bytes] = {}
        for chunk in _chunks([stamp.path for stamp in stamps]):
            marks = ",".join("?" * len(chunk))
            query = f"SELECT path, size, mtime_ns, sha256 FROM file WHERE path IN ({marks})"  # noqa: S608 - marks only
            found |= {
                path: sha256
                for path, size, mtime_ns, sha256 in self._db.execute(query, chunk)
                if (size, mtime_ns) == (wanted[path].size, wanted[path].mtime_ns)
            }
        return found

    def features(self, recipe: bytes, digests: Iterable[bytes]) -> dict[bytes, FloatArray]:
        """sha256 -> vector, for those that are there."""
        found: dict[bytes, FloatArray] = {}
        for chunk in _chunks(list(dict.fromkeys(digests))):
            marks = ",".join("?" * len(chunk))
            query = f"SELECT sha256, vector FROM feature WHERE recipe = ? AND sha256 IN ({marks})"  # noqa: S608 - marks only
            for sha256, vector in self._db.execute(query, (recipe, *chunk)):
                found[sha256] = np.frombuffer(vector, dtype="<f4")
        return found

    def known(self, recipe: bytes) -> set[bytes]:
        """The sha256 of every picture that has a vector."""
        return {sha256 for (sha256,) in self._db.execute("SELECT sha256 FROM feature WHERE recipe = ?", (recipe,))}

    def add(
        self, recipe: bytes, vectors: Iterable[tuple[bytes, FloatArray]], files: Iterable[tuple[FileStamp, bytes]]
    ) -> None:
        """Keep vectors by sha256, and files' sha256 by stamp; on disk when this returns."""
        settled = time.time_ns() - _SETTLED_NS
        rows = [(sha, recipe, np.asarray(vector, dtype="<f4").tobytes()) for sha, vector in vectors]
        memos = [(s.path, s.size, s.mtime_ns, sha) for s, sha in files if s.mtime_ns < settled]
        with self._db:  # one transaction
            self._db.executemany("INSERT OR REPLACE INTO feature VALUES (?, ?, ?)", rows)
            self._db.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", memos)

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError:  # locked, full or not writable: the file itself may be good
            raise
        except sqlite3.DatabaseError:  # not a database, or damaged: it is only a cache, so set it aside and go on
            self.file.replace(self.file.with_suffix(".damaged"))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.file, timeout=30)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db


def _chunks(values: Sequence[str] | Sequence[bytes]) -> Iterator[Sequence[str] | Sequence[bytes]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
