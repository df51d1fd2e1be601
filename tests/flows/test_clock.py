from __future__ import annotations

import itertools

import pytest

from drivetrain.flows.clock import LapClock


def test_laps_add_up_under_their_names_in_order() -> None:
    ticks = itertools.chain([0.0, 1.0, 4.0, 4.0, 6.0, 10.0, 11.5, 20.0])
    clock = LapClock(now=lambda: next(ticks))
    for name in ("read", "fit", "read"):
        with clock.lap(name):
            pass
    assert clock.laps == [("read", 4.5), ("fit", 2.0)]
    assert clock.total == 20.0


def test_a_lap_that_fails_is_timed_too() -> None:
    ticks = iter([0.0, 1.0, 3.0])
    clock = LapClock(now=lambda: next(ticks))
    with pytest.raises(KeyError), clock.lap("read"):
        raise KeyError
    assert clock.laps == [("read", 2.0)]


def test_the_real_clock_runs_forward() -> None:
    clock = LapClock()
    with clock.lap("read"):
        pass
    assert 0 <= dict(clock.laps)["read"] <= clock.total
