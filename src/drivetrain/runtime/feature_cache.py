"""What the trunk said about a picture, kept so that the same picture is never decoded or run twice.

One SQLite file. `file` remembers a path's sha256 by size and mtime; `feature` holds a row per (sha256, recipe), where a
recipe is the preprocessing and the weights; `note` the same for what was measured of a picture, as JSON.
Every commit leaves it whole: a killed run loses its last second of work.
A damaged file is set aside and begun anew: it is only a cache.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidConfig
from drivetrain.wal import switch_to_wal

__all__ = ["FeatureCache", "FileStamp", "stamp_file"]

_Result = TypeVar("_Result")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feature (sha256 BLOB, recipe BLOB, vector BLOB, PRIMARY KEY (sha256, recipe));
CREATE TABLE IF NOT EXISTS note (sha256 BLOB, recipe BLOB, json TEXT, PRIMARY KEY (sha256, recipe)) WITHOUT ROWID;
"""
_PAGE_BYTES = 16_384  # a feature in one page: 3,328 pictures are kept in 0.16 s of a core, where 4 kB took 0.24 s
_CHUNK = 500  # values in one IN (...); SQLite's limit is 999 on old builds
_SETTLED_NS = 2_000_000_000  # a file touched within 2 s may change again without its mtime showing it


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStamp:
    """What tells, without reading a file, that it is the same as before."""

    path: bytes  # as the system names it: not every file name is UTF-8
    size: int  # bytes
    mtime_ns: int


def stamp_file(path: Path) -> FileStamp:
    """Raises OSError if the file is not there."""
    status = path.stat()
    return FileStamp(path=os.fsencode(path.absolute()), size=status.st_size, mtime_ns=status.st_mtime_ns)


