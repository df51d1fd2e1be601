"""The decision policy of a model that tells classes apart, from two halves of the pictures held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.flows.policy_options import PolicyOptions
from drivetrain.trust.calibration import softmax
from drivetrain.trust.class_rule import (
    Ranked,
    certify_classes,
    join_promises,
    promise_at,
    state_class_promises,
)
from drivetrain.trust.conformal import label_set_threshold, label_set_thresholds
from drivetrain.trust.cost_rule import CostRule, measure_cost_rule
from drivetrain.trust.deferral import Promise, certify_threshold, choose_start
from drivetrain.trust.scaling import Scaling
from drivetrain.trust.shortfall import DeferralLimit, labels_more, limit_deferral, round_up

__all__ = ["COVERAGE", "ClassRule", "decide_classes", "describe_promise", "describe_scaling"]

COVERAGE = 0.95  # of label sets and intervals
_LABELS_EACH = 2  # labelled pictures for one that certifies: the other half fits


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """The rule made of the halves: its part of the manifest, what it promises, and what a reader should know."""

    section: Mapping[str, Any]
    promise: Promise | CostRule
    statement: str
    notes: tuple[str, ...]


def decide_classes(
    logits: FloatArray,
    labels: IntArray,
    halves: tuple[IntArray, IntArray],
    *,
    scaling: Scaling,
    eligible: BoolArray,
    names: Sequence[str],
    options: PolicyOptions,
) -> ClassRule:
    """logits (n, k) as the network gives them, labels (n,), eligible (n,): neither unknown nor shifted.

    `halves` are rows: the first fitted `scaling` and says where walks begin, the second certifies and does nothing
    else.
    """
    _, certify = halves
    probs = softmax(scaling.apply(logits))
    whole = (probs.max(axis=1), probs.argmax(axis=1) != labels, eligible, probs.argmax(axis=1))
    pilot, judged = (_take(whole, rows) for rows in halves)
    section, notes = _describe_label_sets(probs[certify], labels[certify])
    if options.costs is not None:
        return _apply_costs(judged, options.costs, section, notes)
    max_error = options.promised_error
    overall = certify_threshold(*judged[:3], max_error=max_error, start=choose_start(*pilot[:3], max_error=max_error))
    by_class = certify_classes(
        judged, class_count=len(names), max_error=max_error, pilot=pilot if options.per_class else None
    )
    if options.per_class:
        promise = join_promises(by_class, confidence=overall.confidence, n_calibration=len(certify))
        section["class_thresholds"] = [one.threshold if one.is_certified else 1.0 for one in by_class]
        statements = [state_class_promises(by_class, names)]
        is_any = any(one.is_certified for one in by_class)
        statements.append(_tell_open(by_class, names) if is_any else "So every picture is left to a person.")
    else:
        promise = overall
        by_class = tuple(promise_at(one, judged, at, promise.threshold) for at, one in enumerate(by_class))
        told = state_class_promises(by_class, names)
        is_any = any(one.is_certified for one in by_class)
        statements = [promise.statement, told if is_any else ""]
        notes += [told] if promise.is_certified and not is_any else []
    notes += _note_class_shortfall(by_class, judged, names) if options.per_class else _note_shortfall(promise, judged)
    if options.max_defer is not None:
        limit = limit_deferral(promise, *judged[:3], most=options.max_defer)
        section["deferral_limit"] = {**asdict(limit), "is_kept": limit.is_kept}
        statements.append(_tell_limit(limit, promise))
    section |= {
        "rule": "promise",
        "threshold": promise.threshold,
        "promise": {**asdict(promise), **_describe_coverage(promise)},
        "classes": [describe_promise(one) for one in by_class],
    }
    statement = " ".join(one for one in statements if one)
    return ClassRule(section=section, promise=promise, statement=statement, notes=tuple(notes))


def describe_promise(promise: Promise) -> dict[str, Any]:
    """For the manifest, where the rest of it stands once for all."""
    return {
        "is_certified": promise.is_certified,
        "n_accepted": promise.n_accepted,
        "n_wrong": promise.n_wrong,
        "n_needed": promise.n_needed,
    }


def describe_scaling(scaling: Scaling) -> dict[str, Any]:
    """The manifest's part: which calibration, how it was chosen, on what."""
    numbers: dict[str, Any] = {"temperature": scaling.temperature}
    if scaling.bias is not None:
        numbers["bias"] = [float(one) for one in scaling.bias]
    told: dict[str, Any] = {
        "method": scaling.method,
        "n": scaling.n,
        "pictures": "held out: neither trained nor selected on, and not those that the promise rests on",
    }
    if scaling.temperature_loss is not None:
        told["cross_fitted_log_loss"] = {
            "temperature": scaling.temperature_loss,
            "bias_corrected_temperature": scaling.bias_loss,
        }
    return {**numbers, "calibration": told}


