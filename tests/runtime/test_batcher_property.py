"""Any load: every caller gets its own answer or its own error, and nobody waits for ever."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from drivetrain.errors import DeadlinePassed, QueueFull, Unavailable, UnreadablePicture
from drivetrain.runtime.batcher import Batcher, Tuning
from drivetrain.runtime.prediction import Answer

from .batch_fakes import POISON, UNDECIDED, UNREADABLE, WAIT_S, Echo, Tally, job, number_of, rows

CALLERS = 8
TUNINGS = {
    "one a run": Tuning(workers=3, sessions=2, alone_threads=2),
    "taken together": Tuning(workers=3, sessions=2, max_size=4, alone_threads=2),
    "batches": Tuning(workers=3, max_size=8, run_size=8),
    "waiting": Tuning(workers=4, sessions=2, max_size=5, run_size=5, max_wait_s=0.002),
}


@dataclass
class Sent:
    """One picture on its way, and what may become of it."""

    number: int
    kind: str
    has_deadline: bool
    future: Future[Answer]
    is_cancelled: bool = False


@contextmanager
def restless(rng: random.Random) -> Iterator[Echo]:
    """A network whose steps take from no time to two milliseconds, as it comes."""
    lock = threading.Lock()

    def dawdle(_: object) -> None:
        with lock:
            seconds = rng.choice((0, 0, 0, 0, 0.0002, 0.002))
        if seconds:
            time.sleep(seconds)

    yield Echo(on_prepare=dawdle, on_run=dawdle)


def call(batcher: Batcher, caller: int, *, requests: int, seed: int, sent: list[Sent], refused: Counter[str]) -> None:
    """One caller's requests: some wait for their answers, some do not, some leave."""
    rng = random.Random(f"{seed} {caller}")
    mine: list[Sent] = []
    for at in range(requests // CALLERS):
        first = 1 + 5 * (caller * requests + at)
        count = rng.choice((1, 1, 1, 2, 5))
        kinds = [rng.choices(("", UNREADABLE, POISON, UNDECIDED), (90, 4, 4, 2))[0] for _ in range(count)]
        deadline_s = rng.choice((None, WAIT_S, 0.0, 0.001, 0.005))
        try:
            if rng.random() < 0.1:
                kinds = [""] * count
                numbers = range(first, first + count)
                futures = batcher.submit_pixels(rows(*numbers), deadline_s=deadline_s)
            else:
                jobs = [job(first + i, kind) for i, kind in enumerate(kinds)]
                futures = batcher.submit(jobs, deadline_s=deadline_s)
        except QueueFull:
            refused["pictures"] += count
            time.sleep(0.001)
            continue
        new = [Sent(first + i, kinds[i], deadline_s is not None, future) for i, future in enumerate(futures)]
        mine += new
        for one in rng.sample(new, rng.randint(0, count)) if rng.random() < 0.1 else ():
            one.is_cancelled = one.future.cancel()
        if rng.random() < 0.6:
            judge(rng.choice(new))  # waits
    sent.extend(mine)


def judge(one: Sent) -> str:
    """Wait for its end; what it was. Fails unless it is one that this picture may have."""
    try:
        error = one.future.exception(timeout=WAIT_S)
    except CancelledError:
        assert one.is_cancelled
        return "canceled"
    match error:
        case None:
            assert (one.kind, number_of(one.future.result())) == ("", one.number)
            return "success"
        case DeadlinePassed():
            assert one.has_deadline
            return "timeout"
        case UnreadablePicture():
            assert (one.kind, error.field) == (UNREADABLE, str(one.number))
            return "invalid"
        case Unavailable():
            assert (one.kind, error.got) == (POISON, "poison")
        case _:
            assert (one.kind, str(error)) == (UNDECIDED, "undecided")
    return "error"


def load(tuning: Tuning, *, requests: int, seed: int) -> None:
    """So many requests from eight callers at once, and what must be true in the end."""
    sent: list[Sent] = []
    refused: Counter[str] = Counter()
    tally = Tally()
    with restless(random.Random(seed)) as echo:
        batcher = Batcher(echo, tuning=tuning, queue_max=40, meter=tally)
        given = {"requests": requests, "seed": seed, "sent": sent, "refused": refused}
        threads = [threading.Thread(target=call, args=(batcher, caller), kwargs=given) for caller in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20 * WAIT_S)
        ends = Counter(judge(one) for one in sent)
        assert batcher.why_not_ready() is None
        batcher.close(drain_s=WAIT_S)
    assert len(sent) + refused["pictures"] > requests  # no caller died
    assert set(ends) == {"success", "invalid", "error", "timeout", "canceled"}  # all of it happened
    assert ends["success"] > len(sent) / 4
    assert tally.outcomes == ends + Counter(rejected=refused["pictures"])
    assert Counter(tally.answers) == Counter(one.number for one in sent if judge(one) == "success")
    assert (batcher.pending, tally.now) == (0, 0)
    assert max(tally.sizes) == tuning.max_size


@pytest.mark.parametrize("name", TUNINGS)
def test_each_caller_gets_its_own(name: str) -> None:
    """10,000 requests over the four ways to run."""
    load(TUNINGS[name], requests=2_500, seed=6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TUNINGS)
def test_each_caller_gets_its_own_for_long(name: str, seed: int) -> None:
    load(TUNINGS[name], requests=10_000, seed=seed)
