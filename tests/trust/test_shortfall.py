from __future__ import annotations

import numpy as np
import pytest

from drivetrain.arrays import BoolArray, FloatArray
from drivetrain.trust.deferral import certify_threshold, labels_needed
from drivetrain.trust.shortfall import labels_more, limit_deferral, round_up

Arrays = tuple[FloatArray, BoolArray, BoolArray]


def ranked(n: int, *, wrong_from: int | None = None, every: int = 3) -> Arrays:
    """n different scores; from a place on each `every`-th is wrong."""
    place = np.arange(n)
    wrong = np.zeros(n, bool) if wrong_from is None else (place >= wrong_from) & (place % every == 0)
    return np.linspace(1.0, 0.5, n), wrong, np.ones(n, bool)


@pytest.mark.parametrize(("n", "max_error", "more"), [(100, 0.02, 49), (149, 0.02, 0), (20, 0.01, 279), (58, 0.05, 1)])
def test_without_an_error_it_takes_what_the_promise_takes(n: int, max_error: float, more: int) -> None:
    assert labels_more(*ranked(n), max_error=max_error) == more


def test_half_of_the_pictures_sure_takes_twice_as_many() -> None:
    given = ranked(100, wrong_from=50, every=1)
    more = labels_more(*given, max_error=0.05)
    assert more == pytest.approx(2 * labels_needed(0.05) - 100, abs=2)


def test_errors_everywhere_are_mended_by_no_number() -> None:
    assert labels_more(*ranked(300, wrong_from=0, every=5), max_error=0.05, accept=0.9) is None
    assert labels_more(*ranked(300, wrong_from=0, every=2), max_error=0.05) is None


def test_what_is_foretold_comes_true() -> None:
    """As many pictures as told, of the same kind, carry the promise about every other time; a third hardly ever."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> Arrays:
        scores = rng.uniform(size=n)
        return scores, rng.uniform(size=n) < np.where(scores > 0.4, 0.004, 0.3), np.ones(n, bool)

    told = [labels_more(*draw(60), max_error=0.03) for _ in range(60)]
    in_all = 60 + round(float(np.median([one for one in told if one is not None])))
    kept = [
        np.mean([certify_threshold(*draw(n), max_error=0.03).is_certified for _ in range(200)])
        for n in (in_all, in_all // 3)
    ]
    assert 140 < in_all < 260
    assert kept[0] > 0.35
    assert kept[1] < 0.1


def test_a_limit_that_is_kept() -> None:
    given = ranked(400, wrong_from=390, every=2)
    limit = limit_deferral(certify_threshold(*given, max_error=0.05), *given, most=0.1)
    assert (limit.is_kept, limit.n_more, limit.deferred) == (True, 0, 0.0)
    assert limit.state() == "It leaves 0 % to a person, within the 10 % allowed."


def test_a_limit_that_more_labels_would_keep() -> None:
    given = ranked(100, wrong_from=60, every=10)
    promise = certify_threshold(*given, max_error=0.05)
    limit = limit_deferral(promise, *given, most=0.05)
    assert not limit.is_kept
    assert limit.n_more is not None
    assert limit.n_more > 0
    assert limit.error_at_most == pytest.approx(4 / 95)
    in_all = round_up(2 * (100 + limit.n_more))
    assert limit.state(labels_each=2) == (
        f"With this promise it leaves {100 * limit.deferred:.0f} % to a person, more than the 5 % allowed: to keep to "
        f"that takes about {in_all:,} labelled pictures like these in all."
    )


def test_a_limit_that_no_labels_will_keep() -> None:
    given = ranked(400, wrong_from=200, every=2)
    limit = limit_deferral(certify_threshold(*given, max_error=0.05), *given, most=0.2)
    assert (limit.is_kept, limit.n_more) == (False, None)
    assert limit.error_at_most == pytest.approx(60 / 320)
    assert limit.state().endswith(
        "and more labels will not help: of its surest 80 % about 18.8 % are wrong. A better model would, or a promise "
        "of more errors."
    )


def test_a_limit_below_what_is_flagged() -> None:
    scores, wrong, _ = ranked(400)
    given = scores, wrong, np.arange(400) >= 200
    limit = limit_deferral(certify_threshold(*given, max_error=0.05), *given, most=0.2)
    assert (limit.is_kept, limit.n_more, limit.error_at_most) == (False, None, None)
    assert "that many look unlike what it knows" in limit.state()


@pytest.mark.parametrize(("n", "told"), [(7, 7), (99, 99), (100, 100), (101, 110), (1_234, 1_300), (98_765, 99_000)])
def test_estimates_do_not_look_like_counts(n: int, told: int) -> None:
    assert round_up(n) == told
