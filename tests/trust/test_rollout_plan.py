from __future__ import annotations

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.canary_sequence import CanarySequence
from drivetrain.trust.rollout_plan import plan_bound, plan_margin, plan_parted, plan_superiority


def test_plans_are_near_those_of_the_literature() -> None:
    better = plan_superiority(wins=0.04, losses=0.02)
    assert better.median is not None
    assert better.p90 is not None
    assert better.median == pytest.approx(955, rel=0.3)
    assert better.p90 == pytest.approx(2350, rel=0.3)
    assert better.labels == pytest.approx(0.06 * better.median, abs=1)
    assert plan_margin(wins=0.03, losses=0.03, margin=0.02).median == pytest.approx(981, rel=0.3)


def test_a_prior_near_the_truth_saves_requests_and_a_smaller_alpha_costs_some() -> None:
    plain, knowing = (
        plan_superiority(wins=0.045, losses=0.045 / 2),
        plan_superiority(wins=0.045, losses=0.045 / 2, prior=(12, 8)),
    )
    strict = plan_superiority(wins=0.045, losses=0.045 / 2, alpha=0.001)
    assert plain.p90 is not None
    assert knowing.p90 is not None
    assert strict.p90 is not None
    assert knowing.p90 < plain.p90 < strict.p90


def test_a_bound_takes_longer_the_nearer_the_error_is() -> None:
    far, near = plan_bound(0.01, bound=0.05), plan_bound(0.04, bound=0.05)
    assert far.median is not None
    assert near.median is not None
    assert far.median < near.median / 10
    assert far.labels == far.median  # each of them is labelled


def test_what_will_not_pass_is_told() -> None:
    assert plan_bound(0.08, bound=0.05).median is None
    assert plan_superiority(wins=0.02, losses=0.03).p90 is None


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInput, match="rates"):
        plan_superiority(wins=0.8, losses=0.3)
    with pytest.raises(InvalidInput, match="alpha"):
        plan_bound(0.01, bound=0.05, alpha=0)


@pytest.mark.parametrize(
    ("candidate", "incumbent", "share", "margin"),
    [(0.05, 0.1, 0.5, 0.0), (0.1, 0.1, 0.5, 0.05), (0.03, 0.1, 0.05, 0.02)],
)
def test_a_plan_of_parted_keys_is_about_what_they_take(
    candidate: float, incumbent: float, share: float, margin: float
) -> None:
    rng, taken = np.random.default_rng(0), []
    for _ in range(30):
        sequence = CanarySequence(margin=margin, shows="not worse")
        while sequence.log_e < np.log(20):
            is_candidate = bool(rng.random() < share)
            is_wrong = bool(rng.random() < (candidate if is_candidate else incumbent))
            sequence.add(share=share, is_candidate=is_candidate, is_wrong=is_wrong)
        taken.append(sequence.candidate_n + sequence.baseline_n)
    plan = plan_parted(candidate=candidate, incumbent=incumbent, share=share, margin=margin)
    assert plan.median == plan.labels
    assert plan.median == pytest.approx(np.median(taken), rel=0.6)


def test_parted_keys_take_longer_the_smaller_the_share_and_the_margin() -> None:
    def median(**changed: float) -> float:
        rates = {"candidate": 0.04, "incumbent": 0.05, "share": 0.5, "margin": 0.02} | changed
        return plan_parted(**rates).median or np.inf

    assert median() < median(share=0.05) < np.inf
    assert median() < median(margin=0.01) < np.inf
    assert median() < median(alpha=0.001) < np.inf
    assert median(candidate=0.07) == median(candidate=0.2) == np.inf
    for wrong in ({"share": 0.0}, {"alpha": 1.0}, {"candidate": 1.2}):
        with pytest.raises(InvalidInput):
            median(**wrong)
