"""Choose the golden fixtures of a new model, and show that they would notice a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.fixtures import Fixture, encode_picture, make_synthetic_pictures, measure_differences
from drivetrain.errors import UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.task import Task

__all__ = ["FixtureChoice", "FixtureSource", "choose_fixtures", "perturb_preprocess", "rank_telling"]

FixtureSource = Literal["validation", "synthetic"]
_FROM_VALIDATION, _SYNTHETIC = 2, 2  # few: each is run at every load
_TRIED = 6  # made ones for each that is kept: those of which the model is least sure
_SURELY = 2.0  # times the tolerance: what is noticed here by a hair may pass on another machine
_MARGIN_PX = 1.5  # fixtures are this much larger than the network's input, so that resizing has work to do

Answer = Callable[[FloatArray], FloatArray]  # pixels (1, 3, h, w) -> the row (k,) that the bundle's policy makes


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
    task: Task = "classification",
    spreads: FloatArray | None = None,
) -> FixtureChoice:
    """Fixtures from `candidates` (held-out pictures, the least certain first), or made from nothing.

    The pictures of which the model is least sure show a change best; where it measures, those whose values lie far
    apart: what a value may differ by is a share of that, and of the training values' `spreads`.
    """
    side = round(preprocess.size * _MARGIN_PX)
    picked = list(candidates[:_FROM_VALIDATION]) if source == "validation" else []
    count = _SYNTHETIC if picked else _FROM_VALIDATION + _SYNTHETIC
    made = make_synthetic_pictures(_TRIED * count, side=side, seed=seed)
    rows = [answer(preprocess.from_image(image)[np.newaxis]) for image in made]
    telling = [made[at] for at in rank_telling(rows, task)]
    pictures = [apply_exif_turn(image) for image in picked] + telling[:count]
    fixtures = []
    for index, image in enumerate(pictures):
        data = encode_picture(image, max_side=side, is_turned=index % 3 == 1)
        fixtures.append(Fixture(name=f"{index:03}.png", picture=data, answer=answer(_pixels(preprocess, data))))

    expected = [fixture.answer for fixture in fixtures]

    def notices(changed: Preprocess) -> bool:
        """Whether a fixture does; those after it are not asked."""
        rows = list(expected)
        for at, fixture in enumerate(fixtures):
            try:
                rows[at] = answer(_pixels(changed, fixture.picture))
            except UnreadablePicture:  # pragma: no cover - a PNG of our own making is readable
                return True
            differences = measure_differences(expected, rows, task=task, spreads=spreads)
            if any(not difference <= _SURELY * tolerance for difference in differences):
                return True
        return False

    changes = perturb_preprocess(preprocess.ops)
    unnoticed = [what for what, changed in changes.items() if not notices(Preprocess(changed))]
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
    if shape and shape[0].get("mode") in ("crop", "shortest"):
        grown = {**shape[0], "mode": "shortest", "size": round(size * 256 / 224)}
        crop = [] if any(op["op"] == "center_crop" for op in shape) else [{"op": "center_crop", "size": size}]
        at = list(ops).index(shape[0])
        changes["resized to 256 / 224 first"] = [*map(dict, ops[:at]), grown, *crop, *map(dict, ops[at + 1 :])]
    return changes


def rank_telling(rows: Sequence[FloatArray], task: Task) -> list[int]:
    """Places of rows of answers, those that would show a change best first."""
    if task == "regression":  # the lowest, the highest, the second lowest, and so on
        order = np.argsort([row[0] for row in rows], kind="stable").tolist()
        return [order[at // 2] if at % 2 == 0 else order[-1 - at // 2] for at in range(len(order))]
    margins = [_margin(row) if task == "classification" else float(np.abs(row).min()) for row in rows]
    return [int(at) for at in np.argsort(margins, kind="stable")]


def _margin(probabilities: FloatArray) -> float:
    """How sure an answer is, in steps that even a sure model's answers show."""
    first, second = np.sort(np.log(np.maximum(probabilities, 1e-300)))[[-1, -2]]
    return float(first - second)


def _pixels(preprocess: Preprocess, data: bytes) -> FloatArray:
    return preprocess.from_bytes(data, name="fixture", limits=DecodeLimits())[np.newaxis]
