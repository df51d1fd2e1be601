"""Each picture is read, decoded and run at most once in its life, whatever happens to the file or the run."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.errors import InvalidInput, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.fingerprint import FINGERPRINT_LENGTH, fingerprint
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.style_measures import STYLE_MEASURES, StyledPreprocess
from drivetrain.progress import SilentProgress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FeatureTable, FrozenTrunk, extract_features

from .conftest import SIDE, MakePictures, MakeTrunk, date


def extract(
    files: Sequence[Path],
    trunk: FrozenTrunk,
    cache: Path,
    *,
    threads: int = 2,
    limits: DecodeLimits | None = None,
    progress: SilentProgress | None = None,
) -> FeatureTable:
    with FeatureCache(cache) as opened:
        return extract_features(
            files,
            trunk=trunk,
            cache=opened,
            threads=threads,
            limits=limits or DecodeLimits(),
            progress=progress or SilentProgress(),
        )


def hide_contents(files: Sequence[Path]) -> None:
    """Other bytes, of the same size and date: whoever opens the file now finds no picture."""
    for file in files:
        status = file.stat()
        file.write_bytes(b"\0" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_features_are_those_of_the_pictures_in_order(
    make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    files = make_pictures(300)
    table = extract(files[::-1], make_trunk(), tmp_path / "cache", threads=4)
    assert table.features.dtype == np.float32
    expected = [[n % 256, n // 256, 7] for n in reversed(range(300))]
    np.testing.assert_allclose(table.features * 255, expected, atol=1e-3)
    assert table.rows == tuple(range(300))
    assert (table.n_computed, table.unreadable) == (300, ())


@pytest.mark.parametrize("threads", [1, 4])
def test_a_second_run_neither_reads_nor_decodes_nor_infers(
    threads: int, make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    files = make_pictures(40)
    first = extract(files, make_trunk(), tmp_path / "cache", threads=threads)
    hide_contents(files)
    no_trunk = make_trunk(model=tmp_path / "gone.onnx")
    second = extract(files, no_trunk, tmp_path / "cache", threads=threads)
    assert (second.n_computed, second.unreadable) == (0, ())
    np.testing.assert_array_equal(first.features, second.features)
    assert first.digests == second.digests


def draw_pictures(folder: Path, count: int) -> list[Path]:
    """Pictures with something in them, dated long ago; `make_pictures` makes flat ones."""
    folder.mkdir()
    files = [folder / f"{number:03}.png" for number in range(count)]
    for number, file in enumerate(files):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
        date(file)
    return files


def test_fingerprints_are_those_of_the_preprocessed_pixels(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files = draw_pictures(tmp_path / "drawn", 20)
    trunk = make_trunk()
    first = extract(files[::-1], trunk, tmp_path / "cache")
    want = [fingerprint(trunk.preprocess.from_image(Image.open(file))) for file in files[::-1]]
    assert first.fingerprints.dtype == np.float32
    np.testing.assert_array_equal(first.fingerprints, want)
    hide_contents(files)
    second = extract(files[::-1], make_trunk(model=tmp_path / "gone.onnx"), tmp_path / "cache")
    assert second.n_computed == 0
    np.testing.assert_array_equal(second.fingerprints, want)


def test_styles_are_those_that_service_measures(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files = draw_pictures(tmp_path / "drawn", 20)
    Image.new("RGB", (3, 5), "red").save(files[4])
    date(files[4])
    trunk = make_trunk()
    first = extract(files[::-1], trunk, tmp_path / "cache")
    preprocess = StyledPreprocess(trunk.preprocess)
    want = [preprocess.from_bytes(file.read_bytes(), name="x", limits=DecodeLimits())[1] for file in files[::-1]]
    assert first.styles.dtype == np.float32
    np.testing.assert_array_equal(first.styles, want)
    assert first.styles[-5, STYLE_MEASURES.index("side")] == 3 / SIDE
    hide_contents(files)
    second = extract(files[::-1], make_trunk(model=tmp_path / "gone.onnx"), tmp_path / "cache")
    assert second.n_computed == 0
    np.testing.assert_array_equal(second.styles, want)


def test_a_picture_that_lacks_only_its_style_is_not_run_again(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    """As of a cache filled before styles were measured: decoding is a quarter of what the network takes."""
    files = draw_pictures(tmp_path / "drawn", 6)
    trunk = make_trunk()
    first = extract(files, trunk, tmp_path / "cache")
    odd = np.full(3, 7, dtype=np.float32)
    with sqlite3.connect(tmp_path / "cache" / "features.sqlite") as db:
        db.execute("DELETE FROM feature WHERE recipe = ?", (trunk.style_recipe,))
        db.execute("UPDATE feature SET vector = ? WHERE recipe = ?", (odd.tobytes(), trunk.recipe))
    db.close()
    again = extract(files, trunk, tmp_path / "cache")
    np.testing.assert_array_equal(again.features, np.tile(odd, (6, 1)))
    np.testing.assert_array_equal(again.styles, first.styles)
    assert extract(files, trunk, tmp_path / "cache").n_computed == 0


@pytest.mark.parametrize("lost", ["feature", "fingerprint", "style"])
def test_a_picture_that_lacks_one_of_three_is_done_again(lost: str, make_trunk: MakeTrunk, tmp_path: Path) -> None:
    """As in a cache that was filled before fingerprints were kept, or before their making changed."""
    files = draw_pictures(tmp_path / "drawn", 6)
    trunk = make_trunk()
    first = extract(files, trunk, tmp_path / "cache")
    recipe = {"feature": trunk.recipe, "fingerprint": trunk.fingerprint_recipe, "style": trunk.style_recipe}[lost]
    with sqlite3.connect(tmp_path / "cache" / "features.sqlite") as db:
        gone = db.execute("DELETE FROM feature WHERE recipe = ? AND sha256 = ?", (recipe, first.digests[2])).rowcount
    db.close()
    assert gone == 1
    again = extract(files, trunk, tmp_path / "cache")
    assert again.n_computed == 1
    np.testing.assert_array_equal(again.fingerprints, first.fingerprints)
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_array_equal(again.styles, first.styles)
    assert extract(files, trunk, tmp_path / "cache").n_computed == 0


def test_fingerprints_and_styles_are_kept_by_preprocessing_and_not_by_weights(make_trunk: MakeTrunk) -> None:
    trunk, other, scaled = make_trunk(), make_trunk(weights="v"), make_trunk(std=2.0)
    assert trunk.fingerprint_recipe == other.fingerprint_recipe
    assert trunk.style_recipe == other.style_recipe
    recipes = {trunk.recipe, trunk.fingerprint_recipe, trunk.style_recipe}
    assert len(recipes | {scaled.fingerprint_recipe, scaled.style_recipe}) == 5


def test_features_of_another_count_are_kept_apart(make_trunk: MakeTrunk) -> None:
    """The weights are the same, what is told of their maps is not."""
    trunk = make_trunk()
    wider = replace(trunk, feature_count=4)
    assert wider.recipe != trunk.recipe
    assert wider.fingerprint_recipe == trunk.fingerprint_recipe


def test_only_what_is_new_is_run(make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path) -> None:
    old = make_pictures(10)
    extract(old, make_trunk(), tmp_path / "cache")
    hide_contents(old)
    new = make_pictures(5, first=500)
    mixed = [file for pair in zip(new, old[:5], strict=True) for file in pair]
    table = extract(mixed, make_trunk(), tmp_path / "cache")
    assert table.n_computed == 5
    np.testing.assert_allclose(table.features[:, 0] * 255, [244, 0, 245, 1, 246, 2, 247, 3, 248, 4], atol=1e-3)


@pytest.mark.parametrize("how", ["moved", "copied", "touched"])
def test_a_picture_that_was_moved_is_not_run_again(
    how: str, make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    files = make_pictures(12)
    first = extract(files, make_trunk(), tmp_path / "cache")
    (tmp_path / "elsewhere").mkdir()
    there = [tmp_path / "elsewhere" / f"new-{file.name}" for file in files]
    for old, new in zip(files, there, strict=True):
        if how == "touched":
            os.utime(old)
        else:
            (shutil.move if how == "moved" else shutil.copy)(old, new)
    table = extract(files if how == "touched" else there, make_trunk(), tmp_path / "cache")
    assert table.n_computed == 0
    np.testing.assert_array_equal(table.features, first.features)


@pytest.mark.parametrize("same", ["size", "date"])
def test_a_changed_file_is_run_again(
    same: str, make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    files = make_pictures(3)
    extract(files, make_trunk(), tmp_path / "cache")
    other = make_pictures(1, folder="other", first=700)[0]
    assert other.stat().st_size == files[1].stat().st_size
    data = other.read_bytes()
    files[1].write_bytes(data if same == "size" else data + b"\0")
    if same == "date":
        date(files[1])
    table = extract(files, make_trunk(), tmp_path / "cache")
    assert table.n_computed == 1
    np.testing.assert_allclose(table.features[1] * 255, [700 % 256, 700 // 256, 7], atol=1e-3)


def test_a_file_just_written_is_read_again(make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path) -> None:
    """Within the grain of its date it may change again unseen, so its date is not believed, but its bytes are."""
    files = make_pictures(4)
    os.utime(files[0])
    extract(files, make_trunk(), tmp_path / "cache")
    hide_contents(files)
    table = extract(files, make_trunk(), tmp_path / "cache")
    assert [index for index, _ in table.unreadable] == [0]
    assert table.rows == (1, 2, 3)


@pytest.mark.parametrize("change", [{"weights": "v"}, {"std": 2.0}])
def test_another_recipe_misses(
    change: dict[str, object], make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    files = make_pictures(6)
    first = extract(files, make_trunk(), tmp_path / "cache")
    other = extract(files, make_trunk(**change), tmp_path / "cache")
    assert other.n_computed == 6
    assert other.digests == first.digests
    back = extract(files, make_trunk(), tmp_path / "cache")  # both are kept
    assert back.n_computed == 0
    np.testing.assert_array_equal(back.features, first.features)


def test_unreadable_pictures_are_named(make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files = make_pictures(8)
    files[2].write_bytes(b"<html>not found</html>")
    files[3].unlink()
    files[4].unlink()
    files[4].mkdir()
    files[5].write_bytes(b"")
    files[6].write_bytes(files[0].read_bytes() + bytes(3_000))
    os.mkfifo(tmp_path / "pipe.png")
    table = extract(
        [*files, tmp_path / "pipe.png"], make_trunk(), tmp_path / "cache", limits=DecodeLimits(max_bytes=2_000)
    )
    assert table.rows == (0, 1, 7)
    assert len(table.features) == len(table.fingerprints) == len(table.styles) == len(table.digests) == 3
    reasons = dict(table.unreadable)
    assert reasons.keys() == {2, 3, 4, 5, 6, 8}
    assert reasons[2] == "a web page, not a picture"
    assert reasons[3] == "cannot be opened: No such file or directory"
    assert reasons[4] == reasons[8] == "a folder, pipe or device, not a file"
    assert reasons[5] == "an empty file (0 bytes)"
    assert "at most 2,000 are read" in reasons[6]


def test_an_unreadable_picture_is_tried_again(
    make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    files = make_pictures(2)
    good = files[1].read_bytes()
    files[1].write_bytes(b"broken")
    date(files[1])
    assert len(extract(files, make_trunk(), tmp_path / "cache").unreadable) == 1
    files[1].write_bytes(good)
    table = extract(files, make_trunk(), tmp_path / "cache")
    assert (table.n_computed, table.unreadable) == (1, ())


def test_no_files(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    table = extract([], make_trunk(), tmp_path / "cache")
    assert table.features.shape == (0, 3)
    assert table.fingerprints.shape == (0, FINGERPRINT_LENGTH)
    assert table.styles.shape == (0, len(STYLE_MEASURES))


def test_the_same_file_twice(make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path) -> None:
    file = make_pictures(1)[0]
    table = extract([file, file], make_trunk(), tmp_path / "cache")
    np.testing.assert_array_equal(table.features[0], table.features[1])


def test_a_file_name_that_is_no_text(make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path) -> None:
    """Symptom before: UnicodeEncodeError from SQLite for a file unpacked from an old zip."""
    file = make_pictures(1)[0]
    odd = file.with_name(os.fsdecode(b"Gr\xfc\xdfe.png"))
    file.rename(odd)
    assert extract([odd], make_trunk(), tmp_path / "cache").n_computed == 1
    hide_contents([odd])
    assert extract([odd], make_trunk(), tmp_path / "cache").n_computed == 0


def test_a_trunk_that_is_no_network(make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(InvalidInput, match="want an ONNX model that onnxruntime can run"):
        extract(make_pictures(1), make_trunk(model=tmp_path / "bad.onnx"), tmp_path / "cache")


def test_a_fault_of_ours_is_not_taken_for_a_bad_picture(
    make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    class Full(SilentProgress):
        @contextmanager
        def task(self, name: str, total: int) -> Iterator[object]:
            def advance(steps: int) -> None:
                raise RuntimeError("the terminal is gone")

            yield advance

    files = make_pictures(20)
    with pytest.raises(RuntimeError, match="the terminal is gone"):
        extract(files, make_trunk(), tmp_path / "cache", progress=Full())
    assert extract(files, make_trunk(), tmp_path / "cache").n_computed == 19  # the one that was done is kept


def test_progress_tells_each_picture_that_is_not_cached(
    make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    told: list[tuple[int, list[int]]] = []

    class Told(SilentProgress):
        @contextmanager
        def task(self, name: str, total: int) -> Iterator[object]:
            steps: list[int] = []
            told.append((total, steps))
            yield steps.append

    files = make_pictures(10)
    extract(files[:4], make_trunk(), tmp_path / "cache", progress=Told())
    extract(files, make_trunk(), tmp_path / "cache", progress=Told())
    extract(files, make_trunk(), tmp_path / "cache", progress=Told())
    assert told == [(4, [1] * 4), (6, [1] * 6)]


# --- runs that end early, and runs at once

CHILD = """
import select
import sys
from contextlib import contextmanager
from pathlib import Path
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.progress import SilentProgress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FrozenTrunk, extract_features

