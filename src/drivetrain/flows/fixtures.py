"""Choose the golden fixtures of a new model, and show that they would notice a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.fixtures import Fixture, compare_answers, encode_picture, make_synthetic_pictures
from drivetrain.errors import UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn
from drivetrain.imaging.preprocess import Preprocess

__all__ = ["FixtureChoice", "FixtureSource", "choose_fixtures", "perturb_preprocess"]

FixtureSource = Literal["validation", "synthetic"]
_FROM_VALIDATION, _SYNTHETIC, _SYNTHETIC_TRIED = 2, 2, 24  # few: each is run at every load
_SURELY = 2.0  # times the tolerance: what is noticed here by a hair may pass on another machine
_MARGIN_PX = 1.5  # fixtures are this much larger than the network's input, so that resizing has work to do

Answer = Callable[[FloatArray], FloatArray]  # pixels (1, 3, h, w) -> calibrated probabilities (k,)


@dataclass(frozen=True, slots=True, kw_only=True)
class FixtureChoice:
    """The fixtures, and which changes of the preprocessing they would not notice (best: none)."""

    fixtures: tuple[Fixture, ...]
    unnoticed: tuple[str, ...]


def choose_fixtures(
    candidates: Sequence[Image.Image],
    *,
    source: FixtureSource,
    preprocess: Preprocess,
    answer: Answer,
    tolerance: float,
    seed: int,
) -> FixtureChoice:
    """Fixtures from `candidates` (held-out pictures, the least certain first), or made from nothing.

    The pictures of which the model is least sure show a change best.
    """
    side = round(preprocess.size * _MARGIN_PX)
    made = make_synthetic_pictures(_SYNTHETIC_TRIED, side=side, seed=seed)
    picked = list(candidates[:_FROM_VALIDATION]) if source == "validation" else []
    count = _SYNTHETIC if picked else _FROM_VALIDATION + _SYNTHETIC
    unsure = sorted(made, key=lambda image: _margin(answer(preprocess.from_image(image)[np.newaxis])))
    pictures = [apply_exif_turn(image) for image in picked] + unsure[:count]
    fixtures = []
    for index, image in enumerate(pictures):
        data = encode_picture(image, max_side=side, is_turned=index % 3 == 1)
        probabilities = answer(_pixels(preprocess, data))
        fixtures.append(Fixture(name=f"{index:03}.png", picture=data, probabilities=probabilities))
    unnoticed = [
        what
        for what, changed in perturb_preprocess(preprocess.ops).items()
        if not _notices(fixtures, Preprocess(changed), answer, tolerance)
    ]
    return FixtureChoice(fixtures=tuple(fixtures), unnoticed=tuple(unnoticed))


def perturb_preprocess(ops: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The faults that people make when they write a preprocessing again, each as a whole list of ops."""
    changes: dict[str, list[dict[str, Any]]] = {}

    def change(what: str, name: str, **fields: Any) -> None:
        if any(op["op"] == name for op in ops):
            changes[what] = [{**op, **fields} if op["op"] == name else dict(op) for op in ops]

    changes["no EXIF turn"] = [dict(op) for op in ops if op["op"] != "exif_transpose"]
    change("nearest instead of the filter", "resize", filter="nearest")
    change("no antialias", "resize", antialias=False)
    change("mean and std of ImageNet", "normalize", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    change("pixels not scaled", "scale", by=1.0)
    filled = [op for op in ops if op["op"] == "pad"]
    if filled:
        change("padded otherwise", "pad", mode="reflection" if filled[-1]["mode"] == "constant" else "constant")
    size = next(op["size"] for op in reversed(ops) if "size" in op)
    square = {"op": "resize", "mode": "squish", "size": size, "filter": "bilinear", "antialias": True}
    shape = [op for op in ops if op["op"] in ("resize", "center_crop", "pad")]
    if shape and shape[0].get("mode") != "squish":
        at = [op["op"] for op in ops].index(shape[0]["op"])
        kept = [dict(op) for op in ops if op not in shape]
        changes["squished"] = [*kept[:at], square, *kept[at:]]
    if shape and shape[0].get("mode") == "shortest":
        grown = {**shape[0], "size": round(size * 256 / 224)}
        changes["resized to 256 / 224 first"] = [grown if op is shape[0] else dict(op) for op in ops]
    return changes


def _margin(probabilities: FloatArray) -> float:
    """How sure an answer is, in steps that even a sure model's answers show."""
    first, second = np.sort(np.log(np.maximum(probabilities, 1e-300)))[[-1, -2]]
    return float(first - second)


def _pixels(preprocess: Preprocess, data: bytes) -> FloatArray:
    return preprocess.from_bytes(data, name="fixture", limits=DecodeLimits())[np.newaxis]


def _notices(fixtures: Sequence[Fixture], changed: Preprocess, answer: Answer, tolerance: float) -> bool:
    for fixture in fixtures:
        try:
            got = answer(_pixels(changed, fixture.picture))
        except UnreadablePicture:  # pragma: no cover - a PNG of our own making is readable
            return True
        if not compare_answers(fixture.probabilities, got) <= _SURELY * tolerance:
            return True
    return False
