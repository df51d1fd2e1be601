"""Golden fixtures: pictures inside the bundle, with the answers they must get wherever the model is loaded."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.plain_json import read_json
from drivetrain.errors import BundleRefused

__all__ = [
    "EXPECTED",
    "Fixture",
    "check_fixtures",
    "compare_answers",
    "encode_picture",
    "make_synthetic_pictures",
    "pack",
    "unpack",
]

EXPECTED = "fixtures/expected.json"
_MAX_FIXTURES = 16  # each is decoded and run at every load
_PNG = b"\x89PNG\r\n\x1a\n"
_LEAST = 1e-300  # a probability; below it, float64 has no logarithm to compare
_TURNED = 6  # EXIF orientation "rotate 90 clockwise": proves that exif_transpose is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixture:
    """An encoded picture (lossless) and the probabilities it must get."""

    name: str
    picture: bytes
    probabilities: FloatArray  # (k,)


def encode_picture(image: Image.Image, *, max_side: int, is_turned: bool = False) -> bytes:
    """A PNG of `image`, no side above `max_side`; if asked, turned and marked so in its EXIF: it looks the same."""
    small = image.convert("RGB")
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    exif = Image.Exif()
    if is_turned:
        small = small.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = _TURNED
    clean = Image.new("RGB", small.size)  # without the maker's notes, places and dates of the original
    clean.paste(small)
    out = io.BytesIO()
    clean.save(out, "PNG", exif=exif)
    return out.getvalue()


def make_synthetic_pictures(count: int, *, side: int, seed: int) -> list[Image.Image]:
    """Pictures made from nothing, for data whose licence forbids to pass its own on: blobs, edges and fine stripes."""
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        height, width = (side, side * 3 // 4) if index % 2 else (side * 2 // 3, side)
        y, x = np.mgrid[0:height, 0:width] / side
        waves = [
            np.sin(2 * np.pi * (rng.uniform(1, 40) * x + rng.uniform(1, 40) * y + rng.uniform())) for _ in range(3)
        ]
        blob = np.exp(-((x - rng.uniform(0.2, 0.8)) ** 2 + (y - rng.uniform(0.2, 0.8)) ** 2) / rng.uniform(0.01, 0.1))
        layers = [blob * rng.uniform(0.3, 1) + wave * rng.uniform(0.05, 0.3) for wave in waves]
        pixels = np.stack(layers, axis=-1)
        pixels = (pixels - pixels.min()) / (np.ptp(pixels) + 1e-9)
        pictures.append(Image.fromarray((pixels * 255).round().astype(np.uint8)))
    return pictures


def pack(fixtures: Sequence[Fixture]) -> dict[str, bytes]:
    """The fixtures as members of the archive."""
    expected = {fixture.name: [float(p) for p in fixture.probabilities] for fixture in fixtures}
    members = {f"fixtures/{fixture.name}": fixture.picture for fixture in fixtures}
    return members | {EXPECTED: json.dumps(expected, indent=1).encode()}


def unpack(members: Mapping[str, bytes], *, class_count: int) -> list[Fixture]:
    """The fixtures of a bundle. Raises BundleRefused unless each is a PNG with its answer, and there is one."""
    expected = read_json(members[EXPECTED], where=EXPECTED, code="bundle_fixtures")
    pictures = {name.removeprefix("fixtures/") for name in members if name.startswith("fixtures/")} - {"expected.json"}
    if not isinstance(expected, dict) or not expected or expected.keys() != pictures:
        raise _off(f"{len(pictures)} pictures", "as many answers, and one at least")
    if len(expected) > _MAX_FIXTURES:
        raise _off(f"{len(expected)} pictures", f"at most {_MAX_FIXTURES}")
    fixtures = []
    for name, row in sorted(expected.items()):
        is_row = isinstance(row, list) and all(type(p) in (float, int) and 0 <= p <= 1 for p in row)
        if not is_row or len(row) != class_count:
            raise _off(row, f"{class_count} probabilities for {name}")
        picture = members[f"fixtures/{name}"]
        if not picture.startswith(_PNG):
            raise _off(f"{name}, which is no PNG", "PNGs, which decode the same everywhere")
        fixtures.append(Fixture(name=name, picture=picture, probabilities=np.asarray(row, dtype=np.float64)))
    return fixtures


def compare_answers(expected: FloatArray, answer: FloatArray) -> float:
    """How far two rows of probabilities (k,) are apart: 0 if equal, NaN if either holds one.

    The larger of two differences: of a probability, and of a log-probability as a share of their spread (of 1, if that
    is less). A sure model answers 1.0000 whatever is done to the picture; its log-probabilities still tell.
    """
    logs, other = np.log(np.maximum(expected, _LEAST)), np.log(np.maximum(answer, _LEAST))
    spread = max(1.0, float(np.ptp(logs)))
    return float(np.maximum(np.abs(expected - answer).max(), np.abs(logs - other).max() / spread))


def check_fixtures(fixtures: Sequence[Fixture], answers: Sequence[FloatArray], *, tolerance: float) -> float:
    """The largest difference between answers and expectation; raises BundleRefused beyond `tolerance`."""
    worst = 0.0
    for fixture, answer in zip(fixtures, answers, strict=True):
        difference = compare_answers(fixture.probabilities, answer)
        if not difference <= tolerance:  # written so that a NaN is refused too
            raise BundleRefused(
                "bundle_fixtures",
                f"fixtures/{fixture.name}",
                got=f"an answer off by {difference:.2g}",
                want=f"at most {tolerance:g}, as when the model was made",
                hint="Preprocessing, weights or runtime differ from the maker's: this model would answer wrongly here.",
            )
        worst = max(worst, difference)
    return worst


def _off(got: object, want: str) -> BundleRefused:
    return BundleRefused("bundle_fixtures", EXPECTED, got=got, want=want)
