"""Load a bundle, prove it, and answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.archive import Bundle, read_bundle
from drivetrain.bundle.arrays import read_arrays
from drivetrain.bundle.fixtures import check_fixtures, unpack
from drivetrain.bundle.manifest import Manifest
from drivetrain.errors import BundleRefused, InvalidInput, NotFound, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.runtime.features import read_picture_file
from drivetrain.runtime.parallel import map_in_order
from drivetrain.runtime.prediction import Prediction, Reason
from drivetrain.runtime.session import Session
from drivetrain.trust.calibration import softmax
from drivetrain.trust.conformal import label_set, p_value
from drivetrain.trust.ood import NearestNeighbours

__all__ = ["DecisionPolicy", "Picture", "Predictor", "load"]

Picture = str | Path | bytes | Image.Image | NDArray[Any]


class DecisionPolicy:
    """How logits and frozen features become an answer; its numbers come from the manifest, its arrays from the npz."""

    def __init__(self, decision: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, feature_count: int) -> None:
        try:
            self.temperature = float(decision["temperature"])
            self.threshold = float(decision["threshold"])
            self.label_set_threshold = float(decision["label_set"]["threshold"])
            self.flag_at = float(decision["ood"]["flag_at"])
            known, self._calibration = arrays["ood_known"], np.asarray(arrays["ood_calibration"], dtype=np.float64)
            self._ood = NearestNeighbours(known, k=int(decision["ood"]["k"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise BundleRefused("bundle_manifest", "manifest.decision", got=repr(exc), want="a whole policy") from None
        numbers = (self.temperature, self.threshold, self.label_set_threshold, self.flag_at)
        is_sorted = self._calibration.ndim == 1 and bool(np.all(np.diff(self._calibration) >= 0))
        if not (np.isfinite(numbers).all() and self.temperature > 0 and known.shape[1] == feature_count and is_sorted):
            raise BundleRefused("bundle_manifest", "manifest.decision", got=decision, want="finite numbers that fit")

    def decide(self, logits: FloatArray, frozen: FloatArray, classes: tuple[str, ...], version: str) -> Prediction:
        """The answer for one picture: logits (k,), frozen (f,)."""
        probs = softmax(logits, temperature=self.temperature)
        best = int(np.argmax(probs))
        score = float(self._ood.scores(frozen[np.newaxis])[0])
        strangeness = p_value(self._calibration, score)
        reasons: list[Reason] = []
        if strangeness <= self.flag_at:
            reasons.append("unknown")
        if not probs[best] > self.threshold:
            reasons.append("low_confidence")
        return Prediction(
            label=classes[best],
            probability=float(probs[best]),
            probabilities={name: float(p) for name, p in zip(classes, probs, strict=True)},
            label_set=tuple(classes[i] for i in label_set(probs, self.label_set_threshold)),
            ood_score=score,
            ood_p_value=strangeness,
            decision="defer" if reasons else "accept",
            reasons=tuple(reasons),
            version=version,
        )


class Predictor:
    """A bundle, ready. Made by `load`; safe to use from many threads."""

    def __init__(self, bundle: Bundle, *, limits: DecodeLimits | None = None, threads: int = 1) -> None:
        self.manifest: Manifest = bundle.manifest
        self.version = bundle.version
        self.limits = limits or DecodeLimits()
        self.threads = threads
        try:
            self.preprocess = Preprocess(self.manifest.preprocess)
        except InvalidInput as exc:
            raise BundleRefused("bundle_manifest", exc.field, got=exc.got, want=exc.want) from None
        self._session = _open_model(bundle.members["model.onnx"], self.manifest, self.preprocess)
        feature_count = cast(int, self._session.outputs["frozen"][-1])
        arrays = read_arrays(bundle.members["reference.npz"])
        self.policy = DecisionPolicy(self.manifest.decision, arrays, feature_count=feature_count)
        self.fixture_difference = self._prove(bundle)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the network's outputs."""
        return self.manifest.classes

    def predict(self, picture: Picture, *, name: str | None = None) -> Prediction:
        """The answer for a path, encoded bytes, a PIL image, or a uint8 array (h, w, 3) in RGB order.

        A PIL image or an array is already decoded, so the fast decoding of large JPEGs does not apply to it: its
        probabilities may differ from those of its file in the third digit. Raises UnreadablePicture, NotFound.
        """
        logits, frozen = self._run(self._pixels(picture, name))
        return self.policy.decide(logits, frozen, self.classes, self.version)

    def predict_many(self, pictures: Iterable[Picture]) -> Iterator[Prediction | UnreadablePicture]:
        """An answer for each picture, in order, on all threads; an unreadable one gives its error in its place."""

        def work(picture: Picture) -> Prediction | UnreadablePicture:
            try:
                return self.predict(picture)
            except UnreadablePicture as exc:
                return exc

        return map_in_order(work, pictures, threads=self.threads)

    def _pixels(self, picture: Picture, name: str | None) -> FloatArray:
        if isinstance(picture, str | Path):
            path = Path(picture)
            if not path.exists():
                raise NotFound("picture", got=str(path), want="a picture file")
            data = read_picture_file(path, name=name or str(path), limits=self.limits)
            return self.preprocess.from_bytes(data, name=name or str(path), limits=self.limits)
        if isinstance(picture, bytes):
            return self.preprocess.from_bytes(picture, name=name or "picture", limits=self.limits)
        if isinstance(picture, Image.Image):
            return self.preprocess.from_image(picture)
        if isinstance(picture, np.ndarray):
            return self.preprocess.from_array(picture)
        raise InvalidInput("picture", got=type(picture).__name__, want="a path, bytes, a PIL image or a numpy array")

    def _run(self, pixels: FloatArray) -> tuple[FloatArray, FloatArray]:
        logits, frozen = self._session.run(["logits", "frozen"], pixels[np.newaxis])
        return logits[0], frozen[0]

    def _prove(self, bundle: Bundle) -> float:
        """Run the golden fixtures; raise BundleRefused unless they come out as when the model was made."""
        fixtures = unpack(bundle.members, class_count=len(self.classes))
        answers = []
        for fixture in fixtures:
            try:
                logits, _ = self._run(self._pixels(fixture.picture, fixture.name))
            except UnreadablePicture as exc:
                raise BundleRefused("bundle_fixtures", fixture.name, got=exc.reason, want="a PNG") from None
            answers.append(softmax(logits, temperature=self.policy.temperature))
        return check_fixtures(fixtures, answers, tolerance=self.manifest.tolerance)


