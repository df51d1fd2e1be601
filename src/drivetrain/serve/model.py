"""What the server asks of a model; the loaded bundle satisfies it, and so do the fakes in the tests."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from drivetrain.imaging.decode import DecodeLimits
from drivetrain.runtime.prediction import Answer
from drivetrain.settings import Settings
from drivetrain.task import Task

if TYPE_CHECKING:
    from drivetrain.runtime.batch_types import BatchModel, Tuning
    from drivetrain.runtime.predictor import Predictor

__all__ = ["PredictorModel", "ServedModel", "open_bundle"]

_log = logging.getLogger("drivetrain.serve")


class ServedModel(Protocol):
    """A model that answers pictures, from any thread."""

    @property
    def predictor(self) -> BatchModel:
        """What the batcher runs."""
        ...

    @property
    def tuning(self) -> Tuning | None:
        """How it is run; None: one picture a run, a thread each."""
        ...

    @property
    def task(self) -> Task:
        """What kind of answer it gives."""
        ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Name and first 12 digits of the content digest: `digits@0123456789ab`."""
        ...

    @property
    def evaluation(self) -> Mapping[str, object]:
        """What was measured on held-out pictures, as the evaluation of its task writes it; or empty."""
        ...

    @property
    def policy(self) -> Mapping[str, object]:
        """How it decides; `statement` says it to a person. Or empty."""
        ...

    def predict(self, source: bytes, /, *, name: str) -> Answer:
        """Answer for one picture file; `name` is what an error calls it. Raises UnreadablePicture."""
        ...


@dataclass(frozen=True, slots=True)
class PredictorModel:
    """A loaded bundle as the server wants it: what the manifest claims beside what the predictor does."""

    predictor: Predictor
    tuning: Tuning | None = None

    @property
    def task(self) -> Task:
        return self.predictor.task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.predictor.classes

    @property
    def name(self) -> str:
        return self.predictor.name

    @property
    def version(self) -> str:
        return self.predictor.version

    @property
    def evaluation(self) -> Mapping[str, object]:
        return self.predictor.manifest.evaluation

    @property
    def policy(self) -> Mapping[str, object]:
        return self.predictor.manifest.decision

    def predict(self, source: bytes, /, *, name: str) -> Answer:
        return self.predictor.predict(source, name=name)


def open_bundle(path: Path, settings: Settings) -> PredictorModel:
    """Read, check and prove NAME.dt, with the sessions that its tuning wants.

    Raises NotFound or BundleRefused; what `open_ready` raises of a device that was asked for and is not there.
    """
    from drivetrain.runtime.ready import open_ready  # onnxruntime: not for whoever only imports the app

    ready = open_ready(
        path,
        limits=DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels),
        threads=settings.worker_threads,
        device=settings.device,
        cache_dir=settings.cache_dir,
    )
    for statement in ready.statements:
        _log.info("%s", statement)
    return PredictorModel(ready.predictor, ready.tuning)
