"""How logits, frozen features and style become an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray
from drivetrain.runtime.prediction import (
    Answer,
    LabelDecision,
    MultiLabelPrediction,
    Prediction,
    Reason,
    ValuePrediction,
)
from drivetrain.task import Task
from drivetrain.trust.calibration import scale_logits, sigmoid, softmax
from drivetrain.trust.conformal import label_set

from .known import KnownRule
from .policy_values import WHERE, check_number, read_column, read_list, read_number, read_numbers, refuse

if TYPE_CHECKING:
    from .shifted import ShiftRule

__all__ = ["AnyPolicy", "DecisionPolicy", "LabelPolicy", "ValuePolicy", "open_policy"]

_MOST = float(np.finfo(np.float32).max)
_MOST_BIAS = 100.0  # of a class, in nats: e**100 to 1 is no correction any more


class AnyPolicy(Protocol):
    """The rule of one bundle, whatever its task."""

    known: KnownRule

    def decide(
        self,
        logits: FloatArray,
        frozen: FloatArray,
        classes: tuple[str, ...],
        version: str,
        style: FloatArray | None = None,
    ) -> Answer:
        """The answer for one picture: logits (k,), frozen (f,), finite; style (measures,), None: not judged."""
        ...

    def row(self, logits: FloatArray) -> FloatArray:
        """What a golden fixture holds of a picture's logits: (k,) -> (k,) float64, as `bundle.fixtures` compares it."""
        ...


def open_policy(
    task: Task,
    decision: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    feature_count: int,
    output_count: int,
) -> AnyPolicy:
    """The rule of a bundle of this task, its numbers from the manifest, its arrays from the npz.

    decision and arrays are those of flows.calibrate; feature_count is the width of the frozen features, output_count
    that of the logits. Raises BundleRefused (bundle_manifest) unless they are a whole policy of numbers that fit.
    """
    policies: dict[Task, type[DecisionPolicy | LabelPolicy | ValuePolicy]] = {
        "classification": DecisionPolicy,
        "multilabel": LabelPolicy,
        "regression": ValuePolicy,
    }
    return policies[task](decision, arrays, feature_count=feature_count, output_count=output_count)


class _Policy(ABC):
    """What the policies of all tasks do: judge whether a picture is strange, and defer it then."""

    def __init__(
        self,
        decision: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        *,
        feature_count: int,
        output_count: int,
    ) -> None:
        self._read(decision, output_count)
        self.known = KnownRule(decision, arrays, feature_count=feature_count, output_count=output_count)
        self._shift = _open_shift_rule(decision, arrays)

    @abstractmethod
    def _read(self, decision: Mapping[str, Any], output_count: int) -> None:
        """Take the task's own numbers from the manifest."""

    def _decide(
        self,
        frozen: FloatArray,
        style: FloatArray | None,
        *,
        version: str,
        logits: FloatArray | None = None,
        surest: tuple[float, float] | None = None,
        is_open: bool = False,
    ) -> dict[str, Any]:
        """The fields that all answers have; is_open: the answer itself is unsure."""
        score, p_value, is_unknown = self.known.judge(frozen, logits, surest)
        shift_p_value, is_shifted, words = None, False, tuple[str, ...]()
        if self._shift is not None and style is not None:
            shift_p_value, is_shifted, words = self._shift.judge(style)
        found: dict[Reason, bool] = {"unknown": is_unknown, "shifted": is_shifted, "low_confidence": is_open}
        reasons = tuple(reason for reason, holds in found.items() if holds)
        return {
            "ood_score": score,
            "ood_p_value": p_value,
            "shift_p_value": shift_p_value,
            "shifted_by": words,
            "decision": "defer" if reasons else "accept",
            "reasons": reasons,
            "version": version,
        }


