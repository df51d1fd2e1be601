from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from drivetrain.bundle.archive import read_bundle
from drivetrain.errors import (
    DeadlinePassed,
    InvalidConfig,
    InvalidInput,
    QueueFull,
    Unavailable,
    UnreadablePicture,
)
from drivetrain.flows.train import TrainResult
from drivetrain.runtime.batch_clock import Deadlines
from drivetrain.runtime.batcher import Batcher, PictureJob, Tuning
from drivetrain.runtime.predictor import Predictor

from .batch_fakes import POISON, UNREADABLE, WAIT_S, Echo, Hold, Tally, job, number_of, rows, until

ONE = Tuning(workers=1)


@contextmanager
def running(echo: Echo, tuning: Tuning = ONE, *, queue_max: int = 100, **given: Any) -> Iterator[Batcher]:
    """A batcher, closed in the end; `runs` begins after the warm-up."""
    batcher = Batcher(echo, tuning=tuning, queue_max=queue_max, **given)
    echo.runs.clear()
    try:
        yield batcher
    finally:
        batcher.close(drain_s=WAIT_S)


def results(futures: list[Future[Any]]) -> list[Any]:
    """The number answered, or the error's class, of each."""
    found: list[Any] = []
    for future in futures:
        try:
            found.append(number_of(future.result(WAIT_S)))
        except Exception as exc:
            found.append(type(exc))
    return found


# with a real network


@pytest.fixture(scope="module")
def predictor(trained: TrainResult) -> Predictor:
    return Predictor(read_bundle(trained.bundle), session_threads=(1, 2))


@pytest.fixture(scope="module")
def bodies(trained: TrainResult, picture_folder: Any) -> list[bytes]:
    return [file.read_bytes() for file in sorted(picture_folder(per_class=8, suffix=".jpg", seed=9).rglob("*.jpg"))]


@pytest.mark.parametrize("most", [1, 4])
def test_a_picture_a_run_gives_the_predictors_bits(predictor: Predictor, bodies: list[bytes], most: int) -> None:
    tuning = Tuning(workers=3, sessions=2, alone_threads=2, max_size=most)
    batcher = Batcher(predictor, tuning=tuning, queue_max=100)
    together = [future.result(WAIT_S) for future in batcher.submit([PictureJob(body) for body in bodies])]
    alone = [batcher.submit([PictureJob(body)])[0].result(WAIT_S) for body in bodies]  # on two threads
    batcher.close(drain_s=WAIT_S)
    assert together == alone == [predictor.predict(body) for body in bodies]


def test_larger_runs_give_the_same_answers_up_to_rounding(predictor: Predictor, bodies: list[bytes]) -> None:
    tally = Tally()
    tally.finished = lambda outcome, answer: None  # type: ignore[method-assign]
    batcher = Batcher(predictor, tuning=Tuning(workers=2, max_size=8, run_size=8), queue_max=100, meter=tally)
    answers = [future.result(WAIT_S) for future in batcher.submit([PictureJob(body) for body in bodies])]
    batcher.close(drain_s=WAIT_S)
    assert max(tally.sizes) == 8
    for body, answer in zip(bodies, answers, strict=True):
        wanted = predictor.predict(body)
        assert (answer.label, answer.decision) == (wanted.label, wanted.decision)
        assert np.allclose(list(answer.probabilities.values()), list(wanted.probabilities.values()), atol=1e-5, rtol=0)


def test_preprocessed_pixels_get_what_their_picture_gets(predictor: Predictor, bodies: list[bytes]) -> None:
    batcher = Batcher(predictor, tuning=ONE, queue_max=100)
    pixels = np.stack([predictor.prepare(body)[0] for body in bodies[:3]])
    answers = [future.result(WAIT_S) for future in batcher.submit_pixels(pixels)]
    batcher.close(drain_s=WAIT_S)
    for body, answer in zip(bodies, answers, strict=False):
        wanted = predictor.predict(body)
        assert (answer.probabilities, answer.ood_score) == (wanted.probabilities, wanted.ood_score)
        assert answer.shift_p_value is None


# who runs with whom


