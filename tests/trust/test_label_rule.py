from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from drivetrain.arrays import BoolArray, FloatArray
from drivetrain.trust.label_rule import LabelRule, certify_label, choose_threshold, state_label_promises

Part = tuple[FloatArray, BoolArray, BoolArray]


def draw(n: int, *, seed: int | list[int] = 0, base: float = 0.4, sharp: float = 3.5) -> Part:
    """Pictures whose probabilities are calibrated: the label is there as often as they say."""
    rng = np.random.default_rng(seed)
    probs = 1 / (1 + np.exp(-(sharp * rng.normal(size=n) + np.log(base / (1 - base)))))
    return probs, rng.random(n) < probs, np.ones(n, dtype=bool)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("digits", [2, 16])
def test_the_threshold_is_that_of_the_best_f1(seed: int, digits: int) -> None:
    probs, has, _ = draw(120, seed=seed)
    probs = probs.round(digits)
    threshold = choose_threshold(probs, has)
    tried = [f1_score(has, probs > cut, zero_division=0) for cut in [*probs, 0.0]]
    assert f1_score(has, probs > threshold) == pytest.approx(max(tried))
    order = np.random.default_rng(9).permutation(120)
    assert choose_threshold(probs[order], has[order]) == threshold


def test_thresholds_that_are_plain() -> None:
    has = np.arange(20) < 6
    assert choose_threshold(np.where(has, 0.9, 0.2), has) == pytest.approx(0.55)
    assert choose_threshold(np.full(20, 0.3), has) == pytest.approx(0.15)  # all alike: better said of all than of none
    assert choose_threshold(np.where(has, 0.9, 0.2), np.arange(20) < 4) == 0.5  # too few to choose by
    rare = draw(20_000, base=0.05, sharp=1.0)
    assert choose_threshold(rare[0], rare[1]) < 0.35  # Lipton et al.: below 0.5 where a label is hard to find


def wrong_shares(rule: LabelRule, part: Part) -> tuple[float, float]:
    """Of a fresh draw, how often "present" is wrong, and "absent"."""
    probs, has, _ = part
    present, absent = probs > rule.present_above, probs < rule.absent_below
    return float((~has[present]).mean()) if present.any() else 0.0, float(has[absent].mean()) if absent.any() else 0.0


def test_each_promise_is_broken_in_one_of_twenty_draws_at_most() -> None:
    n_runs, broken, kept = 200, np.zeros(2), np.zeros(2)
    world = draw(100_000, seed=99)
    for run in range(n_runs):
        rule = certify_label(draw(300, seed=[run, 0]), draw(300, seed=[run, 1]), max_error=0.1)
        for at, (promise, wrong) in enumerate(zip((rule.present, rule.absent), wrong_shares(rule, world), strict=True)):
            kept[at] += promise.is_certified
            broken[at] += promise.is_certified and wrong > 0.1
    assert (kept > 0.4 * n_runs).all()
    assert (broken <= 0.05 * n_runs + 3 * (0.05 * 0.95 * n_runs) ** 0.5).all()


def test_a_rare_label_buys_no_wrong_presents_with_easy_absents() -> None:
    """1 % bear it, and of ten said to bear it nine do not: both together would be wrong 5 % of the time only."""
    n = 2_000
    has = np.arange(n) < 20
    probs = np.where(np.arange(n) < 200, 0.6, 0.01) + np.linspace(0, 1e-3, n)
    part = (probs, has, np.ones(n, dtype=bool))
    rule = certify_label(part, part, max_error=0.15)
    assert rule.absent.is_certified
    assert not rule.present.is_certified
    assert rule.present_above == 0.85
    assert not (probs > rule.present_above).any()


def test_only_known_pictures_count() -> None:
    fit, (probs, has, _) = draw(800), draw(800, seed=1)
    is_known = np.arange(800) % 2 == 0
    rule = certify_label(fit, (probs, np.where(is_known, has, ~has), is_known), max_error=0.1)
    clean = certify_label(fit, (probs[is_known], has[is_known], is_known[is_known]), max_error=0.1)
    assert rule.present.n_accepted == clean.present.n_accepted > 0
    assert (rule.present_above, rule.absent_below) == (clean.present_above, clean.absent_below)


def test_present_and_absent_never_meet() -> None:
    for seed in range(40):
        probs, has, known = draw(200, seed=seed)
        rule = certify_label((probs, has, known), (probs.round(1), has, known), max_error=0.2)
        tried = np.unique([*probs, *probs.round(1), rule.threshold])
        present, absent = tried > rule.present_above, tried < rule.absent_below
        assert not (present & absent).any()
        assert (tried[present] > rule.threshold).all()
        assert not (tried[absent] > rule.threshold).any()


def test_without_a_promise_probabilities_are_taken_at_their_word() -> None:
    rule = certify_label(draw(40), draw(40, seed=1), max_error=0.05)
    assert not rule.present.is_certified
    assert not rule.absent.is_certified
    assert (rule.present_above, rule.absent_below) == (0.95, 0.05)


def test_statements() -> None:
    none = certify_label(draw(40), draw(40, seed=1), max_error=0.05)
    assert state_label_promises([none], ["a"]) == (
        "No promise: 40 pictures kept apart could not show of any label that at most 5 % of its own answers are wrong "
        "(it takes 59 sure and right ones of a kind at least)."
    )
    good = certify_label(draw(2_000), draw(2_000, seed=1), max_error=0.1)
    assert good.present.is_certified
    assert good.absent.is_certified
    assert state_label_promises([good, none], ["cat", "dog"]).startswith(
        "Where it says by itself that a label is there, at most 10 % are wrong: promised for cat. Where it says that "
        "it is not there, at most 10 %: promised for cat. (95 % confidence, for each label and answer by itself, from "
    )
    assert "promised for its label." in state_label_promises([good], ["cat"])
    assert "promised for all 9 labels." in state_label_promises([good] * 9, [f"l{i}" for i in range(9)])
    assert "8 of 9 labels (l0, l1, l2, l3, l4, l5 ...)" in state_label_promises(
        [*[good] * 8, none], [f"l{i}" for i in range(9)]
    )