def _take(whole: Ranked, rows: IntArray) -> Ranked:
    scores, is_wrong, eligible, predicted = whole
    return scores[rows], is_wrong[rows], eligible[rows], predicted[rows].astype(np.int64)


def _describe_label_sets(probs: FloatArray, labels: IntArray) -> tuple[dict[str, Any], list[str]]:
    sets_at = label_set_threshold(probs, labels, coverage=COVERAGE)
    by_class = label_set_thresholds(probs, labels, coverage=COVERAGE)
    told: dict[str, Any] = {
        "method": "marginal" if by_class is None else "class_conditional",
        "coverage": COVERAGE,
        "threshold": sets_at,
        "n_calibration": len(labels),
    }
    if by_class is not None:
        told["n_per_class"] = np.bincount(labels, minlength=probs.shape[1]).tolist()
        told["thresholds"] = by_class.tolist()
    few = [f"Only {len(labels)} pictures to shape label sets by: to be right, each holds every label."]
    return {"label_set": told}, few if sets_at == 0 and by_class is None else []


def _apply_costs(judged: Ranked, costs: tuple[float, float], section: dict[str, Any], notes: list[str]) -> ClassRule:
    rule = measure_cost_rule(*judged[:3], cost_error=costs[0], cost_review=costs[1])
    section |= {"rule": "cost", "threshold": rule.threshold, "cost": {**asdict(rule), "coverage": rule.coverage}}
    return ClassRule(section=section, promise=rule, statement=rule.statement, notes=tuple(notes))


def _describe_coverage(promise: Promise) -> dict[str, float]:
    low, high = promise.coverage_interval
    return {"coverage": promise.coverage, "coverage_low": low, "coverage_high": high}


def _tell_open(by_class: Sequence[Promise], names: Sequence[str]) -> str:
    """Which classes are always left to a person."""
    left = [name for name, one in zip(names, by_class, strict=True) if not one.is_certified]
    decided = sum(one.n_accepted for one in by_class if one.is_certified)
    wrong = sum(one.n_wrong for one in by_class if one.is_certified)
    rest = f" The other {len(left)} are left to a person each time." if left else ""
    return f"That rests on {decided} decisions, {wrong} of them wrong.{rest}"


def _tell_limit(limit: DeferralLimit, promise: Promise) -> str:
    if promise.is_certified:
        return limit.state(labels_each=_LABELS_EACH)
    return f"So whether a person must see no more than {100 * limit.most:g} % cannot be said yet."


def _note_shortfall(promise: Promise, judged: Ranked) -> list[str]:
    """How many labels a promise that is not there would take."""
    if promise.is_certified:
        return []
    more = labels_more(*judged[:3], max_error=promise.max_error, confidence=promise.confidence)
    return [_tell_shortfall(f"The promise of {100 * promise.max_error:g} %", more, n=len(judged[0]))]


def _note_class_shortfall(by_class: Sequence[Promise], judged: Ranked, names: Sequence[str]) -> list[str]:
    """The same where each class is promised for by itself: of the class that is nearest to it."""
    if any(one.is_certified for one in by_class):
        return []
    scores, is_wrong, eligible, predicted = judged
    more = {
        name: labels_more(
            scores, is_wrong, eligible & (predicted == at), max_error=one.max_error, confidence=one.confidence
        )
        for at, (name, one) in enumerate(zip(names, by_class, strict=True))
    }
    within = {name: count for name, count in more.items() if count is not None}
    nearest = min(within, key=lambda name: within[name]) if within else None
    which = "any class" if nearest is None else f"{nearest}, which is nearest to it,"
    told = f"The promise of {100 * by_class[0].max_error:g} % for {which}"
    return [_tell_shortfall(told, None if nearest is None else within[nearest], n=len(scores))]


def _tell_shortfall(what: str, more: int | None, *, n: int) -> str:
    """What it takes: `more` calibration pictures than the n there are; None: no number will do."""
    if more is None:
        return (
            f"{what} is out of reach of any number of labels: even the surest answers are wrong more often. A better "
            "model would carry it, or --max-error of more."
        )
    if more == 0:
        return (
            f"{what} was missed by little: at another threshold these pictures would carry it, but trying until one "
            "does is no test. Some more labelled pictures likely will: `drivetrain certify` takes them."
        )
    in_all = _LABELS_EACH * (n + more)
    return (
        f"{what} would take about {round_up(in_all):,} labelled pictures like these in all, none of them trained on: "
        "`drivetrain certify` takes them without training again."
    )