trunk_file, folder, cache_folder, stop_at = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])


class Stop(SilentProgress):
    @contextmanager
    def task(self, name, total):
        done = 0

        def advance(steps):
            nonlocal done
            done += steps
            if done == stop_at:
                print("here", flush=True)
                while not select.select([sys.stdin], [], [], 0.05)[0]:  # until the test ends us; a read without end
                    pass  # would miss a signal that comes between Python's last look and the read

        yield advance


preprocess = Preprocess(declare_preprocess(8, mean=[0.0] * 3, std=[1.0] * 3))
trunk = FrozenTrunk(model=trunk_file, weights_digest="w", feature_count=3, map_channels=3, preprocess=preprocess)
with FeatureCache(cache_folder) as cache:
    table = extract_features(
        sorted(folder.iterdir()), trunk=trunk, cache=cache, threads=2, limits=DecodeLimits(), progress=Stop()
    )
print(table.n_computed)
"""


def start(trunk: Path, files: Sequence[Path], cache: Path, *, stop_at: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(trunk), str(files[0].parent), str(cache), str(stop_at)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("ended_by", "kept"),
    [(signal.SIGKILL, 256), (signal.SIGINT, 300)],  # killed: what was committed; stopped by Ctrl-C: all that was done
)
def test_a_run_that_was_ended_goes_on_from_there(
    ended_by: signal.Signals,
    kept: int,
    make_pictures: MakePictures,
    make_trunk: MakeTrunk,
    trunk_file: Path,
    tmp_path: Path,
) -> None:
    files = make_pictures(400)
    with start(trunk_file, files, tmp_path / "cache", stop_at=300) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "here\n"
        child.send_signal(ended_by)
        errors = child.stderr.read()
        assert child.wait(timeout=30) != 0
    assert ("KeyboardInterrupt" in errors) is (ended_by == signal.SIGINT)
    hide_contents(files[:kept])
    table = extract(files, make_trunk(), tmp_path / "cache")
    assert table.n_computed == 400 - kept
    np.testing.assert_allclose(table.features * 255, [[n % 256, n // 256, 7] for n in range(400)], atol=1e-3)


def test_two_runs_at_once(make_pictures: MakePictures, make_trunk: MakeTrunk, trunk_file: Path, tmp_path: Path) -> None:
    files = make_pictures(300)
    children = [start(trunk_file, files, tmp_path / "cache") for _ in range(3)]
    for child in children:
        out, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        assert int(out) <= 300
    hide_contents(files)
    table = extract(files, make_trunk(), tmp_path / "cache")
    assert (table.n_computed, table.unreadable) == (0, ())
    np.testing.assert_allclose(table.features * 255, [[n % 256, n // 256, 7] for n in range(300)], atol=1e-3)


def test_a_cache_that_loses_a_feature_meanwhile(
    make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    """A picture known when the run began, whose feature is gone when it is needed, is run after all."""
    files = make_pictures(6)
    first = extract(files, make_trunk(), tmp_path / "cache")
    for file in files:
        os.utime(file)  # so that they are read, found known, and looked up

    class Emptied(SilentProgress):
        @contextmanager
        def task(self, name: str, total: int) -> Iterator[object]:
            with sqlite3.connect(tmp_path / "cache" / "features.sqlite") as db:
                db.execute("DELETE FROM feature")
            db.close()
            yield lambda steps: None

    table = extract(files, make_trunk(), tmp_path / "cache", progress=Emptied())
    assert table.n_computed == 6
    np.testing.assert_array_equal(table.features, first.features)


def test_a_feature_of_the_wrong_length_is_run_again(
    make_pictures: MakePictures, make_trunk: MakeTrunk, tmp_path: Path
) -> None:
    files = make_pictures(3)
    extract(files, make_trunk(), tmp_path / "cache")
    with sqlite3.connect(tmp_path / "cache" / "features.sqlite") as db:
        db.execute("UPDATE feature SET vector = zeroblob(4) WHERE rowid = 1")
        db.execute("UPDATE feature SET vector = 'a text' WHERE rowid = 2")
    db.close()
    assert extract(files, make_trunk(), tmp_path / "cache").n_computed == 2
    assert extract(files, make_trunk(), tmp_path / "cache").n_computed == 0


# --- one file


def test_read_picture_file(make_pictures: MakePictures, tmp_path: Path) -> None:
    file = make_pictures(1)[0]
    size = file.stat().st_size
    assert read_picture_file(file, name="x", limits=DecodeLimits(max_bytes=size)) == file.read_bytes()
    with pytest.raises(UnreadablePicture, match=f"x: got {size} bytes, and at most {size - 1} are read"):
        read_picture_file(file, name="x", limits=DecodeLimits(max_bytes=size - 1))
    with pytest.raises(UnreadablePicture, match="x: got cannot be opened: No such file or directory"):
        read_picture_file(tmp_path / "none.png", name="x", limits=DecodeLimits())


def test_a_device_that_never_ends() -> None:
    """Symptom before: /dev/zero has size 0, so it passed the limit and was read for ever."""
    with pytest.raises(UnreadablePicture, match="a folder, pipe or device, not a file"):
        read_picture_file(Path("/dev/zero"), name="x", limits=DecodeLimits())


def test_a_picture_is_read_through_a_link(make_pictures: MakePictures, tmp_path: Path) -> None:
    file = make_pictures(1)[0]
    (tmp_path / "link.png").symlink_to(file)
    data = read_picture_file(tmp_path / "link.png", name="x", limits=DecodeLimits())
    with Image.open(file) as image:
        assert data == file.read_bytes()
        assert image.size == (8, 8)
