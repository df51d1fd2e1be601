"""The pixel cache: what is kept is found, damage is forgotten, and the bound holds among several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from drivetrain.runtime.pixel_cache import PixelCache, name_pixels

HEADER = 64
BIG = 100_000_000


def pixels(seed: int = 0, *, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.px"))


def test_what_is_added_is_found_again(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path / "new", max_bytes=BIG)
    assert cache.get(name(1)) is None
    for number in range(5):
        assert cache.add(name(number), pixels(number, height=10 + number))
    for found in (cache, PixelCache(tmp_path / "new", max_bytes=BIG)):
        for number in range(5):
            kept = found.get(name(number))
            assert kept is not None
            assert not kept.flags.writeable
            np.testing.assert_array_equal(kept, pixels(number, height=10 + number))
        assert found.get(name(9)) is None
    assert len(files(tmp_path / "new")) == 1
    assert files(tmp_path / "new")[0].stat().st_mode & 0o077 == 0  # nobody else's business


def test_adding_twice_keeps_one(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, max_bytes=BIG)
    assert cache.add(name(1), pixels())
    assert cache.add(name(1), pixels())
    assert files(tmp_path)[0].stat().st_size == HEADER + pixels().nbytes


def test_what_is_added_after_a_read_is_found(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, max_bytes=BIG)
    for number in range(3):
        cache.add(name(number), pixels(number))
        kept = cache.get(name(number))  # the file has grown since it was mapped
        assert kept is not None
        np.testing.assert_array_equal(kept, pixels(number))


def test_a_view_need_not_be_contiguous(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, max_bytes=BIG)
    cache.add(name(1), pixels()[:, ::2])
    np.testing.assert_array_equal(cache.get(name(1)), pixels()[:, ::2])


@pytest.mark.parametrize("left", [0, 1, HEADER - 1, HEADER, HEADER + 7])
def test_a_record_cut_short_is_not_there(tmp_path: Path, left: int) -> None:
    """What a killed run leaves: whole records, then a part of one."""
    cache = PixelCache(tmp_path, max_bytes=BIG)
    for number in range(2):
        cache.add(name(number), pixels(number))
    cache.close()
    file = files(tmp_path)[0]
    os.truncate(file, HEADER + pixels().nbytes + left)
    later = PixelCache(tmp_path, max_bytes=BIG)
    assert later.get(name(0)) is not None
    assert later.get(name(1)) is None
    assert later.add(name(1), pixels(1))
    np.testing.assert_array_equal(later.get(name(1)), pixels(1))


@pytest.mark.parametrize("at", [HEADER + 3, 44])  # a pixel; a side's length
def test_damage_is_noticed_and_forgotten(tmp_path: Path, at: int) -> None:
    cache = PixelCache(tmp_path, max_bytes=BIG)
    cache.add(name(1), pixels())
    cache.close()
    data = bytearray(files(tmp_path)[0].read_bytes())
    data[at] ^= 255
    files(tmp_path)[0].write_bytes(data)
    later = PixelCache(tmp_path, max_bytes=BIG)
    assert later.get(name(1)) is None
    assert later.add(name(1), pixels())
    np.testing.assert_array_equal(later.get(name(1)), pixels())


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.px").write_bytes(b"x" * 500)
    (tmp_path / "b.px").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    cache = PixelCache(tmp_path, max_bytes=BIG)
    assert cache.add(name(1), pixels())
    assert cache.get(name(1)) is not None
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_at_the_bound_nothing_more_is_added(tmp_path: Path) -> None:
    size = HEADER + pixels().nbytes
    cache = PixelCache(tmp_path, max_bytes=16 * size)  # files of two pictures
    added = [cache.add(name(number), pixels(number)) for number in range(40)]
    assert added == sorted(added, reverse=True)  # what is in use is not dropped for what comes
    assert 14 <= sum(added) <= 16
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 16 * size
    assert cache.stopped == f"{16 * size:,} bytes are full (setting pixel_cache_bytes)"
    assert all(cache.get(name(number)) is not None for number in range(sum(added)))


def test_what_was_not_used_for_long_goes_first(tmp_path: Path) -> None:
    size = HEADER + pixels().nbytes
    now = [1_000_000.0]
    old = PixelCache(tmp_path, max_bytes=16 * size, clock=lambda: now[0])
    for number in range(8):
        old.add(name(number), pixels(number))
    old.close()
    for file in files(tmp_path):
        os.utime(file, (now[0], now[0]))
    now[0] += 5_000
    later = PixelCache(tmp_path, max_bytes=16 * size, clock=lambda: now[0])
    assert later.get(name(7)) is not None  # notes the use of its file
    for number in range(100, 114):
        assert later.add(name(number), pixels(number))
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 16 * size
    fresh = PixelCache(tmp_path, max_bytes=16 * size, clock=lambda: now[0])
    there = [number for number in range(8) if fresh.get(name(number)) is not None]
    assert 7 in there
    assert len(there) < 8
    assert not later.stopped


def test_a_use_is_noted_once_in_a_while(tmp_path: Path) -> None:
    now = [2_000_000.0]
    cache = PixelCache(tmp_path, max_bytes=BIG, clock=lambda: now[0])
    cache.add(name(1), pixels())
    file = files(tmp_path)[0]
    for step, noted in ((0, False), (60, False), (61, True)):
        os.utime(file, (5, 5))
        now[0] += step
        cache.get(name(1))
        assert (file.stat().st_mtime == now[0]) == noted


def test_what_another_process_drops_stays_readable_here(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, max_bytes=BIG)
    cache.add(name(1), pixels(1))
    cache.add(name(2), pixels(2))
    other = PixelCache(tmp_path, max_bytes=BIG)
    assert other.get(name(1)) is not None  # mapped now
    files(tmp_path)[0].unlink()
    np.testing.assert_array_equal(other.get(name(2)), pixels(2))


def test_a_folder_that_cannot_be_written_stops_the_adding_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = PixelCache(tmp_path / "file" / "pixels", max_bytes=BIG)
    assert cache.get(name(1)) is None
    assert not cache.add(name(1), pixels())
    assert "Not a directory" in cache.stopped or "exist" in cache.stopped
    assert not cache.add(name(2), pixels())


def test_many_threads(tmp_path: Path) -> None:
    cache = PixelCache(tmp_path, max_bytes=BIG)
    failures: list[int] = []

    def work(start: int) -> None:
        for number in range(60):
            which = (start + number) % 60
            cache.add(name(which), pixels(which))
            kept = cache.get(name(which))
            if kept is None or not np.array_equal(kept, pixels(which)):
                failures.append(which)

    threads = [threading.Thread(target=work, args=(start * 13,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not failures
    assert sum(file.stat().st_size for file in files(tmp_path)) == 60 * (HEADER + pixels().nbytes)


def test_two_processes_at_once(tmp_path: Path) -> None:
    script = f"""
import numpy as np
from pathlib import Path
from drivetrain.runtime.pixel_cache import PixelCache
cache = PixelCache(Path({str(tmp_path)!r}), max_bytes={BIG})
for number in range(200):
    pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    cache.add(number.to_bytes(32, "big"), pixels)
"""
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    cache = PixelCache(tmp_path, max_bytes=BIG)
    for number in range(200):
        np.testing.assert_array_equal(cache.get(name(number)), pixels(number))


def test_a_picture_is_named_by_its_file_and_its_ops(tmp_path: Path) -> None:
    file = tmp_path / "1.jpg"
    file.write_bytes(b"picture")
    os.utime(file, (1_000, 1_000))
    first = name_pixels(file, "ops")
    assert first is not None
    assert len(first) == 32
    assert name_pixels(file, "ops") == first
    assert name_pixels(file, "other ops") != first
    os.utime(file, (2_000, 2_000))
    assert name_pixels(file, "ops") != first
    file.write_bytes(b"another")
    assert name_pixels(file, "ops") is None  # just written: it may change again within the same tick
    with pytest.raises(FileNotFoundError):
        name_pixels(tmp_path / "2.jpg", "ops")
