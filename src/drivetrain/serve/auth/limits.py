"""How often one may ask: a token bucket each."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from .refusals import RateLimited

__all__ = ["RateLimit"]

_BUCKETS_MAX = 20_000  # of a flood of addresses, the ones seen longest ago are forgotten


class RateLimit:
    """`per_minute` on average, and as many at once after a rest; 0 is no limit. Of one event loop."""

    def __init__(self, per_minute: int, *, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._room = float(per_minute)
        self._what = what
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name -> tokens, at

    def take(self, name: str) -> None:
        """Take one, or raise RateLimited with the seconds until there is one."""
        left = self._left(name)
        if left < 1 and self._rate:
            raise self._refused(left)
        if self._rate:
            self._buckets[name] = (left - 1, self._clock())
            self._buckets.move_to_end(name)
            if len(self._buckets) > _BUCKETS_MAX:
                self._buckets.popitem(last=False)

    def check(self, name: str) -> None:
        """Raise as `take` would, and take none."""
        if self._rate and (left := self._left(name)) < 1:
            raise self._refused(left)

    def _left(self, name: str) -> float:
        tokens, at = self._buckets.get(name, (self._room, self._clock()))
        return min(self._room, tokens + (self._clock() - at) * self._rate)

    def _refused(self, left: float) -> RateLimited:
        wait_s = math.ceil((1 - left) / self._rate)
        return RateLimited(
            "rate",
            got=f"more {self._what} than allowed",
            want=f"at most {self._room:.0f} a minute",
            hint=f"Wait {wait_s} s.",
            retry_after_s=wait_s,
        )
