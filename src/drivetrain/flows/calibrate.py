"""From held-out pictures to a decision policy: calibration, the out-of-domain rule, and what can be promised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.targets import find_strata
from drivetrain.errors import InvalidInput
from drivetrain.flows.calibrate_classes import COVERAGE, decide_classes, describe_promise, describe_scaling
from drivetrain.flows.fit_known import Known, fit_known
from drivetrain.flows.fit_shift import Shift, fit_shift
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.flows.promises import IntervalPromise, LabelPromises
from drivetrain.learn.folds import deal_folds
from drivetrain.task import Task
from drivetrain.trust.calibration import fit_label_temperature, sigmoid
from drivetrain.trust.conformal import half_width
from drivetrain.trust.cost_rule import CostRule
from drivetrain.trust.deferral import Promise
from drivetrain.trust.label_rule import certify_label
from drivetrain.trust.scaling import choose_scaling

__all__ = ["Calibration", "FitKnown", "FitShift", "HeldOut", "calibrate", "calibrate_held_out"]

_MIN_FOR_TEMPERATURE = 30  # pictures; on fewer, a lucky draw would make the model sure of everything
_FOLDS = 5  # of the first half, to choose a calibration by

# calibrated logits (n, k) or None, the rows to fit to, notes to add to -> the out-of-domain rule
FitKnown = Callable[[FloatArray | None, IntArray, list[str]], Known]
FitShift = Callable[[IntArray], Shift]  # the rows to fit to -> the style rule


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Pictures that neither trained nor selected, in an order that says nothing (shuffled by seed); rows aligned."""

    labels: IntArray | FloatArray  # (n,), (n, k) or (n, m)
    logits: FloatArray  # (n, k)
    groups: IntArray | None = None  # (n,) pictures of one are alike; None: a group each


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The manifest's decision section, the arrays it needs, and what a reader should know of them."""

    decision: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    promise: Promise | CostRule | LabelPromises | IntervalPromise
    notes: tuple[str, ...]

    @property
    def statement(self) -> str:
        """All that is promised, or why nothing is, for a person."""
        return str(self.decision["statement"])


def calibrate(
    *,
    task: Task = "classification",
    train_features: FloatArray,
    train_labels: IntArray | FloatArray,
    valid_features: FloatArray,
    valid_labels: IntArray | FloatArray,
    valid_logits: FloatArray,
    known_logits: FloatArray | None = None,
    valid_groups: IntArray | None = None,
    train_styles: FloatArray | None = None,
    valid_styles: FloatArray | None = None,
    class_names: Sequence[str] = (),
    options: PolicyOptions | None = None,
) -> Calibration:
    """Held-out pictures are dealt into two halves: one fits the scores, the other certifies the rule made of them.

    Labels are the targets of the task: int64 (n,), float32 (n, k) of 0 and 1, or float32 (n, m); class_names, which
    only sentences need, name the k or m outputs; styles (n, measures) are those of imaging.style_measures, None for a
    model that will not tell the shifted. known_logits (m, k) are those of the training pictures that
    `flows.fit_known.choose_known` chooses: of a model that tells classes apart, else None. `calibrate_held_out` says
    what each half does.
    """
    options = options or PolicyOptions()
    alpha, shift_alpha = options.share_alpha(with_style=valid_styles is not None)
    strata = find_strata(train_labels, task=task)

    def known(calibrated: FloatArray | None, fit: IntArray, notes: list[str]) -> Known:
        return fit_known(
            train_features,
            strata,
            valid_features,
            fit,
            notes,
            known_logits=known_logits,
            valid_logits=valid_logits,
            calibrated=calibrated,
            alpha=alpha,
        )

    def shift(fit: IntArray) -> Shift:
        assert valid_styles is not None
        return fit_shift(valid_styles, fit, alpha=shift_alpha, train=train_styles)

    return calibrate_held_out(
        HeldOut(
            labels=valid_labels,
            logits=valid_logits,
            groups=valid_groups,
        ),
        task=task,
        known=known,
        shift=None if valid_styles is None else shift,
        options=options,
        class_names=class_names,
        spreads=_measure_spreads(train_labels, class_names) if task == "regression" else (),
    )


