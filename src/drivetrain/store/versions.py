"""The models that were registered: which bundle, from what, by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from drivetrain.errors import Conflict, InvalidInput, NotFound

from .database import Database
from .packing import clean_text, pack, unpack
from .schema_rollout import VERSION

__all__ = ["Version", "Versions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A bundle, as it was registered."""

    version: str  # name@ and the first 12 digits of the digest
    model: str
    digest: str  # of the content
    path: str
    parent: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # of its manifest: data, evaluation, promise
    registered_at: float
    registered_by: str


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions in the database."""

    database: Database

    def register(self, version: Version) -> Version:
        """Keep it. The same digest again gives the one there is, as it was registered first."""
        name, at, digits = version.version.rpartition("@")
        if not at or not name or digits != version.digest[:12] or len(version.digest) != 64:
            raise InvalidInput("version", got=version.version, want="NAME@ and the first 12 digits of a sha256")
        values = asdict(version) | {
            "facts": pack(version.facts),
            "path": clean_text(version.path),
            "registered_by": clean_text(version.registered_by)[:128],
        }
        with self.database.write() as db:
            kept = _first(db, VERSION.c.digest == version.digest)
            if kept is not None:
                return kept
            try:
                with db.begin_nested():
                    db.execute(insert(VERSION).values(values))
            except IntegrityError:  # another process was faster, or the 12 digits are those of another
                kept = _first(db, VERSION.c.digest == version.digest)
                if kept is None:
                    raise Conflict(
                        "version", got=f"{version.version}, which another bundle has", want="another name"
                    ) from None
                return kept
            made = _first(db, VERSION.c.version == version.version)
        assert made is not None
        return made

    def get(self, version: str) -> Version | None:
        """By its whole name."""
        with self.database.read() as db:
            return _first(db, VERSION.c.version == version)

    def list(self, model: str | None = None) -> list[Version]:
        """The oldest first."""
        query = select(VERSION).order_by(VERSION.c.registered_at, VERSION.c.version)
        if model is not None:
            query = query.where(VERSION.c.model == model)
        with self.database.read() as db:
            return [_version(row) for row in db.execute(query)]

    def move(self, version: str, path: str) -> Version:
        """Its file is elsewhere now. Raises NotFound."""
        with self.database.write() as db:
            db.execute(update(VERSION).where(VERSION.c.version == version).values(path=clean_text(path)))
            moved = _first(db, VERSION.c.version == version)
        if moved is None:
            raise NotFound("version", got=version, want="one of `drivetrain versions list`")
        return moved


def _first(db: Connection, condition: ColumnElement[bool]) -> Version | None:
    row = db.execute(select(VERSION).where(condition)).first()
    return None if row is None else _version(row)


def _version(row: Row[*tuple[object, ...]]) -> Version:
    return Version(
        version=row.version,
        model=row.model,
        digest=row.digest,
        path=row.path,
        parent=row.parent,
        facts=unpack(row.facts),
        registered_at=row.registered_at,
        registered_by=row.registered_by,
    )
