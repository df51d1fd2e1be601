"""Where the candidate may decide: places, hours, days, classes, keys, written as people say it.

    site=north|south,hours=06-18,days=mon-fri,zone=Europe/Paris,class=bear|wolf,key=cam-*

A comma is "and", a bar is "or". `hours`, `days` and `zone` are of the request's time; `class` is what the candidate
answers; `key` is the request's key, * in it is anything. Every other name is an attribute that the request carries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from drivetrain.errors import InvalidConfig

__all__ = ["Facts", "Scope", "parse_scope"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_HOURS = re.compile(r"([01]?\d|2[0-4])-([01]?\d|2[0-4])")
_EXAMPLE = "such as site=north|south,hours=06-18,class=bear"
_MOST_CHARS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a request before anyone answers it."""

    key: str
    at: datetime  # with its time zone
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """All that was said must hold; what was not said does not matter."""

    text: str  # as it was written
    attributes: Mapping[str, tuple[str, ...]]
    keys: tuple[str, ...] = ()  # patterns
    classes: tuple[str, ...] = ()
    hours: tuple[tuple[int, int], ...] = ()  # from, to; 22-6 goes past midnight
    days: frozenset[int] = frozenset()  # 0 is Monday; of 22-6 the hours past midnight belong to the day before
    zone: tzinfo | None = None  # None: the zone that the request's time is given in

    def holds(self, facts: Facts) -> bool:
        """Whether the candidate may be asked at all."""
        for name, allowed in self.attributes.items():
            if facts.attributes.get(name) not in allowed:
                return False
        if self.keys and not any(_fits(facts.key, pattern) for pattern in self.keys):
            return False
        return self._is_time(facts.at if self.zone is None else facts.at.astimezone(self.zone))

    def allows(self, label: str) -> bool:
        """Whether the candidate may decide what it takes for `label`."""
        return not self.classes or label in self.classes

    def _is_time(self, at: datetime) -> bool:
        if not self.hours:
            return not self.days or at.weekday() in self.days
        for begin, end in self.hours:
            if begin < end and begin <= at.hour < end and self._is_day(at):
                return True
            if begin >= end and at.hour >= begin and self._is_day(at):
                return True
            if begin >= end and at.hour < end and self._is_day(at - timedelta(days=1)):
                return True
        return False

    def _is_day(self, at: datetime) -> bool:
        return not self.days or at.weekday() in self.days


def parse_scope(text: str, *, classes: tuple[str, ...] | None = None) -> Scope:
    """Read a scope; "" is everywhere. `classes` are those of the model, where they are known.

    Raises InvalidConfig, telling what of it is wrong.
    """
    if len(text) > _MOST_CHARS:
        raise InvalidConfig("scope", got=f"{len(text)} characters", want=f"at most {_MOST_CHARS}")
    parts: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, values = part.partition("=")
        name = name.strip()
        options = tuple(dict.fromkeys(value.strip() for value in values.split("|")))
        if not equals or not _NAME.fullmatch(name) or not all(options):
            raise InvalidConfig("scope", got=part, want=f"NAME=VALUE or NAME=VALUE|VALUE, {_EXAMPLE}")
        if name in parts:
            raise InvalidConfig("scope", got=f"{name} twice", want=f"once, with bars: {name}=A|B")
        parts[name] = options
    wanted = parts.pop("class", ())
    if classes is not None and (unknown := [label for label in wanted if label not in classes]):
        raise InvalidConfig("scope", got=f"class={unknown[0]}", want=f"a class of the model: {', '.join(classes)}")
    return Scope(
        text=text,
        keys=parts.pop("key", ()),
        classes=wanted,
        hours=tuple(_read_hours(value) for value in parts.pop("hours", ())),
        days=frozenset(day for value in parts.pop("days", ()) for day in _read_days(value)),
        zone=_read_zone(parts.pop("zone", ())),
        attributes=parts,
    )


def _fits(key: str, pattern: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), key, re.DOTALL) is not None


def _read_hours(value: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(value)
    begin, end = (int(found[1]), int(found[2])) if found else (0, 0)
    if begin in (end, 24) or end == 0:
        raise InvalidConfig("scope", got=f"hours={value}", want="two whole hours, such as 06-18, 22-06 or 18-24")
    return begin, end


def _read_days(value: str) -> list[int]:
    ends = value.lower().split("-")
    if len(ends) > 2 or any(end not in _DAYS for end in ends):
        raise InvalidConfig("scope", got=f"days={value}", want=f"{', '.join(_DAYS)}, or two of them, such as mon-fri")
    first, last = _DAYS.index(ends[0]), _DAYS.index(ends[-1])
    return [day % 7 for day in range(first, last + 1 if last >= first else last + 8)]


def _read_zone(values: tuple[str, ...]) -> tzinfo | None:
    if not values:
        return None
    try:
        [name] = values
        return ZoneInfo(name)
    except (ValueError, ZoneInfoNotFoundError, OSError):
        want = "one time zone, such as Europe/Paris or UTC"
        raise InvalidConfig("scope", got=f"zone={'|'.join(values)}", want=want) from None
