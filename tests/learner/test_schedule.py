from __future__ import annotations

import math
from typing import Any

import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.learn.schedule import FlatSchedule, OneCycle, anneal_cosine, spread_rates


def test_half_a_cosine() -> None:
    assert [anneal_cosine(1, 3, done) for done in (0, 0.5, 1)] == pytest.approx([1, 2, 3])
    assert anneal_cosine(0, 1, 0.25) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)


def test_one_cycle_is_fastais() -> None:
    # fastai 2.8: combined_cos(0.25, 1e-3/25, 1e-3, 1e-8) and combined_cos(0.25, 0.95, 0.85, 0.95)
    cycle = OneCycle(lrs=(1e-3,))
    wanted = {0.0: (4e-5, 0.95), 0.125: (5.2e-4, 0.9), 0.25: (1e-3, 0.85), 0.625: (5.00005e-4, 0.9), 1.0: (1e-8, 0.95)}
    for done, (lr, mom) in wanted.items():
        rates, momentum = cycle.at(done)
        assert rates is not None
        assert rates[0] == pytest.approx(lr)
        assert momentum == pytest.approx(mom)


def test_the_ends_of_pct_start() -> None:
    assert OneCycle(lrs=(1.0,), pct_start=0).at(0)[0] == pytest.approx((1.0,))
    assert OneCycle(lrs=(1.0,), pct_start=1, div=4).at(0)[0] == pytest.approx((0.25,))
    assert OneCycle(lrs=(1.0,), pct_start=1, div_final=10).at(1)[0] == pytest.approx((0.1,))


def test_a_flat_schedule_speaks_once() -> None:
    flat = FlatSchedule(lrs=(1.0, 2.0))
    assert flat.at(0.0) == ((1.0, 2.0), None)
    assert flat.at(0.5) == (None, None)


@pytest.mark.parametrize(
    ("lr", "want"),
    [
        (0.1, (0.1, 0.1, 0.1)),
        (slice(0.1), (0.01, 0.01, 0.1)),
        (slice(0.001, 0.1), (0.001, 0.01, 0.1)),
        ([1, 2, 3], (1.0, 2.0, 3.0)),
    ],
)
def test_rates_of_groups(lr: Any, want: tuple[float, ...]) -> None:
    assert spread_rates(lr, 3) == pytest.approx(want)


def test_one_group() -> None:
    assert spread_rates(slice(0.001, 0.1), 1) == (0.1,)


@pytest.mark.parametrize(
    "lr", [0, -1, math.inf, math.nan, "fast", True, [1, 2], slice(None), slice(0, 1), slice(1, 2, 3)]
)
def test_what_is_no_rate(lr: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"lr_max: got .*want a number, slice\(low, high\)"):
        spread_rates(lr, 3, name="lr_max")


@pytest.mark.parametrize("options", [{"div": 0.5}, {"div_final": 0}, {"pct_start": 1.5}, {"moms": (0.9, 1.0, 0.9)}])
def test_a_cycle_that_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=next(iter(options))):
        OneCycle(lrs=(1.0,), **options)
