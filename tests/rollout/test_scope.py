from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.rollout.scope import Facts, parse_scope

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def facts(*, key: str = "cam-1", hour: int = 12, day: int = 0, **attributes: str) -> Facts:
    return Facts(key=key, at=MONDAY + timedelta(days=day, hours=hour), attributes=attributes)


def test_nothing_said_is_everywhere() -> None:
    scope = parse_scope("")
    assert scope.holds(facts())
    assert scope.allows("bear")


def test_all_that_is_said_must_hold() -> None:
    scope = parse_scope("site=north|south, hours=06-18 ,key=cam-*,class=bear|wolf", classes=("bear", "wolf", "fox"))
    assert scope.holds(facts(site="north"))
    assert scope.holds(facts(site="south"))
    assert not scope.holds(facts(site="east"))
    assert not scope.holds(facts())  # a request that does not say where it is from
    assert not scope.holds(facts(site="north", hour=5))
    assert not scope.holds(facts(site="north", hour=18))
    assert not scope.holds(facts(site="north", key="phone-1"))
    assert (scope.allows("bear"), scope.allows("fox")) == (True, False)


def test_hours_go_past_midnight_and_stay_with_their_day() -> None:
    scope = parse_scope("hours=22-06,days=mon|tue")
    seen = [(day, hour) for day in range(7) for hour in (5, 6, 21, 22) if scope.holds(facts(day=day, hour=hour))]
    assert seen == [(0, 22), (1, 5), (1, 22), (2, 5)]


def test_a_star_in_a_key_is_anything_and_nothing_else_is_special() -> None:
    scope = parse_scope("key=a*z|b[1]")
    assert [scope.holds(facts(key=key)) for key in ("az", "a.z", "aza", "b[1]", "b1")] == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_days_go_past_sunday() -> None:
    scope = parse_scope("days=fri-mon")
    assert [day for day in range(7) if scope.holds(facts(day=day))] == [0, 4, 5, 6]


def test_hours_are_those_of_the_zone() -> None:
    winter = parse_scope("hours=06-18,zone=America/New_York")  # five hours behind
    assert not winter.holds(facts(hour=10))
    assert winter.holds(facts(hour=11))
    assert winter.holds(facts(hour=22))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("north", "NAME=VALUE"),
        ("site=", "NAME=VALUE"),
        ("site=a|", "NAME=VALUE"),
        ("site=a,site=b", "site twice"),
        ("hours=6", "two whole hours"),
        ("hours=06-06", "two whole hours"),
        ("hours=24-03", "two whole hours"),
        ("hours=06-25", "two whole hours"),
        ("days=monday", "days=monday"),
        ("zone=Mars/North", "time zone"),
        ("zone=UTC|CET", "time zone"),
        ("zone=../../etc/passwd", "time zone"),
        ("class=dog", "a class of the model: bear, wolf"),
        ("site=" + "a" * 3000, "characters"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, what: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse_scope(text, classes=("bear", "wolf"))
    assert what in str(caught.value)
