"""A request that comes twice with one key is done once."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from drivetrain.errors import Conflict

from .database import Database
from .schema import IDEMPOTENCY

__all__ = ["Idempotency", "Kept"]

KEEP_S = 24 * 3600.0
_KEY_MAX = 200  # characters; a longer one is kept as its digest
_PRUNE_SHARE = 0.01  # of begins that also clear away what is old


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The answer to the first request with a key."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The keys in the database, for 24 hours. They need not outlive a power cut: answering twice harms nobody."""

    database: Database
    clock: Callable[[], float]

    def begin(
        self, caller_id: str, key: str, body_sha256: str, *, lease_s: float = 120.0
    ) -> Kept | Literal["new", "running"]:
        """ "new": do it, then `finish` or `forget`. "running": another request with it is at work, unless it began
        more than `lease_s` ago: then its server is gone, and this is "new". Conflict where the body is another."""
        now, row_is = self.clock(), _is(caller_id, key)
        with self.database.write(is_lasting=False) as db:
            if random.random() < _PRUNE_SHARE:  # noqa: S311 - not a secret
                db.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.begun_at < now - KEEP_S))
            row = db.execute(select(IDEMPOTENCY).where(row_is).with_for_update()).first()
            if row is not None and row.begun_at < now - KEEP_S:
                db.execute(delete(IDEMPOTENCY).where(row_is))
                row = None
            if row is not None and row.body_sha256 != body_sha256:
                raise Conflict(
                    "Idempotency-Key",
                    got="one that came with another body before",
                    want="a new key for a new request",
                )
            if row is not None and row.status is not None:
                headers = tuple((name, value) for name, value in json.loads(row.headers))
                return Kept(status=row.status, headers=headers, body=bytes(row.body))
            if row is not None:
                if row.begun_at >= now - lease_s:
                    return "running"
                db.execute(update(IDEMPOTENCY).where(row_is).values(begun_at=now))
                return "new"
            return "new" if self._insert(db, caller_id, key, body_sha256, now) else "running"

    def finish(self, caller_id: str, key: str, *, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Keep the answer for whoever asks again."""
        values = {"status": status, "headers": json.dumps([list(pair) for pair in headers]), "body": body}
        with self.database.write(is_lasting=False) as db:
            db.execute(update(IDEMPOTENCY).where(_is(caller_id, key)).values(values))

    def forget(self, caller_id: str, key: str) -> None:
        """The request failed in a way that may pass: the next one with the key is new."""
        with self.database.write(is_lasting=False) as db:
            db.execute(delete(IDEMPOTENCY).where(_is(caller_id, key), IDEMPOTENCY.c.status.is_(None)))

    def _insert(self, db: Connection, caller_id: str, key: str, body_sha256: str, now: float) -> bool:
        """False where another process was faster."""
        values = {"caller_id": caller_id, "key": _short(key), "body_sha256": body_sha256, "begun_at": now}
        try:
            with db.begin_nested():
                db.execute(insert(IDEMPOTENCY).values(values))
        except IntegrityError:
            return False
        return True


def _is(caller_id: str, key: str) -> ColumnElement[bool]:
    return and_(IDEMPOTENCY.c.caller_id == caller_id, IDEMPOTENCY.c.key == _short(key))


def _short(key: str) -> str:
    if len(key) <= _KEY_MAX:
        return key
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
