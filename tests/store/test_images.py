from __future__ import annotations

import hashlib
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivetrain.errors import InvalidConfig, InvalidInput, Unavailable
from drivetrain.store.blobs import open_blobs
from drivetrain.store.database import open_database
from drivetrain.store.images import Images
from drivetrain.store.store import Store, open_store

from .conftest import Clock
from .made import add, deployment

SHA = "0123456789abcdef" * 4


@pytest.fixture(params=["folder", "file", "remote"])
def images(request: pytest.FixtureRequest, url: str, clock: Clock, tmp_path: Path) -> Iterator[Images]:
    """In each kind of place."""
    database = open_database(url)
    where = {
        "folder": f"{tmp_path}/pictures",
        "file": f"file://{tmp_path}/pictures",
        "remote": f"memory://{uuid.uuid4().hex}/pictures",
    }[request.param]
    yield Images(database, clock, open_blobs(where))
    database.close()


def count_puts(images: Images, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    kind, seen = type(images.blobs), []
    put = kind.put  # type: ignore[union-attr]

    def counted(self: object, sha256: str, data: bytes) -> None:
        seen.append(sha256)
        put(self, sha256, data)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "put", counted)
    return seen


def test_a_picture_is_kept_once(images: Images, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    written = count_puts(images, monkeypatch)
    data = bytes(range(256)) * 9
    sha256 = images.put(data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    clock.now += 9
    assert images.put(data) == sha256
    assert written == [sha256]
    assert images.get(sha256) == data
    found = images.find(sha256)
    assert found is not None
    assert (found.bytes, found.kept_at, found.forgotten_at) == (len(data), clock.now - 9, None)
    assert images.get(SHA) is None
    assert images.find(SHA) is None
    assert images.get("../../etc/passwd") is None
    assert images.put(b"") == hashlib.sha256(b"").hexdigest()


def test_what_is_forgotten_is_gone_and_the_row_says_when(images: Images, clock: Clock) -> None:
    kept, gone = images.put(b"kept"), images.put(b"gone")
    clock.now += 9
    assert images.forget(gone)
    assert (images.get(gone), images.get(kept)) == (None, b"kept")
    found = images.find(gone)
    assert found is not None
    assert found.forgotten_at == clock.now
    clock.now += 9
    assert not images.forget(gone)
    assert images.find(gone) == found
    assert not images.forget(SHA)
    with pytest.raises(InvalidInput, match=r"sha256: got \.\./x"):
        images.forget("../x")
    assert images.put(b"gone") == gone  # sent again, so there again
    assert images.get(gone) == b"gone"
    found = images.find(gone)
    assert found is not None
    assert (found.kept_at, found.forgotten_at) == (clock.now, None)


def test_bytes_that_are_gone_or_torn_are_put_again(images: Images) -> None:
    sha256 = images.put(b"picture")
    assert images.blobs is not None
    images.blobs.remove(sha256)
    images.blobs.remove(sha256)  # twice is no error
    assert images.get(sha256) is None
    assert images.put(b"picture") == sha256
    assert images.get(sha256) == b"picture"
    images.blobs.put(sha256, b"torn")
    assert images.get(sha256) is None
    images.put(b"picture")
    assert images.get(sha256) == b"picture"


def test_forgotten_while_it_is_sent_again(images: Images) -> None:
    """Whoever comes last, row and bytes agree."""
    sha256 = images.put(b"picture")

    def work(place: int) -> None:
        for _ in range(6):
            images.put(b"picture") if place % 2 else images.forget(sha256)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    found = images.find(sha256)
    assert found is not None
    assert (images.get(sha256) is None) == (found.forgotten_at is not None)


def test_what_was_sent_since_is_not_forgotten(store: Store, clock: Clock) -> None:
    bears = deployment(store).id
    old, again, unused = (store.images.put(name) for name in (b"old", b"again", b"unused"))
    clock.now += 100
    late = store.images.put(b"late")
    add(store, bears, image_sha256=old, at=clock.now - 50)
    add(store, bears, image_sha256=again, at=clock.now - 50)
    add(store, bears, image_sha256=again, at=clock.now + 1)
    assert store.images.kept_before(clock.now) == sorted([old, unused])
    assert store.images.forget_before(clock.now) == 2
    there = [store.images.get(one) is not None for one in (old, again, unused, late)]
    assert there == [False, True, False, True]
    assert store.images.forget_before(clock.now) == 0


def test_a_picture_is_for_its_owner_alone(store: Store, tmp_path: Path) -> None:
    sha256 = store.images.put(b"private")
    file = tmp_path / "pictures" / sha256[:2] / sha256
    assert file.read_bytes() == b"private"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [sha256]  # nothing was left aside


def test_pictures_are_beside_an_sqlite_file(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/d.db") as store:
        sha256 = store.images.put(b"x")
    assert (tmp_path / "d.db.images" / sha256[:2] / sha256).is_file()


def test_a_server_without_a_place_says_so(store: Store) -> None:
    without = Images(store.database, store.images.clock, None)
    with pytest.raises(InvalidConfig, match=r"images: got auto, with PostgreSQL; .*Set DRIVETRAIN_IMAGES"):
        without.put(b"x")


def test_places_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConfig, match=r"images: got nonsense://"):
        open_blobs("nonsense://x")
    (tmp_path / "file").write_text("")
    blobs = open_blobs(f"{tmp_path}/file")
    for use in (
        lambda: blobs.put(SHA, b"x"),
        lambda: blobs.get(SHA),
        lambda: blobs.has(SHA, 1),
        lambda: blobs.remove(SHA),
    ):
        with pytest.raises(Unavailable, match=r"images: got .*; want a place that takes them"):
            use()
    monkeypatch.setitem(sys.modules, "fsspec.implementations.dask", None)
    with pytest.raises(Unavailable, match=r"want fsspec and its package for dask://, or a folder.*pip install"):
        open_blobs("dask://x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(Unavailable, match=r"no package 'fsspec' here.*pip install fsspec"):
        open_blobs("s3://bucket/x")


WRITER = """
import sys
from drivetrain.store.store import open_store
store = open_store(sys.argv[1], images=sys.argv[2])
for number in range(10_000):
    sha = store.images.put(f"{sys.argv[3]} {number}".encode() * 500)
    will_go = number % 3 == 0
    print("going" if will_go else "kept", sha, flush=True)
    if will_go:
        store.images.forget(sha)
        print("gone", sha, flush=True)
"""


def test_a_killed_writer_keeps_what_it_told_and_hides_nothing(url: str, tmp_path: Path) -> None:
    where, told = f"{tmp_path}/pictures", []
    for turn in range(3):
        args = [sys.executable, "-c", WRITER, url, where, str(turn)]
        with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told += [process.stdout.readline() for _ in range(25 + 7 * turn)]
            process.send_signal(signal.SIGKILL)
            told += [line for line in process.stdout if line.endswith("\n")]
    state_of = {sha256: state for state, sha256 in (line.split() for line in told)}  # the last word on each
    assert len(state_of) > 50
    with open_store(url, images=where) as store:
        rows = {sha256: store.images.find(sha256) for sha256 in state_of}
        assert all(row is not None for row in rows.values())
        is_there = {sha256: store.images.get(sha256) is not None for sha256 in state_of}
        assert {is_there[sha256] for sha256, state in state_of.items() if state == "kept"} == {True}
        assert {is_there[sha256] for sha256, state in state_of.items() if state == "gone"} == {False}
        hidden = [
            one for one, row in rows.items() if row is not None and row.forgotten_at is not None and is_there[one]
        ]
        assert hidden == []  # the row never says gone of bytes that are there
        assert all(store.images.forget(sha256) or not is_there[sha256] for sha256 in state_of)
        assert [path for path in Path(where).rglob("*") if path.name in state_of] == []
