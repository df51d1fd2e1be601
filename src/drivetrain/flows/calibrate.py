"""From held-out pictures to a decision policy: calibration, the out-of-domain rule, and what can be promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.targets import find_strata
from drivetrain.errors import InvalidInput
from drivetrain.learn.folds import deal_folds
from drivetrain.task import Task
from drivetrain.trust.calibration import fit_label_temperature, fit_temperature, sigmoid, softmax
from drivetrain.trust.conformal import half_width, label_set_threshold, p_value
from drivetrain.trust.deferral import Promise, certify_threshold, choose_start
from drivetrain.trust.label_rule import LabelRule, certify_label, state_label_promises
from drivetrain.trust.ood import NearestNeighbours, choose_neighbours, normalise_rows

__all__ = ["Calibration", "IntervalPromise", "LabelPromises", "calibrate"]

_REFERENCE_BYTES = 2_000_000  # of known features kept in the bundle, as float16
_MIN_FOR_TEMPERATURE = 30  # pictures; on fewer, a lucky draw would make the model sure of everything
_COVERAGE = 0.95
_FLAG_AT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPromises:
    """What is promised where pictures bear any number of labels: label by label, answer by answer."""

    names: tuple[str, ...]
    rules: tuple[LabelRule, ...]

    @property
    def statement(self) -> str:
        """The promises, or their absence, for a person."""
        return state_label_promises(self.rules, self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalPromise:
    """What is promised where something is measured: how far the truth may be, in the unit of the labels."""

    names: tuple[str, ...]
    half_widths: tuple[float | None, ...]  # None where too few pictures were kept apart
    coverage: float
    n_calibration: int

    @property
    def statement(self) -> str:
        """The promise, or its absence, for a person."""
        share = f"{100 * self.coverage:g} %"
        told = [
            f"{width:.4g}" + (f" ({name})" if len(self.names) > 1 else "")
            for name, width in zip(self.names, self.half_widths, strict=True)
            if width is not None
        ]
        if not told:
            needed = round(self.coverage / (1 - self.coverage))
            return (
                f"No promise: {self.n_calibration} pictures kept apart are too few for an interval that holds the true "
                f"value for {share} of pictures (it takes {needed})."
            )
        return (
            f"For {share} of pictures like those it was measured on, the true value lies within {', '.join(told)} of "
            f"its answer{', each by itself' if len(told) > 1 else ''} (from {self.n_calibration} pictures kept apart). "
            "The interval is as wide for every picture, so it cannot tell which answer is doubtful: only pictures "
            "unlike what it knows go to a person."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The manifest's decision section, the arrays it needs, and what a reader should know of them."""

    decision: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    promise: Promise | LabelPromises | IntervalPromise  # each has a `statement`
    notes: tuple[str, ...]


def calibrate(
    *,
    task: Task = "classification",
    train_features: FloatArray,
    train_labels: IntArray | FloatArray,
    valid_features: FloatArray,
    valid_labels: IntArray | FloatArray,
    valid_logits: FloatArray,
    valid_groups: IntArray | None = None,
    max_error: float,
    class_names: Sequence[str] = (),
) -> Calibration:
    """Held-out pictures are dealt into two halves: one fits the scores, the other certifies the rule made of them.

    Labels are the targets of the task: int64 (n,), float32 (n, k) of 0 and 1, or float32 (n, m); class_names, which
    only sentences need, name the k or m outputs. All arrays come in an order that says nothing (shuffled by seed). The
    first half gives temperatures, thresholds, the out-of-domain reference and where to begin the search for what can be
    promised; the second, used for nothing else, gives label sets, intervals and the promise. Were one picture to do
    both, the promise would be measured on what shaped it; the same goes for pictures of one group (row-aligned
    `valid_groups`; None is a group each), so they stand in one half. Only a class that is all one group is dealt
    picture by picture: `find_tied` says which.
    """
    outputs = 0 if task == "classification" else valid_labels.shape[1]
    names = tuple(class_names) or tuple(f"output {number}" for number in range(1, outputs + 1))
    if task != "classification" and not len(names) == outputs == valid_logits.shape[1]:
        got = f"{len(names)} names, {outputs} targets, {valid_logits.shape[1]} logits"
        raise InvalidInput("calibration", got=got, want="as many of each")
    strata = find_strata(valid_labels, task=task)
    half = deal_folds(strata, count=2, groups=valid_groups, part_tied=task != "regression")
    fit, certify = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    notes: list[str] = []
    if task != "regression" and len(fit) < _MIN_FOR_TEMPERATURE:
        notes.append(f"Only {len(fit)} pictures to calibrate on: probabilities are the head's own (temperature 1).")
    known = _fit_known(train_features, find_strata(train_labels, task=task), valid_features, fit, notes)
    if task == "multilabel":
        return _calibrate_labels(known, names, valid_labels > 0.5, valid_logits, fit, certify, max_error, notes)
    if task == "regression":
        return _calibrate_values(known, names, train_labels, valid_labels, valid_logits, certify, notes)
    return _calibrate_classes(known, strata, valid_logits, fit, certify, max_error, notes)


