"""Decoded pictures, kept for the next epoch: appended to files of some hundred megabytes, and read by mapping them.

A picture is kept under what it was made from (path, size and date of its file) and how (the digest of the ops that led
to it), so that a changed file or another size is another picture. Each process appends to files of its own and reads
those of all; it knows what was there when it began. A record that a killed run left half-written ends its file; what is
damaged otherwise fails its checksum when this process first reads it. It is only a cache, safe to delete.

At the bound, the files that no run has used for the longest time go first. What was used within the last minutes stays,
be it by this process or by another; where nothing else is left, no more is added: an epoch walks over all pictures in
turn, and making room for the next by dropping the last would leave nothing that is ever found again.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import secrets
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivetrain.arrays import PixelArray

from .feature_cache import stamp_file

__all__ = ["PixelCache", "name_pixels"]

_MAGIC = b"DTPIXEL1"
_HEADER = struct.Struct("<8s32sIII12x")  # magic, name, height, width, crc32 of the pixels; 64 bytes
_SUFFIX = ".px"
_FILE_BYTES = 256_000_000  # of one file: what goes, goes by the file
_FILES_AT_BOUND = 8  # at least so many, however small the bound
_SETTLED_NS = 2_000_000_000  # a file touched within 2 s may change again without its date showing it
_RECENT_S = 600.0  # used so lately that a run may be at it
_TOUCH_S = 120.0  # how often a use is noted: well within _RECENT_S


def name_pixels(file: Path, recipe: str) -> bytes | None:
    """What the pixels of `file` after `recipe` are kept under; None where its date cannot be trusted yet.

    Raises OSError if the file is not there.
    """
    stamp = stamp_file(file)
    if stamp.mtime_ns > time.time_ns() - _SETTLED_NS:
        return None
    told = b"\0".join([stamp.path, str(stamp.size).encode(), str(stamp.mtime_ns).encode(), recipe.encode()])
    return hashlib.sha256(told).digest()


class _File:
    """One file of records, mapped as far as it was long when last looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.touched_s = 0.0  # when this process last noted a use
        self._mapped: mmap.mmap | None = None

    def read(self, start: int, end: int) -> memoryview | None:
        """The bytes from `start` to `end`; None where the file is shorter or gone."""
        mapped = self._mapped  # another thread may put a shorter map in its place at any moment
        if mapped is None or len(mapped) < end:
            try:
                with self.path.open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):  # gone, or empty
                return None
            self._mapped = mapped
        return memoryview(mapped)[start:end] if len(mapped) >= end else None


@dataclass(slots=True)
class _Place:
    file: _File
    start: int  # of the pixels
    height: int
    width: int
    crc: int
    is_checked: bool


