"""Copies of one picture are found, other pictures are not: on made pictures; real ones are in test_clothing.py."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from sklearn.datasets import load_digits

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput
from drivetrain.imaging.fingerprint import (
    FINGERPRINT_LENGTH,
    CopyPairs,
    cluster_copies,
    find_copies,
    fingerprint,
    join_pairs,
)

SIDE = 224  # pixels


def scene(seed: int, *, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Shapes of many sizes on a gradient: as rich in detail as a photograph, and like no other seed's."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]]
    slopes = rng.uniform(-0.2, 0.2, 2)
    ground = (120 + slopes[0] * x + slopes[1] * y)[..., None] + rng.uniform(-30, 30, 3)
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        left, top = rng.uniform(-0.1, 1, 2) * size
        width, height = rng.uniform(0.03, 0.3, 2) * size
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, top, left + width, top + height), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def look(image: Image.Image) -> FloatArray:
    """As a network sees it: the shorter side to SIDE, the middle, [-1, 1]."""
    square = ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(square).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1


def prints(*images: Image.Image) -> FloatArray:
    return np.stack([fingerprint(look(image)) for image in images])


def compress(image: Image.Image, quality: int = 30) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def caption(image: Image.Image, top: float) -> Image.Image:
    image = image.copy()
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, top * image.height, image.width, (top + 0.1) * image.height), fill=(0, 0, 0))
    draw.text((20, (top + 0.03) * image.height), "www.example.com", fill=(255, 255, 255))
    return image


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda image: image,
    "recompressed": compress,
    "smaller": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cropped all round": lambda image: crop(image, 0.025, 0.025, 0.975, 0.975),
    "cropped at a corner": lambda image: crop(image, 0, 0.05, 0.95, 1),
    "mirrored": ImageOps.mirror,
    "mirrored, cropped, recompressed": lambda image: compress(crop(ImageOps.mirror(image), 0.05, 0, 1, 0.95), 50),
    "captioned below": lambda image: caption(image, 0.9),
    "captioned above": lambda image: caption(image, 0.0),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_found_among_others(how: str) -> None:
    originals = [scene(seed) for seed in range(12)]
    ids = cluster_copies(prints(*originals, *map(COPIES[how], originals)))
    np.testing.assert_array_equal(ids[:12], range(12))
    assert sum(ids[12:] == range(12)) >= 10  # of 12; the shares on photographs stand in the module


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_found_the_other_way_round(how: str) -> None:
    """The copy may stand first in the table."""
    originals = [scene(seed) for seed in range(12)]
    ids = cluster_copies(prints(*map(COPIES[how], originals), *originals))
    assert sum(ids[12:] == ids[:12]) >= 10


def test_like_pictures_are_no_copies() -> None:
    """Shirts laid on the same table, one after the other, each with a print of its own."""
    pictures = []
    outline = [(90, 40), (310, 40), (360, 110), (300, 130), (300, 290), (100, 290), (100, 130), (40, 110)]
    for seed in range(30):
        rng = np.random.default_rng([1, seed])
        image = Image.new("RGB", (400, 300), (150, 20, 40))
        laid = [tuple(corner + rng.uniform(-4, 4, 2)) for corner in outline]  # no two lie alike to the pixel
        ImageDraw.Draw(image).polygon(laid, "white")
        stamp = Image.new("L", (90, 80))
        ImageDraw.Draw(stamp).ellipse((0, 0, 90, 80), 255)
        image.paste(scene(seed, size=(90, 80)), (155, 100), stamp)
        pictures.append(image)
    assert len(set(cluster_copies(prints(*pictures)).tolist())) == 30


def scan(ink: FloatArray) -> Image.Image:
    """A digit of 8 x 8 as the demo has it: dark on white paper."""
    grey = 255 - np.round(255 * np.kron(ink / 16, np.ones((12, 12))))
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize("is_kin", [False, True])
def test_digits_written_alike_are_no_copies(is_kin: bool) -> None:
    """1,797 scans of 8 x 8: among so many some are alike by chance, and a network sees the same digit in them."""
    scans = load_digits()
    table = prints(*map(scan, scans.images))
    features = np.eye(10, dtype=np.float32)[scans.target] if is_kin else None
    sizes = np.bincount(cluster_copies(table, features=features))
    assert sizes[sizes > 1].sum() <= 2  # one in twelve, before pictures of few strokes were asked for more


def test_a_digit_saved_again_is_a_copy() -> None:
    """Of 100 digits among all 1,797, copies and no others are found."""
    scans = load_digits()
    originals = prints(*map(scan, scans.images))
    changes: list[Callable[[Image.Image], Image.Image]] = [
        COPIES["darker"],
        COPIES["mirrored"],
        lambda image: compress(image, 90),
    ]
    for change in changes:
        copies = prints(*(change(scan(ink)) for ink in scans.images[:100]))
        pairs = find_copies(np.concatenate([originals, copies]))
        assert (pairs.second - pairs.first == 1797).sum() >= 95
        assert len(pairs.first) <= 102


def test_the_same_stripes_a_little_further_are_no_copies() -> None:
    """200 pictures of one grating at any phase: half of the class was one cluster once."""
    x = np.arange(SIDE) / SIDE
    pictures = []
    for phase in np.random.default_rng(0).uniform(0, 2 * np.pi, 200):
        row = 128 + 100 * np.sign(np.sin(2 * np.pi * 6 * x + phase))
        pictures.append(Image.fromarray(np.tile(row, (SIDE, 1)).astype(np.uint8)).convert("RGB"))
    table = prints(*pictures)
    features = np.full((200, 3), 1.0, dtype=np.float32) + 1e-3 * np.arange(600).reshape(200, 3).astype(np.float32)
    assert np.bincount(cluster_copies(table)).max() == 1
    assert np.bincount(cluster_copies(table, features=features)).max() == 1


def test_discs_make_no_large_cluster() -> None:
    """A disc is a disc, anywhere and of any size; it may be called a copy, but never half of its class."""
    pictures = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        (x, y), r = rng.uniform(0.4, 0.6, 2) * SIDE, rng.uniform(0.2, 0.3) * SIDE
        image = Image.new("RGB", (SIDE, SIDE), (200, 200, 200))
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), (80, 80, 80))
        pictures.append(image)
    assert np.bincount(cluster_copies(prints(*pictures))).max() <= 20


def test_features_keep_apart_what_the_network_sees_as_different() -> None:
    """Within reason: the very same pixels are a copy, whatever the network makes of them."""
    cropped, same = COPIES["cropped at a corner"](scene(2)), COPIES["recompressed"](scene(1))
    table = prints(scene(2), cropped, scene(1), same, scene(3))
    assert cluster_copies(table).tolist() == [0, 0, 1, 1, 2]
    features = np.eye(5, dtype=np.float32)
    features[[1, 3]] = features[[0, 2]]
    assert cluster_copies(table, features=features).tolist() == [0, 0, 1, 1, 2]
    features[[1, 3]] *= -1
    assert cluster_copies(table, features=features).tolist() == [0, 1, 2, 2, 3]


def test_features_find_a_copy_that_was_changed_further() -> None:
    changed = crop(scene(0).rotate(2), 0.04, 0.04, 0.96, 0.96)
    table = prints(scene(0), changed, *(scene(seed) for seed in range(1, 9)))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((10, 64)).astype(np.float32)
    features[1] = features[0] + 0.1 * rng.standard_normal(64)
    found = find_copies(table, features=features)
    assert list(zip(found.first, found.second, strict=True)) == [(0, 1)]
    assert len(find_copies(table).first) == 0


def test_pairs_are_ordered_and_told_once() -> None:
    symmetric = Image.fromarray(np.hstack([np.asarray(scene(0)), np.asarray(ImageOps.mirror(scene(0)))]))
    pairs = find_copies(prints(symmetric, scene(3), symmetric, scene(3), symmetric))
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 2), (0, 4), (1, 3), (2, 4)]
    assert pairs.similarity == pytest.approx(1, abs=1e-4)
    assert pairs.similarity.max() <= 1


def test_many_pictures_come_in_blocks() -> None:
    """More rows than are compared at a time, each copy far from its original."""
    originals = prints(*(scene(seed) for seed in range(100)))
    ids = cluster_copies(np.concatenate([originals, originals, originals]))
    np.testing.assert_array_equal(ids, np.tile(np.arange(100), 3))


def test_the_fingerprint_knows_neither_brightness_nor_contrast() -> None:
    pixels = look(scene(0))
    made = fingerprint(pixels)
    assert made.dtype == np.float32
    assert made.shape == (FINGERPRINT_LENGTH,)
    assert np.linalg.norm(made) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(fingerprint(0.3 * pixels + 0.5), made, atol=1e-5)
    np.testing.assert_allclose(
        fingerprint(pixels + np.array([0.1, -0.2, 0.3], dtype=np.float32).reshape(3, 1, 1)), made, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(3, 224, 224), (3, 96, 96), (3, 50, 331), (3, 8, 8), (3, 1, 1)])
def test_flat_pictures_of_any_size_are_no_copies_of_each_other(shape: tuple[int, ...]) -> None:
    flat = fingerprint(np.full(shape, 0.7, dtype=np.float32))
    assert not flat.any()
    assert cluster_copies(np.stack([flat, flat])).tolist() == [0, 1]


def test_small_pictures_have_fingerprints_too() -> None:
    pixels = np.random.default_rng(0).random((4, 3, 12, 20), dtype=np.float32)
    table = np.stack([*map(fingerprint, pixels), fingerprint(pixels[2, :, :, ::-1])])
    assert cluster_copies(table).tolist() == [0, 1, 2, 3, 2]


def test_no_picture_and_one() -> None:
    assert cluster_copies(np.empty((0, FINGERPRINT_LENGTH), dtype=np.float32)).tolist() == []
    assert cluster_copies(prints(scene(0)), features=np.ones((1, 3), dtype=np.float32)).tolist() == [0]


@pytest.mark.parametrize("shape", [(224, 224), (224, 224, 3), (3, 0, 5)])
def test_pixels_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"pixels: got shape \(.*\); want \(3, height, width\)"):
        fingerprint(np.zeros(shape, dtype=np.float32))


def test_tables_of_another_shape() -> None:
    with pytest.raises(InvalidInput, match=rf"fingerprints: got shape \(2, 5\); want \(n, {FINGERPRINT_LENGTH}\)"):
        cluster_copies(np.zeros((2, 5), dtype=np.float32))
    table = np.zeros((2, FINGERPRINT_LENGTH), dtype=np.float32)
    with pytest.raises(InvalidInput, match=r"features: got shape \(3, 4\); want \(2, d\), a row for each fingerprint"):
        cluster_copies(table, features=np.zeros((3, 4), dtype=np.float32))


# --- clusters


def pairs(links: list[tuple[int, int, float]]) -> CopyPairs:
    return CopyPairs(
        first=np.array([i for i, _, _ in links], dtype=np.int64),
        second=np.array([j for _, j, _ in links], dtype=np.int64),
        similarity=np.array([alike for _, _, alike in links], dtype=np.float32),
    )


def test_copies_of_copies_are_copies() -> None:
    assert join_pairs(6, pairs([(1, 4, 0.95), (3, 4, 0.93), (0, 5, 1.0)])).tolist() == [0, 1, 2, 1, 1, 0]


def test_a_chain_does_not_make_one_picture_of_a_class() -> None:
    rng = np.random.default_rng(0)
    chain = pairs([(i, i + 1, float(rng.uniform(0.91, 0.99))) for i in range(199)])
    sizes = Counter(join_pairs(200, chain).tolist())
    assert 2 <= max(sizes.values()) <= 8


def test_many_copies_of_one_picture_stay_one() -> None:
    rng = np.random.default_rng(0)
    every = [(i, j, float(rng.uniform(0.91, 0.99))) for i in range(30) for j in range(i + 1, 30)]
    half = [link for link in every if rng.random() < 0.5]
    assert set(join_pairs(30, pairs(half)).tolist()) == {0}
    same_file = [(0, j, 1.0) for j in range(1, 30)]  # told as a star, though all are the same
    assert set(join_pairs(30, pairs(same_file)).tolist()) == {0}
