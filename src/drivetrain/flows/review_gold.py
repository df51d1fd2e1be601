"""Pictures of known label, mixed into the queue: how well reviewers see. They are evidence of nothing else."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drivetrain.data.items import Item, Items, read_items
from drivetrain.errors import Conflict, InvalidInput
from drivetrain.progress import Progress, SilentProgress
from drivetrain.rollout.reviewing import CANNOT_TELL, NONE_OF_THESE
from drivetrain.runtime.prediction import Answer
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.store.deployments import Deployment
from drivetrain.store.ids import new_id
from drivetrain.store.predictions import Stored
from drivetrain.store.review_queue import list_gold
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store

from .rollout import get_deployment

__all__ = ["GoldAdded", "add_gold"]

GOLD_CALLER = "gold"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldAdded:
    """What was added to a roll-out's queue."""

    rollout: str
    by_label: Mapping[str, int]
    n_known: int  # that were there already
    unreadable: tuple[str, ...]


def add_gold(
    store: Store, folder: Path, *, rollout: str | None = None, threads: int = 1, progress: Progress | None = None
) -> GoldAdded:
    """Keep the pictures of `folder`, a folder per class, as ones whose label is known.

    The roll-out's candidate is asked of each, so that their short lists look like those of all others. They belong to
    its model: a later candidate's reviewers see them too. Raises InvalidInput for a class that the candidate does not
    know (`none of these` and `cannot tell` are allowed).
    """
    deployment = _deployment(store, rollout)
    version = store.versions.get(deployment.candidate)
    assert version is not None  # a foreign key
    predictor = load(Path(version.path), threads=threads)
    items = read_items(folder)
    _check(items, predictor)
    kept, known = [], list_gold(store.reviews, deployment.model)
    n_known, unreadable = 0, []
    with (progress or SilentProgress()).task("Keeping pictures", total=len(items)) as advance:
        for item, answer in zip(items, predictor.predict_many(items.file(one) for one in items), strict=True):
            advance(1)
            if isinstance(answer, Exception):
                unreadable.append(item.path)
                continue
            data = items.file(item).read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 in known:
                n_known += 1
                _check_same(item, known[sha256])
                continue
            known[sha256] = item.label
            store.images.put(data)
            kept.append((item.label, _stored(store, deployment, sha256, answer)))
    _ask(store, kept)
    by_label = Counter(label for label, _ in kept)
    return GoldAdded(
        rollout=deployment.name, by_label=dict(sorted(by_label.items())), n_known=n_known, unreadable=tuple(unreadable)
    )


def _deployment(store: Store, rollout: str | None) -> Deployment:
    if rollout is not None:
        return get_deployment(store, rollout, is_open=True)
    going = [one for one in store.deployments.list() if one.ended_at is None]
    if len(going) != 1:
        names = ", ".join(one.name for one in going) or "none"
        raise InvalidInput("--rollout", got=f"none, and those that go on are: {names}", want="the name of one")
    return going[0]


def _check(items: Items, predictor: Predictor) -> None:
    if items.task != "classification":
        raise InvalidInput("FOLDER", got=f"pictures for {items.task}", want="one label a picture: a folder per class")
    strange = sorted(set(items.classes) - {*predictor.classes, NONE_OF_THESE, CANNOT_TELL})
    if strange:
        shown = ", ".join(predictor.classes[:20]) + (", ..." if len(predictor.classes) > 20 else "")
        hint = f"A folder called {NONE_OF_THESE!r} is for pictures of something else."
        raise InvalidInput("FOLDER", got=f"the class {strange[0]!r}", want=f"classes among {shown}", hint=hint)


def _check_same(item: Item, label: str) -> None:
    if item.label != label:
        raise Conflict(
            "FOLDER", got=f"{item.path} as {item.label!r}", want=f"{label!r}, as the same picture was before"
        )


def _stored(store: Store, deployment: Deployment, sha256: str, answer: Answer) -> Stored:
    return Stored(
        id=new_id(),
        at=store.reviews.clock(),
        model=deployment.model,
        version=deployment.candidate,
        caller_id=GOLD_CALLER,
        request_id="",
        name="",
        sha256=sha256,
        answer=answer.as_json(),
    )


def _ask(store: Store, kept: list[tuple[str, Stored]]) -> None:
    """No roll-out's own: no count of open reviews and no evidence sees them."""
    for _, stored in kept:
        store.predictions.add(stored)
    store.predictions.flush()
    for label, stored in kept:
        task = Task(id=new_id(), prediction_id=stored.id, why="gold", asked_at=stored.at, gold=label)
        store.reviews.ask(task)
