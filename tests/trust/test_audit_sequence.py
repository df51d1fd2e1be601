from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.errors import InvalidInput
from drivetrain.trust.audit_sequence import AuditSequence
from drivetrain.trust.sequential import rate_interval

CHANCES = (1.0, 0.4, 0.1)


def audit(rng: np.random.Generator, n: int, *, rate: float, chances: tuple[float, ...] = CHANCES) -> AuditSequence:
    """Decisions of which a share is looked at; those likelier to be wrong are looked at more often."""
    sequence = AuditSequence(floor=min(chances))
    for number in range(n):
        kind = number % len(chances)
        is_wrong = bool(rng.random() < rate * (1.6 if kind == 0 else 0.7))
        is_audited = rng.random() < chances[kind]
        sequence.add(chances[kind], is_wrong=is_wrong if is_audited else None)
    return sequence


def test_the_estimate_is_without_bias_though_the_audits_are_not() -> None:
    rng = np.random.default_rng(0)
    estimates = np.array([audit(rng, 300, rate=0.1).estimate for _ in range(200)], dtype=float)
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(0.1, abs=3 * error)


def test_the_intervals_hold() -> None:
    rng, repeats, misses = np.random.default_rng(1), 200, 0
    for _ in range(repeats):
        low, high = audit(rng, 400, rate=0.1).interval()
        misses += not low <= 0.1 <= high
    assert misses <= 0.05 * repeats


def test_more_audits_tell_more_and_all_of_them_most() -> None:
    widths = []
    for chances in ((0.1,), (0.4,), (1.0,)):
        low, high = audit(np.random.default_rng(2), 3_000, rate=0.1, chances=chances).interval()
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    low, high = rate_interval(480, 3_000)  # the sharpest there is, of as many looks and the same rate
    assert widths[2] < 1.5 * (high - low)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1_000), st.sampled_from([0.05, 0.2, 1.0]))
def test_no_event_can_lose_all_and_the_next_is_fair(seed: int, floor: float) -> None:
    """Each wealth stays finite; under the rate that is bet against, its mean after one more event is what it was."""
    rng = np.random.default_rng(seed)
    sequence = AuditSequence(floor=floor)
    for _ in range(30):
        chance = float(rng.uniform(floor, 1))
        sequence.add(chance, is_wrong=bool(rng.random() < 0.3) if rng.random() < chance else None)
        for rate in (0.001, 0.05, 0.5, 0.999):
            assert np.isfinite(sequence.log_e_above(rate))
            assert np.isfinite(sequence.log_e_below(rate))
    rate, chance = 0.3, max(floor, 0.6)

    def after(*, is_wrong: bool | None) -> tuple[float, float]:
        import copy

        other = copy.deepcopy(sequence)
        other.add(chance, is_wrong=is_wrong)
        return np.exp(other.log_e_above(rate)), np.exp(other.log_e_below(rate))

    outcomes: list[tuple[float, bool | None]] = [(chance * rate, True), (chance * (1 - rate), False)]
    outcomes += [(1 - chance, None)] if chance < 1 else []
    mean = sum(share * np.array(after(is_wrong=found)) for share, found in outcomes)
    assert mean == pytest.approx([np.exp(sequence.log_e_above(rate)), np.exp(sequence.log_e_below(rate))], rel=1e-9)


def test_evidence_grows_where_it_is_true() -> None:
    sequence = audit(np.random.default_rng(3), 3_000, rate=0.02)
    assert sequence.log_e_below(0.1) > np.log(20)
    assert sequence.log_e_above(0.1) < 0
    worse = audit(np.random.default_rng(3), 3_000, rate=0.3)
    assert worse.log_e_above(0.1) > np.log(20)
    assert worse.log_e_below(0.1) < 0


def test_nothing_is_known_of_nothing() -> None:
    sequence = AuditSequence()
    assert sequence.estimate is None
    assert sequence.interval() == (0.0, 1.0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInput, match="floor"):
        AuditSequence(floor=0)
    sequence = AuditSequence(floor=0.1)
    with pytest.raises(InvalidInput, match="probability"):
        sequence.add(0.05, is_wrong=False)
    with pytest.raises(InvalidInput, match="is_wrong"):
        sequence.add(1.0, is_wrong=None)
    with pytest.raises(InvalidInput, match="rate"):
        sequence.log_e_above(1.0)
    with pytest.raises(InvalidInput, match="alpha"):
        sequence.low(alpha=0)
    assert sequence.n == 0
