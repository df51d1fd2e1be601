"""A roll-out through the real store: two small bundles, requests, and the labels that people give."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import update

from drivetrain.data.datasheet import QUESTIONS as DATASHEET_QUESTIONS
from drivetrain.flows.premortem import QUESTIONS
from drivetrain.flows.rollout_config import RolloutConfig
from drivetrain.flows.rollout_start import prepare_config, start_rollout
from drivetrain.rollout.gates import GateConfig
from drivetrain.store.deployments import Deployment
from drivetrain.store.ids import new_id
from drivetrain.store.predictions import Stored
from drivetrain.store.requests import Routed
from drivetrain.store.reviews import Task, Why
from drivetrain.store.schema_rollout import REVIEW_TASK
from drivetrain.store.store import Store

START = 1_700_000_000.0
HOUR_S = 3600.0
DATASHEET = "# Data\n" + "".join(f"\n## {heading}\n\nYes.\n" for heading in DATASHEET_QUESTIONS)
ANSWERS = dict.fromkeys(QUESTIONS, "We thought of it.")
EVALUATION = {"n": 1000, "deferral": {"n_wrong": 17, "coverage": 0.9}}


class Clock:
    """Seconds since 1970 that move when they are told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def write_bundle(path: Path, *, seed: int = 1, datasheet: str = DATASHEET, **sections: Any) -> Path:
    """An honest bundle of a few kilobytes; another seed is another version."""
    key = "rollout_forge_bundle"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, Path(__file__).parents[1] / "bundle" / "forge.py")
        assert spec
        assert spec.loader
        sys.modules[key] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[key])
    values = {"evaluation": EVALUATION, "lineage": {"seed": seed}, **sections}
    parts = sys.modules[key].tiny_parts().changed({"DATASHEET.md": datasheet.encode()}, **values)
    path.write_bytes(parts.archive())
    return path


def make_config(**changed: Any) -> RolloutConfig:
    """Easy to pass, but for what is shown; names of the gate's own go there."""
    of_gate = {"bound": 0.1, "n_min": 0, "class_min": 0, "hours_min": 0.0, "day_hours_min": 0}
    of_gate |= {name: changed.pop(name) for name in list(changed) if name in GateConfig.__dataclass_fields__}
    values = {"objective": "fewer rangers at screens", "cost_error": 10.0, "cost_review": 0.5, "audit_share": 0.5}
    return RolloutConfig(gate=GateConfig(**of_gate), **{**values, **changed})


def begin(
    store: Store,
    folder: Path,
    *,
    name: str = "shapes",
    seed: int = 2,
    has_incumbent: bool = False,
    premortem: dict[str, str] | None = None,
    datasheet: str = DATASHEET,
    **changed: Any,
) -> Deployment:
    """Started, at manual."""
    candidate = write_bundle(folder / f"new{seed}.dt", seed=seed, datasheet=datasheet)
    incumbent = write_bundle(folder / "old.dt") if has_incumbent else None
    config = prepare_config(make_config(has_incumbent=has_incumbent, **changed), candidate)
    started = start_rollout(
        store,
        name,
        candidate=candidate,
        incumbent=incumbent,
        config=config,
        by="ann",
        reason="to try it",
        premortem=ANSWERS if premortem is None else premortem,
    )
    assert started.deployment is not None
    return started.deployment


class Traffic:
    """Requests of one deployment, a second apart."""

    def __init__(self, store: Store, clock: Clock, deployment: Deployment, *, gap_s: float = 1.0) -> None:
        self.store, self.clock, self.deployment, self.gap_s = store, clock, deployment, gap_s
        self.tasks: list[Task] = []

    def send(
        self,
        n: int = 1,
        *,
        candidate: str | None = "circle",
        incumbent: str | None = None,
        truth: str | None = "circle",
        wants_label: bool = True,
        probability: float = 1.0,
        is_failed: bool = False,
        is_pending: bool = False,
        why: Why = "all",
        due_h: float = 24.0,
        asked: Literal["both", "candidate", "incumbent"] = "both",
        **changed: Any,
    ) -> None:
        """What the two took of each by themselves (None: left to people), what a person says (None: not yet).

        `asked`: without shadow, the one that was.
        """
        waiting: list[Future[Routed]] = []
        tasks: list[Task] = []
        for _ in range(n):
            self.clock.now += self.gap_s
            id_ = new_id()
            task = None
            if wants_label and not is_pending:
                task = Task(
                    id=new_id(), prediction_id=id_, deployment_id=self.deployment.id, why=why,
                    asked_at=self.clock.now, due_at=self.clock.now + due_h * HOUR_S,
                )  # fmt: skip
                tasks.append(task)
            has_old = self.deployment.incumbent is not None
            values = {
                "prediction_id": id_,
                "deployment_id": self.deployment.id,
                "at": self.clock.now,
                "key": "cam-1",
                "in_scope": True,
                "propensity": 0.0,
                "decided_by": "candidate" if asked == "candidate" else "incumbent" if has_old else "people",
                "incumbent": answer(incumbent) if has_old and asked != "candidate" else None,
                "candidate": None if is_failed or is_pending or asked == "incumbent" else answer(candidate),
                "state": "pending" if is_pending else "failed" if is_failed else "done",
                "wants_label": wants_label,
                "label_probability": probability,
                "due_at": self.clock.now + due_h * HOUR_S,
            }
            stored = Stored(
                id=id_, at=self.clock.now, model="shapes", version="v", caller_id="c", request_id="r", name="x.jpg",
                sha256=changed.get("image_sha256") or "0" * 64, answer={},
            )  # fmt: skip
            waiting.append(self.store.requests.submit(Routed(**{**values, **changed}), stored, task=task))
        for future in waiting:
            future.result(30)
        self.tasks += tasks
        if truth is not None and tasks:  # all in one transaction: a disk is slow
            values = {"state": "labelled", "truth": truth, "settled_at": self.clock.now}
            with self.store.database.write() as db:
                are = REVIEW_TASK.c.id.in_([task.id for task in tasks])
                db.execute(update(REVIEW_TASK).where(are).values(values))

    def label(self, task: Task, truth: str) -> None:
        """One person's answer settles it."""
        skip = [one.id for one in self.tasks if one.id != task.id]
        claimed = self.store.reviews.claim("rita", order="deadline", lease_s=300, skip=skip)
        assert claimed is not None
        assert claimed.id == task.id
        self.store.reviews.answer(
            task.id, "rita", truth, settle=lambda said: ("labelled", said[-1]), seconds=3.0, saw_model=False
        )


def answer(label: str | None) -> dict[str, Any]:
    """As the server keeps it."""
    if label is None:
        return {"label": "circle", "decision": "defer", "reasons": ["unknown"]}
    return {"label": label, "decision": "accept", "reasons": []}
