"""Processes that end in the middle: what was told is there, once; what was not is there whole or not at all."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivetrain.store.store import Store, open_store

from .made import break_of, deployment, one_person

# A server's work without the server: requests with a task each, reviews, moves and notes, told once they are done.
WORKER = """
import sys, threading
from dataclasses import replace
from tests.store.made import AT, add, one_person, routed, sealing, stored, task
from drivetrain.errors import Conflict
from drivetrain.store.ids import new_id
from drivetrain.store.store import open_store
url, id_, name = sys.argv[1:]
store = open_store(url)

def tell(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

def ask():
    while True:
        wanted = task(new_id(), id_)
        tell("request", add(store, id_, given=wanted, wants_label=True).prediction_id)
        late = add(store, id_, state="pending", candidate=None)
        done = store.requests.finish(late.prediction_id, candidate={"label": "x"}, seconds=0.1, wants_label=True,
                                     label_probability=1.0, task=task(late.prediction_id, id_))
        tell("finished", late.prediction_id, done)

def look():
    while True:
        given = store.reviews.claim(name, order="risk", lease_s=600)
        if given is not None:
            store.reviews.answer(given.id, name, "black", settle=one_person, seconds=1, saw_model=False)
            tell("answered", given.id)

def move():
    while True:
        try:
            now = store.deployments.get(id_)
            moved = store.deployments.transition(id_, revision=now.revision, stage="limited", share=1.0,
                                                 is_held=not now.is_held, seal=sealing(id_, "hold", by=name))
            tell("moved", moved.revision, name)
        except Conflict:
            tell("second")
        store.deployments.note(id_, seal=sealing(id_, "note"))

for work in (ask, ask, look):
    threading.Thread(target=work, daemon=True).start()
move()
"""


@dataclass(slots=True)
class Told:
    """What the processes said was done."""

    requests: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)

    def read(self, line: str) -> None:
        if not line.endswith("\n"):  # torn: not told
            return
        match line.split():
            case ["request", id_]:
                self.requests.append(id_)
            case ["finished", id_, done]:
                assert done == "True"
                self.finished.append(id_)
            case ["answered", id_]:
                self.answered.append(id_)
            case ["moved", revision, name]:
                self.moved.append((revision, name))
            case ["second"]:
                pass
            case other:
                raise AssertionError(other)


def start(url: str, id_: str, name: str) -> subprocess.Popen[str]:
    args = [sys.executable, "-c", WORKER, url, id_, name]
    return subprocess.Popen(args, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@contextlib.contextmanager
def two(url: str, id_: str, turn: int) -> Iterator[list[subprocess.Popen[str]]]:
    with start(url, id_, f"{turn}a") as one, start(url, id_, f"{turn}b") as other:
        try:
            yield [one, other]
        finally:
            for process in (one, other):
                process.send_signal(signal.SIGKILL)


def kill_often(url: str, *, times: int, seed: int) -> None:
    """Two at once, each ended at a moment of its own; then everything is counted."""
    draws, told = random.Random(seed), Told()
    with open_store(url) as store:
        id_ = deployment(store).id
    for turn in range(times):
        with two(url, id_, turn) as processes:
            for process in processes:
                assert process.stdout is not None
                for _ in range(draws.randrange(1, 40)):
                    told.read(process.stdout.readline())
                time.sleep(draws.random() * 0.02)  # anywhere within what comes next
                process.send_signal(signal.SIGKILL)
                for line in process.stdout:
                    told.read(line)
    with open_store(url, clock=lambda: time.time() + 10_000) as store:
        check_whole(store, id_, told)
        check_goes_on(store, id_)


def check_whole(store: Store, id_: str, told: Told) -> None:
    rows = {row.prediction_id: (row, state) for row, state, _ in store.requests.outcomes(id_)}
    assert [row.seq for row, _ in rows.values()] == list(range(1, len(rows) + 1))  # no gap, none twice
    assert store.predictions.count() == len(rows)
    assert set(told.requests) | set(told.finished) <= set(rows)
    assert Counter(told.finished).most_common(1)[0][1] == 1
    assert all(rows[one][0].state == "done" for one in told.finished)
    for row, state in rows.values():
        tasks = store.reviews.of(row.prediction_id)
        assert len(tasks) == (row.state == "done")  # a task came with what wanted it, or neither
        for task in tasks:
            answers = store.reviews.answers(task.id)
            assert (task.state, len(answers)) in {("labelled", 1), ("open", 0)}
            assert state == ("labelled" if answers else "pending")
    assert Counter(told.answered).most_common(1)[0][1] == 1
    assert all(store.reviews.get(one).state == "labelled" for one in told.answered)  # type: ignore[union-attr]

    assert break_of(store, id_) is None
    ledger = store.deployments.ledger(id_)
    moves = [row["evidence"]["by"] for row in ledger if row["action"] == "hold"]
    found = store.deployments.get(id_)
    assert found is not None
    assert found.revision == 1 + len(moves)  # each move has its row, and each row its move
    assert found.is_held == bool(len(moves) % 2)
    assert len({revision for revision, _ in told.moved}) == len(told.moved)  # no revision was told to two
    assert all(moves[int(revision) - 2] == name for revision, name in told.moved)


def check_goes_on(store: Store, id_: str) -> None:
    """What the dead had claimed is free once its time is over, and nothing else is in the way."""
    waiting = store.reviews.open_count(id_)
    for _ in range(waiting):
        given = store.reviews.claim("heir", order="deadline", lease_s=60)
        assert given is not None
        store.reviews.answer(given.id, "heir", "black", settle=one_person, seconds=None, saw_model=False)
    assert store.reviews.open_count(id_) == 0


def test_killed_at_any_point_nothing_is_lost_or_doubled(url: str) -> None:
    kill_often(url, times=3, seed=1)


@pytest.mark.slow
def test_killed_a_hundred_times(url: str) -> None:
    kill_often(url, times=50, seed=2)
