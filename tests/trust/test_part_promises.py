"""Promises of parts (classes, labels, intervals, short lists) beside what became of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.conformal import half_width
from drivetrain.trust.evaluation import measure_deferral
from drivetrain.trust.promise_check import Part, PartPromises, allow_for_calibration, check_parts


def part(of: str, n_wrong: int, n: int, groups: np.ndarray | None = None, n_calibration: int | None = None) -> Part:
    return Part(of, measure_deferral(np.ones(n, dtype=np.bool_), np.arange(n) < n_wrong, groups), n_calibration)


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
        "these: a: 15.0 % wrong (95 % interval 10.7 to 20.6; 30 of 200). Nothing here speaks against 1. Too few to "
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
    why = "all 60 pictures trained it"
    told = check_parts("labels", [part("a", 60, 200), part("b", 0, 200)], max_error=0.05, tainted=why)
    assert verdicts(told) == ["broken", "untested"]
    assert told.sentence.endswith(f"60 of 200). Nothing here speaks for the others: {why}.")
    all_broken = check_parts("labels", [part("a", 60, 200), part("b", 60, 200)], max_error=0.05, tainted=why)
    assert why not in all_broken.sentence
    none = check_parts("labels", [part("a", 0, 200), part("b", 0, 200)], max_error=0.05, tainted=why)
    assert none.sentence.endswith(f", for 2 of them. Nothing here speaks for any: {why}.")
    alone = check_parts("intervals", [part("", 4, 100, None, 100)], max_error=0.05, tainted=why)
    assert verdicts(alone) == ["untested"]
    assert alone.sentence.endswith(f"4 of 100), which says nothing for the promise: {why}.")


@pytest.mark.parametrize(
    ("n_wrong", "n", "told"),
    [
        (1, 200, "bear: brown: 0.5 % wrong (95 % interval 0.1 to 2.8; 1 of 200): nothing here speaks against it."),
        (0, 9, "bear: brown: 0.0 % wrong (95 % interval 0.0 to 29.9; 0 of 9): too few to tell."),
        (90, 200, "bear: brown: 45.0 % wrong (95 % interval 38.3 to 51.9; 90 of 200): not kept for pictures like "
        "these."),
    ],
)  # fmt: skip
def test_one_alone_is_one_sentence_that_names_it(n_wrong: int, n: int, told: str) -> None:
    found = check_parts("classes", [part("bear: brown", n_wrong, n)], max_error=0.05)
    assert found.sentence == f"Promised: in each class by itself at most 5 % of its decisions wrong; here {told}"


def test_of_all_pictures_it_names_nothing() -> None:
    told = check_parts("intervals", [part("", 4, 100, None, 500)], max_error=0.05)
    assert told.sentence == (
        "Promised: an interval that holds the true value for 95 % of pictures; here 4.0 % missed (95 % interval 1.6 to "
        "9.8; 4 of 100): nothing here speaks against it."
    )
    for why in ("", "all 9 pictures trained it"):
        silent = check_parts("labels", [nothing("a")], max_error=0.05, tainted=why)
        assert silent.sentence.endswith("by itself at most 5 % wrong; here a: nothing to tell it by.")


def test_where_all_are_alike_it_counts_none() -> None:
    kept = check_parts("classes", [part("a", 0, 100), part("b", 0, 100)], max_error=0.05)
    assert kept.sentence.endswith(", for 2 of them. Nothing here speaks against any.")
    few = check_parts("classes", [part("a", 0, 10), part("b", 0, 10)], max_error=0.05)
    assert few.sentence.endswith(", for 2 of them. Too few to tell of any.")
    broken = check_parts("classes", [part("a", 50, 100), part("b", 50, 100)], max_error=0.05)
    assert broken.sentence.endswith("50 of 100).")


def test_what_the_calibration_may_explain_is_not_called_too_few() -> None:
    told = check_parts("intervals", [part("", 800, 10_000, None, 30)], max_error=0.05)
    assert verdicts(told) == ["untested"]
    assert told.sentence.endswith(
        "800 of 10,000): more than promised, and no more than chance may explain in the 30 pictures that shaped it."
    )
    two = check_parts("intervals", [part("a", 800, 10_000, None, 30), part("b", 0, 200, None, 30)], max_error=0.05)
    assert "that shaped them: a: 8.0 % missed" in two.sentence
    assert two.sentence.endswith("Nothing here speaks against 1.")


def test_many_broken_ones_are_not_all_named() -> None:
    told = check_parts("labels", [part(f"l{at}", 90, 100) for at in range(8)], max_error=0.05)
    assert "l4: 90.0 % wrong" in told.sentence
    assert "l5" not in told.sentence
    assert "; and 3 more." in told.sentence


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
        told = measure_deferral(np.ones(1_000, dtype=np.bool_), missed)
        broken += check_parts("intervals", [Part("x", told, n_calibration)], max_error=0.05).is_broken
        plain += check_parts("intervals", [Part("x", told)], max_error=0.05).is_broken
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