def test_a_lone_picture_does_not_wait_for_company() -> None:
    with running(Echo(), Tuning(workers=1, max_size=8, run_size=8)) as batcher:
        assert results(batcher.submit([job(1)])) == [1]


def test_a_run_takes_as_many_as_wait_up_to_the_largest_size() -> None:
    hold = Hold()
    echo = Echo(on_run=lambda numbers: hold(numbers) if any(numbers) else None)
    with running(echo, Tuning(workers=2, max_size=3, run_size=3)) as batcher:
        futures = batcher.submit([job(1)])
        hold.wait()
        futures += batcher.submit([job(number) for number in range(2, 7)])
        until(lambda: len(echo.prepared) == 6)  # decoded beside the run, not after it
        hold.release()
        assert results(futures) == [1, 2, 3, 4, 5, 6]
    assert [sorted(numbers) for numbers, _ in echo.runs] == [[1], [2, 3, 4], [5, 6]]


def test_what_a_thread_takes_at_once_may_run_one_by_one() -> None:
    hold, tally = Hold(), Tally()
    echo = Echo(on_prepare=lambda number: hold(number) if number == 1 else None)
    with running(echo, Tuning(workers=1, max_size=4), meter=tally) as batcher:
        futures = batcher.submit([job(1)])
        hold.wait()
        futures += batcher.submit([job(number) for number in range(2, 7)])
        hold.release()
        assert results(futures) == [1, 2, 3, 4, 5, 6]
    assert [numbers for numbers, _ in echo.runs] == [[number] for number in range(1, 7)]
    assert tally.sizes == [1, 4, 1]


def test_no_thread_takes_what_another_could_do_meanwhile() -> None:
    hold = Hold()
    with running(Echo(on_run=hold, input_size=2), Tuning(workers=2, sessions=2, max_size=8), is_warm=True) as batcher:
        futures = batcher.submit([job(1), job(2)])
        hold.wait()
        hold.wait()  # both run at the same time
        hold.release()
        assert results(futures) == [1, 2]


def test_waiting_for_company_ends_when_it_is_there() -> None:
    echo = Echo()
    with running(echo, Tuning(workers=2, max_size=2, run_size=2, max_wait_s=WAIT_S)) as batcher:
        [first] = batcher.submit([job(1)])
        until(lambda: echo.prepared == [1])
        assert not first.done()
        [second] = batcher.submit([job(2)])
        assert results([first, second]) == [1, 2]
    assert [sorted(numbers) for numbers, _ in echo.runs] == [[1, 2]]


def test_waiting_for_company_ends_when_it_took_too_long() -> None:
    with running(Echo(), Tuning(workers=2, max_size=2, run_size=2, max_wait_s=0.02)) as batcher:
        assert results(batcher.submit([job(1)])) == [1]


def test_no_more_runs_at_once_than_sessions() -> None:
    hold, lock, now, most = Hold(), threading.Lock(), [0], [0]

    def count(numbers: list[int]) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        hold(numbers)
        with lock:
            now[0] -= 1

    echo = Echo(on_run=count)
    with running(echo, Tuning(workers=4, sessions=2), is_warm=True) as batcher:
        futures = batcher.submit([job(number) for number in range(1, 9)])
        hold.wait()
        hold.wait()
        until(lambda: len(echo.prepared) >= 4)
        hold.release()
        assert results(futures) == list(range(1, 9))
    assert most == [2]


def test_a_picture_alone_gets_all_cores() -> None:
    echo, hold = Echo(), Hold()
    with running(echo, Tuning(workers=1, session_threads=3, alone_threads=5)) as batcher:
        assert results(batcher.submit([job(1)])) == [1]
        assert echo.runs == [([1], 5)]
        echo.on_prepare = hold
        futures = batcher.submit([job(2), job(3)])
        hold.release()
        assert results(futures) == [2, 3]
    assert echo.runs[1:] == [([2], 3), ([3], 5)]


# who is not run