def calibrate_held_out(
    held: HeldOut,
    *,
    task: Task,
    known: FitKnown,
    shift: FitShift | None,
    options: PolicyOptions,
    class_names: Sequence[str] = (),
    spreads: Sequence[float] = (),
) -> Calibration:
    """The policy of a model with these rules of what is strange; `spreads` are those of the values it trained on.

    The first half gives temperatures, biases, thresholds, the references of what is unknown or shifted, and where to
    begin the search for what can be promised; the second, used for nothing else, gives label sets, intervals and the
    promise. Were one picture to do both, the promise would be measured on what shaped it; the same goes for pictures of
    one group, so they stand in one half. Only a class that is all one group is dealt picture by picture: `find_tied`
    says which. Of a group in the second half the first picture alone counts, in an order that says nothing: those of
    one group are right or wrong together, and each would be taken for evidence of its own.
    """
    options.check_task(task)
    outputs = held.logits.shape[1]
    names = tuple(class_names) or tuple(f"output {number}" for number in range(1, outputs + 1))
    targets = outputs if task == "classification" else held.labels.shape[1]
    if not len(names) == targets == outputs:
        got = f"{len(names)} names, {targets} targets, {outputs} logits"
        raise InvalidInput("calibration", got=got, want="as many of each")
    strata = find_strata(held.labels, task=task)
    half = deal_folds(strata, count=2, groups=held.groups, part_tied=task != "regression")
    notes: list[str] = []
    halves = np.flatnonzero(half == 0), _take_one_each(np.flatnonzero(half == 1), held.groups, notes)
    if task != "regression" and len(halves[0]) < _MIN_FOR_TEMPERATURE:
        notes.append(
            f"Only {len(halves[0])} pictures to calibrate on: probabilities are the head's own (temperature 1)."
        )
    given = _Given(held=held, halves=halves, names=names, options=options, notes=notes, known=known, shift=shift)
    if task == "multilabel":
        return _calibrate_labels(given)
    if task == "regression":
        return _calibrate_values(given, spreads)
    return _calibrate_classes(given, strata)


