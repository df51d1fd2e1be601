"""People who sign in with a name and a password."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Row, delete, func, insert, select, update

from drivetrain.errors import Conflict, InvalidInput, NotFound

from .database import Database
from .ids import new_id
from .roles import pack_roles, unpack_roles
from .schema import SESSION, USER

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["PASSWORD_MIN_CHARS", "User", "Users"]

PASSWORD_MIN_CHARS = 12
_PASSWORD_MAX_CHARS = 1024  # so that hashing one costs the same for all
_NAME_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person."""

    id: str
    name: str
    roles: frozenset[str]
    created_at: float
    created_by: str
    removed_at: float | None


@dataclass(frozen=True, slots=True)
class Users:
    """The people in the database."""

    database: Database
    clock: Callable[[], float]

    def add(self, name: str, *, password: str, roles: Iterable[str], by: str) -> User:
        """Raises Conflict where the name is taken, also by someone removed: the audit must stay clear."""
        name = unicodedata.normalize("NFKC", name).strip()
        if not 1 <= len(name) <= _NAME_MAX or not name.isprintable():
            raise InvalidInput("name", got=name, want=f"1 to {_NAME_MAX} printable characters")
        now = self.clock()
        values = {
            "id": new_id(),
            "name": name,
            "name_key": _name_key(name),
            "password_hash": _hash(_allowed(password, name)),
            "roles": pack_roles(roles),
            "created_at": now,
            "created_by": by,
            "password_changed_at": now,
        }
        with self.database.write() as db:
            if db.execute(select(USER.c.id).where(USER.c.name_key == values["name_key"])).first():
                raise Conflict("user", got=f"the name {name}, which is taken", want="another name")
            db.execute(insert(USER).values(values))
        return self.find(name)

    def find(self, name: str) -> User:
        """By name, whoever was removed too. Raises NotFound."""
        row = self._row(name)
        if row is None:
            raise NotFound("user", got=name, want="a name of `drivetrain user list`")
        return _user(row)

    def check(self, name: str, password: str) -> User | None:
        """The person, or None. Takes as long for a name that is unknown as for a wrong password."""
        row = self._row(name)
        is_known = row is not None and row.removed_at is None
        kept = row.password_hash if row is not None and is_known else _hash_of_nobody()
        is_right = _verify(kept, password[:_PASSWORD_MAX_CHARS])
        if row is None or not is_known or not is_right or len(password) > _PASSWORD_MAX_CHARS:
            return None
        if _hasher().check_needs_rehash(kept):  # made with the costs of an older version
            with self.database.write() as db:
                db.execute(update(USER).where(USER.c.id == row.id).values(password_hash=_hash(password)))
        return _user(row)

    def list(self) -> list[User]:
        """All, by name."""
        with self.database.read() as db:
            return [_user(row) for row in db.execute(select(USER).order_by(USER.c.name_key))]

    def remove(self, name: str) -> User:
        """The person cannot sign in again, and is signed out; the row stays for the audit."""
        user = self.find(name)
        if user.removed_at is not None:
            raise Conflict("user", got=f"{user.name}, removed already", want="one who is there")
        with self.database.write() as db:
            db.execute(update(USER).where(USER.c.id == user.id).values(removed_at=self.clock()))
            db.execute(delete(SESSION).where(SESSION.c.user_id == user.id))
        return self.find(name)

    def set_password(self, name: str, password: str) -> User:
        """Ends every session of the person. One who was removed is back, if this is called for them."""
        user = self.find(name)
        hashed = _hash(_allowed(password, user.name))
        with self.database.write() as db:
            db.execute(
                update(USER)
                .where(USER.c.id == user.id)
                .values(password_hash=hashed, password_changed_at=self.clock(), removed_at=None)
            )
            db.execute(delete(SESSION).where(SESSION.c.user_id == user.id))
        return self.find(name)

    def count(self) -> int:
        """Of all people ever added."""
        with self.database.read() as db:
            return db.execute(select(func.count()).select_from(USER)).scalar_one()

    def _row(self, name: str) -> Row[*tuple[object, ...]] | None:
        with self.database.read() as db:
            return db.execute(select(USER).where(USER.c.name_key == _name_key(name))).first()


def _name_key(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()[:128]


def _allowed(password: str, name: str) -> str:
    want = f"{PASSWORD_MIN_CHARS} to {_PASSWORD_MAX_CHARS} characters, other than the name"
    if not PASSWORD_MIN_CHARS <= len(password) <= _PASSWORD_MAX_CHARS:
        raise InvalidInput("password", got=f"{len(password)} characters", want=want)
    if len(set(password)) < 4 or _name_key(password) == _name_key(name):
        raise InvalidInput("password", got="one that is easily guessed", want=want)
    return password


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    # OWASP's password storage cheat sheet, argon2id: 19 MiB, 2 passes, 1 lane
    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


@cache
def _hashing() -> ThreadPoolExecutor:
    """One thread: a hash takes 19 MiB, which the C library keeps for each thread that ever made one."""
    return ThreadPoolExecutor(1, thread_name_prefix="drivetrain-hash")


@cache
def _hash_of_nobody() -> str:
    return _hash("nobody has this password")


def _hash(password: str) -> str:
    return _hashing().submit(_hasher().hash, password).result()


def _verify(kept: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hashing().submit(_hasher().verify, kept, password).result()
    except (VerificationError, InvalidHashError):
        return False


def _user(row: Row[*tuple[object, ...]]) -> User:
    return User(
        id=row.id,
        name=row.name,
        roles=unpack_roles(row.roles),
        created_at=row.created_at,
        created_by=row.created_by,
        removed_at=row.removed_at,
    )
