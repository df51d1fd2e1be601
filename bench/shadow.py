"""`python -m bench shadow`: what a candidate in shadow costs the answers at a quarter of the load.

In turns on one server: without a roll-out; with one at manual that asks one version only; with one whose candidate
sees every request too. The last two both put each request on disk before its answer leaves, so that what is between
them is the shadow alone; what a roll-out costs in all is printed beside it. Then the backlog must drain. The p50s of
a round are compared with one another: they met the same machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.soak import Load, _prepare, _start
from drivetrain.flows.rollout import rollback
from drivetrain.flows.rollout_config import RolloutConfig
from drivetrain.flows.rollout_start import prepare_config, start_rollout
from drivetrain.rollout.gates import GateConfig
from drivetrain.store.store import Store, open_store

_HOLD = 1.10
_FASTEST_S = 10.0
_LOADS_S = 120.0  # the candidate is read, proved and warmed in this time
_DRAINS_S = 300.0


def main(argv: list[str]) -> None:
    """Prints the ratio; exits 1 where it is too large, a request failed, or the backlog stays."""
    parser = argparse.ArgumentParser(prog="python -m bench shadow", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.25, help="of the measured throughput")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--model", type=Path, help="NAME.dt; without it one is trained")
    parser.add_argument("--candidate", type=Path, help="another version of it; without it one is made")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="shadow-") as scratch:
        model, bodies = _prepare(given.model, Path(scratch))
        candidate = given.candidate or _another(model, Path(scratch))
        process, url = _start(model, Path(scratch), workers=1)
        try:
            is_held = _measure(url, bodies, given, model=model, candidate=candidate, db=Path(scratch) / "soak.db")
        finally:
            process.terminate()
            process.wait(timeout=90)
    sys.exit(0 if is_held else 1)


def _measure(
    url: str, bodies: list[bytes], given: argparse.Namespace, *, model: Path, candidate: Path, db: Path
) -> bool:
    Load(url, bodies, given.clients).run(_FASTEST_S, rate=None)
    fastest = Load(url, bodies, given.clients).run(_FASTEST_S, rate=None)
    rate = given.share * fastest
    print(f"{fastest:.1f}/s at most; {given.rounds} rounds of {given.seconds:g} s at {rate:.1f}/s", flush=True)
    rounds, failed, drained, most = [], 0, [], 0
    with open_store(f"sqlite:///{db}") as store:
        for number in range(given.rounds):
            p50s = []
            for kind in ("plain", "alone", "shadow"):
                deployment_id = ""
                if kind != "plain":
                    has_shadow, name = kind == "shadow", f"{kind}-{number}"
                    deployment_id = _begin(store, name, model, candidate, has_shadow=has_shadow, url=url)
                p50, wrong = _turn(url, bodies, given, rate)
                p50s.append(p50)
                failed += wrong
                if deployment_id:
                    most = max(most, store.requests.backlog(deployment_id))
                    drained.append(_drain(store, deployment_id))
                    _end(store, deployment_id, url=url)
            rounds.append(p50s)
            print("    p50 {:.1f} ms; rolled out {:.1f} ms; with the shadow {:.1f} ms".format(*np.multiply(p50s, 1e3)))
    ratios = [shadowed / alone for _, alone, shadowed in rounds]
    ratio, is_drained = statistics.median(ratios), None not in drained
    print(f"p50 with a candidate in shadow: x{ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f})   <= {_HOLD}")
    whole = statistics.median(shadowed / plain for plain, _, shadowed in rounds)
    last = max((one for one in drained if one is not None), default=0.0)
    print(f"    to no roll-out at all: x{whole:.3f}; requests that failed: {failed}")
    print(f"    backlog: at most {most}, {f'gone within {last:.1f} s' if is_drained else 'NOT GONE'}")
    return ratio <= _HOLD and is_drained and not failed


def _turn(url: str, bodies: list[bytes], given: argparse.Namespace, rate: float) -> tuple[float, int]:
    """(p50 in seconds from when each was due, requests that failed)."""
    load = Load(url, bodies, given.clients)
    load.run(given.seconds, rate=rate)
    return float(np.median(load.seconds)), sum(count for name, count in load.outcomes.items() if name != "200")


def _begin(store: Store, name: str, model: Path, candidate: Path, *, has_shadow: bool, url: str) -> str:
    """A roll-out at manual, once the server holds both."""
    gate = GateConfig(bound=0.5, has_incumbent=True)
    scope = "" if has_shadow else "site=nowhere"  # what asks one version must say where it may decide first
    config = RolloutConfig(
        gate=gate, scope=scope, objective="to measure it", cost_error=1.0, cost_review=1.0, has_shadow=has_shadow
    )
    config = prepare_config(config, candidate)
    started = start_rollout(
        store, name, candidate=candidate, incumbent=model, config=config, by="bench", reason="to measure it"
    )
    assert started.deployment is not None
    _until(lambda: _versions(url) == 2)
    return started.deployment.id


def _end(store: Store, deployment_id: str, *, url: str) -> None:
    rollback(store, deployment_id, by="bench", reason="the turn is over")
    _until(lambda: _versions(url) == 1)


def _drain(store: Store, deployment_id: str) -> float | None:
    """Seconds until nothing is left; None where it stays."""
    begun = time.perf_counter()
    while store.requests.backlog(deployment_id):
        if time.perf_counter() - begun > _DRAINS_S:
            return None
        time.sleep(0.05)
    return time.perf_counter() - begun


def _versions(url: str) -> int:
    with urllib.request.urlopen(f"{url}/models", timeout=30) as reply:
        return len(json.loads(reply.read())["models"])


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + _LOADS_S
    while not is_so():
        if time.monotonic() > until:
            raise RuntimeError("the server does not hold what the roll-out asks for")
        time.sleep(0.05)


def _another(model: Path, scratch: Path) -> Path:
    """The same network as another version: its manifest tells another seed."""
    folder = scratch / "candidate"
    folder.mkdir()
    path = folder / model.name
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "manifest.json":
                raw = json.loads(data)
                raw["lineage"]["seed"] = int(raw["lineage"].get("seed") or 0) + 1
                data = json.dumps(raw).encode()
            new.writestr(info, data)
    return path
