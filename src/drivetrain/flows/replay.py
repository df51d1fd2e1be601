"""Run a model over the pictures that a roll-out kept, before anyone sees it: a look, and no evidence of a gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drivetrain.errors import InvalidConfig
from drivetrain.runtime.prediction import Prediction
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.store.requests import Routed
from drivetrain.store.store import Store

from .rollout import get_deployment

__all__ = ["Replayed", "replay_rollout"]

_AT_ONCE = 64  # pictures in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What the model would have answered. Labels were asked for where versions differed, so they are the hard ones."""

    version: str
    n: int  # pictures answered
    n_gone: int  # forgotten, never kept, or unreadable
    n_deferred: int
    n_labelled: int  # decided by it, and labelled by people
    n_wrong: int
    wins: int  # labelled, decided by both: it alone is right
    losses: int  # the version in use alone is right
    n_compared: int  # decided by both
    n_same: int  # with the same label

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def replay_rollout(store: Store, name: str, *, candidate: Path | None = None, threads: int = 1) -> Replayed:
    """Over all requests of the roll-out, in order; `candidate` is its own where none is given."""
    deployment = get_deployment(store, name)
    if candidate is None:
        version = store.versions.get(deployment.candidate)
        assert version is not None  # a foreign key
        candidate = Path(version.path)
    predictor = load(candidate, threads=threads)
    if predictor.task != "classification":
        raise InvalidConfig(
            "candidate", got=f"a model for {predictor.task}", want="one that gives each picture one label"
        )
    counts = dict.fromkeys((field for field in Replayed.__dataclass_fields__ if field != "version"), 0)
    for batch in _batches(store, deployment.id, counts):
        _answer(predictor, batch, counts)
    return Replayed(version=predictor.version, **counts)


def _batches(
    store: Store, deployment_id: str, counts: dict[str, int]
) -> Iterator[list[tuple[Routed, str | None, bytes]]]:
    batch = []
    for routed, _, truth in store.requests.outcomes(deployment_id):
        data = None if routed.image_sha256 is None else store.images.get(routed.image_sha256)
        if data is None:
            counts["n_gone"] += 1
            continue
        batch.append((routed, truth, data))
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    yield batch


def _answer(predictor: Predictor, batch: list[tuple[Routed, str | None, bytes]], counts: dict[str, int]) -> None:
    answers = predictor.predict_many(data for *_, data in batch)
    for (routed, truth, _), answer in zip(batch, answers, strict=True):
        if not isinstance(answer, Prediction):
            counts["n_gone"] += 1
            continue
        counts["n"] += 1
        if answer.decision != "accept":
            counts["n_deferred"] += 1
            continue
        if truth is not None:
            counts["n_labelled"] += 1
            counts["n_wrong"] += answer.label != truth
        old = routed.incumbent or {}
        if old.get("decision") == "accept":
            counts["n_compared"] += 1
            counts["n_same"] += answer.label == old["label"]
            counts["wins"] += truth == answer.label != old["label"]
            counts["losses"] += truth == old["label"] != answer.label
