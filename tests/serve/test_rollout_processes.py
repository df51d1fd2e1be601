"""`drivetrain serve` with several processes: a roll-out begun by another program, and taken back by a file."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from drivetrain.flows.rollout_marker import write_marker
from drivetrain.store.store import open_store

from .fakes import picture
from .processes import HEADERS, START_S, Served, poll
from .rollout_bench import begin, move_to
from .tiny import archive, model, write

_IN_A_ROW = 12  # answers of two processes


def answers(served: Served) -> set[str]:
    """The versions of so many answers, each over a connection of its own."""
    found = set()
    for _ in range(_IN_A_ROW):
        reply = httpx.post(f"{served.url}/predict", content=picture(), headers=HEADERS, timeout=START_S)
        assert reply.status_code == 200, reply.text
        found.add(reply.json()["version"])
    return found


@pytest.mark.slow
def test_every_process_obeys_each_step_and_the_file(tmp_path: Path) -> None:
    old_file, new_file = (write(tmp_path / str(seed), "tiny", archive(seed=seed)) for seed in (1, 2))
    old, new = (model(seed=seed).version for seed in (1, 2))
    with Served(tmp_path, old_file, "--workers", 2) as served:
        served.until_ready()
        assert answers(served) == {old}
        with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
            deployment = begin(store, name="tiny", candidate=new, incumbent=old, path=str(new_file))
            poll(lambda: served.said.count("is loaded beside") == 2)
            assert answers(served) == {old}
            move_to(store, "tiny", "expanding", 1.0)
            poll(lambda: answers(served) == {new})
            rows = list(store.requests.outcomes(deployment.id))
            assert [row.seq for row, _, _ in rows] == list(range(1, len(rows) + 1))
            poll(lambda: store.requests.backlog(deployment.id) == 0)
            text = served.metrics()
            assert 'drivetrain_rollout_stage{deployment="tiny",stage="expanding"} 1.0' in text
            write_marker(tmp_path, "tiny", by="bob", reason="misses", at=time.time())
            poll(lambda: answers(served) == {old})
            poll(lambda: store.deployments.get(deployment.id).stage == "rolled_back")  # type: ignore[union-attr]
        assert served.end() == 0
