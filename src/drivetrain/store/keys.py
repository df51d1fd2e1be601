"""API keys: shown once, kept as a digest."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Row, func, insert, select, update

from drivetrain.errors import Conflict, InvalidInput, NotFound

from .database import Database
from .roles import pack_roles, unpack_roles
from .schema import API_KEY

__all__ = ["ApiKey", "Keys"]

_ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"  # nothing to mix up when it is read aloud
_TOKEN = re.compile(r"dt_([a-z0-9]{10})_([a-f0-9]{64})")
_TOUCH_S = 60.0
_NAME_MAX = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key; not the key itself."""

    id: str
    name: str
    roles: frozenset[str]
    created_at: float
    created_by: str
    expires_at: float | None
    revoked_at: float | None
    used_at: float | None

    def why_not(self, now: float) -> str | None:
        """None while it holds; else "revoked" or "expired"."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else None


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys in the database."""

    database: Database
    clock: Callable[[], float]

    def create(
        self, name: str, *, roles: Iterable[str], by: str, expires_at: float | None = None
    ) -> tuple[ApiKey, str]:
        """A new key and its token, `dt_<id>_<secret>`: the only time that it is seen."""
        name = name.strip()
        if not 1 <= len(name) <= _NAME_MAX or not name.isprintable():
            raise InvalidInput("name", got=name, want=f"1 to {_NAME_MAX} characters that say whose key it is")
        now = self.clock()
        if expires_at is not None and expires_at <= now:
            raise InvalidInput("expires", got="a time that has passed", want="one to come")
        key_id = "".join(secrets.choice(_ALPHABET) for _ in range(10))
        secret = secrets.token_hex(32)
        values = {
            "id": key_id,
            "name": name,
            "secret_sha256": _digest(secret),
            "roles": pack_roles(roles),
            "created_at": now,
            "created_by": by,
            "expires_at": expires_at,
        }
        with self.database.write() as db:
            db.execute(insert(API_KEY).values(values))
        return self.find(key_id), f"dt_{key_id}_{secret}"

    def find(self, key_id: str) -> ApiKey:
        """Raises NotFound."""
        with self.database.read() as db:
            row = db.execute(select(API_KEY).where(API_KEY.c.id == key_id)).first()
        if row is None:
            raise NotFound("key", got=key_id, want="an id of `drivetrain key list`")
        return _key(row)

    def check(self, token: str) -> ApiKey | None:
        """The key whose secret this is, also one that is expired or revoked (see `why_not`); None for other text."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:  # no question for the database
            return None
        key_id, secret = parts.groups()
        with self.database.read() as db:
            row = db.execute(select(API_KEY).where(API_KEY.c.id == key_id)).first()
        kept = row.secret_sha256 if row is not None else "0" * 64
        if not hmac.compare_digest(kept, _digest(secret)) or row is None:
            return None
        return _key(row)

    def touch(self, key_id: str) -> None:
        """Note that it was used, to the minute."""
        now = self.clock()
        is_due = (API_KEY.c.used_at.is_(None)) | (API_KEY.c.used_at < now - _TOUCH_S)
        with self.database.write(is_lasting=False) as db:
            db.execute(update(API_KEY).where(API_KEY.c.id == key_id, is_due).values(used_at=now))

    def list(self) -> list[ApiKey]:
        """All, the newest last."""
        with self.database.read() as db:
            return [_key(row) for row in db.execute(select(API_KEY).order_by(API_KEY.c.created_at, API_KEY.c.id))]

    def revoke(self, key_id: str) -> ApiKey:
        """From now on it opens nothing. Raises NotFound, and Conflict where it was revoked before."""
        self.find(key_id)
        with self.database.write() as db:
            changed = db.execute(
                update(API_KEY)
                .where(API_KEY.c.id == key_id, API_KEY.c.revoked_at.is_(None))
                .values(revoked_at=self.clock())
            )
            if not changed.rowcount:
                raise Conflict("key", got=f"{key_id}, revoked already", want="one that holds")
        return self.find(key_id)

    def count(self) -> int:
        """Of all keys ever made: one that is revoked still tells that keys are asked for here."""
        with self.database.read() as db:
            return db.execute(select(func.count()).select_from(API_KEY)).scalar_one()


def _digest(secret: str) -> str:
    # 32 random bytes cannot be guessed, so a fast hash keeps them; passwords need argon2 (users.py)
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Row[*tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        roles=unpack_roles(row.roles),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        used_at=row.used_at,
    )
