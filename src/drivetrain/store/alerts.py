"""What somebody must look at before a roll-out goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from drivetrain.errors import Conflict, NotFound

from .database import Database
from .ids import new_id
from .packing import clean_text, require_text
from .schema_rollout import ALERT

__all__ = ["Alert", "Alerts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that was noticed."""

    id: str
    deployment_id: str
    at: float
    kind: str  # such as "sample_ratio"
    detail: str  # for a person
    closed_at: float | None = None
    closed_by: str | None = None
    closed_why: str | None = None


@dataclass(frozen=True, slots=True)
class Alerts:
    """The alerts in the database."""

    database: Database
    clock: Callable[[], float]

    def open(self, deployment_id: str, kind: str, detail: str) -> Alert:
        """Raise one; while one of its kind is open there, that one: two servers notice the same thing."""
        kind = require_text("kind", kind, most=64)
        values = {
            "id": new_id(),
            "deployment_id": deployment_id,
            "at": self.clock(),
            "kind": kind,
            "detail": clean_text(detail),
        }
        is_same = (ALERT.c.deployment_id == deployment_id) & (ALERT.c.kind == kind) & ALERT.c.closed_at.is_(None)
        with self.database.write() as db:
            row = db.execute(select(ALERT).where(is_same)).first()
            if row is not None:
                return _alert(row)
            try:
                with db.begin_nested():
                    db.execute(insert(ALERT).values(values))
            except IntegrityError:
                row = db.execute(select(ALERT).where(is_same)).first()
                if row is None:
                    raise NotFound("deployment", got=deployment_id, want="one that was started") from None
                return _alert(row)
            return _require(db, str(values["id"]))

    def close(self, id: str, by: str, reason: str) -> Alert:  # noqa: A002
        """Say why it need not hold anything up any more. Raises NotFound, and Conflict where it is closed."""
        values = {
            "closed_at": self.clock(),
            "closed_by": require_text("by", by, most=128),
            "closed_why": require_text("reason", reason, most=2_000),
        }
        with self.database.write() as db:
            found = _require(db, id)
            is_open = (ALERT.c.id == id) & ALERT.c.closed_at.is_(None)
            if not db.execute(update(ALERT).where(is_open).values(values)).rowcount:
                raise Conflict("alert", got=f"{id}, closed by {found.closed_by}", want="one that is open")
            return _require(db, id)

    def list(self, deployment_id: str, only_open: bool = True) -> list[Alert]:
        """The oldest first."""
        query = select(ALERT).where(ALERT.c.deployment_id == deployment_id).order_by(ALERT.c.at, ALERT.c.id)
        if only_open:
            query = query.where(ALERT.c.closed_at.is_(None))
        with self.database.read() as db:
            return [_alert(row) for row in db.execute(query)]


def _require(db: Connection, alert_id: str) -> Alert:
    row = db.execute(select(ALERT).where(ALERT.c.id == alert_id)).first()
    if row is None:
        raise NotFound("alert", got=alert_id, want="an id of `drivetrain rollout status`")
    return _alert(row)


def _alert(row: Row[*tuple[object, ...]]) -> Alert:
    return Alert(
        id=row.id,
        deployment_id=row.deployment_id,
        at=row.at,
        kind=row.kind,
        detail=row.detail,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        closed_why=row.closed_why,
    )
