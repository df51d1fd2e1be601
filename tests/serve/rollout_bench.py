"""A server with a roll-out: models that say what they are told to, through the real app and store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from drivetrain.arrays import FloatArray
from drivetrain.flows.rollout import binding, position_of
from drivetrain.flows.rollout_config import RolloutConfig
from drivetrain.rollout.gates import GateConfig
from drivetrain.rollout.reviewing import settle
from drivetrain.rollout.stages import Position
from drivetrain.runtime.prediction import Prediction
from drivetrain.serve.app import create_app
from drivetrain.serve.rollout.desk import Rollouts
from drivetrain.store.deployments import Deployment
from drivetrain.store.ids import new_id
from drivetrain.store.requests import Routed
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store, open_store
from drivetrain.store.versions import Version

from .fakes import FakeModel, call, picture, settings

WAIT_S = 20.0
COLOURS = ("red", "green", "blue")
RED, GREEN, BLUE = (picture(colour) for colour in ("red", "#00ff00", "blue"))
NEW, OLD = "colours@" + "b" * 12, "colours@" + "a" * 12
HEADERS = {"Content-Type": "image/png"}


@dataclass
class Painted(FakeModel):
    """Says of each colour what it is told to; None: it leaves it to people; "!": it fails."""

    says: Mapping[str, str | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def decide(self, logits: FloatArray, frozen: FloatArray, style: FloatArray | None) -> Prediction:
        colour = COLOURS[int(logits.argmax())]
        self.asked.append(colour)
        label = self.says.get(colour, "amber")
        if label == "!":
            raise RuntimeError("broken inside")
        found = self._answer(0.9, reasons=() if label is not None else ("low_confidence",))
        return Prediction(**{name: getattr(found, name) for name in found.__slots__} | {"label": label or "amber"})


def make_config(**changed: Any) -> RolloutConfig:
    of_gate: dict[str, Any] = {
        "bound": 0.1, "n_min": 0, "class_min": 0, "hours_min": 0.0, "day_hours_min": 0, "has_incumbent": True,
    }  # fmt: skip
    of_gate |= {name: changed.pop(name) for name in list(changed) if name in GateConfig.__dataclass_fields__}
    values = {"objective": "fewer rangers at screens", "cost_error": 10.0, "cost_review": 0.5, "audit_share": 0.5}
    values |= {"second_share": 0.0}  # one person settles a picture
    return RolloutConfig(gate=GateConfig(**of_gate), **{**values, **changed})


def register(store: Store, version: str, path: str = "nowhere.dt") -> None:
    name, _, digits = version.partition("@")
    digest = digits + hashlib.sha256(version.encode()).hexdigest()[12:]
    store.versions.register(
        Version(version=version, model=name, digest=digest, path=path, registered_at=1.0, registered_by="ann")
    )


def begin(
    store: Store,
    *,
    name: str = "colours",
    has_incumbent: bool = True,
    candidate: str = NEW,
    incumbent: str = OLD,
    path: str = "nowhere.dt",
    **changed: Any,
) -> Deployment:
    """Started at manual, from versions that need no file."""
    register(store, candidate, path)
    register(store, incumbent)
    config = make_config(has_incumbent=has_incumbent, **changed)
    deployment = Deployment(
        id=new_id(),
        name=name,
        model=candidate.partition("@")[0],
        candidate=candidate,
        incumbent=incumbent if has_incumbent else None,
        config=config.as_json(),
        salt="salt",
        stage="manual",
        share=0.0,
        started_at=store.deployments.clock(),
        started_by="ann",
    )
    start = Position(stage="manual", share=0.0)
    seal = binding(store, deployment.id, "start", None, start, by="ann", reason="to try it", evidence={})
    return store.deployments.start(deployment, seal=seal)


def move_to(store: Store, name: str, stage: str, share: float = 1.0) -> Deployment:
    """Without a gate."""
    now = store.deployments.get(name)
    assert now is not None
    after = Position(stage=stage, share=share)  # type: ignore[arg-type]
    return store.deployments.transition(
        now.id,
        revision=now.revision,
        stage=stage,
        share=share,
        is_held=False,
        ended_at=store.deployments.clock() if after.is_over else None,
        seal=binding(
            store, now.id, "advance", position_of(now), after, by="ann", reason="it may", evidence={}
        ),
    )  # fmt: skip


@dataclass
class Bench:
    app: FastAPI
    store: Store
    new: Painted
    old: Painted

    @property
    def desk(self) -> Rollouts:
        desk = self.app.state.rollouts
        assert isinstance(desk, Rollouts)
        return desk

    def move(self, stage: str, share: float = 1.0, *, name: str = "colours") -> Deployment:
        moved = move_to(self.store, name, stage, share)
        self.desk.refresh()
        return moved

    def send(self, content: bytes = RED, *, key: str | None = None, path: str = "/predict", **headers: str) -> Any:
        """The answer, whatever it is."""
        given = HEADERS | ({"X-Drivetrain-Key": key} if key else {}) | headers
        reply = call(self.app, "POST", path, content=content, headers=given)
        assert reply.status_code in (200, 202), reply.text
        return reply.json()

    def post(self, content: bytes = RED, path: str = "/predict", **given: Any) -> httpx.Response:
        return call(self.app, "POST", path, content=content, headers=HEADERS, **given)

    def row(self, answer: Mapping[str, Any]) -> Routed:
        found = self.store.requests.get(str(answer["prediction_id"]))
        assert found is not None
        return found

    def seen(self, answer: Mapping[str, Any]) -> Routed:
        """Its row once both have seen it."""
        poll(lambda: self.row(answer).state != "pending")
        return self.row(answer)

    def tasks(self, answer: Mapping[str, Any]) -> list[Task]:
        return self.store.reviews.of(str(answer["prediction_id"]))

    def label(self, answer: Mapping[str, Any], label: str, *, by: str = "rita") -> Task:
        """One person says so."""
        [task] = self.tasks(answer)
        skip = set()
        while True:
            claimed = self.store.reviews.claim(by, order="deadline", lease_s=60, skip=skip)
            assert claimed is not None
            if claimed.id == task.id:
                break
            skip.add(claimed.id)
            self.store.reviews.release(claimed.id, by)

        def come_to(said: list[str]) -> Any:
            verdict = settle(said, people=task.people)
            return verdict.state, verdict.label

        done = self.store.reviews.answer(task.id, by, label, settle=come_to, seconds=1.0, saw_model=False)
        self.desk.settled(done)
        return done

    def metric(self, name: str, **labels: str) -> float:
        return self.app.state.metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def rollout_bench(
    folder: Path,
    *,
    new: Mapping[str, str | None] | None = None,
    old: Mapping[str, str | None] | None = None,
    store: Store | None = None,
    is_started: bool = True,
    has_new: bool = True,
    has_old: bool = True,
    clock: Callable[[], float] = time.time,
    **changed: object,
) -> Iterator[Bench]:
    """Both models loaded; `begin` starts the roll-out. Its threads run."""
    given = settings(**{"address_rate_limit": 0, "cache_dir": folder / "cache", **changed})
    opened = store or open_store(f"sqlite:///{folder / 'store.db'}", clock=clock)
    young, ancient = Painted(version=NEW, says=new or {}), Painted(version=OLD, says=old or {})
    app = create_app(ancient if has_old else None, given, store=opened)
    if has_new:
        app.state.registry.add(young, keep=True)
        if has_old:
            app.state.registry.promote(OLD)
    bench = Bench(app, opened, young, ancient)
    try:
        if is_started:
            bench.desk.start()
        yield bench
    finally:
        bench.desk.close()
        app.state.registry.close(drain_s=5)
        if store is None:
            opened.close()


def poll(is_so: Callable[[], bool], *, wait_s: float = WAIT_S) -> None:
    until = time.monotonic() + wait_s
    while not is_so():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.01)
