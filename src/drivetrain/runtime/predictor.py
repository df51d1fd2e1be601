"""Load a bundle, prove it, and answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.bundle.archive import Bundle, read_bundle
from drivetrain.bundle.fixtures import Fixture, check_fixtures, read_spreads, unpack
from drivetrain.bundle.manifest import Manifest
from drivetrain.errors import BundleRefused, InvalidInput, NotFound, Unavailable, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.imaging.style_measures import SizedPreprocess, StyledPreprocess, find_style_kernel
from drivetrain.runtime.decision import AnyPolicy, open_policy
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.prediction import Answer
from drivetrain.runtime.session import Session
from drivetrain.task import Task

from .device import CPU, Device

__all__ = ["Picture", "Predictor", "load"]

Picture = str | Path | bytes | Image.Image | NDArray[Any]

_FIXTURE_DEADLINE_S = 30.0  # for one fixture; a network of a stranger may be made to take for ever
_SEEN = "seen"  # the output that learn.style_graph writes
_LARGEST = 1e15  # of what a network says: its square, summed, is still a float32
_FIXTURE_BYTES = 16_000_000


class Predictor:
    """A bundle, ready. Made by `load`; safe to use from many threads."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        limits: DecodeLimits | None = None,
        threads: int = 1,
        session_threads: Collection[int] = (1,),
        device: Device = CPU,
    ) -> None:
        """`threads` prove the fixtures and answer `predict_many`; there is a session for each of `session_threads`."""
        self.manifest: Manifest = bundle.manifest
        self.version = bundle.version
        self.arrays = bundle.arrays  # of reference.npz: what the policy holds against, and which files trained it
        self.limits = limits or DecodeLimits()
        self.threads = threads
        self.preprocess = _read_preprocess(self.manifest)
        self.device = device
        model = bundle.members["model.onnx"]
        with ThreadPoolExecutor(1, thread_name_prefix="fixtures") as pool:  # while onnxruntime opens the network
            decoded = pool.submit(self._decode_fixtures, bundle)
            self._session, self._feature_count = _open_model(model, self.manifest, self.preprocess, device)
        kernel = find_style_kernel(self.preprocess)
        told = self._session.outputs.get(_SEEN, [])[1:]
        is_seen = kernel is not None and told == [self._feature_count + kernel.count]
        self._kernel = kernel if is_seen else None  # of a model that tells its style itself; else it is measured
        self._preprocess = SizedPreprocess(self.preprocess) if is_seen else StyledPreprocess(self.preprocess)
        # the same network again: each holds its weights, but no thread of one waits for another's
        more = {count: Session(model, threads=count, device=device) for count in session_threads if count > 1}
        self._sessions = {1: self._session, **more}
        self.policy: AnyPolicy = open_policy(
            self.task,
            self.manifest.decision,
            bundle.arrays,
            feature_count=self._feature_count,
            output_count=len(self.classes),
        )
        self.fixture_difference = self._prove(decoded)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def task(self) -> Task:
        """What kind of answer it gives."""
        return self.manifest.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, or the names of the values, in the order of the network's outputs."""
        return self.manifest.classes

    @property
    def input_size(self) -> int:
        """Height and width of the pixels that the network reads."""
        return self.preprocess.size

    def predict(self, picture: Picture, *, name: str | None = None) -> Answer:
        """The answer for a path, encoded bytes, a PIL image, or a uint8 array (h, w, 3) in RGB order.

        A PIL image or an array is already decoded, so the fast decoding of large JPEGs does not apply to it: its
        probabilities may differ from those of its file in the third digit. Raises UnreadablePicture, NotFound.
        """
        return self.decide(*self.ask(picture, name=name))

    def ask(self, picture: Picture, *, name: str | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What `decide` takes, of one picture. Raises as `predict`."""
        pixels, style = self.prepare(picture, name=name)
        logits, seen = self.run(pixels[np.newaxis])
        return logits[0], seen[0], style

    def predict_many(self, pictures: Iterable[Picture]) -> Iterator[Answer | UnreadablePicture]:
        """An answer for each picture, in order, on all threads; an unreadable one gives its error in its place."""

        def work(picture: Picture) -> Answer | UnreadablePicture:
            try:
                return self.predict(picture)
            except UnreadablePicture as exc:
                return exc
            except NotFound as exc:  # gone since the folder was listed: no reason to leave the others unanswered
                return UnreadablePicture(exc.got, reason="there is no such file")

        return map_in_order(work, pictures, threads=callers_for(self.threads))

    def prepare(self, picture: Picture, *, name: str | None = None) -> tuple[FloatArray, FloatArray]:
        """What the network reads, float32 (3, size, size), and what only the picture tells of its style: (1,) where the
        model tells the rest, else all of it, (measures,). Raises as `predict`.
        """
        pixels, style = self._prepare(picture, name)
        return pixels, style if isinstance(style, np.ndarray) else np.array([style], dtype=np.float32)

    def _prepare(self, picture: Picture, name: str | None) -> tuple[FloatArray, FloatArray | float]:
        if isinstance(picture, str | Path):
            path = Path(picture)
            if not path.exists():
                raise NotFound("picture", got=str(path), want="a picture file")
            data = read_picture_file(path, name=name or str(path), limits=self.limits)
            return self._preprocess.from_bytes(data, name=name or str(path), limits=self.limits)
        if isinstance(picture, bytes):
            return self._preprocess.from_bytes(picture, name=name or "picture", limits=self.limits)
        if isinstance(picture, Image.Image):
            return self._preprocess.from_image(picture)
        if isinstance(picture, np.ndarray):
            return self._preprocess.from_array(picture)
        raise InvalidInput("picture", got=type(picture).__name__, want="a path, bytes, a PIL image or a numpy array")

    def run(
        self, pixels: FloatArray, *, threads: int = 1, deadline_s: float | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Logits (n, k) of pixels (n, 3, size, size), and what was seen: frozen features (n, f), and more columns where
        the model tells its style itself. All below 1e15.

        `threads` is one of `session_threads`. Rows of one call may differ in their last bits from those of another
        number of rows. Raises Unavailable.
        """
        what, columns = "frozen", self._feature_count
        if self._kernel is not None:
            what, columns = _SEEN, columns + self._kernel.count
        logits, seen = self._sessions[threads].run(["logits", what], pixels, deadline_s=deadline_s)
        for name, output, width in (("logits", logits, len(self.classes)), (what, seen, columns)):
            # the shapes that a model declares are a promise; this is what it does
            shape, dtype = getattr(output, "shape", None), getattr(output, "dtype", None)
            if shape != (len(pixels), width) or dtype != np.float32:
                want = f"float32 ({len(pixels)}, {width})"
                raise Unavailable("model", got=f"{name} {dtype} of shape {shape}", want=want)
            if not np.abs(output).max(initial=0) < _LARGEST:  # nor where it is not a number
                raise Unavailable("model", got=f"{name} that are not finite, or beyond reason", want="numbers")
        return logits, seen

    def decide(self, logits: FloatArray, seen: FloatArray, style: FloatArray | None) -> Answer:
        """The answer for logits (k,), a row of what `run` saw, and what `prepare` said of style; None: not judged."""
        frozen, style = self.judged(seen, style)
        return self.policy.decide(logits, frozen, self.classes, self.version, style=style)

    def judged(self, seen: FloatArray, style: FloatArray | None) -> tuple[FloatArray, FloatArray | None]:
        """(frozen features (f,), style (measures,) or None) of what `decide` takes."""
        if self._kernel is None:
            return seen, style
        collected = seen[self._feature_count :]
        told = None if style is None else self._kernel.tell(collected, style.item())
        return seen[: self._feature_count], told

    def _decode_fixtures(self, bundle: Bundle) -> list[tuple[Fixture, FloatArray]]:
        fixtures = unpack(bundle.members, class_count=len(self.classes), task=self.task)
        limits = DecodeLimits(max_bytes=_FIXTURE_BYTES, max_pixels=(2 * self.preprocess.size) ** 2)
        with np.errstate(all="ignore"):  # a stranger's numbers may overflow: then the answer tells
            return [(one, self.preprocess.from_bytes(one.picture, name=one.name, limits=limits)) for one in fixtures]

    def _prove(self, decoded: Future[list[tuple[Fixture, FloatArray]]]) -> float:
        """Run the golden fixtures; raise BundleRefused unless they come out as when the model was made."""

        def work(pixels: FloatArray) -> FloatArray:
            with np.errstate(all="ignore"):  # as above
                logits, _ = self.run(pixels[np.newaxis], deadline_s=_FIXTURE_DEADLINE_S)
                return self.policy.row(logits[0])

        try:
            fixtures = [fixture for fixture, _ in decoded.result()]
            answers = list(map_in_order(work, (pixels for _, pixels in decoded.result()), threads=self.threads))
        except UnreadablePicture as exc:
            raise BundleRefused("bundle_fixtures", exc.field, got=exc.reason, want="a PNG") from None
        except Unavailable as exc:
            raise BundleRefused("bundle_model", "model.onnx", got=exc.got, want=exc.want) from None
        return check_fixtures(
            fixtures,
            answers,
            tolerance=self.manifest.tolerance,
            task=self.task,
            spreads=read_spreads(self.manifest.decision, task=self.task, output_count=len(self.classes)),
        )


def load(path: str | Path, *, limits: DecodeLimits | None = None, threads: int = 1, device: Device = CPU) -> Predictor:
    """Read NAME.dt, check every byte, run its fixtures, and give what predicts.

    Safe for a file from a stranger: nothing in it is executed. Raises NotFound or BundleRefused, and Unavailable where
    the device does not run. A server opens its models by `runtime.ready`.
    """
    return Predictor(read_bundle(Path(path)), limits=limits, threads=threads, device=device)


def _read_preprocess(manifest: Manifest) -> Preprocess:
    try:
        with np.errstate(all="ignore"):
            return Preprocess(manifest.preprocess)
    except InvalidInput as exc:
        raise BundleRefused("bundle_manifest", exc.field, got=exc.got, want=exc.want) from None


def _open_model(model: bytes, manifest: Manifest, preprocess: Preprocess, device: Device) -> tuple[Session, int]:
    """The network, its inputs and outputs as the manifest needs them, and how many frozen features it gives."""
    try:
        session = Session(model, device=device)
    except InvalidInput as exc:
        raise BundleRefused("bundle_model", "model.onnx", got=exc.got, want=exc.want) from None
    size, inputs, outputs = preprocess.size, session.inputs, session.outputs
    logits, frozen = outputs.get("logits", []), outputs.get("frozen", [])
    feature_count = frozen[1] if len(frozen) == 2 else None
    is_fit = list(inputs) == ["pixels"] and inputs["pixels"][1:] == [3, size, size] and len(logits) == 2
    if not is_fit or logits[1] != len(manifest.classes) or not isinstance(feature_count, int):
        got = f"{inputs} -> {outputs}"
        want = f"pixels [n, 3, {size}, {size}] -> logits [n, {len(manifest.classes)}], frozen [n, f]"
        raise BundleRefused("bundle_model", "model.onnx", got=got, want=want)
    return session, feature_count
