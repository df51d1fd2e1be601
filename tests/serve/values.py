"""A model that measures two values of a picture: decided where it is red, unknown elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from drivetrain.arrays import FloatArray
from drivetrain.runtime.prediction import ValuePrediction
from drivetrain.task import Task

from .fakes import FakeModel


@dataclass
class TwoValues(FakeModel):
    """Of `width` it has no interval."""

    name: str = "sizes"
    version: str = "sizes@0123456789ab"
    task: Task = "regression"
    classes: tuple[str, ...] = ("height", "width")

    def decide(self, logits: FloatArray, frozen: FloatArray, style: FloatArray | None) -> ValuePrediction:  # type: ignore[override]
        red, green, blue = logits
        is_known = red >= max(green, blue)
        return ValuePrediction(
            value=3.5,
            interval=(3.0, 4.0),
            values={"height": 3.5, "width": -20_000.4},
            intervals={"height": (3.0, 4.0), "width": None},
            ood_score=1.25,
            ood_p_value=0.6 if is_known else 0.001,
            decision="accept" if is_known else "defer",
            reasons=() if is_known else ("unknown",),
            version=self.version,
        )
