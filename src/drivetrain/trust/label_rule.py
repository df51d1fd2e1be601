"""One label of several: when it is said to be there, when not to be there, and when a person is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray
from drivetrain.trust.deferral import Promise, certify_threshold, choose_start, labels_needed

__all__ = ["LabelRule", "certify_label", "choose_threshold", "state_label_promises"]

_LEAST_PRESENT = 5  # pictures with the label; with fewer the best threshold is chance
_MOST_NAMED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """Present where p > present_above, absent where p < absent_below, else a person is asked.

    threshold is the best guess all the same: present where p > threshold. Of the answers "present" at most `max_error`
    are wrong, of the answers "absent" too, each with the confidence of its promise, or nothing is promised.
    """

    threshold: float
    present_above: float
    absent_below: float
    present: Promise
    absent: Promise


def choose_threshold(probs: FloatArray, is_present: BoolArray) -> float:
    """The t for which "present where p > t" has the best F1 on these pictures; of equals the nearest to 0.5.

    probs and is_present are (n,). 0.5 with fewer than five present. The optimum lies at half the best F1 where
    probabilities are calibrated, so below 0.5 for labels that are hard to find; it is taken from the pictures
    themselves, midway between two of them. Source: Lipton, Elkan, Naryanaswamy 2014, arXiv:1402.1892.
    """
    n_present = int(is_present.sum())
    if n_present < _LEAST_PRESENT:
        return 0.5
    order = np.argsort(-probs, kind="stable")
    ranked = np.asarray(probs, dtype=np.float64)[order]
    hits = np.cumsum(is_present[order])
    is_cut = np.append(ranked[:-1] > ranked[1:], True)  # equal probabilities are never parted
    counts = np.arange(1, len(ranked) + 1)
    f1 = np.where(is_cut, 2 * hits / (counts + n_present), -1.0)
    below = np.append(ranked[1:], 0.0)
    cuts = np.where((ranked + below) / 2 < ranked, (ranked + below) / 2, below)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(cuts[best[np.argmin(np.abs(cuts[best] - 0.5))]])


def certify_label(
    fit: tuple[FloatArray, BoolArray, BoolArray],
    certify: tuple[FloatArray, BoolArray, BoolArray],
    *,
    max_error: float,
) -> LabelRule:
    """A label's rule from two sets of pictures: the first chooses, the second, used for nothing else, certifies.

    Each is (probs, is_present, is_known), all (n,). Of what the threshold calls present the surest are taken, as many
    as carry the promise, and of what it calls absent by themselves: a label that is rare must not buy wrong "present"s
    with many easy "absent"s. Pictures that are not known are no one's to decide. Each picture counts once, so the
    binomial tests of `certify_threshold` hold; it has their source.
    """
    threshold = choose_threshold(fit[0], fit[1])
    sure, unsure = max(threshold, 1.0 - max_error), min(threshold, max_error)
    present = _certify(fit, certify, threshold, max_error, sign=1, otherwise=sure)
    absent = _certify(fit, certify, threshold, max_error, sign=-1, otherwise=-unsure)
    return LabelRule(
        threshold=threshold,
        present_above=present.threshold,
        absent_below=0.0 - absent.threshold,
        present=present,
        absent=absent,
    )


def _certify(
    fit: tuple[FloatArray, BoolArray, BoolArray],
    certify: tuple[FloatArray, BoolArray, BoolArray],
    threshold: float,
    max_error: float,
    *,
    sign: int,
    otherwise: float,
) -> Promise:
    """The promise of one answer; sign is 1 for present, -1 for absent. Its scores are sign * p, exact as they are."""
    sides = []
    for probs, is_present, is_known in (fit, certify):
        is_asked = (probs > threshold) == (sign > 0)
        sides.append((sign * probs, is_present != (sign > 0), is_known & is_asked))
    start = choose_start(*sides[0], max_error=max_error)
    return certify_threshold(*sides[1], max_error=max_error, start=start, otherwise=otherwise)


def state_label_promises(rules: Sequence[LabelRule], names: Sequence[str]) -> str:
    """What is promised of which labels, and on how many pictures, for a person."""
    first = rules[0].present
    share, surety = f"{100 * first.max_error:g} %", f"{100 * first.confidence:g} %"
    there = [name for name, rule in zip(names, rules, strict=True) if rule.present.is_certified]
    not_there = [name for name, rule in zip(names, rules, strict=True) if rule.absent.is_certified]
    if not there and not not_there:
        needed = labels_needed(first.max_error, confidence=first.confidence)
        return (
            f"No promise: {first.n_calibration} pictures kept apart could not show of any label that at most {share} "
            f"of its own answers are wrong (it takes {needed} sure and right ones of a kind at least)."
        )
    return (
        f"Where it says by itself that a label is there, at most {share} are wrong: promised for "
        f"{_name(there, len(names))}. Where it says that it is not there, at most {share}: promised for "
        f"{_name(not_there, len(names))}. ({surety} confidence, for each label and answer by itself, from "
        f"{first.n_calibration} pictures kept apart.) Labels that it leaves open go to a person."
    )


def _name(names: Sequence[str], of: int) -> str:
    if len(names) == of:
        return "its label" if of == 1 else f"all {of} labels"
    if not names:
        return "no label"
    shown = ", ".join(names[:_MOST_NAMED])
    return shown if len(names) <= _MOST_NAMED else f"{len(names)} of {of} labels ({shown} ...)"
