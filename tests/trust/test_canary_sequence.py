from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from drivetrain.errors import InvalidInput
from drivetrain.trust.canary_sequence import CanarySequence, Shows, log_e_shares, nearest_rates

CROSSED = np.log(20)


def run(
    rng: np.random.Generator, shares: np.ndarray, *, candidate: np.ndarray | float, baseline: np.ndarray | float
) -> int | None:
    """The place at which harm is seen, or None."""
    is_candidate = rng.random(len(shares)) < shares
    wrong = rng.random(len(shares)) < np.where(is_candidate, candidate, baseline)
    sequence = CanarySequence()
    for place, (share, arm, is_wrong) in enumerate(zip(shares, is_candidate, wrong, strict=True)):
        sequence.add(share=float(share), is_candidate=bool(arm), is_wrong=bool(is_wrong))
        if sequence.log_e >= CROSSED:
            return place
    return None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.floats(0.001, 0.999), st.floats(0, 1))
def test_the_next_outcome_is_fair_where_the_candidate_is_no_worse(
    seed: int, share: float, baseline: float, better: float
) -> None:
    rng = np.random.default_rng(seed)
    past = CanarySequence()
    for _ in range(int(rng.integers(0, 60))):
        past.add(share=0.3, is_candidate=bool(rng.random() < 0.3), is_wrong=bool(rng.random() < 0.3))
    candidate = baseline * better
    mean = 0.0
    for arm, chance, rate in ((True, share, candidate), (False, 1 - share, baseline)):
        for is_wrong, likely in ((True, rate), (False, 1 - rate)):
            now = CanarySequence(
                past.log_e, past.candidate_wrong, past.candidate_n, past.baseline_wrong, past.baseline_n
            )
            now.add(share=share, is_candidate=arm, is_wrong=is_wrong)
            mean += chance * likely * np.exp(now.log_e - past.log_e)
    assert mean <= 1 + 1e-9
    if better == 1:
        assert mean == pytest.approx(1)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(0.01, 0.99), st.floats(0.0, 1), st.floats(0.0, 1), st.sampled_from([0, 0.02, 0.3])
)
@pytest.mark.parametrize("shows", ["worse", "not worse"])
def test_the_next_outcome_is_fair_at_the_margin_and_no_better_beyond(
    shows: Shows, seed: int, share: float, place: float, beyond: float, margin: float
) -> None:
    rng = np.random.default_rng(seed)
    past = CanarySequence(margin=margin, shows=shows)
    for _ in range(int(rng.integers(0, 60))):
        past.add(share=0.3, is_candidate=bool(rng.random() < 0.3), is_wrong=bool(rng.random() < 0.3))
    baseline = place * (1 - margin)
    room = baseline + margin if shows == "worse" else 1 - margin - baseline  # how far the null goes beyond its edge
    candidate = baseline + margin + (-1 if shows == "worse" else 1) * beyond * room
    mean = 0.0
    for arm, chance, rate in ((True, share, candidate), (False, 1 - share, baseline)):
        for is_wrong, likely in ((True, rate), (False, 1 - rate)):
            now = replace(past)
            now.add(share=share, is_candidate=arm, is_wrong=is_wrong)
            mean += chance * likely * np.exp(now.log_e - past.log_e)
    assert mean <= 1 + 1e-6
    if beyond == 0:
        assert mean == pytest.approx(1, abs=1e-6)


def test_the_nearest_rates_are_nearer_than_their_neighbours() -> None:
    def distance(p: float, q: float) -> float:
        def one(a: float, b: float) -> float:
            return float(a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)))

        return 0.8 * one(0.1, p) + 0.2 * one(0.12, q)

    p, q = nearest_rates(0.1, 0.12, share=0.2, margin=0.05)
    assert q - p == pytest.approx(0.05)
    assert all(distance(p, q) < distance(p + step, q + step) for step in (-0.001, 0.001))


def test_a_margin_takes_longer_to_break() -> None:
    rng = np.random.default_rng(4)
    events = [(bool(rng.random() < 0.5), float(rng.random())) for _ in range(2_000)]
    found = {}
    for margin in (0.0, 0.05):
        sequence = CanarySequence(margin=margin)
        for is_candidate, place in events:
            sequence.add(share=0.5, is_candidate=is_candidate, is_wrong=place < (0.22 if is_candidate else 0.1))
        found[margin] = sequence.log_e
    assert found[0.0] > found[0.05] > CROSSED
    with pytest.raises(InvalidInput, match="margin"):
        CanarySequence(margin=1.0)


def test_no_more_than_alpha_while_shares_and_rates_change() -> None:
    """500 roll-outs with equal rates, looked at after every key."""
    rng, repeats, n = np.random.default_rng(0), 500, 1_500
    shares = np.repeat([0.05, 0.25, 0.5], n // 3)
    rates = 0.1 + 0.08 * np.sin(np.arange(n) / 90)  # night and day
    crossed = sum(run(rng, shares, candidate=rates, baseline=rates) is not None for _ in range(repeats))
    assert crossed <= 0.05 * repeats + 3 * np.sqrt(0.05 * 0.95 * repeats)


def test_harm_is_found() -> None:
    rng = np.random.default_rng(1)
    found = [run(rng, np.full(12_000, 0.05), candidate=0.2, baseline=0.1) for _ in range(40)]
    taken = [12_000 if place is None else place for place in found]
    assert np.median(taken) < 1.3 * 1_849  # the literature's median, for a share of 5 %
    half = [run(rng, np.full(12_000, 0.5), candidate=0.2, baseline=0.1) for _ in range(40)]
    assert np.median([12_000 if place is None else place for place in half]) < np.median(taken) / 2


def test_a_key_that_had_no_choice_is_refused() -> None:
    sequence = CanarySequence()
    for share in (0.0, 1.0):
        with pytest.raises(InvalidInput, match="share"):
            sequence.add(share=share, is_candidate=True, is_wrong=True)
    assert (sequence.log_e, sequence.candidate_n) == (0.0, 0)


def test_shares_that_are_kept_raise_no_evidence_and_others_do() -> None:
    rng = np.random.default_rng(2)
    kept = [log_e_shares(rng.multinomial(20_000, [0.95, 0.05]), [0.95, 0.05]) for _ in range(200)]
    assert np.mean(np.array(kept) >= np.log(1_000)) <= 0.005
    assert log_e_shares([18_600, 1_400], [0.95, 0.05]) > np.log(1_000)
    assert log_e_shares([0, 0], [0.5, 0.5]) == pytest.approx(0)


def test_evidence_of_shares_is_a_dirichlet_mixture() -> None:
    counts, shares = np.array([7, 2, 1]), np.array([0.5, 0.3, 0.2])
    prior = 30 * shares
    want = gammaln(prior.sum()) - gammaln(prior.sum() + 10) + (gammaln(prior + counts) - gammaln(prior)).sum()
    assert log_e_shares(counts, shares, weight=10) == pytest.approx(want - (counts * np.log(shares)).sum())
    assert np.isfinite(log_e_shares([900_000, 100_000], [0.9, 0.1]))


@pytest.mark.parametrize(
    ("counts", "shares"), [([1, 2], [0.5, 0.6]), ([1, 2, 3], [0.5, 0.5]), ([1, -2], [0.5, 0.5]), ([1, 2], [0.0, 1.0])]
)
def test_shares_that_make_no_sense_are_refused(counts: list[int], shares: list[float]) -> None:
    with pytest.raises(InvalidInput):
        log_e_shares(counts, shares)
