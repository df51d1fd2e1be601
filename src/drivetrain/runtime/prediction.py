"""What a model answers about one picture: a class, labels, or values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Answer", "Decision", "LabelDecision", "MultiLabelPrediction", "Prediction", "Reason", "ValuePrediction"]

Decision = Literal["accept", "defer"]
LabelDecision = Literal["present", "absent", "defer"]
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
    shift_p_value: float | None = None  # share of known pictures whose style is at least as odd; None: not measured
    shifted_by: tuple[str, ...] = ()  # in words, what is new about its style; where `shifted` is among the reasons

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(self.probabilities),
            "label_set": list(self.label_set),
            **_tell_decision(self),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiLabelPrediction:
    """One answer where a picture may bear any number of labels. Probabilities are calibrated, each by itself.

    `decision` is "accept" when the model decides every label by itself; else a person should look at the labels that
    are "defer" in `decisions`: all of them when the picture is unlike what it knows.
    """

    labels: tuple[str, ...]  # the best guess: those above their thresholds, most likely first; perhaps none
    probabilities: Mapping[str, float]  # every label, in the bundle's order
    decisions: Mapping[str, LabelDecision]  # every label, in the bundle's order
    ood_score: float  # higher is stranger
    ood_p_value: float  # share of known pictures at least as strange
    decision: Decision
    reasons: tuple[Reason, ...] = ()
    version: str = ""
    prediction_id: str | None = None
    shift_p_value: float | None = None
    shifted_by: tuple[str, ...] = ()

    @property
    def open_labels(self) -> tuple[str, ...]:
        """The labels that a person should decide."""
        return tuple(label for label, decision in self.decisions.items() if decision == "defer")

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "labels": list(self.labels),
            "probabilities": dict(self.probabilities),
            "decisions": dict(self.decisions),
            **_tell_decision(self),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuePrediction:
    """One answer where something is measured, in the unit of the labels.

    An interval holds the true value as often as the bundle's manifest states, and is None where too few pictures were
    held out to say. It is as wide for every picture, so a picture is deferred only when it is unlike what is known.
    """

    value: float  # the first of `values`
    interval: tuple[float, float] | None  # of it
    values: Mapping[str, float]  # every value, in the bundle's order
    intervals: Mapping[str, tuple[float, float] | None]
    ood_score: float  # higher is stranger
    ood_p_value: float  # share of known pictures at least as strange
    decision: Decision
    reasons: tuple[Reason, ...] = ()
    version: str = ""
    prediction_id: str | None = None
    shift_p_value: float | None = None
    shifted_by: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "values": dict(self.values),
            "intervals": {name: None if ends is None else list(ends) for name, ends in self.intervals.items()},
            **_tell_decision(self),
        }


Answer = Prediction | MultiLabelPrediction | ValuePrediction


def _tell_decision(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {"ood_score": answer.ood_score, "ood_p_value": answer.ood_p_value}
    if answer.shift_p_value is not None:  # a model that knows no styles answers as it always did
        told |= {"shift_p_value": answer.shift_p_value, "shifted_by": list(answer.shifted_by)}
    told |= {"decision": answer.decision, "reasons": list(answer.reasons), "version": answer.version}
    return told | ({"prediction_id": answer.prediction_id} if answer.prediction_id else {})
