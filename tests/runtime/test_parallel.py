from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from drivetrain.runtime.parallel import map_in_order


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 200])
def test_order(threads: int, count: int) -> None:
    assert list(map_in_order(lambda x: x * x, range(count), threads=threads)) == [x * x for x in range(count)]


def test_order_when_the_first_is_the_slowest() -> None:
    last = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert last.wait(timeout=30)
        if number == 3:
            last.set()
        return number

    assert list(map_in_order(work, range(4), threads=2)) == [0, 1, 2, 3]


def test_as_many_at_once_as_threads() -> None:
    meet = threading.Barrier(3, timeout=30)
    assert len(list(map_in_order(lambda _: meet.wait(), range(9), threads=3))) == 9  # breaks if fewer work at once


@pytest.mark.parametrize("threads", [1, 3])
def test_it_stays_within_its_window(threads: int) -> None:
    """Pictures taken from the source and not yet handed on: memory for a folder of any size."""
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in range(500):
            taken += 1
            yield number

    for done, _ in enumerate(map_in_order(lambda x: x, source(), threads=threads)):
        assert taken - done <= threads * 4
    assert taken == 500


def test_nothing_is_taken_before_it_is_asked_for() -> None:
    def source() -> Iterator[int]:
        raise AssertionError("asked")
        yield 1

    map_in_order(lambda x: x, source(), threads=2).close()


def test_closing_early_drops_what_has_not_begun() -> None:
    begun: list[int] = []
    second, go = threading.Event(), threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            second.set()
            assert go.wait(timeout=30)
        return number

    results = map_in_order(work, range(1_000), threads=1)
    assert next(results) == 0
    assert second.wait(timeout=30)
    queued = list(results.gi_frame.f_locals["waiting"])[1:]
    closing = threading.Thread(target=results.close)
    closing.start()
    deadline = time.monotonic() + 30
    while not all(future.cancelled() for future in queued):
        assert time.monotonic() < deadline
        closing.join(timeout=0.001)
    go.set()
    closing.join(timeout=30)
    assert not closing.is_alive()
    assert begun == [0, 1]  # it waits for what runs, drops the rest, and leaves no thread behind
    assert len(queued) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pictures")]


def test_an_error_comes_in_its_place_and_ends_it() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("the third")
        done.append(number)
        return number

    results = map_in_order(work, range(1_000), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert len(done) <= 12
    assert list(results) == []


def test_an_error_of_the_source() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(map_in_order(lambda x: x, source(), threads=2))


def test_so_many_are_done_while_the_caller_is_busy() -> None:
    done = threading.Event()
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if len(begun) == 21:
            done.set()
        return number

    results = map_in_order(work, range(1_000), threads=2, ahead=21)
    assert next(results) == 0
    assert done.wait(timeout=30)  # the caller takes no more, and the threads go on up to here
    assert sorted(begun) == list(range(21))
    results.close()
    assert len(begun) == 21
