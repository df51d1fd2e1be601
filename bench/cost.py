"""What `unknown` and `shifted` cost a prediction: the same bundle with and without them, picture by picture in turns.

`python -m bench cost M.dt FOLDER`. A loop of the parts alone would find them in warm caches and tell a quarter of it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drivetrain.bundle.archive import read_bundle
from drivetrain.runtime.known import KnownRule
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.runtime.session import Session

_WARM_UP = 30
_ROUNDS = 4


class _NoRule:
    """Stands in for the out-of-domain rule: everything is known."""

    def judge(self, frozen: object, logits: object = None, surest: object = None) -> tuple[float, float, bool]:
        return 0.0, 1.0, False


def main(argv: list[str]) -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench cost", description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(argv)
    predictor, plain = load(given.model), Session(read_bundle(given.model).members["model.onnx"])
    pictures = [file.read_bytes() for file in sorted(given.folder.rglob("*.jpg"))[:150]]
    for name, with_known, with_style in (("both", False, False), ("unknown", False, True), ("shifted", True, False)):
        whole, least = _in_turns(
            pictures,
            lambda data: predictor.predict(data, name="x"),
            lambda data, known=with_known, style=with_style: _less(predictor, plain, data, known=known, style=style),
            _WARM_UP,
        )
        print(
            f"without {name:<8} {1e3 * least:.2f} ms, with {1e3 * whole:.2f} ms: {100 * (whole / least - 1):.1f} % more"
        )


def _less(predictor: Predictor, plain: Session, data: bytes, *, known: bool, style: bool) -> object:
    """A prediction with what is asked for; both would be `predict`."""
    rule: KnownRule = predictor.policy.known
    measured = None
    if style:
        pixels, part = predictor.prepare(data, name="x")
        logits, seen = predictor.run(pixels[np.newaxis])
        frozen, measured = predictor.judged(seen[0], part)
    else:
        pixels = predictor.preprocess.from_bytes(data, name="x", limits=predictor.limits)
        logits, rows = plain.run(["logits", "frozen"], pixels[np.newaxis])
        frozen = rows[0]
        if not (np.abs(logits).max() < 1e15 and np.abs(frozen).max() < 1e15):  # as `run` looks
            raise RuntimeError("no numbers")
    try:
        if not known:
            predictor.policy.known = _NoRule()  # type: ignore[assignment]
        return predictor.policy.decide(logits[0], frozen, predictor.classes, predictor.version, style=measured)
    finally:
        predictor.policy.known = rule


def _in_turns(
    pictures: list[bytes], whole: Callable[[bytes], object], least: Callable[[bytes], object], warm_up: int
) -> tuple[float, float]:
    """Median seconds of the one, and that less the median of what the one took longer for the same picture at the same
    moment, alternating which comes first."""
    for data in pictures[:warm_up]:
        whole(data), least(data)
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(_ROUNDS):
        for place, data in enumerate(pictures):
            for which in (0, 1) if (turn + place) % 2 else (1, 0):
                begun = time.perf_counter()
                (whole, least)[which](data)
                seconds[which].append(time.perf_counter() - begun)
    took = statistics.median(seconds[0])
    return took, took - statistics.median(a - b for a, b in zip(*seconds, strict=True))
