from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.runtime.feature_cache import FeatureCache, FileStamp, stamp_file

RECIPE = b"r" * 32


def sha(number: int) -> bytes:
    return number.to_bytes(32, "big")


def stamp(number: int) -> FileStamp:
    return FileStamp(path=f"/pictures/{number}.png".encode(), size=number, mtime_ns=1_000 + number)


def vector(number: int) -> np.ndarray:
    return np.array([number, number + 0.5], dtype=np.float32)


def fill(cache: FeatureCache, count: int) -> None:
    cache.add(RECIPE, [(sha(i), vector(i)) for i in range(count)], [(stamp(i), sha(i)) for i in range(count)])


def test_what_is_added_is_found_after_closing(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        fill(cache, 1_700)  # more than one query can ask for
    with FeatureCache(tmp_path) as cache:
        digests = cache.digests([stamp(i) for i in range(1_800)])
        found = cache.features(RECIPE, digests.values(), feature_count=2)
        assert cache.known(RECIPE) == {sha(i) for i in range(1_700)}
    assert digests == {stamp(i).path: sha(i) for i in range(1_700)}
    assert len(found) == 1_700
    np.testing.assert_array_equal(found[sha(1_234)], vector(1_234))


def test_misses(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        fill(cache, 3)
        other = [
            FileStamp(path=stamp(1).path, size=99, mtime_ns=stamp(1).mtime_ns),
            FileStamp(path=stamp(2).path, size=stamp(2).size, mtime_ns=99),
        ]
        assert cache.digests(other) == {}
        assert cache.digests([]) == {}
        assert cache.features(b"another recipe", [sha(1)], feature_count=2) == {}
        assert cache.features(RECIPE, [sha(7)], feature_count=2) == {}
        assert cache.features(RECIPE, [sha(1)], feature_count=3) == {}
        assert cache.known(b"another recipe") == set()


def test_an_entry_is_replaced(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        fill(cache, 2)
        cache.add(RECIPE, [(sha(1), vector(9))], [(stamp(1), sha(0))])
        assert cache.digests([stamp(1)]) == {stamp(1).path: sha(0)}
        np.testing.assert_array_equal(cache.features(RECIPE, [sha(1)], feature_count=2)[sha(1)], vector(9))


def test_a_stamp_too_young_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "new.png"
    file.write_bytes(b"new")
    with FeatureCache(tmp_path / "cache") as cache:
        cache.add(RECIPE, [], [(stamp_file(file), sha(1)), (stamp(2), sha(2))])
        assert cache.digests([stamp_file(file), stamp(2)]) == {stamp(2).path: sha(2)}


def test_the_folder_is_made(tmp_path: Path) -> None:
    with FeatureCache(tmp_path / "a" / "b") as cache:
        assert cache.file.parent == tmp_path / "a" / "b"
        assert cache.file.is_file()


def test_a_stamp_names_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(b"123")
    monkeypatch.chdir(tmp_path)
    assert stamp_file(Path("x.png")) == stamp_file(tmp_path / "x.png")
    assert stamp_file(Path("x.png")).size == 3


# --- damage


def damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    match how:
        case "text":
            data = bytearray(b"this is no database, but long enough to be taken for one" * 40)
        case "header":
            data[:16] = bytes(16)
        case "pages":
            data[4096:] = b"\xa5" * (len(data) - 4096)
        case "cut":
            del data[4096 * 2 :]
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["text", "header", "pages", "cut"])
@pytest.mark.parametrize("first", ["digests", "features", "known", "add"])
def test_a_damaged_file_is_set_aside(how: str, first: str, tmp_path: Path) -> None:
    """Symptom before: damage behind the first page came up as sqlite3.DatabaseError in the middle of a run."""
    with FeatureCache(tmp_path) as cache:
        fill(cache, 400)
    damage(tmp_path / "features.sqlite", how)
    damaged = (tmp_path / "features.sqlite").read_bytes()
    with FeatureCache(tmp_path) as cache:
        match first:
            case "digests":
                assert cache.digests([stamp(i) for i in range(400)]) == {}
            case "features":
                assert cache.features(RECIPE, [sha(i) for i in range(400)], feature_count=2) == {}
            case "known":
                assert cache.known(RECIPE) == set()
            case _:
                cache.add(RECIPE, [(sha(i), vector(i)) for i in range(400, 800)], [])
        fill(cache, 5)
        assert len(cache.digests([stamp(i) for i in range(5)])) == 5
    assert (tmp_path / "features.damaged").read_bytes()[:4096] == damaged[:4096]
    with FeatureCache(tmp_path) as cache:
        assert len(cache.known(RECIPE)) == (405 if first == "add" else 5)


def test_the_log_of_a_damaged_file_is_not_played_into_the_new_one(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        fill(cache, 300)
    with FeatureCache(tmp_path) as cache:
        cache.add(RECIPE, [(sha(7), vector(8))], [])
        logs = [tmp_path / f"features.sqlite{suffix}" for suffix in ("-wal", "-shm")]
        kept = {log: log.read_bytes() for log in logs}
    (tmp_path / "features.sqlite").write_bytes(b"no database" * 1_000)
    for log, data in kept.items():  # as a kill would leave them
        log.write_bytes(data)
    with FeatureCache(tmp_path) as cache:
        assert cache.known(RECIPE) == set()
        fill(cache, 1)
        assert cache.known(RECIPE) == {sha(0)}


# --- folders that cannot be used


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InvalidConfig, match=r"cache_dir: got .*; want a folder that can be written\.") as caught:
        FeatureCache(tmp_path / "cache")
    assert caught.value.hint == "Set DRIVETRAIN_CACHE_DIR."


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "features.sqlite").mkdir()
    with pytest.raises(InvalidConfig, match="unable to open database file"):
        FeatureCache(tmp_path)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """As on a read-only disk; root may write anywhere, so the file is made read-only for SQLite itself."""
    with FeatureCache(tmp_path) as cache:
        fill(cache, 1)
        db = cache._open()
        db.execute("PRAGMA query_only = ON")
        with pytest.raises(InvalidConfig, match="readonly database"):
            fill(cache, 2)
        assert len(cache.known(RECIPE)) == 1
    assert not (tmp_path / "features.damaged").exists()


def test_a_locked_file_is_waited_for_and_not_set_aside(tmp_path: Path) -> None:
    with FeatureCache(tmp_path, busy_s=0.05) as cache:
        other = sqlite3.connect(cache.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InvalidConfig, match="database is locked"):
            fill(cache, 1)
        other.execute("ROLLBACK")
        other.close()
        fill(cache, 1)
        assert cache.known(RECIPE) == {sha(0)}
    assert not (tmp_path / "features.damaged").exists()


def test_a_feature_lies_in_one_page(tmp_path: Path) -> None:
    """3,200 numbers are 12,800 bytes: in SQLite's own pages they would lie in four."""
    with FeatureCache(tmp_path) as cache:
        cache.add(RECIPE, [(sha(0), np.ones(3_200, dtype=np.float32))], [])
    with sqlite3.connect(tmp_path / "features.sqlite") as db:
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    assert page_bytes > 12_800


# --- several processes


CHILD = """
import sys
from pathlib import Path
import numpy as np
from drivetrain.runtime.feature_cache import FeatureCache

first = int(sys.argv[2])
sys.stdin.readline()  # so that all begin together
with FeatureCache(Path(sys.argv[1])) as cache:
    for number in range(first, first + 40):
        cache.add(b"r" * 32, [(number.to_bytes(32, "big"), np.zeros(2, dtype=np.float32))], [])
"""


def test_processes_at_once(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "cache"), str(100 * n)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=60)[1] for child in children]
    assert [child.returncode for child in children] == [0] * 4, errors
    with FeatureCache(tmp_path / "cache") as cache:
        assert len(cache.known(RECIPE)) == 160