def load(path: str | Path, *, limits: DecodeLimits | None = None, threads: int = 1) -> Predictor:
    """Read NAME.dt, check every byte, run its fixtures, and give what predicts.

    Safe for a file from a stranger: nothing in it is executed. Raises NotFound or BundleRefused.
    """
    return Predictor(read_bundle(Path(path)), limits=limits, threads=threads)


def _open_model(model: bytes, manifest: Manifest, preprocess: Preprocess) -> Session:
    """The network, its inputs and outputs as the manifest needs them."""
    try:
        session = Session(model)
        size = preprocess.size
        is_fit = (
            list(session.inputs) == ["pixels"]
            and session.inputs["pixels"][1:] == [3, size, size]
            and session.outputs["logits"][-1] == len(manifest.classes)
            and isinstance(session.outputs["frozen"][-1], int)
        )
    except Exception as exc:  # onnxruntime's own errors have no common base; each means: not a model it can run
        raise BundleRefused("bundle_model", "model.onnx", got=str(exc).splitlines()[0], want="an ONNX model") from None
    if not is_fit:
        got = f"{session.inputs} -> {session.outputs}"
        want = f"pixels [n, 3, {size}, {size}] -> logits [n, {len(manifest.classes)}], frozen [n, f]"
        raise BundleRefused("bundle_model", "model.onnx", got=got, want=want)
    return session
