"""Turns: no host too often, no class too many, nothing lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest

from drivetrain.data.gather.host_queue import HostQueue, Job
from drivetrain.data.gather.refusal import Refusal
from drivetrain.data.gather.wanted import Wanted

from .web import until


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def job(host: str, name: str = "", label: str = "bear") -> Job:
    return Job(wanted=Wanted(url=f"http://{host}/{name}", label=label), host=host)


def make(
    *jobs: Job, per_host: int = 2, delay_s: float = 0.0, room: Mapping[str, int | None] | None = None
) -> tuple[HostQueue, Clock]:
    clock = Clock()
    return HostQueue(jobs, per_host=per_host, delay_s=delay_s, room=room or {}, now=clock), clock


def pick(turns: HostQueue, clock: Clock) -> Job | float | None:
    """What a worker would get now: a job, the seconds to wait, or None for waiting on others."""
    job, wait_s = turns._pick(clock())
    return job if job is not None else wait_s


def test_hosts_take_turns_and_none_has_too_many() -> None:
    turns, clock = make(*(job("a", str(n)) for n in range(4)), job("b", "0"), per_host=2)
    taken = [pick(turns, clock) for _ in range(3)]
    assert [one.wanted.url for one in taken if isinstance(one, Job)] == ["http://a/0", "http://b/0", "http://a/1"]
    assert pick(turns, clock) is None
    assert isinstance(taken[0], Job)
    turns.finish(taken[0], is_kept=True)
    last = pick(turns, clock)
    assert isinstance(last, Job)
    assert last.wanted.url == "http://a/2"


def test_local_files_need_no_turn() -> None:
    turns, clock = make(*(job("") for _ in range(10)), per_host=1, delay_s=5)
    assert all(isinstance(pick(turns, clock), Job) for _ in range(10))


def test_requests_to_one_host_keep_their_distance() -> None:
    turns, clock = make(job("a", "0"), job("a", "1"), job("b", "0"), delay_s=0.5)
    assert isinstance(pick(turns, clock), Job)
    assert isinstance(pick(turns, clock), Job)  # b
    assert pick(turns, clock) == pytest.approx(0.5)
    clock.at += 0.5
    assert isinstance(pick(turns, clock), Job)


def test_a_paused_host_rests_and_the_others_do_not() -> None:
    turns, clock = make(job("a"), job("b"))
    turns.pause("a", 7)
    turns.pause("a", 3)  # never shortens
    taken = pick(turns, clock)
    assert isinstance(taken, Job)
    assert taken.host == "b"
    assert pick(turns, clock) == pytest.approx(7)


def test_a_job_that_is_put_back_comes_when_its_time_has_come() -> None:
    turns, clock = make(job("a"))
    taken = turns.take()
    assert taken is not None
    taken.host = "elsewhere"  # it was redirected there
    turns.put_back(taken, "a", wait_s=3)
    assert pick(turns, clock) == pytest.approx(3)
    clock.at += 3
    assert pick(turns, clock) is taken
    assert taken.host == "a"


def test_a_class_is_filled_exactly() -> None:
    turns, clock = make(*(job("a", str(n)) for n in range(5)), job("a", "x", "wolf"), per_host=9, room={"bear": 2})
    taken = [pick(turns, clock) for _ in range(3)]
    assert [one.wanted.label for one in taken if isinstance(one, Job)] == ["bear", "wolf", "bear"]
    assert pick(turns, clock) is None
    assert isinstance(taken[0], Job)
    assert isinstance(taken[2], Job)
    turns.finish(taken[0], is_kept=False)  # refused, so another may try
    third = pick(turns, clock)
    assert isinstance(third, Job)
    turns.finish(taken[2], is_kept=True)
    assert pick(turns, clock) is None
    turns.finish(third, is_kept=True)
    assert pick(turns, clock) is None
    assert isinstance(taken[2], Job)
    turns.finish(taken[2], is_kept=True)
    assert turns.take() is None


def test_a_host_that_was_shut_answers_at_once() -> None:
    turns, clock = make(*(job("a", str(n)) for n in range(3)), per_host=1, delay_s=9)
    why = Refusal(reason="http_429", detail="asks to be left alone")
    assert isinstance(pick(turns, clock), Job)
    turns.shut("a", why)
    assert isinstance(pick(turns, clock), Job)
    assert isinstance(pick(turns, clock), Job)
    assert turns.why_shut("a") == why
    assert turns.why_shut("b") is None


def test_a_host_that_fails_in_a_row_is_given_up() -> None:
    turns, _ = make()
    failure = Refusal(reason="silent", detail="nothing for 10 s")
    for _ in range(4):
        turns.report("a", failure=failure)
    turns.report("a", failure=None)
    for _ in range(4):
        turns.report("a", failure=failure)
    assert turns.why_shut("a") is None
    turns.report("a", failure=failure)
    assert turns.why_shut("a") == Refusal(
        reason="silent", detail="a was given up after 5 failures: silent: nothing for 10 s"
    )


def test_who_is_redirected_waits_for_a_turn_there_and_gives_its_own_back() -> None:
    turns = HostQueue([job("a"), job("b"), job("a", "2")], per_host=1, delay_s=0, room={})
    first, second = turns.take(), turns.take()
    assert first is not None
    assert second is not None
    assert (first.host, second.host) == ("a", "b")
    moving = threading.Thread(target=turns.move, args=(first, "b"))
    moving.start()
    third = turns.take()  # the turn at a is free again
    assert third is not None
    assert third.host == "a"
    assert first.host == "a"  # still waiting
    turns.finish(second, is_kept=True)
    moving.join(timeout=10)
    assert first.host == "b"
    turns.move(first, "b")  # is there already


def test_all_who_wait_go_home_when_the_last_job_is_done() -> None:
    turns = HostQueue([job("a")], per_host=1, delay_s=0, room={})
    last = turns.take()
    assert last is not None
    got: list[Job | None] = []
    threads = [threading.Thread(target=lambda: got.append(turns.take())) for _ in range(3)]
    for thread in threads:
        thread.start()
    turns.finish(last, is_kept=True)
    for thread in threads:
        thread.join(timeout=10)
    assert got == [None] * 3


def test_a_closed_queue_deals_nothing() -> None:
    turns = HostQueue([job("a"), job("a", "2")], per_host=1, delay_s=0, room={})
    assert turns.take() is not None
    got: list[Job | None] = []
    thread = threading.Thread(target=lambda: got.append(turns.take()))
    thread.start()
    turns.close()
    until(lambda: not thread.is_alive())
    assert got == [None]


def test_a_class_whose_places_are_all_on_their_way_costs_the_others_nothing() -> None:
    """A hundred thousand rows with --max 5 took hours: each turn looked at every row again."""
    n = 20_000
    jobs = [job("a", str(number)) for number in range(n)]
    turns, clock = make(*jobs, per_host=9, room={"bear": 1})
    taken = pick(turns, clock)
    begun = time.perf_counter()
    for _ in range(n):
        assert pick(turns, clock) is None
    assert time.perf_counter() - begun < 10  # 20,000 looks; at a row each it was 400 million
    assert isinstance(taken, Job)
