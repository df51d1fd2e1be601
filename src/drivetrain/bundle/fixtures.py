"""Golden fixtures: pictures inside the bundle, with the answers they must get wherever the model is loaded."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.plain_json import read_json
from drivetrain.errors import BundleRefused
from drivetrain.task import Task
from drivetrain.trust.calibration import sigmoid

__all__ = [
    "EXPECTED",
    "Fixture",
    "check_fixtures",
    "compare_answers",
    "encode_picture",
    "make_synthetic_pictures",
    "measure_differences",
    "pack",
    "read_spreads",
    "unpack",
]

EXPECTED = "fixtures/expected.json"
_MAX_FIXTURES = 16  # each is decoded and run at every load
_PNG = b"\x89PNG\r\n\x1a\n"
_LEAST = 1e-300  # a probability; below it, float64 has no logarithm to compare
_NOISE = 8 * float(np.finfo(np.float32).eps)  # of a value: what float32 sums in another order may differ by
_MOST = float(np.finfo(np.float32).max)  # networks answer in float32
_TURNED = 6  # EXIF orientation "rotate 90 clockwise": proves that exif_transpose is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixture:
    """An encoded picture (lossless) and the answer it must get.

    The answer is (k,): calibrated probabilities; of several labels the calibrated log-odds of each, which still tell
    where a probability is 1.0000; of a regression the values.
    """

    name: str
    picture: bytes
    answer: FloatArray


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
    expected = {fixture.name: [float(number) for number in fixture.answer] for fixture in fixtures}
    members = {f"fixtures/{fixture.name}": fixture.picture for fixture in fixtures}
    return members | {EXPECTED: json.dumps(expected, indent=1).encode()}


def unpack(members: Mapping[str, bytes], *, class_count: int, task: Task = "classification") -> list[Fixture]:
    """The fixtures of a bundle. Raises BundleRefused unless each is a PNG with its answer, and there is one."""
    low, high, what = (
        (0.0, 1.0, "probabilities") if task == "classification" else (-_MOST * 1e3, _MOST * 1e3, "numbers")
    )
    expected = read_json(members[EXPECTED], where=EXPECTED, code="bundle_fixtures")
    pictures = {name.removeprefix("fixtures/") for name in members if name.startswith("fixtures/")} - {"expected.json"}
    if not isinstance(expected, dict) or not expected or expected.keys() != pictures:
        raise _off(f"{len(pictures)} pictures", "as many answers, and one at least")
    if len(expected) > _MAX_FIXTURES:
        raise _off(f"{len(expected)} pictures", f"at most {_MAX_FIXTURES}")
    fixtures = []
    for name, row in sorted(expected.items()):
        is_row = isinstance(row, list) and all(type(p) in (float, int) and low <= p <= high for p in row)
        if not is_row or len(row) != class_count:
            raise _off(row, f"{class_count} {what} for {name}")
        picture = members[f"fixtures/{name}"]
        if not picture.startswith(_PNG):
            raise _off(f"{name}, which is no PNG", "PNGs, which decode the same everywhere")
        fixtures.append(Fixture(name=name, picture=picture, answer=np.asarray(row, dtype=np.float64)))
    return fixtures


def read_spreads(decision: Mapping[str, Any], *, task: Task, output_count: int) -> FloatArray | None:
    """The spread of the training values by output, from a manifest's decision; None but for a regression.

    Raises BundleRefused (bundle_manifest) unless they are finite numbers above 0.
    """
    if task != "regression":
        return None
    found = decision.get("spreads")
    numbers: list[Any] = list(found) if isinstance(found, list | tuple) else []
    if len(numbers) != output_count or not all(
        type(one) in (int, float) and math.isfinite(one) and one > 0 for one in numbers
    ):
        want = f"{output_count} numbers above 0"
        raise BundleRefused("bundle_manifest", "manifest.decision.spreads", got=found, want=want)
    return np.array(numbers, dtype=np.float64)


def compare_answers(expected: FloatArray, answer: FloatArray) -> float:
    """How far two rows of probabilities (k,) are apart: 0 if equal, NaN if either holds one.

    The larger of two differences: of a probability, and of a log-probability as a share of their spread (of 1, if that
    is less). A sure model answers 1.0000 whatever is done to the picture; its log-probabilities still tell.
    """
    logs, other = np.log(np.maximum(expected, _LEAST)), np.log(np.maximum(answer, _LEAST))
    spread = max(1.0, float(np.ptp(logs)))
    return float(np.maximum(np.abs(expected - answer).max(), np.abs(logs - other).max() / spread))


def measure_differences(
    expected: Sequence[FloatArray],
    answers: Sequence[FloatArray],
    *,
    task: Task = "classification",
    spreads: FloatArray | None = None,
) -> list[float]:
    """How far each answer (k,) is from the expected one: 0 if equal, NaN if either holds one.

    classification: `compare_answers`. Several labels: the larger difference of a probability, and of log-odds as a
    share of how far they lie apart over the fixtures (of 1, if that is less). Regression: of a value as a share of the
    training values' spread, or of how far the expected ones lie apart, whichever is less. The latter is what the model
    itself just answered, so no number in a stranger's manifest can widen it.
    """
    if task == "classification":
        return [compare_answers(*pair) for pair in zip(expected, answers, strict=True)]
    wanted, found = np.stack(expected).astype(np.float64), np.stack(answers).astype(np.float64)  # (fixtures, k)
    gaps, apart = np.abs(wanted - found), np.ptp(wanted, axis=0)
    if task == "multilabel":
        shares = np.maximum(np.abs(sigmoid(wanted) - sigmoid(found)), gaps / np.maximum(1.0, apart))
    else:
        scale = apart if spreads is None else np.minimum(apart, spreads)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(gaps <= _NOISE * np.abs(wanted), 0.0, gaps / scale)
    return [float(row.max()) for row in shares]


def check_fixtures(
    fixtures: Sequence[Fixture],
    answers: Sequence[FloatArray],
    *,
    tolerance: float,
    task: Task = "classification",
    spreads: FloatArray | None = None,
) -> float:
    """The largest difference between answers and expectation; raises BundleRefused beyond `tolerance`."""
    worst = 0.0
    expected = [fixture.answer for fixture in fixtures]
    differences = measure_differences(expected, answers, task=task, spreads=spreads)
    for fixture, difference in zip(fixtures, differences, strict=True):
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
