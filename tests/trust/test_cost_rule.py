from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from drivetrain.errors import InvalidInput
from drivetrain.trust.cost_rule import cost_threshold, measure_cost_rule


def test_it_defers_where_an_error_is_expected_to_cost_more_than_a_look() -> None:
    threshold = cost_threshold(cost_error=20, cost_review=1)
    assert 0.95 > threshold > 0.95 - 1e-12  # 1 - p = 0.05 is no more than 1/20, so it decides
    assert cost_threshold(cost_error=1, cost_review=2) == 0.0
    scores = np.array([0.2, 0.9, 0.949, 0.95, 0.951, 1.0])
    rule = measure_cost_rule(scores, np.zeros(6, bool), np.ones(6, bool), cost_error=20, cost_review=1)
    assert rule.n_accepted == 3
    only = measure_cost_rule(scores, np.zeros(6, bool), np.arange(6) < 5, cost_error=20, cost_review=1)
    assert only.n_accepted == 2  # what another rule defers costs a look


def test_costs_are_those_of_each_picture() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=4_000)
    wrong = rng.uniform(size=4_000) > scores  # calibrated
    rule = measure_cost_rule(scores, wrong, np.ones(4_000, bool), cost_error=10, cost_review=2)
    alone = scores > 0.8
    by_hand = [10.0 * w if a else 2.0 for a, w in zip(alone, wrong, strict=True)]
    assert rule.cost == pytest.approx(np.mean(by_hand))
    assert rule.cost_low < rule.cost < rule.cost_high
    assert rule.cost_alone == pytest.approx(10 * wrong.mean())
    assert (rule.n_accepted, rule.n_wrong) == (alone.sum(), (alone & wrong).sum())
    assert rule.error_high == pytest.approx(beta.ppf(0.95, rule.n_wrong + 1, rule.n_accepted - rule.n_wrong))
    assert rule.cost < min(2.0, rule.cost_alone)
    others = [np.where(scores > cut, 10.0 * wrong, 2.0).mean() for cut in np.linspace(0, 1, 41)]
    assert rule.cost <= min(others) + 0.02  # no other threshold is cheaper, where probabilities hold


def test_the_interval_holds_the_expected_cost() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        scores = rng.uniform(size=800)
        rule = measure_cost_rule(
            scores, rng.uniform(size=800) > scores, np.ones(800, bool), cost_error=10, cost_review=2
        )
        held += rule.cost_low <= 0.8 * 2 + 10 * 0.02 <= rule.cost_high  # E max(.): (1 - s) over s > 0.8 is 0.02
    assert held >= 180


def test_nothing_decided_and_nothing_known() -> None:
    none = measure_cost_rule(np.full(9, 0.5), np.zeros(9, bool), np.ones(9, bool), cost_error=20, cost_review=1)
    assert (none.n_accepted, none.error_high, none.cost) == (0, 1.0, 1.0)
    empty = measure_cost_rule(np.zeros(0), np.zeros(0, bool), np.zeros(0, bool), cost_error=20, cost_review=1)
    assert empty.statement.startswith("No estimate")


def test_the_statement() -> None:
    rule = measure_cost_rule(np.full(100, 0.99), np.arange(100) < 1, np.ones(100, bool), cost_error=20, cost_review=1)
    assert rule.statement.startswith(
        "It decides by itself where an error is expected to cost less than a person's look (20 an error, 1 a look): "
        "100 % of pictures. That costs 0.2 a picture (95 % interval 0 to "
    )
    assert rule.statement.endswith("at most 4.7 % are wrong (95 % confidence, 1 of 100).")


@pytest.mark.parametrize(("error", "review"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1), (float("inf"), 1)])
def test_costs_that_are_none(error: float, review: float) -> None:
    with pytest.raises(InvalidInput, match=r"costs: got .*; want two numbers above 0"):
        cost_threshold(cost_error=error, cost_review=review)
