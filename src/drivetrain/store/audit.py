"""Who did what, and when: rows are added, never changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import insert, select

from .database import Database
from .ids import new_id
from .schema import AUDIT

__all__ = ["Audit", "AuditEvent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One act."""

    id: str
    at: float
    action: str  # as "key.create"
    by: str  # as "user:ann", "key:k3v9...", "local", "command line:ann"
    subject: str
    detail: Mapping[str, object]
    address: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The acts in the database."""

    database: Database
    clock: Callable[[], float]

    def __call__(
        self,
        action: str,
        *,
        by: str,
        subject: str = "",
        detail: Mapping[str, object] | None = None,
        address: str = "",
        request_id: str = "",
    ) -> None:
        """Write one down; on disk when this returns. Never hand it a password, a key or a cookie."""
        values = {
            "id": new_id(),
            "at": self.clock(),
            "action": action[:64],
            "by": by[:128],
            "subject": subject[:1000],
            "detail": json.dumps(dict(detail or {}), ensure_ascii=False),
            "address": address[:128],
            "request_id": request_id[:128],
        }
        with self.database.write() as db:
            db.execute(insert(AUDIT).values(values))

    def list(self, *, action: str | None = None, limit: int = 100) -> list[AuditEvent]:
        """The newest first."""
        query = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        if action is not None:
            query = query.where(AUDIT.c.action == action)
        with self.database.read() as db:
            return [
                AuditEvent(
                    id=row.id,
                    at=row.at,
                    action=row.action,
                    by=row.by,
                    subject=row.subject,
                    detail=json.loads(row.detail),
                    address=row.address,
                    request_id=row.request_id,
                )
                for row in db.execute(query)
            ]
