from __future__ import annotations

import numpy as np
import pytest

from drivetrain.trust.evaluation import DeferralEvaluation, measure_deferral
from drivetrain.trust.promise_check import PromiseCheck, check_promise, read_promise


def deferral(n_wrong: int, n: int, *, deferred: int = 3) -> DeferralEvaluation:
    accepted = np.arange(n + deferred) < n
    return measure_deferral(accepted, np.arange(n + deferred) < n_wrong)


def check(n_wrong: int, n: int, **given: str) -> PromiseCheck:
    return check_promise(deferral(n_wrong, n), max_error=0.05, **given)


def test_a_broken_promise_is_said() -> None:
    told = check(24, 292)
    assert told.verdict == "broken"
    assert told.sentence == (
        "Promised: at most 5 % of its decisions wrong; here 8.2 % (95 % interval 5.6 to 11.9; 24 of 292): the promise "
        "does not hold for pictures like these. `drivetrain certify` renews it on labelled ones."
    )
    assert (told.n_decided, told.n_wrong, told.error) == (292, 24, 24 / 292)
    assert told.as_json()["verdict"] == "broken"


@pytest.mark.parametrize(("n_wrong", "n"), [(0, 59), (1, 327), (5, 100), (8, 100)])
def test_below_or_around_the_bound_nothing_speaks_against_it(n_wrong: int, n: int) -> None:
    told = check(n_wrong, n)
    assert told.verdict == "consistent"
    assert told.sentence.endswith(": nothing here speaks against it, which is no proof.")


@pytest.mark.parametrize(("n_wrong", "n"), [(0, 1), (1, 1), (1, 2), (0, 58), (2, 10)])
def test_few_decisions_tell_nothing(n_wrong: int, n: int) -> None:
    told = check(n_wrong, n)
    assert told.verdict == "untested"
    assert told.sentence.endswith(": too few decisions to tell (it takes 59 without an error to speak for it).")


def test_no_decision_tells_nothing() -> None:
    told = check(0, 0)
    assert (told.verdict, told.error) == ("untested", None)
    assert told.sentence == "Promised: at most 5 % of its decisions wrong; here it decides nothing by itself."


def test_few_decisions_may_still_break_it() -> None:
    assert check(3, 10).verdict == "broken"  # 1.2 % of draws


def test_tainted_pictures_speak_against_it_and_never_for_it() -> None:
    told = check(1, 327, tainted="all 341 pictures trained it")
    assert told.verdict == "untested"
    assert told.sentence.endswith(", which says nothing for the promise: all 341 pictures trained it.")
    assert check(60, 327, tainted="all 341 pictures trained it").verdict == "broken"


def test_a_kept_promise_is_called_broken_in_few_draws() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 10, 59, 100, 292):
        drawn, counts = np.unique(rng.binomial(n, 0.05, size=20_000), return_counts=True)
        share = sum(
            count for wrong, count in zip(drawn.tolist(), counts, strict=True) if check(wrong, n).verdict == "broken"
        )
        assert share / 20_000 <= 0.028  # 2.5 %, and three standard errors


@pytest.mark.parametrize(
    "promise",
    [
        None,
        "5 %",
        {"max_error": 0.05, "confidence": 0.95},
        {"max_error": 0.05, "confidence": 0.95, "is_certified": False},
        {"max_error": "0.05", "confidence": 0.95, "is_certified": True},
        {"max_error": 0.0, "confidence": 0.95, "is_certified": True},
        {"max_error": float("nan"), "confidence": 0.95, "is_certified": True},
        {"max_error": 0.05, "is_certified": True},
    ],
)
def test_what_is_no_promise_is_none(promise: object) -> None:
    assert read_promise({"promise": promise}) is None


def test_a_promise_is_read() -> None:
    assert read_promise({"promise": {"max_error": 0.02, "confidence": 0.95, "is_certified": True}}) == (0.02, 0.95)
