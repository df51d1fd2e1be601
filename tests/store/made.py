"""Rows of a roll-out for tests, with a word for what matters in each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from drivetrain.rollout.ledger import FIRST, LedgerEntry, find_break, seal
from drivetrain.store.deployments import Deployment
from drivetrain.store.ids import new_id
from drivetrain.store.predictions import Stored
from drivetrain.store.requests import Routed
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store
from drivetrain.store.versions import Version

AT = 1_700_000_000.0


def version(number: int = 1, *, model: str = "bears", **changed: Any) -> Version:
    digest = hashlib.sha256(f"{model} {number}".encode()).hexdigest()
    values = {
        "version": f"{model}@{digest[:12]}",
        "model": model,
        "digest": digest,
        "path": f"/models/{model}{number}.dt",
        "facts": {"evaluation": {"accuracy": 0.1 * number}},
        "registered_at": AT + number,
        "registered_by": "ann",
    }
    return Version(**{**values, **changed})


def deployment(store: Store, name: str = "bears", *, model: str | None = None, **changed: Any) -> Deployment:
    """A started one; its versions are registered first."""
    model = name if model is None else model
    old, new = (store.versions.register(version(number, model=model)) for number in (1, 2))
    values = {
        "id": new_id(),
        "name": name,
        "model": model,
        "candidate": new.version,
        "incumbent": old.version,
        "config": {"alpha": 0.05, "bound": 0.1},
        "salt": "s1",
        "stage": "manual",
        "share": 0.0,
        "started_at": store.deployments.clock(),
        "started_by": "ann",
    }
    given = Deployment(**{**values, **changed})
    return store.deployments.start(given, seal=sealing(given.id, "start"))


def sealing(id_: str, action: str, **evidence: Any) -> Callable[[Mapping[str, Any] | None], Mapping[str, Any]]:
    """What binds the next row of the ledger, as the roll-out's own code does."""

    def bind(last: Mapping[str, Any] | None) -> Mapping[str, Any]:
        entry = LedgerEntry(
            deployment=id_,
            number=1 if last is None else last["number"] + 1,
            at="2026-01-01T00:00:00+00:00",
            by="ann",
            action=action,
            before="manual",
            after="limited",
            reason="tried in a test",
            evidence=evidence,
            previous=FIRST if last is None else last["digest"],
        )
        return asdict(seal(entry))

    return bind


def break_of(store: Store, id_: str) -> str | None:
    """Where the ledger's chain breaks; None where it is whole."""
    return find_break(LedgerEntry(**row) for row in store.deployments.ledger(id_))


def stored(id_: str | None = None, **changed: Any) -> Stored:
    values = {
        "id": id_ or new_id(),
        "at": AT,
        "model": "bears",
        "version": "bears@0123456789ab",
        "caller_id": "key:k1",
        "request_id": "r1",
        "name": "grizzly.jpg",
        "sha256": "0" * 64,
        "answer": {"label": "grizzly", "probability": 0.98},
    }
    return Stored(**{**values, **changed})


def routed(prediction_id: str, deployment_id: str, **changed: Any) -> Routed:
    values = {
        "prediction_id": prediction_id,
        "deployment_id": deployment_id,
        "at": AT,
        "key": "cam-1",
        "attributes": {"site": "north"},
        "in_scope": True,
        "propensity": 0.25,
        "decided_by": "incumbent",
        "incumbent": {"label": "grizzly", "decision": "accept"},
        "candidate": {"label": "black", "probabilities": {"grizzly": 0.3, "black": 0.7}},
        "state": "done",
        "candidate_seconds": 0.03,
        "wants_label": False,
        "label_probability": 0.1,
    }
    return Routed(**{**values, **changed})


def task(prediction_id: str, deployment_id: str | None = None, **changed: Any) -> Task:
    values = {
        "id": new_id(),
        "prediction_id": prediction_id,
        "deployment_id": deployment_id,
        "why": "audit",
        "asked_at": AT,
    }
    return Task(**{**values, **changed})


def add(
    store: Store, deployment_id: str, *, given: Task | None = None, name: str = "grizzly.jpg", **changed: Any
) -> Routed:
    """One request on disk; `image_sha256` is that of its prediction too."""
    answer = stored(given.prediction_id if given else None, name=name, sha256=changed.get("image_sha256") or "0" * 64)
    return store.requests.add(routed(answer.id, deployment_id, **changed), answer, task=given)


def asked(store: Store, deployment_id: str, **changed: Any) -> Task:
    """A request whose label is wanted, and its task, both on disk."""
    wanted = task(new_id(), deployment_id, **changed)
    add(store, deployment_id, given=wanted, wants_label=True)
    return wanted


def one_person(answers: list[str]) -> tuple[Any, str | None]:
    """What settles a task of one person."""
    return "labelled", answers[-1]


def review(store: Store, by: str, answer: str, **changed: Any) -> Task | None:
    """Claim the next one and answer it."""
    claimed = store.reviews.claim(by, order="deadline", lease_s=300)
    if claimed is None:
        return None
    values = {"settle": one_person, "seconds": 2.0, "saw_model": False}
    return store.reviews.answer(claimed.id, by, answer, **{**values, **changed})
