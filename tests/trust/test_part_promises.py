"""Promises of parts (classes, labels, intervals, short lists) beside what became of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.conformal import half_width
from drivetrain.trust.evaluation import measure_deferral
from drivetrain.trust.promise_check import Part, PartPromises, allow_for_calibration, check_parts


def part(of: str, n_wrong: int, n: int, groups: np.ndarray | None = None) -> Part:
    return Part(of, measure_deferral(np.ones(n, dtype=np.bool_), np.arange(n) < n_wrong, groups))


def nothing(of: str) -> Part:
    return Part(of, measure_deferral(np.zeros(9, dtype=np.bool_), np.zeros(9, dtype=np.bool_)))


def verdicts(told: PartPromises) -> list[str]:
    return [one.verdict for one in told.checks]


def test_each_is_judged_by_itself() -> None:
    told = check_parts(
        "labels", [part("a", 30, 200), part("b", 5, 200), part("c", 0, 20), nothing("d")], max_error=0.05
    )
    assert verdicts(told) == ["broken", "consistent", "untested", "untested"]
    assert told.is_broken
    assert told.sentence == (
        "Promised: of each label and answer by itself at most 5 % wrong, for 4 of them. Not kept for pictures like "
        "these: a: 15.0 % wrong (95 % interval 10.7 to 20.6; 30 of 200). Nothing here speaks against 1; too few to "
        "tell of 2."
    )
    assert told.checks[3].sentence == "d: nothing to tell it by"
    plain = told.as_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert [one["of"] for one in plain["checks"]] == ["a", "b", "c", "d"]


def test_of_many_promises_some_look_broken_by_luck() -> None:
    """The chance is shared out: what breaks one promise need not break one of forty."""
    one = check_parts("classes", [part("a", 11, 100)], max_error=0.05)
    many = check_parts("classes", [part(f"{at}", 11 if at == 3 else 0, 100) for at in range(40)], max_error=0.05)
    assert verdicts(one) == ["broken"]
    assert "broken" not in verdicts(many)


def test_tainted_pictures_speak_against_them_only() -> None:
    why = "7 of 60 pictures trained it"
    told = check_parts("labels", [part("a", 60, 200), part("b", 0, 200)], max_error=0.05, tainted=why)
    assert verdicts(told) == ["broken", "untested"]
    assert told.sentence.endswith(f"The others say nothing for the promise: {why}.")
    alone = check_parts("intervals", [part("area", 4, 100)], max_error=0.05, n_calibration=100, tainted=why)
    assert verdicts(alone) == ["untested"]
    assert alone.sentence.endswith(f"4 of 100), which says nothing for the promise: {why}.")


def test_one_alone_is_one_sentence() -> None:
    told = check_parts("intervals", [part("area", 4, 100)], max_error=0.05, n_calibration=500)
    assert told.sentence == (
        "Promised: an interval that holds the true value for 95 % of pictures; here 4.0 % missed (95 % interval 1.6 to "
        "9.8; 4 of 100): nothing here speaks against it."
    )
    few = check_parts("short lists", [part("the short list", 0, 20)], max_error=0.05, n_calibration=500)
    assert few.sentence.endswith("; here 0.0 % missed (95 % interval 0.0 to 16.1; 0 of 20): too few to tell.")


def test_many_broken_ones_are_not_all_named() -> None:
    told = check_parts("labels", [part(f"l{at}", 90, 100) for at in range(8)], max_error=0.05)
    assert "l4: 90.0 % wrong" in told.sentence
    assert "l5" not in told.sentence
    assert " and 3 more." in told.sentence


def test_bursts_count_for_less() -> None:
    groups = np.repeat(np.arange(20), 10)
    assert verdicts(check_parts("classes", [part("a", 20, 200)], max_error=0.05)) == ["broken"]
    told = check_parts("classes", [part("a", 20, 200, groups)], max_error=0.05)
    assert verdicts(told) == ["untested"]
    assert "20 of 200, which count as " in told.sentence


@pytest.mark.parametrize("n_calibration", [19, 60, 300])
def test_kept_intervals_are_rarely_called_broken(n_calibration: int) -> None:
    """Over calibrations and test pictures together; a plain binomial test would call far more of them broken."""
    rng, repeats, broken, plain = np.random.default_rng(0), 2_000, 0, 0
    for _ in range(repeats):
        width = half_width(rng.normal(size=n_calibration))
        assert width is not None
        missed = np.abs(rng.normal(size=1_000)) > width
        parts = [Part("x", measure_deferral(np.ones(1_000, dtype=np.bool_), missed))]
        broken += check_parts("intervals", parts, max_error=0.05, n_calibration=n_calibration).is_broken
        plain += check_parts("intervals", parts, max_error=0.05).is_broken
    assert broken / repeats <= 0.025 + 3 * (0.025 * 0.975 / repeats) ** 0.5
    assert plain > 3 * max(1, broken)


def test_what_a_calibration_may_miss() -> None:
    rng = np.random.default_rng(0)
    widths = np.sort(rng.random((20_000, 99)), axis=1)[:, 94]  # the 95th smallest of 99: how much it holds
    allowed = allow_for_calibration(0.05, 99, chance=0.0125)
    assert (1 - widths > allowed).mean() == pytest.approx(0.0125, abs=0.003)
    assert allow_for_calibration(0.05, 10, chance=0.01) == 0.0  # an endless interval never misses


def test_no_parts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="parts: got none"):
        check_parts("labels", [], max_error=0.05)
