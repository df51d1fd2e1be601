"""Pictures that wait for people: a roll-out in the real store, requests with kept pictures, and their tasks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from drivetrain.flows.versions import describe_version
from drivetrain.rollout.ledger import FIRST, LedgerEntry, seal
from drivetrain.store.deployments import Deployment
from drivetrain.store.ids import new_id
from drivetrain.store.predictions import Stored
from drivetrain.store.requests import Routed
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store

from .rollout_traffic import make_config

BEARS = ("black", "grizzly", "polar", "teddy")


def draw(colour: str = "green", *, size: tuple[int, int] = (48, 32)) -> bytes:
    """A PNG of one colour, with a line of text in it that no reviewer must get."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "taken by anna at 52.1, 4.3")
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def say(label: str, *, label_set: Sequence[str] = (), classes: Sequence[str] = BEARS, **changed: Any) -> dict[str, Any]:
    """A classifier's answer, as the server keeps it."""
    rest = 0.2 / max(1, len(classes) - 1)
    return {
        "label": label,
        "probability": 0.8,
        "probabilities": {one: 0.8 if one == label else rest for one in classes},
        "label_set": list(label_set) or [label],
        "decision": "accept",
        "reasons": [],
        **changed,
    }


def start(store: Store, bundle: Path, *, name: str = "bears") -> Deployment:
    """A roll-out beside people, at manual; what `rollout start` asks of it besides is left out."""
    now = store.deployments.clock()
    version = store.versions.register(describe_version(bundle, at=now, by="ann"))
    given = Deployment(
        id=new_id(), name=name, model=version.model, candidate=version.version, config=make_config().as_json(),
        salt="s1", stage="manual", share=0.0, started_at=now, started_by="ann",
    )  # fmt: skip

    def bind(last: Mapping[str, Any] | None) -> Mapping[str, Any]:
        assert last is None
        entry = LedgerEntry(
            deployment=given.id, number=1, at="2023-11-14T22:13:20+00:00", by="ann", action="start", before="none",
            after="manual", reason="to try it", evidence={}, previous=FIRST,
        )  # fmt: skip
        return asdict(seal(entry))

    return store.deployments.start(given, seal=bind)


def ask(
    store: Store,
    deployment: Deployment,
    *,
    picture: bytes | None = None,
    candidate: dict[str, Any] | None = None,
    incumbent: dict[str, Any] | None = None,
    due_s: float | None = 86_400.0,
    is_kept: bool = True,
    **changed: Any,
) -> Task:
    """One request whose label is wanted, on disk, with its task; each has a picture of its own."""
    now = store.reviews.clock()
    id_ = new_id()
    data = picture if picture is not None else draw(f"#{hash(id_) % 0xFFFFFF:06x}")
    sha256 = store.images.put(data) if is_kept else "0" * 64
    due_at = None if due_s is None else now + due_s
    values = {"id": new_id(), "prediction_id": id_, "deployment_id": deployment.id, "why": "all", "asked_at": now}
    task = Task(**{**values, "due_at": due_at, **changed})
    answer = candidate or say("grizzly")
    store.requests.add(
        Routed(
            prediction_id=id_, deployment_id=deployment.id, at=now, key="cam-1", in_scope=True, propensity=0.0,
            decided_by="people", candidate=answer, incumbent=incumbent, state="done", wants_label=True,
            label_probability=1.0, due_at=due_at, image_sha256=sha256 if is_kept else None,
        ),
        Stored(
            id=id_, at=now, model=deployment.model, version=deployment.candidate, caller_id="c", request_id="r",
            name="x.jpg", sha256=sha256, answer=answer,
        ),
        task=task,
    )  # fmt: skip
    return task