class FeatureCache:
    """The cache in `folder`; used by one thread, shared by several processes, each waiting `busy_s` for the others."""

    def __init__(self, folder: Path, *, busy_s: float = 30.0) -> None:
        self._busy_s = busy_s
        self.file = folder / "features.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise self._unusable(exc) from None
        self._db: sqlite3.Connection | None = None
        self._try(lambda _: None)

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; all that was added is on disk."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def digests(self, stamps: Sequence[FileStamp]) -> dict[bytes, bytes]:
        """path -> sha256 of those files that have not changed since they were last read."""
        wanted = {stamp.path: stamp for stamp in stamps}

        def look_up(db: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for chunk in _chunks(list(wanted)):
                marks = ",".join("?" * len(chunk))
                query = f"SELECT path, size, mtime_ns, sha256 FROM file WHERE path IN ({marks})"  # noqa: S608 - marks only
                found |= {
                    path: sha256
                    for path, size, mtime_ns, sha256 in db.execute(query, chunk)
                    if (size, mtime_ns) == (wanted[path].size, wanted[path].mtime_ns)
                }
            return found

        return self._try(look_up)

    def features(self, recipe: bytes, digests: Iterable[bytes], *, feature_count: int) -> dict[bytes, FloatArray]:
        """sha256 -> vector (feature_count,) float32, for those that are there."""
        wanted = list(dict.fromkeys(digests))

        def look_up(db: sqlite3.Connection) -> dict[bytes, FloatArray]:
            found: dict[bytes, FloatArray] = {}
            for chunk in _chunks(wanted):
                marks = ",".join("?" * len(chunk))
                query = f"SELECT sha256, vector FROM feature WHERE recipe = ? AND sha256 IN ({marks})"  # noqa: S608 - marks only
                for sha256, vector in db.execute(query, (recipe, *chunk)):
                    if isinstance(vector, bytes) and len(vector) == 4 * feature_count:
                        found[sha256] = np.frombuffer(vector, dtype="<f4")
            return found

        return self._try(look_up)

    def known(self, recipe: bytes) -> set[bytes]:
        """The sha256 of every picture that has a vector."""
        query = "SELECT sha256 FROM feature WHERE recipe = ?"
        return self._try(lambda db: {sha256 for (sha256,) in db.execute(query, (recipe,))})

    def add(
        self, recipe: bytes, vectors: Iterable[tuple[bytes, FloatArray]], files: Iterable[tuple[FileStamp, bytes]]
    ) -> None:
        """Keep vectors by sha256, and files' sha256 by stamp; on disk when this returns."""
        self.add_together({recipe: vectors}, files)

    def add_together(
        self,
        vectors: Mapping[bytes, Iterable[tuple[bytes, FloatArray]]],
        files: Iterable[tuple[FileStamp, bytes]],
    ) -> None:
        """The same for vectors of several recipes: whatever ends the process, all of them are kept, or none."""
        rows = [
            (sha, recipe, np.asarray(vector, dtype="<f4").tobytes())
            for recipe, pairs in vectors.items()
            for sha, vector in pairs
        ]
        memos = _settled(files)

        def insert(db: sqlite3.Connection) -> None:
            with db:  # one transaction
                db.executemany("INSERT OR REPLACE INTO feature VALUES (?, ?, ?)", rows)
                db.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", memos)

        self._try(insert)

    def notes(self, recipe: bytes, digests: Iterable[bytes]) -> dict[bytes, Any]:
        """sha256 -> the value noted, for those that are there."""
        wanted = list(dict.fromkeys(digests))

        def look_up(db: sqlite3.Connection) -> dict[bytes, Any]:
            found: dict[bytes, Any] = {}
            for chunk in _chunks(wanted):
                marks = ",".join("?" * len(chunk))
                query = f"SELECT sha256, json FROM note WHERE recipe = ? AND sha256 IN ({marks})"  # noqa: S608 - marks only
                for sha256, text in db.execute(query, (recipe, *chunk)):
                    with suppress(ValueError, TypeError):  # as if it were not there: it is only a cache
                        found[sha256] = json.loads(text)
            return found

        return self._try(look_up)

    def add_notes(
        self, recipe: bytes, notes: Iterable[tuple[bytes, Any]], files: Iterable[tuple[FileStamp, bytes]]
    ) -> None:
        """Keep plain values by sha256, and files' sha256 by stamp; on disk when this returns."""
        rows = [(sha256, recipe, json.dumps(value)) for sha256, value in notes]
        memos = _settled(files)

        def insert(db: sqlite3.Connection) -> None:
            with db:
                db.executemany("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", rows)
                db.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", memos)

        self._try(insert)

    def _try(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """`work` on the open database; once more on a new one if the old turns out damaged."""
        try:
            try:
                return work(self._open())
            except sqlite3.DatabaseError as exc:
                if type(exc) is not sqlite3.DatabaseError:  # locked, full or not writable: the file itself may be good
                    raise
                self._set_aside()
                return work(self._open())
        except (OSError, sqlite3.DatabaseError) as exc:
            raise self._unusable(exc) from None

    def _set_aside(self) -> None:
        self.close()
        for suffix in ("-wal", "-shm"):  # a log of the damaged file must not be played into the new one
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        if self.file.exists():  # else another process was faster
            self.file.replace(self.file.with_suffix(".damaged"))

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            db = sqlite3.connect(self.file, timeout=self._busy_s)
            try:
                db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new file
                switch_to_wal(db, wait_s=self._busy_s)
                db.execute("PRAGMA synchronous = NORMAL")
                db.executescript(_SCHEMA)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _unusable(self, exc: Exception) -> InvalidConfig:
        return InvalidConfig(
            "cache_dir",
            got=f"{self.file.parent} ({exc})",
            want="a folder that can be written",
            hint="Set DRIVETRAIN_CACHE_DIR.",
        )


def _settled(files: Iterable[tuple[FileStamp, bytes]]) -> list[tuple[bytes, int, int, bytes]]:
    before = time.time_ns() - _SETTLED_NS
    return [(stamp.path, stamp.size, stamp.mtime_ns, sha) for stamp, sha in files if stamp.mtime_ns < before]


def _chunks(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