def test_notes_are_kept_by_digest_and_recipe(tmp_path: Path) -> None:
    stamp = FileStamp(path=b"/a.jpg", size=1, mtime_ns=1)
    with FeatureCache(tmp_path) as cache:
        cache.add_notes(b"one", [(b"a", {"x": 1.5}), (b"b", ["y"])], [(stamp, b"a")])
        cache.add_notes(b"two", [(b"a", None)], [])
    with FeatureCache(tmp_path) as cache:
        assert cache.notes(b"one", [b"a", b"b", b"c"]) == {b"a": {"x": 1.5}, b"b": ["y"]}
        assert cache.notes(b"two", [b"a", b"b"]) == {b"a": None}
        assert cache.notes(b"none", (bytes([number // 256, number % 256]) for number in range(1200))) == {}
        assert cache.digests([stamp]) == {stamp.path: b"a"}


def test_vectors_of_several_recipes_are_kept_together_or_not_at_all(tmp_path: Path) -> None:
    """Symptom before: a run killed between two transactions kept features without their fingerprints, to no use."""
    other = b"o" * 32
    together = {RECIPE: [(sha(1), vector(1))], other: [(sha(1), vector(2))]}
    with FeatureCache(tmp_path) as cache:
        cache.add_together(together, [(stamp(1), sha(1))])
        assert cache.known(RECIPE) == cache.known(other) == {sha(1)}
        assert cache.digests([stamp(1)]) == {stamp(1).path: sha(1)}
    with sqlite3.connect(tmp_path / "features.sqlite") as db:
        db.execute(
            "CREATE TRIGGER stop BEFORE INSERT ON feature WHEN NEW.recipe = X'" + other.hex() + "' "
            "BEGIN SELECT RAISE(ABORT, 'the disk is gone'); END"
        )
    db.close()
    with FeatureCache(tmp_path) as cache:
        with pytest.raises(InvalidConfig, match="the disk is gone"):
            cache.add_together({RECIPE: [(sha(2), vector(2))], other: [(sha(2), vector(2))]}, [])
        assert cache.known(RECIPE) == {sha(1)}


def test_a_file_that_another_is_making_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two turn a new file into WAL at once, SQLite tells one of them, without waiting, that it is locked."""
    connect = sqlite3.connect
    refused: list[sqlite3.Error] = []

    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if "journal_mode" in sql and len(refused) < 3:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                refused.append(error)
                raise error
            return super().execute(sql, *rest)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, factory=Refusing, **kwargs))
    with FeatureCache(tmp_path) as cache:
        fill(cache, 1)
        assert cache.known(RECIPE) == {sha(0)}
    assert len(refused) == 3