class PixelCache:
    """The pictures below `folder`, at most `max_bytes` of them; for many threads, and several processes beside them."""

    def __init__(self, folder: Path, *, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.stopped = ""  # why nothing more is added, once that is so
        self._clock = clock
        self._file_bytes = min(_FILE_BYTES, max_bytes // _FILES_AT_BOUND)
        self._lock = threading.Lock()
        self._places: dict[bytes, _Place] | None = None  # None: not looked yet
        self._own: _File | None = None  # being appended to
        self._own_bytes = 0
        self._own_handle = -1
        self._close: weakref.finalize[..., PixelCache] | None = None

    def get(self, name: bytes) -> PixelArray | None:
        """uint8 (h, w, 3), read-only and mapped; None where it is not kept, or was damaged and is forgotten now."""
        places = self._look()
        place = places.get(name)
        if place is None:
            return None
        data = place.file.read(place.start, place.start + place.height * place.width * 3)
        if data is None or not (place.is_checked or zlib.crc32(data) == place.crc):
            places.pop(name, None)
            return None
        place.is_checked = True
        self._note_use(place.file)
        return np.frombuffer(data, dtype=np.uint8).reshape(place.height, place.width, 3)

    def add(self, name: bytes, pixels: PixelArray) -> bool:
        """Keep uint8 (h, w, 3); False where there is no room or nothing can be written: `stopped` says why."""
        places = self._look()
        pixels = np.ascontiguousarray(pixels)
        data = pixels.data.cast("B")
        crc = zlib.crc32(data)
        header = _HEADER.pack(_MAGIC, name, pixels.shape[0], pixels.shape[1], crc)
        with self._lock:
            if self.stopped or name in places:
                return not self.stopped
            try:
                if not self._make_room(len(header) + pixels.nbytes):
                    return False
                _write_all(self._own_handle, header)
                _write_all(self._own_handle, data)
            except OSError as exc:  # a full or read-only disk must not end a training
                self.stopped = f"{self.folder}: {exc.strerror or exc}"
                return False
            assert self._own is not None
            start = self._own_bytes + len(header)
            self._own_bytes = start + pixels.nbytes
            places[name] = _Place(self._own, start, pixels.shape[0], pixels.shape[1], crc, is_checked=True)
        return True

    def close(self) -> None:
        """Let go of the file that is appended to."""
        if self._close is not None:
            self._close()
        self._own, self._close = None, None

    def _look(self) -> dict[bytes, _Place]:
        """What is kept; read from the files when first asked."""
        if self._places is None:
            with self._lock:
                if self._places is None:
                    files = [_File(path) for path, _, _ in self._list()]
                    self._places = {name: place for file in files for name, place in _walk(file)}
        return self._places

    def _list(self) -> list[tuple[Path, int, float]]:
        """(path, bytes, last use) of each file."""
        found = []
        try:
            entries = list(os.scandir(self.folder))
        except OSError:
            return []
        for entry in entries:
            if entry.name.endswith(_SUFFIX):
                try:
                    status = entry.stat()
                except OSError:  # dropped by another process meanwhile
                    continue
                found.append((Path(entry.path), status.st_size, status.st_mtime))
        return found

    def _note_use(self, file: _File) -> None:
        now = self._clock()
        if now - file.touched_s >= _TOUCH_S:
            file.touched_s = now
            with contextlib.suppress(OSError):  # dropped by another process, or not ours: it stays mapped here
                os.utime(file.path, (now, now))

    def _make_room(self, size: int) -> bool:
        """See that a file is open that `size` more bytes may go to."""
        if self._own is None or self._own_bytes + size > self._file_bytes:
            if not self._drop_old(max(size, self._file_bytes)):
                self.stopped = f"{self.max_bytes:,} bytes are full (setting pixel_cache_bytes)"
                return False
            self._begin_file()
        return True

    def _drop_old(self, wanted: int) -> bool:
        """Drop what was not used for the longest time, until `wanted` bytes fit."""
        files = sorted(self._list(), key=lambda found: found[2])
        kept = sum(size for _, size, _ in files)
        for path, size, used_s in files:
            if kept + wanted <= self.max_bytes:
                break
            if used_s <= self._clock() - _RECENT_S and _remove(path):
                kept -= size
        return kept + wanted <= self.max_bytes

    def _begin_file(self) -> None:
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (secrets.token_hex(8) + _SUFFIX)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._own_handle = os.open(path, flags, 0o600)
        self._close = weakref.finalize(self, os.close, self._own_handle)
        self._own, self._own_bytes = _File(path), 0
        self._own.touched_s = self._clock()


def _walk(file: _File) -> Iterator[tuple[bytes, _Place]]:
    """The records of a file up to the first that is not whole."""
    start = 0
    while (header := file.read(start, start + _HEADER.size)) is not None:
        magic, name, height, width, crc = _HEADER.unpack(header)
        start += _HEADER.size
        count = height * width * 3
        if magic != _MAGIC or not count or file.read(start, start + count) is None:
            return
        yield name, _Place(file, start, height, width, crc, is_checked=False)
        start += count


def _write_all(handle: int, data: bytes | memoryview) -> None:
    """No fsync: it costs more than decoding again, and the checksum tells what a crash left."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def _remove(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # another system's rule: a file that is mapped may have to stay
        return False
    return True
