"""What is promised of each class's answers by themselves, where the class has the pictures for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.deferral import Promise, certify_threshold, choose_start, labels_needed

__all__ = ["certify_classes", "join_promises", "promise_at", "state_class_promises"]

_MOST_NAMED = 6
Ranked = tuple[FloatArray, BoolArray, BoolArray, IntArray]  # scores, is_wrong, eligible, predicted, all (n,)


def certify_classes(
    certify: Ranked, *, class_count: int, max_error: float, confidence: float = 0.95, pilot: Ranked | None = None
) -> tuple[Promise, ...]:
    """For each class: above its threshold, of the pictures decided to be of it at most max_error are wrong.

    `certify` is used for nothing else; `pilot`, other pictures, says where each walk begins. The walk is that of
    `certify_threshold` among the pictures predicted as the class. All promises hold at once with `confidence`: each
    is tested at (1 - confidence) / class_count (Bonferroni), so a class needs more than it would by itself, at 2 % and
    ten classes 263 accepted without an error in place of 149. A class that is short of that has no promise.
    """
    if class_count < 1:
        raise InvalidInput("class_count", got=class_count, want="one class at least")
    each = 1 - (1 - confidence) / class_count
    promises = []
    for label in range(class_count):
        scores, is_wrong, eligible = _of_class(certify, label)
        start = choose_start(*_of_class(pilot, label), max_error=max_error) if pilot is not None else 0.0
        promises.append(
            certify_threshold(scores, is_wrong, eligible, max_error=max_error, confidence=each, start=start)
        )
    return tuple(promises)


def promise_at(promise: Promise, certify: Ranked, label: int, threshold: float) -> Promise:
    """A class's promise at another threshold than its own, such as that of all classes together.

    It holds there if the walk came past it: every threshold between the walk's first and its last passed the test, so
    it may be chosen after the fact. `promise` must come from a walk without `pilot`, which begins at n_needed.
    """
    scores, is_wrong, eligible = _of_class(certify, label)
    accepted = eligible & (scores > threshold)
    k = int(accepted.sum())
    is_passed = promise.is_certified and threshold >= promise.threshold and k >= promise.n_needed
    return Promise(
        threshold=threshold,
        max_error=promise.max_error,
        confidence=promise.confidence,
        is_certified=is_passed,
        n_calibration=promise.n_calibration,
        n_accepted=k,
        n_wrong=int((accepted & is_wrong).sum()),
        n_needed=promise.n_needed,
    )


def join_promises(promises: Sequence[Promise], *, confidence: float, n_calibration: int) -> Promise:
    """Of all classes that have a promise together: their errors mix, so the mixture keeps what each keeps.

    Its threshold is the highest of them, for whoever applies one to all.
    """
    kept = [one for one in promises if one.is_certified]
    first = promises[0]
    return Promise(
        threshold=max((one.threshold for one in kept), default=1.0 - first.max_error),
        max_error=first.max_error,
        confidence=confidence,
        is_certified=bool(kept),
        n_calibration=n_calibration,
        n_accepted=sum(one.n_accepted for one in kept),
        n_wrong=sum(one.n_wrong for one in kept),
        n_needed=first.n_needed,
    )


def state_class_promises(promises: Sequence[Promise], names: Sequence[str], *, confidence: float = 0.95) -> str:
    """Which classes have a promise by themselves, and what the others lack, for a person."""
    share = f"{100 * promises[0].max_error:g} %"
    kept = [name for name, one in zip(names, promises, strict=True) if one.is_certified]
    alone = labels_needed(promises[0].max_error, confidence=confidence)
    needs = (
        f"it takes {promises[0].n_needed} sure and right decisions of a class, {alone} if it were the only one"
        if len(names) > 1
        else f"it takes {alone} sure and right decisions"
    )
    if not kept:
        return f"For no class by itself is it promised that at most {share} of the decisions are wrong ({needs})."
    shown = ", ".join(kept[:_MOST_NAMED]) + (" ..." if len(kept) > _MOST_NAMED else "")
    which = f"all {len(names)} classes" if len(kept) == len(names) else f"{len(kept)} of {len(names)} classes: {shown}"
    return (
        f"At most {share} of its own decisions are wrong in each class by itself, for {which} "
        f"({100 * confidence:g} % confidence in all at once; {needs})."
    )


def _of_class(given: Ranked, label: int) -> tuple[FloatArray, BoolArray, BoolArray]:
    scores, is_wrong, eligible, predicted = given
    rows = np.flatnonzero(predicted == label)
    return scores[rows], is_wrong[rows], eligible[rows]
