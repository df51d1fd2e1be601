"""Signed-in browsers. The cookie's token is kept as a digest: who reads the database cannot sign in with it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, insert, select, update

from drivetrain.errors import InvalidInput

from .database import Database
from .roles import unpack_roles
from .schema import API_KEY, SESSION, USER

__all__ = ["Session", "Sessions"]

_TOUCH_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Who holds it, and what they may do now."""

    kind: Literal["user", "key"]
    holder_id: str
    name: str
    roles: frozenset[str]
    created_at: float
    seen_at: float


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions in the database."""

    database: Database
    clock: Callable[[], float]

    def create(self, *, user_id: str | None = None, api_key_id: str | None = None, address: str = "") -> str:
        """A new session of a person, or of a key typed into the login page; returns its token, for the cookie."""
        if (user_id is None) == (api_key_id is None):
            raise InvalidInput("session", got="no holder, or two", want="a user or a key")
        token, now = secrets.token_urlsafe(32), self.clock()
        values = {
            "token_sha256": _digest(token),
            "user_id": user_id,
            "api_key_id": api_key_id,
            "created_at": now,
            "seen_at": now,
            "address": address[:128],
        }
        with self.database.write() as db:
            db.execute(insert(SESSION).values(values))
        return token

    def find(self, token: str, *, idle_s: float, max_s: float) -> Session | None:
        """None where it never was, ended, lay idle for `idle_s`, is older than `max_s`, or its holder may no more."""
        now = self.clock()
        query = (
            select(
                SESSION,
                USER.c.name.label("user_name"),
                USER.c.roles.label("user_roles"),
                USER.c.removed_at,
                API_KEY.c.name.label("key_name"),
                API_KEY.c.roles.label("key_roles"),
                API_KEY.c.revoked_at,
                API_KEY.c.expires_at,
            )
            .join_from(SESSION, USER, isouter=True)
            .join(API_KEY, SESSION.c.api_key_id == API_KEY.c.id, isouter=True)
            .where(
                SESSION.c.token_sha256 == _digest(token),
                SESSION.c.seen_at > now - idle_s,
                SESSION.c.created_at > now - max_s,
                USER.c.removed_at.is_(None),
                API_KEY.c.revoked_at.is_(None),
                API_KEY.c.expires_at.is_(None) | (API_KEY.c.expires_at > now),
            )
        )
        with self.database.read() as db:
            row = db.execute(query).first()
        if row is None:
            return None
        if row.seen_at < now - min(_TOUCH_S, idle_s / 4):
            self._touch(row.token_sha256, now)
        is_user = row.user_id is not None
        return Session(
            kind="user" if is_user else "key",
            holder_id=row.user_id if is_user else row.api_key_id,
            name=row.user_name if is_user else row.key_name,
            roles=unpack_roles(row.user_roles if is_user else row.key_roles),
            created_at=row.created_at,
            seen_at=row.seen_at,
        )

    def end(self, token: str) -> bool:
        """Whether there was one."""
        with self.database.write() as db:
            return bool(db.execute(delete(SESSION).where(SESSION.c.token_sha256 == _digest(token))).rowcount)

    def prune(self, *, idle_s: float, max_s: float) -> int:
        """Remove those that are over."""
        now = self.clock()
        is_over = (SESSION.c.seen_at <= now - idle_s) | (SESSION.c.created_at <= now - max_s)
        with self.database.write() as db:
            return int(db.execute(delete(SESSION).where(is_over)).rowcount)

    def _touch(self, token_sha256: str, now: float) -> None:
        with self.database.write(is_lasting=False) as db:
            db.execute(update(SESSION).where(SESSION.c.token_sha256 == token_sha256).values(seen_at=now))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
