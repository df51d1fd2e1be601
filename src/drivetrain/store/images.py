"""The pictures that people may have to look at, or a candidate has still to see: each once, until it is forgotten."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from drivetrain.errors import InvalidConfig, InvalidInput

from .blobs import Blobs
from .database import Database
from .schema_rollout import IMAGE, REQUEST
from .unseen import settle_unseen

__all__ = ["Image", "Images"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_AT_ONCE = 200  # forgotten in one transaction
_log = logging.getLogger("drivetrain.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What is known of a picture."""

    sha256: str
    bytes: int
    kept_at: float
    forgotten_at: float | None


@dataclass(frozen=True, slots=True)
class Images:
    """The pictures beside the database, and the table that says which are there."""

    database: Database
    clock: Callable[[], float]
    blobs: Blobs | None

    def put(self, data: bytes) -> str:
        """Keep it, once; returns its sha256. One that was forgotten and is sent again is there again.

        The row lasts as soon as the next lasting row does, such as the request that names it.
        """
        blobs, sha256 = self._blobs(), hashlib.sha256(data).hexdigest()
        with self.database.read() as db:
            kept = _get(db, sha256)
        is_there = blobs.has(sha256, len(data))
        if kept is not None and kept.forgotten_at is None and is_there:
            return sha256
        if not is_there:
            blobs.put(sha256, data)
        with self.database.write(is_lasting=False) as db:
            self._keep(db, sha256, len(data))
            if not blobs.has(sha256, len(data)):  # forgotten since, which held this row until now
                blobs.put(sha256, data)
        return sha256

    def get(self, sha256: str) -> bytes | None:
        """None where it was never kept, or is gone."""
        if not _SHA256.fullmatch(sha256):
            return None
        data = self._blobs().get(sha256)
        if data is not None and hashlib.sha256(data).hexdigest() != sha256:
            _log.error("the kept picture %s is damaged", sha256)
            return None
        return data

    def find(self, sha256: str) -> Image | None:
        """What the table says; also of one that was forgotten."""
        with self.database.read() as db:
            return _get(db, sha256)

    def forget(self, sha256: str) -> bool:
        """The bytes are gone when this returns, and the row says when. Whether it was there until now."""
        if not _SHA256.fullmatch(sha256):
            raise InvalidInput("sha256", got=sha256, want="64 digits 0-9a-f")
        return bool(self.forget_all([sha256])[0])

    def forget_before(self, at: float) -> int:
        """Those kept before and not sent with a request since; returns how many."""
        return self.forget_all(self.kept_before(at))[0]

    def forget_all(self, shas: Sequence[str]) -> tuple[int, int]:
        """How many of these were there until now, and how many reviews waited for them: those are now unclear."""
        pictures = reviews = 0
        for start in range(0, len(shas), _AT_ONCE):
            gone, closed = self._forget(shas[start : start + _AT_ONCE])
            pictures, reviews = pictures + gone, reviews + closed
        return pictures, reviews

    def kept_before(self, at: float) -> list[str]:
        """The sha256 of each picture that `forget_before` would forget, the oldest first."""
        since = select(REQUEST.c.prediction_id).where(REQUEST.c.image_sha256 == IMAGE.c.sha256, REQUEST.c.at >= at)
        query = select(IMAGE.c.sha256).where(IMAGE.c.kept_at < at, IMAGE.c.forgotten_at.is_(None), ~since.exists())
        with self.database.read() as db:
            return list(db.execute(query.order_by(IMAGE.c.kept_at, IMAGE.c.sha256)).scalars())

    def _forget(self, shas: Sequence[str]) -> tuple[int, int]:
        """The files go while the rows are held: a kill between leaves a row that tells too much, never a picture."""
        blobs, now = self._blobs(), self.clock()
        mine = IMAGE.c.sha256.in_(shas)
        with self.database.write() as db:
            db.execute(select(IMAGE.c.sha256).where(mine).order_by(IMAGE.c.sha256).with_for_update())
            gone = update(IMAGE).where(mine, IMAGE.c.forgotten_at.is_(None)).values(forgotten_at=now)
            count = int(db.execute(gone).rowcount)
            closed = settle_unseen(db, shas, now=now)
            for sha256 in shas:
                blobs.remove(sha256)
        return count, closed

    def _keep(self, db: Connection, sha256: str, size: int) -> None:
        now = self.clock()
        try:
            with db.begin_nested():
                db.execute(insert(IMAGE).values(sha256=sha256, bytes=size, kept_at=now))
        except IntegrityError:
            again = update(IMAGE).where(IMAGE.c.sha256 == sha256, IMAGE.c.forgotten_at.is_not(None))
            db.execute(again.values(kept_at=now, forgotten_at=None))
            db.execute(select(IMAGE.c.sha256).where(IMAGE.c.sha256 == sha256).with_for_update())

    def _blobs(self) -> Blobs:
        if self.blobs is None:
            raise InvalidConfig(
                "images",
                got="auto, with PostgreSQL",
                want="a folder or a URL that every server reaches",
                hint="Set DRIVETRAIN_IMAGES.",
            )
        return self.blobs


def _get(db: Connection, sha256: str) -> Image | None:
    row = db.execute(select(IMAGE).where(IMAGE.c.sha256 == sha256)).first()
    return None if row is None else _image(row)


def _image(row: Row[*tuple[object, ...]]) -> Image:
    return Image(sha256=row.sha256, bytes=row.bytes, kept_at=row.kept_at, forgotten_at=row.forgotten_at)