def test_a_full_queue_takes_all_or_none() -> None:
    hold, tally = Hold(), Tally()
    echo = Echo(on_prepare=hold)
    with running(echo, ONE, queue_max=2, meter=tally) as batcher:
        futures = batcher.submit([job(1), job(2)])
        hold.wait()
        batcher.check_room()
        with pytest.raises(QueueFull, match="got 2 pictures in work or waiting; want room for 2 within 3") as caught:
            batcher.submit([job(3), job(4)])
        assert caught.value.retry_after_s >= 1
        assert batcher.pending == 2
        futures += batcher.submit([job(5)])
        with pytest.raises(QueueFull):
            batcher.check_room()
        with pytest.raises(InvalidInput, match="got 4 pictures; want at most 3 at once"):
            batcher.submit([job(number) for number in range(4)])
        hold.release()
        assert results(futures) == [1, 2, 5]
    assert tally.outcomes == Counter(success=3, rejected=6)


def test_those_without_room_are_told_how_long_the_queue_takes() -> None:
    now, hold = [0.0], Hold()
    echo = Echo(on_prepare=lambda number: hold(number) if number == 2 else now.__setitem__(0, now[0] + 9))
    with running(echo, ONE, queue_max=1, clock=lambda: now[0]) as batcher:
        assert results(batcher.submit([job(1)])) == [1]  # took nine seconds
        futures = batcher.submit([job(2)])
        hold.wait()
        with pytest.raises(QueueFull) as caught:
            batcher.submit([job(3), job(4)])
        assert caught.value.retry_after_s == 9
        hold.release()
        assert results(futures) == [2]


def test_a_deadline_waits_for_no_batch() -> None:
    hold, tally = Hold(), Tally()
    echo = Echo(on_run=hold)
    with running(echo, Tuning(workers=2), meter=tally, is_warm=True) as batcher:
        [late] = batcher.submit([job(1)], deadline_s=0.01)  # in the network
        hold.wait()
        [waiting] = batcher.submit([job(2)], deadline_s=0.01)
        with pytest.raises(DeadlinePassed, match=r"got no answer in 0.01 s"):
            late.result(WAIT_S)
        assert results([waiting]) == [DeadlinePassed]
        assert batcher.pending == 0
        hold.release()
        assert results(batcher.submit([job(3)], deadline_s=WAIT_S)) == [3]
    assert 2 not in echo.answered
    assert tally.outcomes == Counter(timeout=2, success=1)


def test_who_leaves_before_its_turn_costs_nothing() -> None:
    hold, tally = Hold(), Tally()
    echo = Echo(on_prepare=lambda number: hold(number) if number == 1 else None)
    with running(echo, ONE, meter=tally) as batcher:
        [stays, leaves] = batcher.submit([job(1), job(2)])
        hold.wait()
        assert leaves.cancel()
        assert batcher.pending == 1
        assert wait([leaves], timeout=WAIT_S).done  # also those hear of it who wait for many
        hold.release()
        assert results([stays]) == [1]
    assert echo.prepared == [1]
    assert tally.outcomes == Counter(canceled=1, success=1)


def test_who_leaves_once_decoded_is_not_run() -> None:
    hold = Hold()
    echo = Echo(on_run=hold)
    with running(echo, Tuning(workers=2), is_warm=True) as batcher:
        [first] = batcher.submit([job(1)])
        hold.wait()
        [leaves, second] = batcher.submit([job(2), job(3)])
        until(lambda: sorted(echo.prepared) == [1, 2, 3])
        assert leaves.cancel()
        hold.release()
        assert results([first, second]) == [1, 3]
    with pytest.raises(CancelledError):
        leaves.result(WAIT_S)
    assert echo.answered == [1, 3]


def test_what_is_settled_lets_go_of_its_picture() -> None:
    hold = Hold()
    body = bytes(10_000)
    before = sys.getrefcount(body)
    with running(Echo(on_prepare=hold)) as batcher:
        [first] = batcher.submit([job(1)])
        hold.wait()
        [leaves] = batcher.submit([PictureJob(body)])
        assert sys.getrefcount(body) > before
        leaves.cancel()
        assert sys.getrefcount(body) == before
        hold.release()
        assert results([first]) == [1]


# who fails


