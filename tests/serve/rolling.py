"""Roll-outs at several steps, made by the tests of flows, behind a server's door."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from drivetrain.flows.rollout import advance
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store

HARD = {"n_min": 100, "class_min": 5, "hours_min": 24.0, "day_hours_min": 12}


def made() -> ModuleType:
    """tests/flows/rollout_traffic.py; the folders of tests are no packages of one another."""
    name = "serve_rollout_traffic"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "flows" / "rollout_traffic.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def clock_of(store: Store) -> Any:
    """One for the traffic alone, which begins now: the store keeps its own."""
    clock = made().Clock()
    clock.now = store.deployments.clock()
    return clock


def begin(store: Store, folder: Path, **given: Any) -> Deployment:
    deployment: Deployment = made().begin(store, folder, **given)
    return deployment


def send(store: Store, deployment: Deployment, n: int, *, gap_s: float = 0.0, **given: Any) -> None:
    """Requests that were just asked, each with its label unless told otherwise."""
    made().Traffic(store, clock_of(store), deployment, gap_s=gap_s).send(n, **given)


def begin_ready(store: Store, folder: Path, **given: Any) -> Deployment:
    """One that has shown all that its next step needs."""
    deployment = begin(store, folder, **given)
    send(store, deployment, 60)
    return deployment


def begin_limited(store: Store, folder: Path, *, by: str = "ann", **given: Any) -> Deployment:
    """One step up."""
    deployment = begin_ready(store, folder, **given)
    moved = advance(store, deployment.id, by=by, reason="the gate holds")
    assert moved.deployment is not None
    return moved.deployment
