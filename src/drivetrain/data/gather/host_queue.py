"""Whose turn it is: many pictures from many hosts, no host asked by too many at once or too soon again."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from .refusal import Refusal
from .wanted import Wanted

__all__ = ["HostQueue", "Job"]

_LONGEST_WAIT_S = 5.0  # then look again, whoever should have woken us
_FAILURES_IN_A_ROW = 5  # pictures of one host, each tried as often as allowed: then the host is given up


@dataclass(slots=True, eq=False)
class Job:
    """One picture on its way; `host` is where its turn is counted now, "" for a local file."""

    wanted: Wanted
    host: str
    tries: int = 0


@dataclass(slots=True)
class _Host:
    waiting: OrderedDict[str, deque[Job]] = field(default_factory=OrderedDict)  # by class; none of them empty
    active: int = 0
    free_at: float = 0.0  # no new request before
    failures: int = 0  # in a row
    shut: Refusal | None = None


class HostQueue:
    """Deals jobs to workers.

    A class that has `room` for n more pictures never has more than n jobs on their way, so that it is filled exactly.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        *,
        per_host: int,
        delay_s: float,
        room: Mapping[str, int | None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_host = per_host
        self._delay_s = delay_s
        self._room = dict(room)
        self._now = now
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._later: list[tuple[float, int, Job]] = []  # a heap: (not before, order, job)
        self._order = count()
        self._flying: Counter[str] = Counter()  # label -> jobs on their way
        self._changed = threading.Condition()
        self._is_closed = False
        for job in jobs:
            self._host(job.host).waiting.setdefault(job.wanted.label, deque()).append(job)

    def take(self) -> Job | None:
        """The next job, waited for; None when none is left and none can come back."""
        with self._changed:
            while not self._is_closed:
                job, wait_s = self._pick(self._now())
                if job is not None:
                    return job
                if wait_s is None and not self._flying.total():
                    break
                self._changed.wait(_LONGEST_WAIT_S if wait_s is None else min(wait_s, _LONGEST_WAIT_S))
            self._changed.notify_all()
            return None

    def move(self, job: Job, host: str) -> None:
        """Give the turn at the job's host back and wait for one at `host`, where it was redirected to."""
        with self._changed:
            if host == job.host:
                return
            self._host(job.host).active -= 1
            self._changed.notify_all()
            place = self._host(host)
            while not self._is_closed and (place.active >= self._limit(host) or place.free_at > self._now()):
                left_s = place.free_at - self._now()
                self._changed.wait(min(left_s, _LONGEST_WAIT_S) if left_s > 0 else _LONGEST_WAIT_S)
            self._enter(place, host)
            job.host = host

    def put_back(self, job: Job, host: str, *, wait_s: float) -> None:
        """Try the job again at `host`, in `wait_s` seconds at the earliest."""
        with self._changed:
            self._leave(job)
            job.host = host
            heapq.heappush(self._later, (self._now() + wait_s, next(self._order), job))
            self._changed.notify_all()

    def finish(self, job: Job, *, is_kept: bool) -> None:
        """The job is done; a picture that was kept takes one place of its class."""
        with self._changed:
            self._leave(job)
            room = self._room.get(job.wanted.label)
            if is_kept and room is not None:
                self._room[job.wanted.label] = room - 1
            self._changed.notify_all()

    def pause(self, host: str, seconds: float) -> None:
        """Ask nothing of `host` for so long."""
        with self._changed:
            place = self._host(host)
            place.free_at = max(place.free_at, self._now() + seconds)

    def shut(self, host: str, why: Refusal) -> None:
        """Ask nothing of `host` any more: `why` is the answer for all that wait there."""
        with self._changed:
            self._host(host).shut = why
            self._changed.notify_all()

    def report(self, host: str, *, failure: Refusal | None) -> None:
        """Whether the host answered at all; after too many failures in a row it is given up."""
        with self._changed:
            place = self._host(host)
            place.failures = 0 if failure is None else place.failures + 1
            if failure is not None and host and place.failures >= _FAILURES_IN_A_ROW and place.shut is None:
                place.shut = Refusal(
                    reason=failure.reason, detail=f"{host} was given up after {place.failures} failures: {failure}"
                )
                self._changed.notify_all()

    def why_shut(self, host: str) -> Refusal | None:
        """Why nobody asks this host any more."""
        with self._changed:
            return self._host(host).shut

    def close(self) -> None:
        """Deal no more jobs, and let those go who wait."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _pick(self, now: float) -> tuple[Job | None, float | None]:
        """A job that may begin now; else the seconds until one may, None where that depends on others."""
        while self._later and self._later[0][0] <= now:
            job = heapq.heappop(self._later)[2]
            waiting = self._host(job.host).waiting
            waiting.setdefault(job.wanted.label, deque()).appendleft(job)
            waiting.move_to_end(job.wanted.label, last=False)
        found: Job | None
        waits = [self._later[0][0] - now] if self._later else []
        for name, host in self._hosts.items():
            if not host.waiting or (host.shut is None and host.active >= self._limit(name)):
                continue
            if host.shut is None and host.free_at > now:
                waits.append(host.free_at - now)
                continue
            if (found := self._pick_of(host)) is not None:
                self._enter(host, name)
                self._flying[found.wanted.label] += 1
                self._hosts.move_to_end(name)  # the others come first next time
                return found, None
        return None, min(waits, default=None)

    def _pick_of(self, host: _Host) -> Job | None:
        """The first job of a class that still has room, class after class; those of full classes are dropped."""
        for label in list(host.waiting):
            room = self._room.get(label)
            if room is not None and room <= 0:
                del host.waiting[label]
            elif room is None or room > self._flying[label]:
                jobs = host.waiting[label]
                job = jobs.popleft()
                host.waiting.move_to_end(label)
                if not jobs:
                    del host.waiting[label]
                return job
        return None

    def _host(self, name: str) -> _Host:
        return self._hosts.setdefault(name, _Host())

    def _limit(self, name: str) -> float:
        return self._per_host if name else float("inf")

    def _enter(self, place: _Host, name: str) -> None:
        place.active += 1
        if name:
            place.free_at = max(place.free_at, self._now() + self._delay_s)

    def _leave(self, job: Job) -> None:
        self._host(job.host).active -= 1
        self._flying[job.wanted.label] -= 1
