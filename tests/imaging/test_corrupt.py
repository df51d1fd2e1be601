import numpy as np
import pytest
from PIL import Image

from drivetrain.errors import InvalidInput
from drivetrain.imaging.corrupt import CORRUPTIONS, STRENGTHS, corrupt
from drivetrain.imaging.style import measure_style

KINDS = list(CORRUPTIONS)
DIGEST = b"\x01" * 32


def scene(*, seed: int = 0, size: tuple[int, int] = (160, 128)) -> Image.Image:
    """A bright, coloured subject before a quiet ground that grows lighter to one side."""
    rng = np.random.default_rng(seed)
    width, height = size
    down, across = np.mgrid[0:height, 0:width]
    ground = 90 + 50 * across / width + rng.normal(0, 3, (height, width))
    values = np.stack([ground, ground * 0.9, ground * 0.7], axis=2)
    inside = np.hypot((across - width / 2) / (0.3 * width), (down - height / 2) / (0.35 * height)) < 1
    values[inside] = [200, 80, 60] + rng.normal(0, 15, (height, width))[inside][:, None]
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def distance(image: Image.Image, other: Image.Image) -> float:
    same = other.resize(image.size, Image.Resampling.BILINEAR)
    return float(np.abs(np.asarray(image, np.float64) - np.asarray(same, np.float64)).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_each_strength_is_further_from_the_picture(kind: str) -> None:
    images = [scene(seed=seed) for seed in range(3)]
    told = [
        np.mean([distance(image, corrupt(image, kind, strength, digest=DIGEST)) for image in images])
        for strength in range(STRENGTHS + 1)
    ]
    assert told[0] == 0
    assert np.all(np.diff(told) > 0), told


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_digest_and_seed_give_the_same_pixels(kind: str) -> None:
    image = scene()
    before = image.tobytes()
    once, again = (corrupt(image, kind, 3, digest=DIGEST) for _ in range(2))
    assert (once.mode, once.size, once.tobytes()) == (again.mode, again.size, again.tobytes())
    assert image.tobytes() == before
    others = [corrupt(image, kind, 3, digest=b"other"), corrupt(image, kind, 3, digest=DIGEST, seed=1)]
    is_drawn = kind in {"night", "noise", "occlusion", "off_centre"}
    assert [other.tobytes() != once.tobytes() for other in others] == [is_drawn, is_drawn]


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_stays_but_of_low_resolution(kind: str) -> None:
    image = scene(size=(96, 60))
    for strength in range(1, STRENGTHS + 1):
        worse = corrupt(image, kind, strength, digest=DIGEST)
        assert worse.mode == "RGB"
        assert (worse.size == (96, 60)) == (kind != "low_resolution")
    assert corrupt(image, "low_resolution", 2, digest=DIGEST).size == (24, 15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 200)])
def test_tiny_and_narrow_pictures_pass(kind: str, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (200, 120, 40))
    assert min(corrupt(image, kind, STRENGTHS, digest=DIGEST).size) >= 1


def test_each_kind_does_what_it_says() -> None:
    image = scene(size=(400, 320))
    worst = {kind: corrupt(image, kind, STRENGTHS, digest=DIGEST) for kind in KINDS}
    styles = {kind: measure_style(worse) for kind, worse in worst.items()}
    assert measure_style(image).flags == frozenset()
    assert "dark" in styles["night"].flags
    assert "small" in styles["low_resolution"].flags
    assert styles["blur"].sharpness < 0.7 * measure_style(image).sharpness
    assert "grey" in styles["grey"].flags
    pixels = {kind: np.asarray(worse, np.int64) for kind, worse in worst.items()}

    def where_red(values: np.ndarray) -> np.ndarray:
        return np.argwhere(values[..., 0] - values[..., 1] > 60)

    clean = where_red(np.asarray(image, np.int64))
    assert len(where_red(pixels["small_subject"])) < 0.1 * len(clean)
    assert np.abs(where_red(pixels["small_subject"]).mean(axis=0) - clean.mean(axis=0)).max() < 4
    assert np.abs(where_red(pixels["off_centre"]).mean(axis=0) - clean.mean(axis=0)).max() > 0.15 * 320
    covered = np.asarray(worst["occlusion"]) != np.asarray(image)
    assert 0.4 < covered.any(axis=2).mean() < 0.55
    noise = pixels["noise"] - np.asarray(image, np.int64)
    assert abs(noise.mean()) < 12 < noise.std()


def test_a_stronger_patch_holds_the_weaker() -> None:
    image = scene()
    before = np.zeros(np.asarray(image).shape[:2], dtype=bool)
    for strength in range(1, STRENGTHS + 1):
        now = (np.asarray(corrupt(image, "occlusion", strength, digest=DIGEST)) != np.asarray(image)).any(axis=2)
        assert (now | ~before).mean() > 0.99
        before = now


def test_what_is_unknown_is_refused() -> None:
    image = scene()
    with pytest.raises(InvalidInput, match="corruption: got rain; want one of night, low_resolution"):
        corrupt(image, "rain", 1, digest=DIGEST)
    for strength in (-1, STRENGTHS + 1):
        with pytest.raises(InvalidInput, match=f"strength: got {strength}; want 0 to 5"):
            corrupt(image, "blur", strength, digest=DIGEST)
    with pytest.raises(InvalidInput, match="image: got L"):
        corrupt(image.convert("L"), "blur", 1, digest=DIGEST)
    assert corrupt(image, "blur", 0, digest=DIGEST) is not image