def _take_one_each(rows: IntArray, groups: IntArray | None, notes: list[str]) -> IntArray:
    """Of rows (m,) the first of each group, in their order."""
    if groups is None:
        return rows
    _, first = np.unique(groups[rows], return_index=True)
    if len(first) < len(rows):
        notes.append(
            f"Of the {len(rows):,} pictures kept apart {len(first):,} count, one of each group (copies, or one name in "
            "the column `group`): pictures of a group are right or wrong together."
        )
    return rows[np.sort(first)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What all tasks need."""

    held: HeldOut
    known: FitKnown
    shift: FitShift | None
    halves: tuple[IntArray, IntArray]
    names: tuple[str, ...]
    options: PolicyOptions
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Strange:
    """The rules of what is strange, and which held-out pictures they leave to the model, (n,)."""

    sections: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    eligible: BoolArray


def _fit_strange(given: _Given, logits: FloatArray | None) -> _Strange:
    """Fitted to the first half; logits are calibrated."""
    fit = given.halves[0]
    known = given.known(logits, fit, given.notes)
    sections, arrays, eligible = {"ood": known.section}, dict(known.arrays), known.is_known
    if given.shift is not None:
        shift = given.shift(fit)
        sections["style"] = shift.section
        arrays |= shift.arrays
        eligible = eligible & ~shift.is_shifted
        given.notes.extend(shift.notes)
    return _Strange(sections=sections, arrays=arrays, eligible=eligible)


def _calibrate_classes(given: _Given, labels: IntArray) -> Calibration:
    held, fit = given.held, given.halves[0]
    folds = deal_folds(labels[fit], count=_FOLDS, groups=None if held.groups is None else held.groups[fit])
    scaling = choose_scaling(held.logits[fit], labels[fit], folds=folds)
    strange = _fit_strange(given, scaling.apply(held.logits))
    rule = decide_classes(
        held.logits,
        labels,
        given.halves,
        scaling=scaling,
        eligible=strange.eligible,
        names=given.names,
        options=given.options,
    )
    decision = {
        **describe_scaling(scaling),
        **rule.section,
        **strange.sections,
        "policy": given.options.as_json(),
        "statement": rule.statement,
    }
    notes = (*given.notes, *rule.notes)
    return Calibration(decision=decision, arrays=strange.arrays, promise=rule.promise, notes=notes)


def _calibrate_labels(given: _Given) -> Calibration:
    """Each label by itself: temperature and threshold from the first half, promises from the second."""
    logits, (fit, certify), max_error = given.held.logits, given.halves, given.options.promised_error
    is_present: BoolArray = given.held.labels > 0.5
    temperatures = []
    for at in range(len(given.names)):
        has = is_present[fit, at]
        is_enough = len(fit) >= _MIN_FOR_TEMPERATURE and 0 < has.sum() < len(fit)  # else there is nothing to fit
        temperatures.append(fit_label_temperature(logits[fit, at], has) if is_enough else 1.0)
    log_odds = np.asarray(logits, dtype=np.float64) / np.array(temperatures)  # as the policy that serves
    strange = _fit_strange(given, log_odds)
    rules = []
    for at in range(len(given.names)):
        probs, has = sigmoid(log_odds[:, at]), is_present[:, at]
        sides = [(probs[rows], has[rows], strange.eligible[rows]) for rows in (fit, certify)]
        rules.append(certify_label(*sides, max_error=max_error))
    promises = LabelPromises(names=given.names, rules=tuple(rules))
    open_ = ~strange.eligible[certify]
    for at, rule in enumerate(rules):
        probs = sigmoid(log_odds[certify, at])
        open_ |= ~((probs > rule.present_above) | (probs < rule.absent_below))
    decision = {
        "labels": [
            {
                "temperature": temperature,
                "threshold": rule.threshold,
                "present_above": rule.present_above,
                "absent_below": rule.absent_below,
                "present": describe_promise(rule.present),
                "absent": describe_promise(rule.absent),
            }
            for temperature, rule in zip(temperatures, rules, strict=True)
        ],
        "method": "threshold: best F1 on the first half; present and absent: binomial test, each, on the second",
        "max_error": max_error,
        "confidence": rules[0].present.confidence,
        "n_calibration": len(certify),
        **strange.sections,
        "policy": given.options.as_json(),
        "statement": " ".join([promises.statement, *_tell_deferred(open_, given.options)]),
    }
    return Calibration(decision=decision, arrays=strange.arrays, promise=promises, notes=tuple(given.notes))


def _calibrate_values(given: _Given, spreads: Sequence[float]) -> Calibration:
    """Split conformal intervals: the residuals of pictures that nothing was fitted to."""
    held, certify = given.held, given.halves[1]
    residuals = np.asarray(held.labels, dtype=np.float64) - np.asarray(held.logits, dtype=np.float64)
    widths = tuple(half_width(column[certify], coverage=COVERAGE) for column in residuals.T)
    promise = IntervalPromise(names=given.names, half_widths=widths, coverage=COVERAGE, n_calibration=len(certify))
    strange = _fit_strange(given, None)
    if None in widths:
        given.notes.append(f"Only {len(certify)} pictures to measure intervals by: answers come without one.")
    decision = {
        "interval": {
            "method": "split conformal: quantile of the absolute residuals of the second half",
            "coverage": COVERAGE,
            "half_widths": list(widths),
            "n_calibration": len(certify),
        },
        "spreads": [float(spread) for spread in spreads],
        **strange.sections,
        "policy": given.options.as_json(),
        "statement": " ".join([promise.statement, *_tell_deferred(~strange.eligible[certify], given.options)]),
    }
    return Calibration(decision=decision, arrays=strange.arrays, promise=promise, notes=tuple(given.notes))


def _measure_spreads(targets: FloatArray | IntArray, names: Sequence[str]) -> tuple[float, ...]:
    """Standard deviations of the training values, all above 0."""
    spreads = np.asarray(targets, dtype=np.float64).std(axis=0)
    if not spreads.min() > 0:
        at = int(spreads.argmin())
        name = names[at] if names else f"output {at + 1}"
        raise InvalidInput("training values", got=f"one value of {name!r} for all", want="values that differ")
    return tuple(float(spread) for spread in spreads)


def _tell_deferred(is_open: BoolArray, options: PolicyOptions) -> list[str]:
    """What is left to a person (n,), beside the most that may be."""
    if options.max_defer is None:
        return []
    share, most = f"{100 * float(is_open.mean()):.0f} %", f"{100 * options.max_defer:g} %"
    is_kept = float(is_open.mean()) <= options.max_defer
    return [
        f"A person sees {share} of such pictures, "
        + (f"within the {most}" if is_kept else f"not the {most}")
        + " allowed."
    ]
