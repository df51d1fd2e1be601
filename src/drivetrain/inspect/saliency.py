"""Which places of a picture an answer rests on: class activation, exact in the features, at the cost of one inference.

The head reads the mean and the spread of each channel of the network's last maps (`learn.layout`), under a signed root,
and weighs them. So what the answer would be without one place of the maps can be written down: means and spreads over
all other places. What is lost by that is the place's effect. The classic form (Zhou et al. 2016, arXiv:1512.04150)
splits the mean alone, over the last map alone: here that is a fiftieth of what the head weighs.

Measured on 30 photographs of clothing, rank correlation over 7 x 7 places with what covering them up does to the
log-odds: 0.41 for a head, 0.38 for a trained top; of the last map alone 0.31 and 0.27. On made pictures of one thing in
a corner: 0.79 to 0.92. A place of a map sees a large part of the picture, so the two need not agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.archive import Bundle, read_bundle
from drivetrain.errors import InvalidInput, Unavailable
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn, decode_picture
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.runtime.decision import AnyPolicy, open_policy
from drivetrain.runtime.session import Session

from .head_graph import HeadGraph, Reading, give_out, read_head_graph
from .input_frame import Frame, find_frame

__all__ = ["Explainer", "Saliency", "effect_of_places", "tell_where", "weigh_outputs"]

_FLATTEST = 1e-6  # added to a variance before its root, as `learn.backbones` does
_CLOSE = 2e-2  # between a feature that the network gives and what we make of its maps; roots near 0 are steep
_LEAST = 1e-12
_DOWN, _ACROSS = {0: "top", 2: "bottom"}, {0: "left", 2: "right"}  # by third of a side
_WANTED = "one that reads the means of maps, as `drivetrain train` makes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saliency:
    """Why one answer.

    `effect` tells, place by place, how much lower the log-odds of the label against the others would be without it (of
    several labels: of this one being there; of a value: how much lower the value). `heat` is what of it speaks for the
    label (of a value: what moves it either way) as a share of the most, or 0 everywhere.
    """

    label: str
    number: float  # calibrated probability of the label, or the value
    heat: FloatArray  # (h, w) float32 in [0, 1], over `frame`
    effect: FloatArray  # (h, w) float64
    share_explained: float  # of all that the head weighs for this label, by absolute size: what lies in these maps
    frame: Frame  # where in the picture `heat` lies
    width: int  # of the picture as decoded and turned, in pixels; of a large JPEG a half, quarter or eighth
    height: int


class Explainer:
    """A bundle, ready to say why. Safe to use from many threads; it opens the network a second time."""

    def __init__(self, bundle: Bundle, *, limits: DecodeLimits | None = None) -> None:
        """Raises Unavailable where the network does not end as ours do."""
        manifest, model = bundle.manifest, bundle.members["model.onnx"]
        self.version = bundle.version
        self.classes = manifest.classes
        self.task = manifest.task
        self._limits = limits or DecodeLimits()
        self._preprocess = Preprocess(manifest.preprocess)
        self._graph: HeadGraph = read_head_graph(model)
        if not self._graph.readings:
            raise Unavailable("why", got="a head that does not read the mean of the last map", want=_WANTED)
        self._session = Session(give_out(model, (name for name in self._graph.tensors if name != "feature_map")))
        self._policy: AnyPolicy = open_policy(
            manifest.task,
            manifest.decision,
            bundle.arrays,
            feature_count=int(self._session.outputs["frozen"][1] or 0),
            output_count=len(manifest.classes),
        )

    @classmethod
    def open(cls, path: str | Path, *, limits: DecodeLimits | None = None) -> Explainer:
        """From NAME.dt, every byte checked; its fixtures are for `load` to run. Raises NotFound, BundleRefused."""
        return cls(read_bundle(Path(path)), limits=limits)

    def explain(self, picture: bytes | Image.Image, *, label: str | None = None, name: str = "picture") -> Saliency:
        """Why `label`: any that the model knows; None is its best guess, or the first value.

        Raises UnreadablePicture, InvalidInput for another label, Unavailable where the head reads other than maps.
        """
        image = picture
        if isinstance(image, bytes):
            side = self._preprocess.ops[0]["jpeg_min_side"]
            image = decode_picture(image, name=name, limits=self._limits, min_side=side)
        turned = apply_exif_turn(image) if any(op["op"] == "exif_transpose" for op in self._preprocess.ops) else image
        logits, embedding, maps = self._run(self._preprocess.from_image(image))
        row = self._policy.row(logits)
        at = self._find(label, row)
        weights = weigh_outputs(self._graph.weight, row, at=at, is_one_of=self.task == "classification")
        effect, explained = effect_of_places(weights, embedding, maps, self._graph.readings)
        number = 1 / (1 + np.exp(-row[at])) if self.task == "multilabel" else row[at]
        return Saliency(
            label=self.classes[at],
            number=float(number),
            heat=_heat(effect, both_ways=self.task == "regression"),
            effect=effect,
            share_explained=explained,
            frame=find_frame(self._preprocess.ops, width=turned.width, height=turned.height),
            width=turned.width,
            height=turned.height,
        )

    def _run(self, pixels: FloatArray) -> tuple[FloatArray, FloatArray, Mapping[str, FloatArray]]:
        names = ["logits", "embedding", *self._graph.tensors]
        logits, embedding, *maps = (output[0] for output in self._session.run(names, pixels[np.newaxis]))
        said = embedding.astype(np.float64) @ self._graph.weight.T.astype(np.float64) + self._graph.bias
        if said.shape != logits.shape or not np.allclose(said, logits, atol=1e-3, rtol=1e-3):
            raise Unavailable("why", got="a head that is not what the network answers by", want="its own weights")
        return logits, embedding, dict(zip(self._graph.tensors, maps, strict=True))

    def _find(self, label: str | None, row: FloatArray) -> int:
        if label is None:
            return 0 if self.task == "regression" else int(np.argmax(row))
        if label not in self.classes:
            raise InvalidInput("label", got=label, want=f"one of the {len(self.classes)} that the model knows")
        return self.classes.index(label)


def tell_where(saliency: Saliency) -> str:
    """Where in the picture most of the heat lies, for who cannot see it: "at the top left", "" if there is none.

    A side has three thirds; where no third of it holds more than half of the heat, nothing is said of that side.
    """
    heat, frame = saliency.heat.astype(np.float64), saliency.frame
    if heat.sum() <= 0:
        return ""
    down = _find_third(heat.sum(axis=1), frame.top, frame.bottom)
    across = _find_third(heat.sum(axis=0), frame.left, frame.right)
    named = [names[third] for names, third in ((_DOWN, down), (_ACROSS, across)) if third in names]
    if named:
        return f"at the {' '.join(named)}"
    middles = {(1, 1): "in the middle", (1, None): "across the middle", (None, 1): "down the middle"}
    return middles.get((down, across), "in several places")


def _find_third(heat: FloatArray, begins: float, ends: float) -> int | None:
    """Which third of the picture's side holds more than half of heat (n,), spread evenly from begins to ends."""
    edges = np.linspace(begins, ends, len(heat) + 1)
    below = np.interp([0, 1 / 3, 2 / 3, 1], edges, np.concatenate([[0], np.cumsum(heat)]))
    shares = np.diff(below) / heat.sum()
    third = int(np.argmax(shares))
    return third if shares[third] > 0.5 else None