def _calibrate_classes(
    known: _Known,
    labels: IntArray,
    logits: FloatArray,
    fit: IntArray,
    certify: IntArray,
    max_error: float,
    notes: list[str],
) -> Calibration:
    temperature = fit_temperature(logits[fit], labels[fit]) if len(fit) >= _MIN_FOR_TEMPERATURE else 1.0
    probs = softmax(logits, temperature=temperature)
    scores, is_wrong = probs.max(axis=1), probs.argmax(axis=1) != labels
    start = choose_start(scores[fit], is_wrong[fit], known.is_known[fit], max_error=max_error)
    promise = certify_threshold(
        scores[certify], is_wrong[certify], known.is_known[certify], max_error=max_error, start=start
    )
    sets_at = label_set_threshold(probs[certify], labels[certify], coverage=_COVERAGE)
    if sets_at == 0:
        notes.append(f"Only {len(certify)} pictures to shape label sets by: to be right, each holds every label.")
    decision = {
        "temperature": temperature,
        "threshold": promise.threshold,
        "label_set": {"coverage": _COVERAGE, "threshold": sets_at, "n_calibration": len(certify)},
        "ood": known.section,
        "promise": asdict(promise),
        "statement": promise.statement,
    }
    return Calibration(decision=decision, arrays=known.arrays, promise=promise, notes=tuple(notes))


def _calibrate_labels(
    known: _Known,
    names: tuple[str, ...],
    is_present: BoolArray,
    logits: FloatArray,
    fit: IntArray,
    certify: IntArray,
    max_error: float,
    notes: list[str],
) -> Calibration:
    """Each label by itself: temperature and threshold from the first half, promises from the second."""
    rules, temperatures = [], []
    for at in range(len(names)):
        has = is_present[:, at]
        is_enough = len(fit) >= _MIN_FOR_TEMPERATURE and 0 < has[fit].sum() < len(fit)  # else there is nothing to fit
        temperature = fit_label_temperature(logits[fit, at], has[fit]) if is_enough else 1.0
        probs = sigmoid(np.asarray(logits[:, at], dtype=np.float64) / temperature)  # as the policy that serves
        halves = [(probs[rows], has[rows], known.is_known[rows]) for rows in (fit, certify)]
        rules.append(certify_label(*halves, max_error=max_error))
        temperatures.append(temperature)
    promises = LabelPromises(names=names, rules=tuple(rules))
    decision = {
        "labels": [
            {
                "temperature": temperature,
                "threshold": rule.threshold,
                "present_above": rule.present_above,
                "absent_below": rule.absent_below,
                "present": _describe_promise(rule.present),
                "absent": _describe_promise(rule.absent),
            }
            for temperature, rule in zip(temperatures, rules, strict=True)
        ],
        "method": "threshold: best F1 on the first half; present and absent: binomial test, each, on the second",
        "max_error": max_error,
        "confidence": rules[0].present.confidence,
        "n_calibration": len(certify),
        "ood": known.section,
        "statement": promises.statement,
    }
    return Calibration(decision=decision, arrays=known.arrays, promise=promises, notes=tuple(notes))


def _describe_promise(promise: Promise) -> dict[str, Any]:
    return {
        "is_certified": promise.is_certified,
        "n_accepted": promise.n_accepted,
        "n_wrong": promise.n_wrong,
        "n_needed": promise.n_needed,
    }


def _calibrate_values(
    known: _Known,
    names: tuple[str, ...],
    train_targets: FloatArray | IntArray,
    targets: FloatArray | IntArray,
    logits: FloatArray,
    certify: IntArray,
    notes: list[str],
) -> Calibration:
    """Split conformal intervals: the residuals of pictures that nothing was fitted to."""
    residuals = np.asarray(targets, dtype=np.float64) - np.asarray(logits, dtype=np.float64)
    widths = tuple(half_width(column[certify], coverage=_COVERAGE) for column in residuals.T)
    promise = IntervalPromise(names=names, half_widths=widths, coverage=_COVERAGE, n_calibration=len(certify))
    if None in widths:
        notes.append(f"Only {len(certify)} pictures to measure intervals by: answers come without one.")
    spreads = np.asarray(train_targets, dtype=np.float64).std(axis=0)
    if not spreads.min() > 0:
        raise InvalidInput(
            "training values", got=f"one value of {names[int(spreads.argmin())]!r} for all", want="values that differ"
        )
    decision = {
        "interval": {
            "method": "split conformal: quantile of the absolute residuals of the second half",
            "coverage": _COVERAGE,
            "half_widths": list(widths),
            "n_calibration": len(certify),
        },
        "spreads": [float(spread) for spread in spreads],
        "ood": known.section,
        "statement": promise.statement,
    }
    return Calibration(decision=decision, arrays=known.arrays, promise=promise, notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The out-of-domain rule, and which held-out pictures it takes for known, (n,)."""

    section: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    is_known: BoolArray


def _fit_known(
    train_features: FloatArray, train_strata: IntArray, valid_features: FloatArray, fit: IntArray, notes: list[str]
) -> _Known:
    known = _choose_known(train_features, train_strata)
    neighbours = NearestNeighbours(known.astype(np.float32), k=choose_neighbours(len(known)))
    reference = np.sort(neighbours.scores(valid_features[fit]))
    if 1 / (len(reference) + 1) > _FLAG_AT:
        notes.append(f"Only {len(reference)} pictures to tell the unknown by: nothing can be flagged as unknown yet.")
    scores = neighbours.scores(valid_features)
    section = {
        "method": "nearest_neighbours",
        "k": neighbours.k,
        "flag_at": _FLAG_AT,
        "n_known": len(known),
        "n_calibration": len(reference),
    }
    return _Known(
        section=section,
        arrays={"ood_known": known, "ood_calibration": reference},
        is_known=np.array([p_value(reference, float(score)) > _FLAG_AT for score in scores]),
    )


def _choose_known(features: FloatArray, labels: IntArray) -> NDArray[np.float16]:
    """Normalised features of as many training pictures as fit into the bundle, every class with its fair share."""
    room = max(1, _REFERENCE_BYTES // (2 * features.shape[1]))
    if len(features) > room:
        rank = np.empty(len(labels), dtype=np.int64)  # a picture's place within its class
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            rank[members] = np.arange(len(members))
        features = features[np.sort(np.argsort(rank, kind="stable")[:room])]
    return normalise_rows(features).astype(np.float16)
