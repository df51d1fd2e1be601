"""Activations on disk are what onnxruntime gives, and survive kills, changes and damage.

Run as a script, this file is killed while it looks at pictures: python test_activations.py TRUNK_CACHE CACHE PICTURES.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.errors import Conflict, InvalidInput, Unavailable, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits, decode_picture
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.learn.activations import Activations, ActivationSpec, cut_trunk, keep_activations, measure_maps
from drivetrain.learn.backbones import load_backbone
from drivetrain.learn.trunk import Trunk, name_piece, open_cuts, prepare_trunk
from drivetrain.progress import SilentProgress
from drivetrain.runtime.session import Session
from drivetrain.runtime.views import ViewRecipe, draw_view, seed_view

LIMITS = DecodeLimits(max_bytes=50_000_000, max_pixels=80_000_000)
CUT = 13
FLUSHED_EVERY, KILLED_AT = 4, 6


class Counted(SilentProgress):
    """How many pictures were looked at; `stop` is called with that number."""

    def __init__(self, stop: Callable[[int], None] | None = None) -> None:
        self.total, self.done, self.stop = 0, 0, stop
        self.names: list[str] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        self.total = total
        self.names.append(name)

        def advance(steps: int) -> None:
            self.done += steps
            if self.stop is not None:
                self.stop(self.done)

        yield advance


def make_spec(trunk: Trunk, *, method: Any = "crop", **options: Any) -> ActivationSpec:
    preprocess = Preprocess(declare_preprocess(trunk.size, method=method, mean=trunk.mean, std=trunk.std))
    given = {"cut": CUT, "views": 1, "recipe": ViewRecipe(seed=5), "preprocess": preprocess, **options}
    return ActivationSpec(trunk=trunk, **given)


def keep(files: list[Path], spec: ActivationSpec, cache: Path, **options: Any) -> Activations:
    digests = options.pop("digests", None) or [hashlib.sha256(file.read_bytes()).digest() for file in files]
    given = {"max_bytes": 10**12, "threads": 2, "limits": LIMITS, "progress": SilentProgress(), **options}
    return keep_activations(files, digests, spec=spec, cache_dir=cache, **given)


def write_pictures(folder: Path, n: int, *, first: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(first, first + n):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        files.append(folder / f"{number:03}.png")
        coarse.resize((120, 100)).save(files[-1])
    return files


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 10)


@pytest.fixture
def odd_pictures(tmp_path: Path) -> list[Path]:
    """Files that decoders treat in different ways."""
    rng = np.random.default_rng(3)
    large = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).resize((900, 600))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    ways: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "large.jpg": (large, {}),
        "turned.jpg": (large.resize((190, 110)), {"exif": exif}),
        "turned-large.jpg": (large, {"exif": exif}),
        "edge.jpg": (large.resize((250, 192)), {}),
        "below-edge.jpg": (large.resize((250, 191)), {}),
        "small.jpg": (large.resize((50, 40)), {}),
        "print.jpg": (large.resize((300, 200)).convert("CMYK"), {}),
        "grey.jpg": (large.convert("L"), {}),
        "glass.png": (large.resize((300, 120)).convert("RGBA"), {}),
        "few.png": (large.resize((300, 320)).quantize(16), {}),
        "large.png": (large.resize((700, 500)), {}),
    }
    files = []
    for name, (image, options) in ways.items():
        files.append(tmp_path / name)
        image.save(files[-1], **options)
    return files


# what they are


@pytest.mark.parametrize("method", ["crop", "pad", "squish"])
def test_the_clean_row_is_what_production_sees(
    method: str, trunk: Trunk, odd_pictures: list[Path], tmp_path: Path
) -> None:
    spec = make_spec(trunk, method=method, views=0)
    kept = keep(odd_pictures, spec, tmp_path / "cache")
    assert kept.rows.shape == (len(odd_pictures), 1, 3, 3, 192)
    assert (kept.rows.dtype, kept.views, kept.cut) == (np.float16, 0, CUT)
    session, whole = Session(cut_trunk(trunk, CUT)), Session(open_cuts(trunk, [CUT]))
    for file, row in zip(odd_pictures, kept.rows, strict=True):
        pixels = spec.preprocess.from_bytes(file.read_bytes(), name=file.name, limits=LIMITS)[np.newaxis]
        want = session.run(["activation"], pixels)[0][0].transpose(1, 2, 0).astype(np.float16)
        assert np.array_equal(row[0], want), file.name
        np.testing.assert_allclose(row[0], whole.run([name_piece(CUT)], pixels)[0][0].transpose(1, 2, 0), atol=2e-2)


def test_views_are_drawn_by_seed_and_picture(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    spec = make_spec(trunk, views=3)
    kept = keep(pictures[:2], spec, tmp_path)
    assert kept.views == 3
    session = Session(cut_trunk(trunk, CUT))
    for file, row in zip(pictures, kept.rows, strict=False):
        data = file.read_bytes()
        for view in range(3):
            rng = seed_view(hashlib.sha256(data).digest(), view, spec.recipe)
            picture = decode_picture(data, name=file.name, limits=LIMITS)
            pixels = draw_view(picture, spec.preprocess, rng, spec.recipe)
            want = session.run(["activation"], pixels[np.newaxis])[0][0].transpose(1, 2, 0).astype(np.float16)
            assert np.array_equal(row[1 + view], want)
    assert len({row.tobytes() for row in kept.rows.reshape(8, -1)}) == 8
    other = keep(pictures[:2], make_spec(trunk, views=3, recipe=ViewRecipe(seed=6)), tmp_path)
    assert np.array_equal(other.rows[:, 0], kept.rows[:, 0])
    assert not np.array_equal(other.rows[:, 1], kept.rows[:, 1])


def test_views_can_be_kept_without_the_clean_one(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    both, progress = keep(pictures[:2], make_spec(trunk, views=2), tmp_path), Counted()
    views = keep(pictures[:2], make_spec(trunk, views=2, has_clean=False), tmp_path, progress=progress)
    assert progress.names == ["Looking at pictures, 2 views each"]
    assert (both.views, both.has_clean, views.views, views.has_clean) == (2, True, 2, False)
    assert np.array_equal(views.rows, both.rows[:, 1:])
    chosen = np.array([1, 0, 1])
    for view in (1, 2):
        assert np.array_equal(views.take(chosen, view=view), both.rows[chosen, view])
        assert np.array_equal(both.take(chosen, view=view), both.rows[chosen, view])
    assert np.array_equal(both.take(chosen, view=0), both.rows[chosen, 0])
    with pytest.raises(AssertionError):
        views.take(chosen, view=0)
    clean = keep(pictures[:2], make_spec(trunk, views=0), tmp_path, progress=progress)
    assert progress.names[1:] == ["Looking at pictures, one view each"]
    assert np.array_equal(clean.rows, both.rows[:, :1])


def test_neither_order_nor_folder_nor_threads_change_a_row(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    kept = keep(pictures, make_spec(trunk), tmp_path / "a", threads=1)
    moved = [Path(shutil.copy(file, tmp_path / f"moved-{file.name}")) for file in reversed(pictures)]
    again = keep(moved, make_spec(trunk), tmp_path / "b", threads=3)
    assert np.array_equal(again.rows[::-1], kept.rows)


def test_copies_of_a_file_have_the_same_row(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    kept = keep([*pictures[:2], pictures[0]], make_spec(trunk), tmp_path)
    assert np.array_equal(kept.rows[0], kept.rows[2])
    more = keep([*pictures[:3], pictures[0]], make_spec(trunk), tmp_path)
    assert np.array_equal(more.rows[[0, 1, 3]], kept.rows)


def test_what_they_depend_on_is_in_their_name(trunk: Trunk) -> None:
    spec = make_spec(trunk)
    others = [
        replace(spec, cut=12),
        replace(spec, views=2),
        replace(spec, has_clean=False),
        replace(spec, recipe=ViewRecipe(seed=6)),
        replace(spec, recipe=ViewRecipe(seed=5, min_scale=0.5)),
        replace(spec, recipe=ViewRecipe(seed=5, light=0.0)),
        replace(spec, recipe=ViewRecipe(seed=5, flip=False)),
        replace(spec, preprocess=make_spec(trunk, method="pad").preprocess),
        replace(spec, trunk=replace(trunk, weights_digest="other")),
    ]
    assert len({one.name for one in (spec, *others)}) == 10
    clean = replace(spec, views=0)  # no view, no draw
    assert clean.name == replace(clean, recipe=ViewRecipe(seed=6)).name


# the trunk


@pytest.mark.parametrize("cut", [1, 9, 13, 17])
def test_a_trunk_cut_short_gives_what_the_whole_one_has_there(trunk: Trunk, cut: int) -> None:
    pixels = np.random.default_rng(0).normal(0, 1, (2, 3, 96, 96)).astype(np.float32)
    data = cut_trunk(trunk, cut)
    (short,) = Session(data).run(["activation"], pixels)
    (whole,) = Session(open_cuts(trunk, [cut])).run([name_piece(cut)], pixels)
    assert short.shape == whole.shape
    assert short.shape[1:] == (measure_maps(trunk)[cut][0], *[round(measure_maps(trunk)[cut][1] ** 0.5)] * 2)
    np.testing.assert_allclose(short, whole, atol=1e-5)
    assert cut_trunk(trunk, cut) == data
    assert len(data) < trunk.model.stat().st_size * (1 if cut == 17 else 0.5)  # what comes after is not in it


def test_maps_are_measured_as_torch_has_them(trunk: Trunk) -> None:
    backbone = load_backbone(trunk.name)
    maps, x = measure_maps(trunk), torch.zeros(1, 3, 96, 96)
    assert tuple(maps) == backbone.cuts == tuple(range(1, 18))
    with torch.no_grad():
        for piece in backbone.cuts:
            x = backbone.run(x, start=piece - 1, stop=piece)
            assert maps[piece] == (x.shape[1], x.shape[2] * x.shape[3])


def test_a_cut_that_is_none_is_refused(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="pieces 1 to 17"):
        keep(pictures, make_spec(trunk, cut=18), tmp_path)


# breaks


def script(trunk_cache: Path, cache: Path, folder: Path) -> None:
    def kill(done: int) -> None:
        if done == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    trunk = prepare_trunk("efficientnet_lite0", size=96, cache_dir=trunk_cache, progress=SilentProgress())
    keep(sorted(folder.iterdir()), make_spec(trunk), cache, flush_every=FLUSHED_EVERY, progress=Counted(kill))


def test_a_killed_run_goes_on_without_looking_again(trunk: Trunk, trunk_cache: Path, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "pictures", 10)
    done = subprocess.run(
        [sys.executable, __file__, str(trunk_cache), str(tmp_path / "cache"), str(tmp_path / "pictures")],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    whole = keep(files, make_spec(trunk), tmp_path / "unbroken")
    for file in files[:FLUSHED_EVERY]:
        file.unlink()  # whoever looks again finds nothing
    progress = Counted()
    resumed = keep(files, make_spec(trunk), tmp_path / "cache", digests=digests, progress=progress)
    assert progress.total == progress.done == 10 - FLUSHED_EVERY
    assert np.array_equal(resumed.rows, whole.rows)


def test_a_broken_off_run_keeps_every_picture(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(pictures, make_spec(trunk), tmp_path, progress=Counted(stop))
    progress = Counted()
    keep(pictures, make_spec(trunk), tmp_path, progress=progress)
    assert progress.total == 7
    again = Counted()
    keep(pictures, make_spec(trunk), tmp_path, progress=again)
    assert (again.total, again.done) == (0, 0)


def test_a_changed_set_takes_over_what_is_known(trunk: Trunk, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "pictures", 6)
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    first = keep(files, make_spec(trunk), tmp_path / "cache")
    for file in files:
        file.unlink()
    new = write_pictures(tmp_path / "pictures", 2, first=6)
    told = [hashlib.sha256(file.read_bytes()).digest() for file in new]
    progress = Counted()
    mixed = [new[0], files[4], files[1], new[1]]
    kept = keep(
        mixed,
        make_spec(trunk),
        tmp_path / "cache",
        digests=[told[0], digests[4], digests[1], told[1]],
        progress=progress,
    )
    assert progress.total == 2
    assert np.array_equal(kept.rows[[1, 2]], first.rows[[4, 1]])
    assert np.array_equal(kept.rows[[0, 3]], keep(new, make_spec(trunk), tmp_path / "other").rows)


@pytest.mark.parametrize("name", ["rows.npy", "done.npy", "digests"])
@pytest.mark.parametrize("how", ["cut", "empty", "gone", "other"])
def test_what_is_damaged_is_begun_anew(name: str, how: str, trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    few, more = pictures[:2], pictures[:3]
    kept = keep(more, make_spec(trunk), tmp_path / "good")
    folder = keep(few, make_spec(trunk), tmp_path / "bad").folder
    assert folder is not None
    file = folder / name
    if how == "gone":
        file.unlink()
    elif how == "other":
        file.unlink()
        np.save(file.with_suffix(".npy"), np.zeros(3, np.float64))
        file.with_suffix(".npy").rename(file)
    else:
        file.write_bytes(file.read_bytes()[: -file.stat().st_size // 2] if how == "cut" else b"")
    assert np.array_equal(keep(more, make_spec(trunk), tmp_path / "bad").rows, kept.rows)  # takes over what is whole
    assert np.array_equal(keep(few, make_spec(trunk), tmp_path / "bad").rows, kept.rows[:2])
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


# pictures that are not what they were


def test_a_picture_changed_meanwhile_is_named(trunk: Trunk, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "pictures", 3)
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    shutil.copy(files[0], files[1])
    with pytest.raises(Conflict, match=r"001\.png: got other bytes than a minute ago.*Run again"):
        keep(files, make_spec(trunk), tmp_path / "cache", digests=digests, threads=1)
    files[1].unlink()
    with pytest.raises(UnreadablePicture, match=r"001\.png"):
        keep(files, make_spec(trunk), tmp_path / "cache", digests=digests, threads=1)
    write_pictures(tmp_path / "pictures", 1, first=1)
    progress = Counted()
    keep(files, make_spec(trunk), tmp_path / "cache", digests=digests, progress=progress)
    assert progress.total == 2  # the first was kept


# room


def test_the_folders_used_longest_ago_go(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    def keep_one(number: int, **options: Any) -> Activations:
        return keep([pictures[number]], make_spec(trunk, recipe=ViewRecipe(seed=number)), tmp_path, **options)

    kept = [keep_one(number) for number in range(3)]
    folders = [one.folder for one in kept]
    for age, folder in enumerate(folders):
        assert folder is not None
        os.utime(folder, (1_700_000_000 + age,) * 2)
    keep_one(0)  # used again
    size = sum(file.stat().st_size for file in folders[0].iterdir())  # type: ignore[union-attr]
    progress = Counted()
    last = keep_one(3, max_bytes=int(3.5 * size), progress=progress)
    left = set((tmp_path / "activations").iterdir())
    assert left == {folders[0], folders[2], last.folder}
    only = keep_one(4, max_bytes=0)
    assert set((tmp_path / "activations").iterdir()) == {only.folder}
    assert np.isfinite(kept[1].rows).all()  # removed from the folder, not from under those who read it


def test_those_in_use_beside_stay(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    """Symptom before: larger than the limit, one side of a run threw out the other, and each run began anew."""
    first = keep(pictures[:1], make_spec(trunk), tmp_path, max_bytes=0)
    second = keep(pictures[1:2], make_spec(trunk, views=0), tmp_path, max_bytes=0, beside=[first])
    assert set((tmp_path / "activations").iterdir()) == {first.folder, second.folder}


def test_a_full_disk_is_told_before_the_work(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    files = [pictures[0]] * 1000
    digests = [hashlib.sha256(pictures[0].read_bytes()).digest()] * 1000
    with pytest.raises(Unavailable, match=r"cache_dir: got .*GB free of 2949.3 GB needed.*fewer --views") as caught:
        keep(files, make_spec(trunk, cut=1, views=20_000), tmp_path, digests=digests)
    assert "want a folder that can be written" in str(caught.value)
    assert not list((tmp_path / "activations").iterdir())


def test_a_disk_that_takes_no_more_is_told(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(Unavailable, match=r"File too large"):
            keep(pictures, make_spec(trunk, cut=1), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "activations").iterdir())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="Not a directory"):
        keep(pictures, make_spec(trunk), tmp_path / "file")


def test_blocks_are_taken_before_they_are_written(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    """Symptom before: a disk that filled up meanwhile killed the process, for the file was all holes."""
    blocks: list[int] = []

    def stop(done: int) -> None:
        (file,) = tmp_path.glob("activations/*/rows.npy")
        blocks.append(file.stat().st_blocks * 512 - file.stat().st_size)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(pictures, make_spec(trunk, cut=1, views=4), tmp_path, progress=Counted(stop), threads=1)
    assert blocks[0] >= 0


def test_rows_are_mapped_and_not_read(trunk: Trunk, pictures: list[Path], tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells what memory is the process's own")

    def own_bytes() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    spec = make_spec(trunk, cut=1, views=15)
    keep(pictures[:1], spec, tmp_path / "warm")  # what onnxruntime takes once
    seen: list[int] = []
    kept = keep(pictures * 5, spec, tmp_path / "cache", progress=Counted(lambda _: seen.append(own_bytes())))
    assert kept.rows.nbytes > 110_000_000
    assert max(seen) - min(seen) < 50_000_000
    assert isinstance(kept.rows, np.memmap)
    before = own_bytes()
    assert np.isfinite(kept.rows.max())
    assert own_bytes() - before < 30_000_000
    with pytest.raises(ValueError, match="read-only"):
        kept.rows[0] = 0


if __name__ == "__main__":
    script(*(Path(place) for place in sys.argv[1:]))
