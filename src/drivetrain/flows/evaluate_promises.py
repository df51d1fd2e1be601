"""What a bundle promises, part by part, and what became of it on labelled pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import Item
from drivetrain.data.targets import split_labels, split_values
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.trust.evaluation import measure_deferral
from drivetrain.trust.promise_check import Part, PartPromises, check_parts

__all__ = ["check_part_promises"]

_SAID = {"present": "said to be there", "absent": "said not to be there"}


class _Pictures(NamedTuple):
    """What was asked about, and what is known of it."""

    decision: Mapping[str, Any]
    classes: Sequence[str]
    read: Sequence[Item]  # (n,)
    groups: IntArray | None  # (n,): pictures of one number are alike
    tainted: str

    def part(self, of: str, decided: BoolArray, is_wrong: BoolArray) -> Part:
        return Part(of, measure_deferral(decided, is_wrong, self.groups))

    def section(self, name: str) -> Mapping[str, Any]:
        return _map(self.decision.get(name))

    def rules(self, name: str) -> list[Mapping[str, Any]] | None:
        """One for each class; None where the decision has not so many."""
        rules = self.decision.get(name)
        return [*map(_map, rules)] if isinstance(rules, list) and len(rules) == len(self.classes) else None


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

    answers and the pictures read are (n), of one task; groups (n,) say which pictures are alike; `tainted` says why
    they cannot speak for the model. What `decision` of an older bundle does not say is not promised.
    """
    given = _Pictures(decision, classes, read, groups, tainted)
    labels = [answer for answer in answers if isinstance(answer, MultiLabelPrediction)]
    values = [answer for answer in answers if isinstance(answer, ValuePrediction)]
    if labels:
        made = [_check_labels(given, labels)]
    elif values:
        made = [_check_intervals(given, values)]
    else:
        told = [answer for answer in answers if isinstance(answer, Prediction)]
        made = [_check_classes(given, told), _check_short_lists(given, told)]
    return tuple(one for one in made if one is not None)


def _check_classes(given: _Pictures, answers: Sequence[Prediction]) -> PartPromises | None:
    rules, max_error = given.rules("classes"), _share(given.section("promise").get("max_error"))
    if max_error is None or rules is None:
        return None
    is_wrong = np.array([answer.label != item.label for answer, item in zip(answers, given.read, strict=True)])
    parts = []
    for name, rule in zip(given.classes, rules, strict=True):
        if rule.get("is_certified") is True:
            decided = np.array([answer.decision == "accept" and answer.label == name for answer in answers])
            parts.append(given.part(name, decided, is_wrong))
    return check_parts("classes", parts, max_error=max_error, tainted=given.tainted) if parts else None


def _check_short_lists(given: _Pictures, answers: Sequence[Prediction]) -> PartPromises | None:
    sets = given.section("label_set")
    coverage, n = _share(sets.get("coverage")), _count(sets.get("n_calibration"))
    is_all = all(len(answer.label_set) == len(answer.probabilities) for answer in answers)
    if coverage is None or n is None or is_all:  # a list of all labels promises nothing
        return None
    missed = np.array([item.label not in answer.label_set for answer, item in zip(answers, given.read, strict=True)])
    part = given.part("the short list", np.ones_like(missed), missed)
    return check_parts("short lists", [part], max_error=round(1 - coverage, 12), n_calibration=n, tainted=given.tainted)


def _check_labels(given: _Pictures, answers: Sequence[MultiLabelPrediction]) -> PartPromises | None:
    rules, max_error = given.rules("labels"), _share(given.decision.get("max_error"))
    if max_error is None or rules is None:
        return None
    borne = [{*split_labels(item.label, task="multilabel")} for item in given.read]
    parts = []
    for name, rule in zip(given.classes, rules, strict=True):
        is_there = np.array([name in labels for labels in borne])
        for said, is_wrong in (("present", ~is_there), ("absent", is_there)):
            if _map(rule.get(said)).get("is_certified") is True:
                decided = np.array([answer.decisions[name] == said for answer in answers])
                parts.append(given.part(f"{name}, {_SAID[said]}", decided, is_wrong))
    return check_parts("labels", parts, max_error=max_error, tainted=given.tainted) if parts else None


def _check_intervals(given: _Pictures, answers: Sequence[ValuePrediction]) -> PartPromises | None:
    interval = given.section("interval")
    coverage, n = _share(interval.get("coverage")), _count(interval.get("n_calibration"))
    if coverage is None or n is None:
        return None
    truth: FloatArray = np.array([split_values(item.label) for item in given.read], dtype=np.float64)
    parts = []
    for at, name in enumerate(given.classes):
        ends = [answer.intervals[name] for answer in answers]
        if None not in ends:
            low, high = np.array(ends, dtype=np.float64).T
            missed: BoolArray = (truth[:, at] < low) | (truth[:, at] > high)
            parts.append(given.part(name, np.ones_like(missed), missed))
    if not parts:
        return None
    return check_parts("intervals", parts, max_error=round(1 - coverage, 12), n_calibration=n, tainted=given.tainted)


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _share(value: Any) -> float | None:
    return value if isinstance(value, float) and 0 < value < 1 else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
