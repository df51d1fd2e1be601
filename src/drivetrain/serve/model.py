"""What the server asks of a model; the loaded bundle satisfies it, and so do the fakes in the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from drivetrain.runtime.prediction import Answer
from drivetrain.task import Task

if TYPE_CHECKING:
    from drivetrain.runtime.predictor import Predictor

__all__ = ["PredictorModel", "ServedModel"]


class ServedModel(Protocol):
    """A model that answers one picture at a time, from any thread."""

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
