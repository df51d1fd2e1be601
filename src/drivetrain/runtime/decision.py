"""How logits and frozen features become an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray
from drivetrain.errors import BundleRefused, InvalidInput
from drivetrain.runtime.prediction import Prediction, Reason
from drivetrain.trust.calibration import softmax
from drivetrain.trust.conformal import label_set, p_value
from drivetrain.trust.ood import NearestNeighbours

__all__ = ["DecisionPolicy"]

_WHERE = "manifest.decision"
_UNIT = 1.001  # no number in a row at length 1 is larger; float16 rounds


class DecisionPolicy:
    """The rule of one bundle: its numbers come from the manifest, its arrays from the npz.

    decision and arrays are those of flows.calibrate; feature_count is the width of the frozen features.
    Raises BundleRefused (bundle_manifest) unless they are a whole policy of numbers that fit.
    """

    def __init__(self, decision: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], *, feature_count: int) -> None:
        self.temperature = _read_number(decision, "temperature", low=1e-3, high=1e3)
        self.threshold = _read_number(decision, "threshold", low=0, high=1)
        self.label_set_threshold = _read_number(decision, "label_set", "threshold", low=0, high=1)
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

    def decide(self, logits: FloatArray, frozen: FloatArray, classes: tuple[str, ...], version: str) -> Prediction:
        """The answer for one picture: logits (k,), frozen (f,), both finite."""
        probs = softmax(logits, temperature=self.temperature)
        best = int(np.argmax(probs))
        score = float(self._ood.scores(frozen[np.newaxis])[0])
        strangeness = p_value(self._reference, score)
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


def _read_number(decision: Mapping[str, Any], *keys: str, low: float, high: float) -> float:
    value: Any = decision
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if type(value) not in (int, float) or not (math.isfinite(value) and low <= value <= high):
        raise _off(".".join((_WHERE, *keys)), value, f"a number from {low:g} to {high:g}")
    return float(value)


def _read_floats(arrays: Mapping[str, NDArray[Any]], name: str) -> FloatArray:
    array = arrays.get(name)
    if array is None or array.dtype.kind != "f" or not np.isfinite(array).all():
        got = "no such array" if array is None else f"{array.dtype} of shape {array.shape}"
        raise _off(f"reference.npz/{name}", got, "finite floats")
    return array


def _off(where: str, got: object, want: str) -> BundleRefused:
    return BundleRefused("bundle_manifest", where, got=got, want=want)
