"""What a bundle promises, part by part, and what became of it on labelled pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import Item
from drivetrain.data.targets import split_labels, split_values
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.trust.evaluation import measure_deferral
from drivetrain.trust.promise_check import Part, PartPromises, check_parts

__all__ = ["check_part_promises"]

_SAID = {"present": "said to be there", "absent": "said not to be there"}


def check_part_promises(
    decision: Mapping[str, Any],
    classes: Sequence[str],
    answers: Sequence[Answer],
    read: Sequence[Item],
    *,
    groups: IntArray | None,
    tainted: str,
) -> tuple[PartPromises, ...]:
    """Of each class, label and answer, interval or short list that `decision` promises something of.

    answers and the pictures read are (n), of one task; groups (n,) say which pictures are alike. What `decision` of an
    older bundle does not say is not promised.
    """
    if isinstance(answers[0], MultiLabelPrediction):
        return _check_labels(decision, classes, answers, read, groups=groups, tainted=tainted)
    if isinstance(answers[0], ValuePrediction):
        return _check_intervals(decision, classes, answers, read, groups=groups, tainted=tainted)
    told = [answer for answer in answers if isinstance(answer, Prediction)]
    made = [
        _check_classes(decision, classes, told, read, groups=groups, tainted=tainted),
        _check_short_lists(decision, told, read, groups=groups, tainted=tainted),
    ]
    return tuple(one for one in made if one is not None)


def _check_classes(
    decision: Mapping[str, Any],
    classes: Sequence[str],
    answers: Sequence[Prediction],
    read: Sequence[Item],
    *,
    groups: IntArray | None,
    tainted: str,
) -> PartPromises | None:
    promise, rules = _map(decision.get("promise")), decision.get("classes")
    max_error = _share(promise.get("max_error"))
    if max_error is None or not isinstance(rules, list) or len(rules) != len(classes):
        return None
    is_wrong = np.array([answer.label != item.label for answer, item in zip(answers, read, strict=True)])
    parts = []
    for name, rule in zip(classes, rules, strict=True):
        if _map(rule).get("is_certified") is True:
            decided = np.array([answer.decision == "accept" and answer.label == name for answer in answers])
            parts.append(Part(name, measure_deferral(decided, is_wrong, groups)))
    return check_parts("classes", parts, max_error=max_error, tainted=tainted) if parts else None


def _check_short_lists(
    decision: Mapping[str, Any],
    answers: Sequence[Prediction],
    read: Sequence[Item],
    *,
    groups: IntArray | None,
    tainted: str,
) -> PartPromises | None:
    sets = _map(decision.get("label_set"))
    coverage, n = _share(sets.get("coverage")), sets.get("n_calibration")
    is_all = all(len(answer.label_set) == len(answer.probabilities) for answer in answers)
    if coverage is None or type(n) is not int or n < 1 or is_all:  # a list of all labels promises nothing
        return None
    missed = np.array([item.label not in answer.label_set for answer, item in zip(answers, read, strict=True)])
    part = Part("the short list", measure_deferral(np.ones_like(missed), missed, groups))
    return check_parts("short lists", [part], max_error=round(1 - coverage, 12), n_calibration=n, tainted=tainted)


def _check_labels(
    decision: Mapping[str, Any],
    classes: Sequence[str],
    answers: Sequence[Answer],
    read: Sequence[Item],
    *,
    groups: IntArray | None,
    tainted: str,
) -> tuple[PartPromises, ...]:
    rules, max_error = decision.get("labels"), _share(decision.get("max_error"))
    if max_error is None or not isinstance(rules, list) or len(rules) != len(classes):
        return ()
    told = [answer for answer in answers if isinstance(answer, MultiLabelPrediction)]
    borne = [{*split_labels(item.label, task="multilabel")} for item in read]
    parts = []
    for name, rule in zip(classes, rules, strict=True):
        is_there = np.array([name in labels for labels in borne])
        for answer, is_wrong in (("present", ~is_there), ("absent", is_there)):
            if _map(_map(rule).get(answer)).get("is_certified") is True:
                decided = np.array([one.decisions[name] == answer for one in told])
                parts.append(Part(f"{name}, {_SAID[answer]}", measure_deferral(decided, is_wrong, groups)))
    return (check_parts("labels", parts, max_error=max_error, tainted=tainted),) if parts else ()


def _check_intervals(
    decision: Mapping[str, Any],
    classes: Sequence[str],
    answers: Sequence[Answer],
    read: Sequence[Item],
    *,
    groups: IntArray | None,
    tainted: str,
) -> tuple[PartPromises, ...]:
    interval = _map(decision.get("interval"))
    coverage, n = _share(interval.get("coverage")), interval.get("n_calibration")
    if coverage is None or type(n) is not int or n < 1:
        return ()
    told = [answer for answer in answers if isinstance(answer, ValuePrediction)]
    truth: FloatArray = np.array([split_values(item.label) for item in read], dtype=np.float64)
    parts = []
    for at, name in enumerate(classes):
        ends = [answer.intervals[name] for answer in told]
        if None not in ends:
            low, high = np.array(ends, dtype=np.float64).T
            missed: BoolArray = (truth[:, at] < low) | (truth[:, at] > high)
            parts.append(Part(name, measure_deferral(np.ones_like(missed), missed, groups)))
    if not parts:
        return ()
    return (check_parts("intervals", parts, max_error=round(1 - coverage, 12), n_calibration=n, tainted=tainted),)


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _share(value: Any) -> float | None:
    return value if isinstance(value, float) and 0 < value < 1 else None
