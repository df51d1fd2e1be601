"""A server that is killed at any moment: what was answered, labelled or moved is there, once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from drivetrain.flows.rollout import verify
from drivetrain.flows.rollout_evidence import gather_evidence
from drivetrain.store.store import Store, open_store

from .rollout_bench import BLUE, GREEN, HEADERS, NEW, RED, begin, move_to, poll, rollout_bench
from .rollout_killed import SAYS

_STAGES = (("manual", 0.0), ("limited", 1.0), ("expanding", 0.5))


@dataclass
class Told:
    """What was said to be done before it was killed."""

    answered: list[str] = field(default_factory=list)
    labelled: list[str] = field(default_factory=list)
    moved: list[tuple[int, str]] = field(default_factory=list)

    def read(self, line: str) -> None:
        match line.split():
            case ["labelled", id_]:
                self.labelled.append(id_)
            case ["moved", revision, by]:
                self.moved.append((int(revision), by))
            case ["refused" | "dead", *_]:
                pass
            case other:
                raise AssertionError(other)


class Killed:
    """The process that forks servers, and the one server that lives now."""

    def __init__(self, url: str, folder: Path) -> None:
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serve.rollout_killed", url, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def live(self, told: Told, draws: random.Random, *, clients: int) -> None:
        """One life: ready, asked by several at once, killed at any moment, and all that it said is read."""
        self.stdin.write("live\n")
        self.stdin.flush()
        while not (line := self.stdout.readline()).startswith("ready"):
            assert line, "no server came"
            told.read(line)
        _, pid, url = line.split()
        first, address = threading.Event(), urlsplit(url).netloc
        asking = [threading.Thread(target=ask, args=(address, told, first, draws.random())) for _ in range(clients)]
        for thread in asking:
            thread.start()
        while not (told.labelled and told.moved):  # the first one lives until all of it was seen to work
            told.read(self.stdout.readline())
        if draws.random() < 0.8:  # else it may well end before it ever answered
            first.wait(20)
        time.sleep(draws.random() * 0.2)
        os.kill(int(pid), signal.SIGKILL)
        for line in iter(self.stdout.readline, "dead\n"):
            assert line, "the parent died"
            if line.endswith("\n"):
                told.read(line)
        for thread in asking:
            thread.join()

    def close(self) -> None:
        self.stdin.close()
        self.process.wait(30)
        self.stdout.close()


def ask(address: str, told: Told, first: threading.Event, seed: float) -> None:
    """Until nobody answers any more; what was answered is noted."""
    draws = random.Random(seed)
    connection = HTTPConnection(address, timeout=20)
    while True:
        headers = HEADERS | {"X-Drivetrain-Key": f"cam-{draws.randrange(50)}"}
        try:
            connection.request("POST", "/predict", draws.choice([RED, GREEN, BLUE]), headers)
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, HTTPException):
            connection.close()
            return
        assert reply.status == 200, body
        told.answered.append(json.loads(body)["prediction_id"])
        first.set()


def kill_often(url: str, folder: Path, *, times: int, seed: int) -> Told:
    draws, told = random.Random(seed), Told()
    with open_store(url, images=str(folder / "pictures")) as store:
        begin(store, bound=0.95, audit_share=0.5)
        killed = Killed(url, folder)
        try:
            for turn in range(times):
                if turn and turn % max(1, times // 3) == 0:  # so that each of them decides for a while
                    stage, share = _STAGES[min(2, turn // max(1, times // 3))]
                    move_to(store, "colours", stage, share)
                killed.live(told, draws, clients=3)
        finally:
            killed.close()
    return told


def check_whole(store: Store, told: Told) -> None:
    deployment = store.deployments.get("colours")
    assert deployment is not None
    rows = {row.prediction_id: (row, state) for row, state, _ in store.requests.outcomes(deployment.id)}
    assert [row.seq for row, _ in rows.values()] == list(range(1, len(rows) + 1))  # no gap, none twice
    assert store.predictions.count() == len(rows)
    assert len(set(told.answered)) == len(told.answered)
    assert set(told.answered) <= set(rows)
    for row, state in rows.values():
        assert row.state == "done"
        assert row.candidate is not None
        assert row.incumbent is not None
        tasks = store.reviews.of(row.prediction_id)
        assert len(tasks) <= 1
        assert not row.wants_label or len(tasks) == 1  # what is wanted was asked, once
        for task in tasks:
            answers = store.reviews.answers(task.id)
            assert (task.state, len(answers)) in {("labelled", 1), ("open", 0)}
            assert state == ("none" if not row.wants_label else "labelled" if answers else "pending")
    assert max(Counter(told.labelled).values(), default=1) == 1
    for id_ in told.labelled:
        task = store.reviews.get(id_)
        assert task is not None
        assert task.state == "labelled"

    assert verify(store, "colours") is None
    ledger = store.deployments.ledger(deployment.id)
    moves = {number: str(row["by"]) for number, row in enumerate(ledger[1:], 2)}
    assert deployment.revision == len(ledger)  # each move has its row, and each row its move
    assert all(moves[revision] == by for revision, by in told.moved)
    assert gather_evidence(store, deployment).n_failed == 0


def killed_and_whole(url: str, folder: Path, *, times: int, seed: int) -> None:
    told = kill_often(url, folder, times=times, seed=seed)
    assert told.answered
    assert told.labelled
    assert told.moved
    with open_store(url, images=str(folder / "pictures")) as store:
        deployment = store.deployments.get("colours")
        assert deployment is not None
        with rollout_bench(folder, store=store, new=SAYS, is_started=False) as bench:
            bench.desk.shadow._left_s = 0.0
            bench.desk.start()
            poll(lambda: bench.desk.backlog(deployment.id) == 0, wait_s=300)  # what the dead left is done
            assert NEW in {one.version for one in bench.app.state.registry.all()}
        check_whole(store, told)


def test_killed_a_few_times_nothing_is_lost_or_doubled(database_url: str, tmp_path: Path) -> None:
    killed_and_whole(database_url, tmp_path, times=4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_killed_two_hundred_times(database_url: str, tmp_path: Path, seed: int) -> None:
    killed_and_whole(database_url, tmp_path, times=50, seed=seed)
