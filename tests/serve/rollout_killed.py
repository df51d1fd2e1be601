"""A server that is killed, started again and again: `python -m tests.serve.rollout_killed URL FOLDER`.

What takes long to import is imported once; each line on stdin forks a server off it, which has nothing open yet. It
answers over HTTP; people in it label, and move the roll-out, and tell on stdout what was done.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path

from drivetrain.errors import Conflict, DrivetrainError
from drivetrain.flows.rollout import hold, resume
from drivetrain.rollout.reviewing import settle
from drivetrain.serve.app import create_app
from drivetrain.serve.rollout.desk import Rollouts
from drivetrain.serve.server import start_server
from drivetrain.store.store import open_store

from .fakes import settings
from .rollout_bench import NEW, OLD, Painted

SAYS = {"green": "blue", "blue": None}  # of the candidate: red alike, green another, blue left to people


def main() -> None:
    url, folder = sys.argv[1], Path(sys.argv[2])
    for number, _ in enumerate(sys.stdin):
        child = os.fork()
        if not child:
            serve(url, folder, number)
        os.waitpid(child, 0)
        tell("dead")


def serve(url: str, folder: Path, number: int) -> None:
    """Until it is killed."""
    given = settings(address_rate_limit=0, cache_dir=folder / "cache", threads=1)
    store = open_store(url, images=str(folder / "pictures"))
    app = create_app(Painted(version=OLD), given, store=store)
    app.state.registry.add(Painted(version=NEW, says=SAYS), keep=True)
    app.state.registry.promote(OLD)
    desk = app.state.rollouts
    desk.shadow._left_s = 0.05  # what the dead left is nobody's
    running = start_server(app)
    tell("ready", os.getpid(), running.url)
    for work in (label, move):
        threading.Thread(target=work, args=(desk, f"{number}"), daemon=True).start()
    time.sleep(3600)


def label(desk: Rollouts, name: str) -> None:
    """People who label what there is."""
    draws = random.Random(name)
    while True:
        task = desk.store.reviews.claim(f"rita-{name}", order="risk", lease_s=600)
        if task is None:
            time.sleep(0.005)
            continue

        def come_to(said: list[str], people: int = task.people) -> tuple[object, object]:
            verdict = settle(said, people=people)
            return verdict.state, verdict.label

        done = desk.store.reviews.answer(
            task.id, f"rita-{name}", draws.choice(["amber", "blue"]), settle=come_to, seconds=1, saw_model=False,  # type: ignore[arg-type]
        )  # fmt: skip
        tell("labelled", done.id)
        desk.settled(done)


def move(desk: Rollouts, name: str) -> None:
    """Somebody who cannot make up their mind."""
    while True:
        try:
            now = desk.store.deployments.get("colours")
            assert now is not None
            moved = (resume if now.is_held else hold)(desk.store, "colours", by=f"ann-{name}", reason="who knows")
            assert moved.deployment is not None
            tell("moved", moved.deployment.revision, f"ann-{name}")
            desk.refresh()
        except (Conflict, DrivetrainError) as exc:
            tell("refused", type(exc).__name__)
        time.sleep(0.01)


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


if __name__ == "__main__":
    main()
