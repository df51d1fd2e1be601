from __future__ import annotations

import hashlib
import io
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess, declare_preprocess
from drivetrain.progress import SilentProgress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.features import FrozenTrunk
from drivetrain.runtime.views import ViewRecipe, decode_for_views, draw_view, extract_views, seed_view

from .conftest import MakeTrunk

SIZE = 32
STILL = ViewRecipe(min_scale=1.0, flip=False, light=0)
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def preprocess(size: int = SIZE) -> Preprocess:
    return Preprocess(declare_preprocess(size, mean=MEAN, std=STD))


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ramp(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row, both from 0 to 1; blue is mid grey."""
    pixels = np.full((height, width, 3), 128, dtype=np.uint8)
    pixels[:, :, 0] = (np.linspace(0, 255, width)).round()[np.newaxis]
    pixels[:, :, 1] = (np.linspace(0, 255, height)).round()[:, np.newaxis]
    return Image.fromarray(pixels)


def draw(picture: object, recipe: ViewRecipe, *, view: int = 0, size: int = SIZE) -> FloatArray:
    """A view in shares of white, (3, size, size)."""
    ops = preprocess(size)
    out = draw_view(picture, ops, seed_view(bytes(32), view, recipe), recipe)  # type: ignore[arg-type]
    assert (out.dtype, out.shape, out.flags.c_contiguous) == (np.float32, (3, size, size), True)
    return out * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))


# --- one view


def test_a_view_that_nothing_is_done_to_is_the_picture_as_production_sees_it() -> None:
    """The same numbers, bit for bit: by the trunk's own mean and std."""
    image = noise(SIZE, SIZE)
    for ops in (preprocess(), Preprocess(declare_preprocess(SIZE, method="pad", mean=[0] * 3, std=[1] * 3))):
        seen = draw_view(image, ops, np.random.default_rng(0), STILL)
        np.testing.assert_array_equal(seen, ops.from_image(image))
        np.testing.assert_array_equal(draw_view(np.asarray(image), ops, np.random.default_rng(0), STILL), seen)


@pytest.mark.parametrize("min_scale", [0.1, 0.35, 0.9])
def test_a_view_shows_a_part_of_at_least_min_scale(min_scale: float) -> None:
    shares, middles = [], []
    for view in range(100):
        red, green, _ = draw(ramp(80, 60), ViewRecipe(min_scale=min_scale, flip=False, light=0), view=view)
        assert (np.diff(red[0]) > -1e-6).all()  # not mirrored
        step = (red[0, -1] - red[0, 0]) / (SIZE - 1) * SIZE, (green[-1, 0] - green[0, 0]) / (SIZE - 1) * SIZE
        shares.append(step[0] * step[1])
        middles.append(red[0].mean())
    assert min(shares) > min_scale - 0.06
    assert max(shares) > 0.9
    assert min(shares) < min_scale + 0.12
    assert np.std(middles) > (0.1 if min_scale < 0.5 else 0.005)  # anywhere, not the middle alone


def test_half_of_the_views_are_mirrored() -> None:
    plain, flipping = (ViewRecipe(min_scale=0.5, flip=flip, light=0) for flip in (False, True))
    n = 0
    for view in range(200):
        one, other = draw(ramp(60, 60), plain, view=view), draw(ramp(60, 60), flipping, view=view)
        is_mirrored = other[0, 0, 0] > other[0, 0, -1]
        np.testing.assert_array_equal(other, one[:, :, ::-1] if is_mirrored else one)  # the same part of the picture
        n += is_mirrored
    assert 75 <= n <= 125


def test_light_is_that_of_the_batch_transforms() -> None:
    torch = pytest.importorskip("torch")
    from drivetrain.learn.lighting import brightness_matrices, contrast_matrices, relight

    image = noise(SIZE, SIZE)
    plain = torch.from_numpy(draw(image, STILL))[None].double()
    recipe = ViewRecipe(min_scale=1.0, flip=False, light=0.3)
    levels = []
    for view in range(20):
        rng = seed_view(bytes(32), view, recipe)
        _, brightness, contrast = rng.random(), rng.uniform(-1, 1), rng.uniform(-1, 1)
        level, gain = 0.5 * (1 + 0.3 * brightness), (1 - 0.3) ** -contrast
        relit = torch.empty_like(plain)
        matrices = brightness_matrices(torch.tensor([level])) @ contrast_matrices(torch.tensor([gain]))
        relight(plain, matrices.double(), out=relit)
        np.testing.assert_allclose(draw(image, recipe, view=view), relit[0].numpy(), atol=1e-5)
        levels.append(level)
    assert min(levels) < 0.4
    assert max(levels) > 0.6


def test_mild_light_stays_mild() -> None:
    """Mid grey under the default recipe: up to a fifth brighter or darker."""
    grey = Image.new("RGB", (SIZE, SIZE), (128, 128, 128))
    levels = [draw(grey, ViewRecipe(flip=False), view=view).mean() for view in range(200)]
    assert 0.39 < min(levels) < 0.42
    assert 0.58 < max(levels) < 0.61


def test_a_view_is_drawn_by_seed_number_and_picture() -> None:
    image, recipe = noise(50, 40), ViewRecipe()
    ops = preprocess()

    def view(sha256: bytes, number: int, seed: int) -> bytes:
        chosen = ViewRecipe(seed=seed)
        return draw_view(image, ops, seed_view(sha256, number, chosen), recipe).tobytes()

    views = {view(bytes([sha] * 32), number, seed) for sha in range(3) for number in range(3) for seed in range(3)}
    assert len(views) == 27
    assert view(bytes(32), 1, 2) == view(bytes(32), 1, 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (7, 3)])