@pytest.mark.parametrize("kind", ["", UNREADABLE, POISON])
def test_an_answer_frees_itself_once_nobody_holds_it(kind: str) -> None:
    gc.disable()  # no search: what stays in a circle, or in the heap of deadlines, stays
    try:
        with running(Echo(), Tuning(workers=2, sessions=2)) as batcher:
            [future] = batcher.submit([job(1, kind)], deadline_s=WAIT_S)
            wait([future], WAIT_S)
            kept = weakref.ref(future)
            del future
            until(lambda: kept() is None)
    finally:
        gc.enable()


def test_an_unreadable_picture_fails_alone_before_any_run() -> None:
    echo = Echo()
    with running(echo, Tuning(workers=1, max_size=8, run_size=8)) as batcher:
        assert results(batcher.submit([job(1), job(2, UNREADABLE), job(3)])) == [1, UnreadablePicture, 3]
    assert sorted(echo.answered) == [1, 3]


@pytest.mark.parametrize("culprits", [{5}, {1, 8}, {3, 4}, set(range(1, 9))])
def test_only_the_culprits_of_a_failed_run_fail(culprits: set[int]) -> None:
    hold = Hold()
    echo = Echo(on_prepare=lambda number: hold(number) if number == 1 else None)
    with running(echo, Tuning(workers=1, max_size=8, run_size=8, max_wait_s=WAIT_S)) as batcher:
        futures = batcher.submit([job(number, POISON if number in culprits else "") for number in range(1, 9)])
        hold.release()
        assert results(futures) == [Unavailable if number in culprits else number for number in range(1, 9)]
    assert len(echo.runs[0][0]) == 8  # all of them together, and then in parts


def test_pixels_that_cannot_be() -> None:
    with running(Echo()) as batcher:
        for pixels in (np.zeros((3, 2, 2)), np.zeros((0, 3, 2, 2)), np.zeros((1, 3, 2, 3)), np.zeros((1, 1, 2, 2))):
            with pytest.raises(InvalidInput, match=r"pixels: got shape .* want \(n, 3, 2, 2\)"):
                batcher.submit_pixels(pixels)
        for number in (np.nan, np.inf, 1e300):
            with pytest.raises(InvalidInput, match="not a finite number"):
                batcher.submit_pixels(np.full((1, 3, 2, 2), number))
        assert results(batcher.submit_pixels(rows(7, 8).astype(np.float64))) == [7, 8]


# when something is broken


def test_a_dead_thread_is_followed_by_one_that_must_prove_itself(caplog: pytest.LogCaptureFixture) -> None:
    proof, tally = Hold(), Tally()

    def die(numbers: list[int]) -> None:
        if numbers == [1]:
            raise SystemExit
        if numbers == [0]:
            proof(numbers)

    echo = Echo(on_run=die)
    with running(echo, Tuning(workers=1, max_size=2), is_warm=True, meter=tally) as batcher:
        with caplog.at_level(logging.CRITICAL, "drivetrain.runtime"):
            [dies, next_one] = batcher.submit([job(1), job(2)])
            with pytest.raises(Unavailable, match="a fault in its thread"):
                dies.result(WAIT_S)
        assert "died" in str(batcher.why_not_ready())
        proof.wait()
        assert "died" in str(batcher.why_not_ready())
        proof.release()
        until(lambda: batcher.why_not_ready() is None)
        assert results([next_one]) in ([2], [Unavailable])  # it was in the same hand, or not
        assert results(batcher.submit([job(3)])) == [3]
    assert "SystemExit" in caplog.text
    assert tally.now == 0


def test_a_network_that_stays_broken_keeps_the_server_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    is_broken = [True]

    def run(numbers: list[int]) -> None:
        if numbers == [1]:
            raise KeyboardInterrupt
        if is_broken[0]:
            raise RuntimeError("still broken")

    with running(Echo(on_run=run), is_warm=True) as batcher:
        assert results(batcher.submit([job(1)])) == [Unavailable]
        until(lambda: caplog.text.count("cannot run the network yet") >= 2)
        assert batcher.why_not_ready() is not None
        is_broken[0] = False
        until(lambda: batcher.why_not_ready() is None)
        assert results(batcher.submit([job(2)])) == [2]


