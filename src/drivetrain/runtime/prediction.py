"""What a model answers about one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Decision", "Prediction", "Reason"]

Decision = Literal["accept", "defer"]
Reason = Literal["unknown", "shifted", "low_confidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer. Probabilities are calibrated; `decision` is "defer" when a person should look."""

    label: str
    probability: float
    probabilities: Mapping[str, float]  # every class, in the bundle's order of classes
    label_set: tuple[str, ...]  # holds the true label as often as the bundle's manifest states; most likely first
    ood_score: float  # higher is stranger
    ood_p_value: float  # share of known pictures at least as strange
    decision: Decision
    reasons: tuple[Reason, ...] = ()
    version: str = ""  # name and first 12 digits of the bundle's content digest
    prediction_id: str | None = None  # set once the prediction is stored

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(self.probabilities),
            "label_set": list(self.label_set),
            "ood_score": self.ood_score,
            "ood_p_value": self.ood_p_value,
            "decision": self.decision,
            "reasons": list(self.reasons),
            "version": self.version,
        } | ({"prediction_id": self.prediction_id} if self.prediction_id else {})