def test_odd_shapes(shape: tuple[int, int]) -> None:
    for view in range(10):
        assert np.isfinite(draw(noise(*shape), ViewRecipe(), view=view)).all()


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_an_array_that_is_no_picture(array: FloatArray) -> None:
    with pytest.raises(InvalidInput, match=r"picture: got .* of shape .*; want uint8 of shape \(height, width, 3\)"):
        draw(array, ViewRecipe())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_scale": 0.0}, "min_scale: got 0.0; want a share of the picture's area, above 0 and at most 1"),
        ({"min_scale": 1.1}, "min_scale: got 1.1"),
        ({"min_scale": float("nan")}, "min_scale: got nan"),
        ({"light": 1.0}, "light: got 1.0; want a number from 0 to below 1"),
        ({"light": -0.1}, "light: got -0.1"),
        ({"seed": -1}, "seed: got -1; want a whole number of at least 0"),
    ],
)
def test_recipes_that_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        ViewRecipe(**options)  # type: ignore[arg-type]


# --- decoding


def encode(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


@pytest.mark.parametrize(("format_", "side"), [("JPEG", 75), ("PNG", 75)])
def test_large_pictures_are_decoded_small(format_: str, side: int) -> None:
    """A quarter of the area, at 3:4, is 35 % and more of a side: 32 pixels of it are left of a side of 75 pixels."""
    data = encode(ramp(800, 600), format_)
    recipe = ViewRecipe(min_scale=0.25)
    image = decode_for_views(data, name="x", limits=DecodeLimits(), preprocess=preprocess(), recipe=recipe)
    assert image.size == (100, 75)
    red = np.asarray(image)[:, :, 0].astype(float)
    np.testing.assert_allclose(red[10], np.linspace(0, 255, 100), atol=4)
    whole = decode_for_views(data, name="x", limits=DecodeLimits(), preprocess=preprocess(300), recipe=recipe)
    assert whole.size == (800, 600)


def test_pictures_are_turned_as_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(ramp(60, 40), "JPEG", exif=exif)
    image = decode_for_views(data, name="x", limits=DecodeLimits(), preprocess=preprocess(), recipe=ViewRecipe())
    assert image.size == (40, 60)


def test_a_picture_that_cannot_be_decoded_is_named() -> None:
    with pytest.raises(UnreadablePicture, match=r"here\.jpg: got a web page"):
        decode_for_views(
            b"<html>", name="here.jpg", limits=DecodeLimits(), preprocess=preprocess(), recipe=ViewRecipe()
        )


# --- features of views


def make_noise(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:03}.png" for number in range(count)]
    for number, file in enumerate(files):
        noise(12, 10, seed=number).save(file)
    return files


def extract(
    files: Sequence[Path],
    trunk: FrozenTrunk,
    folder: Path,
    *,
    recipe: ViewRecipe = ViewRecipe(),  # noqa: B008 - frozen
    count: int = 3,
    threads: int = 2,
    progress: SilentProgress | None = None,
    digests: Sequence[bytes] | None = None,
) -> FloatArray:
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files] if digests is None else digests
    with FeatureCache(folder) as cache:
        return extract_views(
            files, digests, trunk=trunk, recipe=recipe, count=count, cache=cache, threads=threads,
            limits=DecodeLimits(), progress=progress or SilentProgress(),
        )  # fmt: skip


class Counted(SilentProgress):
    """Keeps what was told: how many pictures, and the steps."""

    def __init__(self) -> None:
        self.told: list[tuple[int, list[int]]] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[object]:
        steps: list[int] = []
        self.told.append((total, steps))
        yield steps.append


