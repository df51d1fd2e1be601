"""One request of a roll-out as it is kept: who decided it, what both said, whether its label is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import Connection, Row, select

from .packing import clean_text, pack, unpack
from .schema_rollout import REQUEST

__all__ = ["DecidedBy", "Routed", "clean_routed", "find_routed", "is_same", "pack_routed", "unpack_routed"]

DecidedBy = Literal["candidate", "incumbent", "people"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """One request and who decided it."""

    prediction_id: str
    deployment_id: str
    seq: int = 0  # given by the store
    at: float
    key: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    in_scope: bool
    propensity: float  # with which the candidate was to decide
    decided_by: DecidedBy
    incumbent: Mapping[str, Any] | None = None  # its answer
    candidate: Mapping[str, Any] | None = None
    state: Literal["pending", "done", "failed"]  # of the one that was not asked at once
    candidate_seconds: float | None = None
    wants_label: bool
    label_probability: float
    due_at: float | None = None
    image_sha256: str | None = None


def find_routed(db: Connection, prediction_id: str) -> Routed | None:
    """One."""
    row = db.execute(select(REQUEST).where(REQUEST.c.prediction_id == prediction_id)).first()
    return None if row is None else unpack_routed(row)


def clean_routed(routed: Routed) -> Routed:
    """What every database takes."""
    attributes = {clean_text(name): clean_text(value) for name, value in routed.attributes.items()}
    return replace(routed, key=clean_text(routed.key), attributes=attributes)


def is_same(kept: Routed, given: Routed) -> bool:
    """Whether it is the same request, added twice."""
    names: Iterable[str] = ("deployment_id", "at", "key", "decided_by", "propensity", "label_probability")
    return all(getattr(kept, name) == getattr(given, name) for name in names)


def pack_routed(routed: Routed) -> dict[str, Any]:
    """As a row."""
    return asdict(routed) | {
        "attributes": pack(routed.attributes),
        "incumbent": None if routed.incumbent is None else pack(routed.incumbent),
        "candidate": None if routed.candidate is None else pack(routed.candidate),
    }


def unpack_routed(row: Row[*tuple[object, ...]]) -> Routed:
    """Of a row."""
    return Routed(
        prediction_id=row.prediction_id,
        deployment_id=row.deployment_id,
        seq=row.seq,
        at=row.at,
        key=row.key,
        attributes=unpack(row.attributes),
        in_scope=row.in_scope,
        propensity=row.propensity,
        decided_by=row.decided_by,
        incumbent=None if row.incumbent is None else unpack(row.incumbent),
        candidate=None if row.candidate is None else unpack(row.candidate),
        state=row.state,
        candidate_seconds=row.candidate_seconds,
        wants_label=row.wants_label,
        label_probability=row.label_probability,
        due_at=row.due_at,
        image_sha256=row.image_sha256,
    )