def test_threads_that_never_return_are_told() -> None:
    hold, now = Hold(), [0.0]
    with running(Echo(on_prepare=hold), stuck_after_s=60, clock=lambda: now[0]) as batcher:
        futures = batcher.submit([job(1)])
        hold.wait()
        now[0] = 59.0
        assert batcher.why_not_ready() is None
        now[0] = 61.0
        assert "more than 60 s" in str(batcher.why_not_ready())
        hold.release()
        assert results(futures) == [1]
        until(lambda: batcher.why_not_ready() is None)


def test_a_meter_that_fails_costs_no_answer() -> None:
    class Broken(Tally):
        def finished(self, outcome: Any, answer: Any) -> None:
            raise RuntimeError("no more counting")

    with running(Echo(), meter=Broken()) as batcher:
        assert results(batcher.submit([job(1), job(2)])) == [1, 2]
        until(lambda: batcher.pending == 0)


# start and end


def test_every_size_of_batch_is_warm_at_the_start() -> None:
    echo = Echo()
    tuning = Tuning(workers=1, session_threads=2, alone_threads=4, max_size=20, run_size=20)
    Batcher(echo, tuning=tuning, queue_max=1).close(drain_s=0)
    sizes = [1, 2, 3, 4, 5, 6, 7, 8, 16, 20]
    assert [(len(numbers), threads) for numbers, threads in echo.runs] == [(n, t) for t in (2, 4) for n in sizes]


def test_a_network_that_cannot_run_is_refused_at_the_start() -> None:
    def fail(_: object) -> None:
        raise Unavailable("model", got="nothing", want="a run to its end")

    with pytest.raises(Unavailable, match="want a run to its end"):
        Batcher(Echo(on_run=fail), tuning=ONE, queue_max=1)


def test_close_answers_what_it_can_and_refuses_the_rest() -> None:
    hold = Hold()
    batcher = Batcher(Echo(on_prepare=hold), tuning=ONE, queue_max=9)
    [begun, waits] = batcher.submit([job(1), job(2)])
    hold.wait()
    closer = threading.Thread(target=batcher.close, kwargs={"drain_s": 0.05})
    closer.start()
    until(lambda: batcher.why_not_ready() == "it is shutting down")
    for submit in (lambda: batcher.submit([job(3)]), lambda: batcher.submit_pixels(rows(3)), batcher.check_room):
        with pytest.raises(Unavailable, match="want one before shutdown"):
            submit()
    assert results([begun, waits]) == [Unavailable, Unavailable]
    closer.join(WAIT_S)
    hold.release()
    batcher.close(drain_s=0)


def test_close_waits_for_the_pictures_in_hand_and_leaves_no_thread() -> None:
    hold = Hold()
    before = set(threading.enumerate())
    batcher = Batcher(Echo(on_prepare=hold), tuning=Tuning(workers=3), queue_max=9)
    futures = batcher.submit([job(number) for number in range(1, 7)])
    closer = threading.Thread(target=batcher.close, kwargs={"drain_s": WAIT_S})
    closer.start()
    hold.release()
    assert results(futures) == [1, 2, 3, 4, 5, 6]
    closer.join(WAIT_S)
    until(lambda: set(threading.enumerate()) <= before)


def test_deadlines_of_answered_pictures_are_swept() -> None:
    clock = Deadlines(clock=lambda: 0.0)
    for _ in range(5_000):
        future: Future[Any] = Future()
        clock.add(future, 60)
        future.set_result(None)
    assert len(clock) < 600
    clock.close()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"workers": 0}, r"tuning.workers: got 0; want a whole number, at least 1"),
        ({"workers": 1, "max_size": 2.5}, r"tuning.max_size: got 2.5"),
        ({"workers": 1, "run_size": 2}, r"tuning.run_size: got 2; want at most max_size, 1"),
        ({"workers": 1, "max_wait_s": -1}, r"tuning.max_wait_s: got -1; want 0 to 60 seconds"),
    ],
)
def test_tunings_that_cannot_be(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        Tuning(**given)
