"""What `unknown` and `shifted` cost a prediction: the same bundle with and without them, picture by picture in turns.

`python -m bench cost M.dt FOLDER`. Without: no rule is asked, and the network has no nodes for style; onnxruntime runs
all nodes of a graph, asked for or not. A loop of the parts alone would find them in warm caches and tell half of it.
Where a network's weights come to lie in memory is luck worth half a percent, so both are opened anew many times.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.bundle.archive import Bundle, read_bundle
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.learn.style_graph import SEEN
from drivetrain.runtime.predictor import Picture, Predictor

_OPENED, _PICTURES, _WARM_UP = 24, 40, 8
_PREFIX = "style."  # of what learn.style_graph adds to a graph


class _NoRule:
    """Stands in for the out-of-domain rule: everything is known."""

    def judge(self, frozen: object, logits: object = None, surest: object = None) -> tuple[float, float, bool]:
        return 0.0, 1.0, False


class _Unstyled:
    """Stands in for what looks at a picture's style while it is decoded."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def from_bytes(self, data: bytes, *, name: str, limits: DecodeLimits) -> tuple[FloatArray, None]:
        return self.preprocess.from_bytes(data, name=name, limits=limits), None


class _Plain(Predictor):
    """Does not look at style."""

    def ask(self, picture: Picture, *, name: str | None = None) -> tuple[FloatArray, FloatArray, None]:  # type: ignore[override]
        pixels, _ = self._prepare(picture, name)
        logits, frozen = self.run(pixels[np.newaxis])
        return logits[0], frozen[0], None


def main(argv: list[str]) -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench cost", description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(argv)
    bundle = read_bundle(given.model)
    bare = _without_style(bundle)
    files = sorted(given.folder.rglob("*.jpg"))[: _OPENED * _PICTURES]
    if len(files) < _OPENED * _WARM_UP:
        parser.error(f"{given.folder} holds {len(files)} JPEGs, want {_OPENED * _WARM_UP} at least")
    pictures = [file.read_bytes() for file in files]
    for name, known, style in (("both", False, False), ("unknown", False, True), ("shifted", True, False)):
        took: list[tuple[float, float]] = []
        for at in range(_OPENED):
            whole, least = Predictor(bundle), Predictor(bundle) if style else _Plain(bare)
            if not style:
                least._preprocess = _Unstyled(least.preprocess)  # type: ignore[assignment]  # noqa: SLF001
            if not known:
                least.policy.known = _NoRule()  # type: ignore[assignment]
            took.append(_in_turns(pictures[at::_OPENED], whole, least))
        more = [100 * (a / b - 1) for a, b in took]
        mean, error = statistics.mean(more), statistics.stdev(more) / math.sqrt(_OPENED)
        with_it, without = (1e3 * statistics.mean(column) for column in zip(*took, strict=True))
        print(
            f"without {name:<8} {without:.2f} ms, with {with_it:.2f} ms: {mean:.1f} % more, 95 % interval "
            f"{mean - 2 * error:.1f} to {mean + 2 * error:.1f}, of {_OPENED} times opened",
            flush=True,
        )


def _without_style(bundle: Bundle) -> Bundle:
    """The same, but for the nodes that tell style."""
    import onnx

    model = onnx.load_from_string(bundle.members["model.onnx"])
    for held in (model.graph.node, model.graph.initializer, model.graph.output):
        kept = [one for one in held if one.name != SEEN and not one.name.startswith(_PREFIX)]
        del held[:]
        held.extend(kept)
    return replace(bundle, members={**bundle.members, "model.onnx": model.SerializeToString()})


def _in_turns(pictures: list[bytes], whole: Predictor, least: Predictor) -> tuple[float, float]:
    """Median seconds of the one, and that less the median of what the one took longer for the same picture at the same
    moment, alternating which comes first. Each after another of its own kind, as in service."""
    for data in pictures[:_WARM_UP]:
        whole.predict(data), least.predict(data)
    seconds: tuple[list[float], list[float]] = ([], [])
    for place, data in enumerate(pictures):
        for which in (0, 1) if place % 2 else (1, 0):
            predict = (whole, least)[which].predict
            predict(pictures[place - 1])
            begun = time.perf_counter()
            predict(data)
            seconds[which].append(time.perf_counter() - begun)
    took = statistics.median(seconds[0])
    return took, took - statistics.median(a - b for a, b in zip(*seconds, strict=True))
