"""How logits and frozen features become an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray
from drivetrain.errors import BundleRefused, InvalidInput
from drivetrain.runtime.prediction import (
    Answer,
    LabelDecision,
    MultiLabelPrediction,
    Prediction,
    Reason,
    ValuePrediction,
)
from drivetrain.task import Task
from drivetrain.trust.calibration import sigmoid, softmax
from drivetrain.trust.conformal import label_set, p_value
from drivetrain.trust.ood import NearestNeighbours

__all__ = ["AnyPolicy", "DecisionPolicy", "LabelPolicy", "ValuePolicy", "open_policy"]

_WHERE = "manifest.decision"
_UNIT = 1.001  # no number in a row at length 1 is larger; float16 rounds
_MOST = float(np.finfo(np.float32).max)


class AnyPolicy(Protocol):
    """The rule of one bundle, whatever its task."""

    def decide(self, logits: FloatArray, frozen: FloatArray, classes: tuple[str, ...], version: str) -> Answer:
        """The answer for one picture: logits (k,), frozen (f,), both finite."""
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
    if task == "multilabel":
        return LabelPolicy(decision, arrays, feature_count=feature_count, output_count=output_count)
    if task == "regression":
        return ValuePolicy(decision, arrays, feature_count=feature_count, output_count=output_count)
    return DecisionPolicy(decision, arrays, feature_count=feature_count)


class DecisionPolicy:
    """The rule of one bundle that tells classes apart; made as `open_policy` says."""

    def __init__(self, decision: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, feature_count: int) -> None:
        self.temperature = _read_number(decision, "temperature", low=1e-3, high=1e3)
        self.threshold = _read_number(decision, "threshold", low=0, high=1)
        self.label_set_threshold = _read_number(decision, "label_set", "threshold", low=0, high=1)
        self._known = _Known(decision, arrays, feature_count=feature_count)

    def decide(self, logits: FloatArray, frozen: FloatArray, classes: tuple[str, ...], version: str) -> Prediction:
        """The answer for one picture: logits (k,), frozen (f,), both finite."""
        probs = self.row(logits)
        best = int(np.argmax(probs))
        score, strangeness, is_unknown = self._known.judge(frozen)
        reasons: list[Reason] = ["unknown"] if is_unknown else []
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

    def row(self, logits: FloatArray) -> FloatArray:
        """Calibrated probabilities (k,), summing to 1."""
        return softmax(logits, temperature=self.temperature)


class LabelPolicy:
    """The rule of one bundle whose pictures bear any number of labels; made as `open_policy` says."""

    def __init__(
        self,
        decision: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        *,
        feature_count: int,
        output_count: int,
    ) -> None:
        rules = _read_list(decision, "labels", length=output_count)
        where = f"{_WHERE}.labels"
        self.temperatures = _read_column(rules, "temperature", low=1e-3, high=1e3, where=where)
        self.thresholds = _read_column(rules, "threshold", low=0, high=1, where=where)
        self.present_above = _read_column(rules, "present_above", low=0, high=1, where=where)
        self.absent_below = _read_column(rules, "absent_below", low=0, high=1, where=where)
        # by a hair both may be the threshold: no probability is then above the one and below the other
        if not bool((self.absent_below <= np.nextafter(self.present_above, 2)).all()):
            raise _off(where, "a label both present and absent", "absent_below at most present_above")
        self._known = _Known(decision, arrays, feature_count=feature_count)

    def decide(
        self, logits: FloatArray, frozen: FloatArray, classes: tuple[str, ...], version: str
    ) -> MultiLabelPrediction:
        """The answer for one picture: logits (k,), frozen (f,), both finite."""
        probs = sigmoid(self.row(logits))
        score, strangeness, is_unknown = self._known.judge(frozen)
        decided: list[LabelDecision] = [
            "present" if p > high else "absent" if p < low else "defer"
            for p, high, low in zip(probs, self.present_above, self.absent_below, strict=True)
        ]
        reasons: list[Reason] = ["unknown"] if is_unknown else []
        if "defer" in decided:
            reasons.append("low_confidence")
        likeliest = np.argsort(-probs, kind="stable")
        return MultiLabelPrediction(
            labels=tuple(classes[at] for at in likeliest if probs[at] > self.thresholds[at]),
            probabilities={name: float(p) for name, p in zip(classes, probs, strict=True)},
            decisions={name: "defer" if is_unknown else one for name, one in zip(classes, decided, strict=True)},
            ood_score=score,
            ood_p_value=strangeness,
            decision="defer" if reasons else "accept",
            reasons=tuple(reasons),
            version=version,
        )

    def row(self, logits: FloatArray) -> FloatArray:
        """Calibrated log-odds (k,): unlike probabilities, they still differ where a model is sure."""
        return np.asarray(logits, dtype=np.float64) / self.temperatures


class ValuePolicy:
    """The rule of one bundle that measures; made as `open_policy` says."""

    def __init__(
        self,
        decision: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        *,
        feature_count: int,
        output_count: int,
    ) -> None:
        interval = decision.get("interval")
        widths = _read_list(interval if isinstance(interval, Mapping) else {}, "half_widths", length=output_count)
        self.half_widths = [
            None if width is None else _check_number(width, f"{_WHERE}.interval.half_widths", low=0, high=_MOST)
            for width in widths
        ]
        self._known = _Known(decision, arrays, feature_count=feature_count)

    def decide(self, logits: FloatArray, frozen: FloatArray, classes: tuple[str, ...], version: str) -> ValuePrediction:
        """The answer for one picture: logits (m,), frozen (f,), both finite."""
        values = [float(value) for value in self.row(logits)]
        ends = [
            None if width is None else (value - width, value + width)
            for value, width in zip(values, self.half_widths, strict=True)
        ]
        score, strangeness, is_unknown = self._known.judge(frozen)
        return ValuePrediction(
            value=values[0],
            interval=ends[0],
            values=dict(zip(classes, values, strict=True)),
            intervals=dict(zip(classes, ends, strict=True)),
            ood_score=score,
            ood_p_value=strangeness,
            decision="defer" if is_unknown else "accept",
            reasons=("unknown",) if is_unknown else (),
            version=version,
        )

    def row(self, logits: FloatArray) -> FloatArray:
        """The values themselves (m,), in the unit of the labels."""
        return np.asarray(logits, dtype=np.float64)


class _Known:
    """Whether a picture is like those the model knows: the out-of-domain part of every policy."""

    def __init__(self, decision: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, feature_count: int) -> None:
        self.flag_at = _read_number(decision, "ood", "flag_at", low=0, high=1)
        k = _read_number(decision, "ood", "k", low=1, high=1e6)
        known, reference = (_read_floats(arrays, name) for name in ("ood_known", "ood_calibration"))
        try:
            with np.errstate(all="ignore"):
                self._ood = NearestNeighbours(known, k=int(k))
        except InvalidInput as exc:
            raise _off("reference.npz/ood_known", exc.got, exc.want) from None
        if known.shape[1] != feature_count:
            raise _off("reference.npz/ood_known", f"shape {known.shape}", f"rows of {feature_count} features")
        if known.max() > _UNIT or known.min() < -_UNIT:
            raise _off("reference.npz/ood_known", "rows longer than 1", "rows at length 1")
        if reference.ndim != 1 or not bool(np.all(np.diff(reference) >= 0)):
            raise _off("reference.npz/ood_calibration", f"shape {reference.shape}", "scores in ascending order")
        self._reference = reference.astype(np.float64)

    def judge(self, frozen: FloatArray) -> tuple[float, float, bool]:
        """Score, p-value, and whether that is unknown, of features (f,)."""
        score = float(self._ood.scores(frozen[np.newaxis])[0])
        strangeness = p_value(self._reference, score)
        return score, strangeness, strangeness <= self.flag_at


def _read_number(decision: Mapping[str, Any], *keys: str, low: float, high: float) -> float:
    value: Any = decision
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return _check_number(value, ".".join((_WHERE, *keys)), low=low, high=high)


def _check_number(value: Any, where: str, *, low: float, high: float) -> float:
    if type(value) not in (int, float) or not (math.isfinite(value) and low <= value <= high):
        raise _off(where, value, f"a number from {low:g} to {high:g}")
    return float(value)


def _read_list(section: Mapping[str, Any], name: str, *, length: int) -> Sequence[Any]:
    found = section.get(name)
    if not isinstance(found, list | tuple) or len(found) != length:
        got = f"{len(found)} of them" if isinstance(found, list | tuple) else found
        raise _off(f"{_WHERE}.{name}", got, f"a list of {length}, one for each output")
    return found


def _read_column(rules: Sequence[Any], name: str, *, low: float, high: float, where: str) -> FloatArray:
    values = [rule.get(name) if isinstance(rule, Mapping) else None for rule in rules]
    return np.array([_check_number(value, f"{where}.{name}", low=low, high=high) for value in values])


def _read_floats(arrays: Mapping[str, NDArray[Any]], name: str) -> FloatArray:
    array = arrays.get(name)
    if array is None or array.dtype.kind != "f" or not np.isfinite(array).all():
        got = "no such array" if array is None else f"{array.dtype} of shape {array.shape}"
        raise _off(f"reference.npz/{name}", got, "finite floats")
    return array


def _off(where: str, got: object, want: str) -> BundleRefused:
    return BundleRefused("bundle_manifest", where, got=got, want=want)
