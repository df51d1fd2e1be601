"""What a bundle promises, part by part, and what became of it on labelled pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import Item
from drivetrain.data.targets import split_labels, split_values
from drivetrain.flows.evaluate_learned import Learned
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.trust.evaluation import measure_deferral
from drivetrain.trust.promise_check import (
    Part,
    PartPromises,
    PromiseCheck,
    check_parts,
    check_promise,
    read_promise,
)

__all__ = ["check_promises"]

_SAID = {"present": "said to be there", "absent": "said not to be there"}


class _Pictures(NamedTuple):
    """What was asked about, and what is known of it."""

    decision: Mapping[str, Any]
    classes: Sequence[str]
    read: Sequence[Item]  # (n,)
    groups: IntArray | None  # (n,): pictures of one number are alike
    tainted: str

    def part(self, of: str, decided: BoolArray, is_wrong: BoolArray, n_calibration: int | None = None) -> Part:
        return Part(of, measure_deferral(decided, is_wrong, self.groups), n_calibration)

    def section(self, name: str) -> Mapping[str, Any]:
        return _map(self.decision.get(name))

    def rules(self, name: str) -> list[Mapping[str, Any]] | None:
        """One for each class; None where the decision has not so many."""
        rules = self.decision.get(name)
        return [*map(_map, rules)] if isinstance(rules, list) and len(rules) == len(self.classes) else None


def check_promises(
    decision: Mapping[str, Any],
    classes: Sequence[str],
    answers: Sequence[Answer],
    read: Sequence[Item],
    *,
    groups: IntArray | None,
    learned: Learned,
) -> tuple[PromiseCheck | None, tuple[PartPromises, ...]]:
    """Of all decisions of a bundle of classes; and of each class, label and answer, interval or short list.

    answers and the pictures read are (n), of one task; groups (n,) say which pictures are alike. Those that trained or
    calibrated the model are left out, unless there are no others: then nothing speaks for it. What `decision` of an
    older bundle does not say is not promised.
    """
    chosen = learned.is_fresh if learned.n_fresh else np.ones(len(answers), dtype=np.bool_)
    answers, read = [*compress(answers, chosen)], [*compress(read, chosen)]
    given = _Pictures(decision, classes, read, None if groups is None else groups[chosen], learned.tainted)
    labels = [answer for answer in answers if isinstance(answer, MultiLabelPrediction)]
    values = [answer for answer in answers if isinstance(answer, ValuePrediction)]
    if labels:
        parts = [_check_labels(given, labels)]
    elif values:
        parts = [_check_intervals(given, values)]
    else:
        told = [answer for answer in answers if isinstance(answer, Prediction)]
        parts = [_check_classes(given, told), _check_short_lists(given, told)]
    whole = None if labels or values else _check_whole(given, [one for one in answers if isinstance(one, Prediction)])
    return whole, tuple(part for part in parts if part is not None)


def _check_whole(given: _Pictures, answers: Sequence[Prediction]) -> PromiseCheck | None:
    promised = read_promise(given.decision)
    if promised is None:
        return None
    max_error, confidence = promised
    accepted = np.array([answer.decision == "accept" for answer in answers])
    told = measure_deferral(accepted, _mark_wrong(given, answers), given.groups)
    return check_promise(told, max_error=max_error, confidence=confidence, tainted=given.tainted)


def _mark_wrong(given: _Pictures, answers: Sequence[Prediction]) -> BoolArray:
    return np.array([answer.label != item.label for answer, item in zip(answers, given.read, strict=True)])


def _check_classes(given: _Pictures, answers: Sequence[Prediction]) -> PartPromises | None:
    rules, max_error = given.rules("classes"), _share(given.section("promise").get("max_error"))
    if max_error is None or rules is None:
        return None
    is_wrong = _mark_wrong(given, answers)
    parts = []
    for name, rule in zip(given.classes, rules, strict=True):
        if rule.get("is_certified") is True:
            decided = np.array([answer.decision == "accept" and answer.label == name for answer in answers])
            parts.append(given.part(name, decided, is_wrong))
    return check_parts("classes", parts, max_error=max_error, tainted=given.tainted) if parts else None


def _check_short_lists(given: _Pictures, answers: Sequence[Prediction]) -> PartPromises | None:
    """Of each class by itself where each has a threshold of its own, from so many pictures of it; else of all."""
    sets = given.section("label_set")
    coverage = _share(sets.get("coverage"))
    is_all = all(len(answer.label_set) == len(answer.probabilities) for answer in answers)
    if coverage is None or is_all:  # a list of all labels promises nothing
        return None
    missed = np.array([item.label not in answer.label_set for answer, item in zip(answers, given.read, strict=True)])
    n, counts = _count(sets.get("n_calibration")), sets.get("n_per_class")
    parts = []
    if "thresholds" not in sets:
        parts = [given.part("", np.ones_like(missed), missed, n)] if n is not None else []
    elif isinstance(counts, list) and len(counts) == len(given.classes):
        for name, count in zip(given.classes, map(_count, counts), strict=True):
            is_of = np.array([item.label == name for item in given.read])
            parts += [given.part(name, is_of, missed, count)] if count is not None else []
    max_error = round(1 - coverage, 12)
    return check_parts("short lists", parts, max_error=max_error, tainted=given.tainted) if parts else None


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
            parts.append(given.part(name if len(given.classes) > 1 else "", np.ones_like(missed), missed, n))
    max_error = round(1 - coverage, 12)
    return check_parts("intervals", parts, max_error=max_error, tainted=given.tainted) if parts else None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _share(value: Any) -> float | None:
    return value if isinstance(value, float) and 0 < value < 1 else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