def _open_shift_rule(decision: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ShiftRule | None:
    if "style" not in decision:  # bundles of before have none
        return None
    from .shifted import ShiftRule

    return ShiftRule(decision, arrays)


class DecisionPolicy(_Policy):
    """The rule of one bundle that tells classes apart; made as `open_policy` says."""

    def _read(self, decision: Mapping[str, Any], output_count: int) -> None:
        self.temperature = read_number(decision, "temperature", low=1e-3, high=1e3)
        self.threshold = read_number(decision, "threshold", low=0, high=1)
        self.label_set_threshold = read_number(decision, "label_set", "threshold", low=0, high=1)
        # one number for each class, where the pictures were enough; else, and in bundles of before, None
        self.bias = read_numbers(decision, "bias", length=output_count, low=-_MOST_BIAS, high=_MOST_BIAS)
        self.class_thresholds = read_numbers(decision, "class_thresholds", length=output_count, low=0, high=1)
        self.label_set_thresholds = read_numbers(
            decision, "label_set", "thresholds", length=output_count, low=0, high=1
        )

    def decide(
        self,
        logits: FloatArray,
        frozen: FloatArray,
        classes: tuple[str, ...],
        version: str,
        style: FloatArray | None = None,
    ) -> Prediction:
        """The answer for one picture: logits (k,), frozen (f,), both finite."""
        scaled = scale_logits(logits, temperature=self.temperature, bias=self.bias)
        probs = softmax(scaled)
        best = int(np.argmax(probs))
        threshold = self.threshold if self.class_thresholds is None else self.class_thresholds[best]
        sets_at = self.label_set_threshold if self.label_set_thresholds is None else self.label_set_thresholds
        return Prediction(
            label=classes[best],
            probability=float(probs[best]),
            probabilities={name: float(p) for name, p in zip(classes, probs, strict=True)},
            label_set=tuple(classes[i] for i in label_set(probs, sets_at)),
            **self._decide(
                frozen,
                style,
                version=version,
                logits=logits,
                surest=(float(scaled[best]), float(probs[best])),
                is_open=not probs[best] > threshold,
            ),
        )

    def row(self, logits: FloatArray) -> FloatArray:
        """Calibrated probabilities (k,), summing to 1."""
        return softmax(scale_logits(logits, temperature=self.temperature, bias=self.bias))


class LabelPolicy(_Policy):
    """The rule of one bundle whose pictures bear any number of labels; made as `open_policy` says."""

    def _read(self, decision: Mapping[str, Any], output_count: int) -> None:
        rules = read_list(decision, "labels", length=output_count)
        where = f"{WHERE}.labels"
        self.temperatures = read_column(rules, "temperature", low=1e-3, high=1e3, where=where)
        self.thresholds = read_column(rules, "threshold", low=0, high=1, where=where)
        self.present_above = read_column(rules, "present_above", low=0, high=1, where=where)
        self.absent_below = read_column(rules, "absent_below", low=0, high=1, where=where)
        # by a hair both may be the threshold: no probability is then above the one and below the other
        if not bool((self.absent_below <= np.nextafter(self.present_above, 2)).all()):
            raise refuse(where, "a label both present and absent", "absent_below at most present_above")

    def decide(
        self,
        logits: FloatArray,
        frozen: FloatArray,
        classes: tuple[str, ...],
        version: str,
        style: FloatArray | None = None,
    ) -> MultiLabelPrediction:
        """The answer for one picture: logits (k,), frozen (f,), both finite."""
        log_odds = self.row(logits)
        probs = sigmoid(log_odds)
        decided: list[LabelDecision] = [
            "present" if p > high else "absent" if p < low else "defer"
            for p, high, low in zip(probs, self.present_above, self.absent_below, strict=True)
        ]
        told = self._decide(frozen, style, version=version, is_open="defer" in decided)
        is_strange = not {"unknown", "shifted"}.isdisjoint(told["reasons"])
        likeliest = np.argsort(-probs, kind="stable")
        return MultiLabelPrediction(
            labels=tuple(classes[at] for at in likeliest if probs[at] > self.thresholds[at]),
            probabilities={name: float(p) for name, p in zip(classes, probs, strict=True)},
            decisions={name: "defer" if is_strange else one for name, one in zip(classes, decided, strict=True)},
            **told,
        )

    def row(self, logits: FloatArray) -> FloatArray:
        """Calibrated log-odds (k,): unlike probabilities, they still differ where a model is sure."""
        return np.asarray(logits, dtype=np.float64) / self.temperatures


class ValuePolicy(_Policy):
    """The rule of one bundle that measures; made as `open_policy` says."""

    def _read(self, decision: Mapping[str, Any], output_count: int) -> None:
        interval = decision.get("interval")
        widths = read_list(interval if isinstance(interval, Mapping) else {}, "half_widths", length=output_count)
        self.half_widths = [
            None if width is None else check_number(width, f"{WHERE}.interval.half_widths", low=0, high=_MOST)
            for width in widths
        ]

    def decide(
        self,
        logits: FloatArray,
        frozen: FloatArray,
        classes: tuple[str, ...],
        version: str,
        style: FloatArray | None = None,
    ) -> ValuePrediction:
        """The answer for one picture: logits (m,), frozen (f,), both finite."""
        values = [float(value) for value in self.row(logits)]
        ends = [
            None if width is None else (value - width, value + width)
            for value, width in zip(values, self.half_widths, strict=True)
        ]
        return ValuePrediction(
            value=values[0],
            interval=ends[0],
            values=dict(zip(classes, values, strict=True)),
            intervals=dict(zip(classes, ends, strict=True)),
            **self._decide(frozen, style, version=version),
        )

    def row(self, logits: FloatArray) -> FloatArray:
        """The values themselves (m,), in the unit of the labels."""
        return np.asarray(logits, dtype=np.float64)