def weigh_outputs(weight: FloatArray, row: FloatArray, *, at: int, is_one_of: bool) -> FloatArray:
    """The weights (d,) of output `at`, of head weights (k, d).

    Of one class among several, less those of the others, each counted as it competes: by its probability among them.
    This is the slope of the class's log-odds. row (k,): calibrated probabilities, where it is one of several.
    """
    own: FloatArray = weight[at].astype(np.float64)
    if not is_one_of or len(weight) == 1:
        return own
    others = np.maximum(np.delete(row, at).astype(np.float64), _LEAST)
    return np.asarray(own - (others / others.sum()) @ np.delete(weight, at, axis=0))


def effect_of_places(
    weights: FloatArray, embedding: FloatArray, maps: Mapping[str, FloatArray], readings: tuple[Reading, ...]
) -> tuple[FloatArray, float]:
    """What weights (d,) @ embedding (d,) would lose without each place (h, w), and the share that the maps account for.

    Each reading must be the one that the network made: the features are made again here and compared. Where one is not,
    it and what follows count as not explained. Raises Unavailable where not even the first one is, or where the maps
    have but one place.
    """
    first = maps[readings[0].tensor]
    if first.ndim != 3 or first.shape[1] * first.shape[2] < 2:
        raise Unavailable("why", got=f"maps of shape {first.shape}", want="several places", hint="Train it larger.")
    effect, at = np.zeros(first.shape[1:]), 0
    for reading in readings:
        told = maps[reading.tensor].astype(np.float64)
        end = at + len(told)
        if end > len(embedding) or told.shape[1:] != first.shape[1:]:
            break
        whole, without = _read(told, reading)
        if not np.allclose(whole, embedding[at:end], atol=_CLOSE, rtol=_CLOSE):
            break
        effect += np.einsum("c,chw->hw", weights[at:end], whole[:, np.newaxis, np.newaxis] - without)
        at = end
    if at == 0:
        raise Unavailable("why", got="a head that does not read the mean of the last map", want=_WANTED)
    size = np.abs(weights * embedding)
    return effect, float(size[:at].sum() / max(size.sum(), _LEAST))


def _read(told: FloatArray, reading: Reading) -> tuple[FloatArray, FloatArray]:
    """Of a map (c, h, w): its rooted mean or spread (c,), and the same without each place (c, h, w)."""
    places = told.shape[1] * told.shape[2]
    mean = told.mean(axis=(1, 2))
    rest = (mean[:, np.newaxis, np.newaxis] * places - told) / (places - 1)
    if reading.kind == "mean":
        return _root(mean), _root(rest)
    centred = told - mean[:, np.newaxis, np.newaxis]  # squares of small numbers: nothing is lost in the subtraction
    squares = np.square(centred).sum(axis=(1, 2))
    around = (squares[:, np.newaxis, np.newaxis] - np.square(centred)) / (places - 1)
    spread = np.maximum(around - np.square(rest - mean[:, np.newaxis, np.newaxis]), 0)
    return _root(np.sqrt(squares / places + _FLATTEST)), _root(np.sqrt(spread + _FLATTEST))


def _root(values: FloatArray) -> FloatArray:
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)))


def _heat(effect: FloatArray, *, both_ways: bool) -> FloatArray:
    felt = np.abs(effect) if both_ways else np.maximum(effect, 0)
    return np.asarray(felt / max(float(felt.max()), _LEAST), dtype=np.float32)
