from __future__ import annotations

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.class_rule import Ranked, certify_classes, join_promises, promise_at, state_class_promises
from drivetrain.trust.deferral import labels_needed

RISKS = np.array([0.0501, 0.0501, 0.0501, 0.0501])  # every class a hair beyond the promise


def draw(counts: tuple[int, ...], risks: np.ndarray, *, seed: int | list[int] = 0) -> Ranked:
    """Pictures of each class as predicted, wrong as often as its risk says, whatever the score."""
    rng = np.random.default_rng(seed)
    predicted = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    scores = rng.uniform(size=len(predicted))
    return scores, rng.uniform(size=len(predicted)) < risks[predicted], np.ones(len(predicted), bool), predicted


def test_a_class_needs_its_own_pictures_and_more_the_more_classes() -> None:
    for class_count, needed in ((1, 149), (10, 263)):
        counts = (needed, needed - 1, *([0] * 8))[:class_count]
        promises = certify_classes(draw(counts, np.zeros(10)), class_count=class_count, max_error=0.02)
        assert [one.is_certified for one in promises] == [True, *[False] * (class_count - 1)]
        assert {one.n_needed for one in promises} == {needed}
        assert needed == labels_needed(0.02, confidence=1 - 0.05 / class_count)


def test_a_class_is_judged_by_its_own_pictures() -> None:
    given = draw((400, 400, 400), np.array([0.0, 0.3, 0.0]))
    promises = certify_classes(given, class_count=3, max_error=0.05)
    assert [one.is_certified for one in promises] == [True, False, True]
    assert promises[0].n_accepted == 400
    scores, wrong, eligible, predicted = given
    fewer = certify_classes((scores, wrong, eligible & (scores > 0.5), predicted), class_count=3, max_error=0.05)
    assert fewer[0].n_accepted == int((scores[predicted == 0] > 0.5).sum())


def test_all_promises_hold_at_once_in_nineteen_of_twenty_draws() -> None:
    n_runs, broken = 2_000, 0
    for run in range(n_runs):
        given = draw((150, 150, 150, 150), RISKS, seed=[run, 0])
        pilot = draw((150, 150, 150, 150), RISKS, seed=[run, 1])
        broken += any(one.is_certified for one in certify_classes(given, class_count=4, max_error=0.05, pilot=pilot))
    assert broken <= 0.05 * n_runs + 3 * (0.05 * 0.95 * n_runs) ** 0.5
    assert broken > 0.005 * n_runs  # and is not held by promising nothing


def test_the_pilot_says_where_to_begin() -> None:
    scores = np.linspace(1, 0.5, 400)
    wrong = np.arange(400) == 3  # one wrong label among the surest
    given: Ranked = (scores, wrong, np.ones(400, bool), np.zeros(400, np.int64))
    assert not certify_classes(given, class_count=1, max_error=0.05)[0].is_certified
    assert certify_classes(given, class_count=1, max_error=0.05, pilot=given)[0].is_certified


def test_a_promise_at_the_threshold_of_all_classes() -> None:
    given = draw((400, 400), np.array([0.0, 0.3]))
    promises = certify_classes(given, class_count=2, max_error=0.05)
    kept = promise_at(promises[0], given, 0, 0.5)
    accepted = int((given[0][given[3] == 0] > 0.5).sum())
    assert (kept.is_certified, kept.n_accepted, kept.n_wrong, kept.threshold) == (True, accepted, 0, 0.5)
    assert not promise_at(promises[0], given, 0, 0.99).is_certified  # too few there: the walk began below
    assert not promise_at(promises[1], given, 1, 0.5).is_certified
    low = draw((400, 1), np.array([0.0, 0.0]))
    wrong = low[0] < 0.3
    part = certify_classes((low[0], wrong, *low[2:]), class_count=2, max_error=0.05)[0]
    assert part.is_certified
    assert promise_at(part, low, 0, part.threshold).is_certified
    assert not promise_at(part, low, 0, part.threshold - 0.01).is_certified  # never came past that


def test_promises_of_classes_join() -> None:
    promises = certify_classes(draw((400, 400, 20), np.zeros(3)), class_count=3, max_error=0.05)
    joint = join_promises(promises, confidence=0.95, n_calibration=820)
    kept = promises[:2]
    assert joint.is_certified
    assert joint.n_accepted == sum(one.n_accepted for one in kept)
    assert joint.n_wrong == sum(one.n_wrong for one in kept)
    assert joint.threshold == max(one.threshold for one in kept)
    none = join_promises(promises[2:], confidence=0.95, n_calibration=20)
    assert (none.is_certified, none.threshold) == (False, 0.95)


def test_statements_say_what_a_class_lacks() -> None:
    promises = certify_classes(draw((400, 20), np.zeros(2)), class_count=2, max_error=0.02)
    assert state_class_promises(promises, ["cat", "dog"]) == (
        "At most 2 % of its own decisions are wrong in each class by itself, for 1 of 2 classes: cat (95 % confidence "
        "in all at once; it takes 183 sure and right decisions of a class, 149 if it were the only one)."
    )
    assert state_class_promises(promises[1:], ["dog"]).startswith("For no class by itself is it promised that at most")
    assert "for all 2 classes (" in state_class_promises([promises[0]] * 2, ["a", "b"])
    with pytest.raises(InvalidInput, match="class_count"):
        certify_classes(draw((3,), np.zeros(1)), class_count=0, max_error=0.05)
