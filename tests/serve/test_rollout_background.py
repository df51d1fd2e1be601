"""The thread beside the answers: when it begins, wakes and ends."""

from __future__ import annotations

import threading
import time

from drivetrain.serve.rollout.background import Background

from .rollout_bench import poll


class Counter:
    """Does what is due; forever."""

    def __init__(self) -> None:
        self.due = self.done = 0
        self.background = Background("counted", self.run)

    def run(self) -> None:
        while not self.background.is_closed:
            self.background.pause(60, until=lambda: self.due > self.done)
            self.done = self.due

    def add(self) -> None:
        with self.background.changed:
            self.due += 1
        self.background.wake()


def threads() -> int:
    return sum(thread.name == "counted" for thread in threading.enumerate())


def test_it_begins_with_the_first_thing_to_do_and_wakes_for_each() -> None:
    counter = Counter()
    assert threads() == 0
    for n in range(1, 4):
        counter.add()
        poll(lambda n=n: counter.done == n)
        assert threads() == 1
    counter.background.close(wait_s=10)
    assert threads() == 0


def test_closed_it_begins_nothing_and_sleeps_no_more() -> None:
    counter = Counter()
    counter.background.close(wait_s=10)
    counter.add()
    assert (threads(), counter.done) == (0, 0)
    begun = time.monotonic()
    counter.background.pause(60)
    assert time.monotonic() - begun < 30