def test_features_are_those_of_the_views(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    """The trunk here gives the mean of each channel."""
    files, trunk, recipe = make_noise(tmp_path / "a", 5), make_trunk(), ViewRecipe(seed=4)
    views = extract(files, trunk, tmp_path / "cache", recipe=recipe)
    assert (views.shape, views.dtype) == ((3, 5, 3), np.float32)
    for at, file in enumerate(files):
        sha256 = hashlib.sha256(file.read_bytes()).digest()
        for view in range(3):
            pixels = draw_view(Image.open(file), trunk.preprocess, seed_view(sha256, view, recipe), recipe)
            np.testing.assert_allclose(views[view, at], pixels.mean(axis=(1, 2)), rtol=1e-5)
    assert len(np.unique(views[..., 0])) == 15


def test_views_do_not_depend_on_folder_order_or_threads(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files = make_noise(tmp_path / "a", 8)
    first = extract(files, make_trunk(), tmp_path / "cache")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    back = [tmp_path / "b" / file.name for file in reversed(files)]
    other = extract(back, make_trunk(), tmp_path / "other", threads=1)
    np.testing.assert_array_equal(other[:, ::-1], first)


def test_what_is_cached_is_neither_read_nor_run(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files = make_noise(tmp_path / "a", 6)
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    told = Counted()
    first = extract(files[:4], make_trunk(), tmp_path / "cache", count=2, progress=told)
    for file in files[:4]:
        file.write_bytes(b"gone")
    again = extract(files[:4], make_trunk(), tmp_path / "cache", count=2, digests=digests[:4], progress=told)
    np.testing.assert_array_equal(again, first)
    fewer = extract(files[:4], make_trunk(), tmp_path / "cache", count=1, digests=digests[:4], progress=told)
    np.testing.assert_array_equal(fewer, first[:1])
    more = extract(files, make_trunk(), tmp_path / "cache", count=2, digests=digests, progress=told)
    np.testing.assert_array_equal(more[:, :4], first)
    assert told.told == [(4, [1] * 4), (2, [1] * 2)]


def test_more_views_keep_the_first_ones(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files = make_noise(tmp_path / "a", 3)
    two = extract(files, make_trunk(), tmp_path / "cache", count=2)
    four = extract(files, make_trunk(), tmp_path / "cache", count=4)
    np.testing.assert_array_equal(four[:2], two)
    np.testing.assert_array_equal(extract(files, make_trunk(), tmp_path / "fresh", count=4), four)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": ViewRecipe(min_scale=0.5)},
        {"recipe": ViewRecipe(flip=False)},
        {"recipe": ViewRecipe(light=0.1)},
        {"recipe": ViewRecipe(seed=1)},
        {"weights": "v"},
        {"std": 2.0},
    ],
)
def test_another_recipe_is_drawn_anew(change: dict[str, object], make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files, told = make_noise(tmp_path / "a", 2), Counted()
    extract(files, make_trunk(), tmp_path / "cache")
    options = dict(change)
    recipe = options.pop("recipe", ViewRecipe())
    extract(files, make_trunk(**options), tmp_path / "cache", recipe=recipe, progress=told)  # type: ignore[arg-type]
    assert told.told == [(2, [1, 1])]


def test_copies_of_one_file_have_the_same_views(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files, told = make_noise(tmp_path / "a", 2), Counted()
    shutil.copy(files[0], tmp_path / "a" / "copy.png")
    views = extract([*files, tmp_path / "a" / "copy.png"], make_trunk(), tmp_path / "cache", progress=told)
    np.testing.assert_array_equal(views[:, 2], views[:, 0])
    assert told.told == [(2, [1, 1])]


def test_none_of_nothing(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    assert extract([], make_trunk(), tmp_path / "cache").shape == (3, 0, 3)
    assert extract(make_noise(tmp_path / "a", 2), make_trunk(), tmp_path / "cache", count=0).shape == (0, 2, 3)


def test_a_run_that_ends_early_keeps_what_was_done(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    class Ends(SilentProgress):
        @contextmanager
        def task(self, name: str, total: int) -> Iterator[object]:
            done = 0

            def advance(steps: int) -> None:
                nonlocal done
                done += steps
                if done == 140:
                    raise KeyboardInterrupt

            yield advance

    files, told = make_noise(tmp_path / "a", 150), Counted()
    with pytest.raises(KeyboardInterrupt):
        extract(files, make_trunk(), tmp_path / "cache", count=1, progress=Ends())
    extract(files, make_trunk(), tmp_path / "cache", count=1, progress=told)
    assert [total for total, _ in told.told] == [10]


def test_what_was_done_is_on_disk_every_128_pictures(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    seen = []

    class Looks(SilentProgress):
        @contextmanager
        def task(self, name: str, total: int) -> Iterator[object]:
            def advance(steps: int) -> None:
                with sqlite3.connect(tmp_path / "cache" / "features.sqlite") as db:
                    seen.append(db.execute("SELECT COUNT(*) FROM feature").fetchone()[0])
                db.close()

            yield advance

    extract(make_noise(tmp_path / "a", 130), make_trunk(), tmp_path / "cache", count=2, progress=Looks())
    assert seen == [0] * 127 + [256] * 3


def test_a_file_that_changed_meanwhile(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    files = make_noise(tmp_path / "a", 2)
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    noise(9, 9).save(files[1])
    with pytest.raises(Conflict, match=r"001\.png: got other bytes .*Run again"):
        extract(files, make_trunk(), tmp_path / "cache", digests=digests)
    files[1].unlink()
    with pytest.raises(UnreadablePicture, match=r"001\.png: got cannot be opened: No such file"):
        extract(files, make_trunk(), tmp_path / "cache", digests=digests)


def test_a_digest_for_each_file(make_trunk: MakeTrunk, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="digests: got 1 of 2 files; want the sha256 of each file"):
        extract(make_noise(tmp_path / "a", 2), make_trunk(), tmp_path / "cache", digests=[bytes(32)])
