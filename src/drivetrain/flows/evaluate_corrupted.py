"""The same pictures made worse, step by step: what is still right, what is flagged, what goes wrong without a word."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.arrays import BoolArray
from drivetrain.data.items import Item, Items
from drivetrain.errors import InvalidInput, UnreadablePicture
from drivetrain.flows.evaluate_answers import is_right, mark_answers
from drivetrain.imaging.corrupt import CORRUPTIONS, STRENGTHS, corrupt
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn, decode_picture
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.progress import Progress
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.predictor import Predictor
from drivetrain.trust.robustness import Condition, measure_condition

__all__ = ["CONDITIONS", "CorruptionResult", "choose_sample", "evaluate_corrupted", "open_small"]

# what is tried on each picture, as it is first
CONDITIONS = (("clean", 0), *((kind, strength) for kind in CORRUPTIONS for strength in range(1, STRENGTHS + 1)))
_LEAST_SIDE = 256  # pixels
_MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionResult:
    """A condition for each of CONDITIONS, in that order, on the same pictures."""

    n: int
    seed: int
    sample: tuple[str, ...]  # their paths
    conditions: tuple[Condition, ...]

    @property
    def clean(self) -> Condition:
        """As the pictures were."""
        return self.conditions[0]

    def of_kind(self, kind: str) -> list[Condition]:
        """From strength 0 to the strongest."""
        return [self.clean, *(row for row in self.conditions if row.kind == kind)]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "n": self.n,
            "seed": self.seed,
            "kinds": CORRUPTIONS,
            "conditions": [row.as_json() for row in self.conditions],
            "sample": list(self.sample),
        }


def choose_sample(items: Items, read: Sequence[Item], *, size: int, seed: int) -> list[Item]:
    """At most `size` of the pictures, each class (rarest label) in its proportion; the same for the same seed."""
    if len(read) <= size:
        return list(read)
    strata = items.strata(read)
    rng = np.random.default_rng(seed)
    place = np.empty(len(read))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        place[rng.permutation(rows)] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return [read[row] for row in sorted(np.argsort(place, kind="stable")[:size].tolist())]


def open_small(data: bytes, *, name: str, limits: DecodeLimits, side: int) -> Image.Image:
    """The picture upright, its shorter side `side` pixels at most. Raises UnreadablePicture."""
    image = apply_exif_turn(decode_picture(data, name=name, limits=limits, min_side=side))
    by = side / min(image.size)
    if by >= 1:
        return image
    return image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BILINEAR, reducing_gap=2)


def evaluate_corrupted(
    predictor: Predictor,
    items: Items,
    sample: Sequence[Item],
    *,
    group_of: Mapping[str, int] | None = None,
    seed: int,
    progress: Progress,
) -> CorruptionResult:
    """Predict each picture of the sample in every one of CONDITIONS; the first one tells how long all will take.

    group_of: path -> number; pictures of one number are alike.
    """
    side = max(_LEAST_SIDE, predictor.preprocess.size * 8 // 7)

    def work(item: Item) -> BoolArray | None:
        try:
            data = read_picture_file(items.file(item), name=item.path, limits=predictor.limits)
            image = open_small(data, name=item.path, limits=predictor.limits, side=side)
        except UnreadablePicture:  # gone or changed since it was first read
            return None
        return _mark(predictor, item, image, digest=hashlib.sha256(data).digest(), seed=seed)

    start = time.perf_counter()
    first = work(sample[0])
    total = len(sample) * len(CONDITIONS)
    took = _tell_time((time.perf_counter() - start) * len(sample) / predictor.threads)
    progress.say(
        f"Making {len(sample):,} pictures worse in {len(CORRUPTIONS)} ways at {STRENGTHS} strengths: {total:,} "
        f"predictions, {took}."
    )
    rows, kept = [], []
    with progress.task("Predicting worse pictures", total=total) as advance:
        others: Iterator[BoolArray | None] = map_in_order(work, sample[1:], threads=callers_for(predictor.threads))
        for item, row in zip(sample, chain([first], others), strict=True):
            if row is not None:
                rows.append(row)
                kept.append(item.path)
            advance(len(CONDITIONS))
    if not rows:
        raise InvalidInput("DATA", got="no picture that can still be read", want="one at least")
    groups = None if group_of is None else np.array([group_of[path] for path in kept], dtype=np.int64)
    right, flagged, deferred = np.stack(rows).transpose(1, 2, 0)  # (3, conditions, n)
    return CorruptionResult(
        n=len(rows),
        seed=seed,
        sample=tuple(kept),
        conditions=tuple(
            measure_condition(
                kind, strength, right=right[at], flagged=flagged[at], deferred=deferred[at], groups=groups
            )
            for at, (kind, strength) in enumerate(CONDITIONS)
        ),
    )


def _mark(predictor: Predictor, item: Item, image: Image.Image, *, digest: bytes, seed: int) -> BoolArray:
    """(3, conditions): right, flagged, deferred."""
    answers = []
    for kind, strength in CONDITIONS:
        worse = corrupt(image, kind, strength, digest=digest, seed=seed) if strength else image
        answers.append(predictor.predict(worse))
    marks = mark_answers(answers)
    right = np.array([is_right(answer, item) for answer in answers], dtype=np.bool_)
    return np.stack([right, marks.flagged, marks.deferred])


def _tell_time(seconds: float) -> str:
    if seconds < 0.75 * _MINUTE:
        return "less than a minute"
    minutes = round(seconds / _MINUTE)
    return "about a minute" if minutes <= 1 else f"about {minutes:,} minutes"
