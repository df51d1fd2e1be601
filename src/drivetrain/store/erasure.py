"""Forget: pictures and names go, counts and labels stay.

What goes: the picture; the name it was sent under and the request's id; the request's key; what callers wrote in notes;
answers kept for requests that are sent twice. What stays: answers, labels, times, attributes, digests, the ledger.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, func, literal, select, update

from drivetrain.errors import InvalidInput

from .schema import FEEDBACK, IDEMPOTENCY, PREDICTION
from .schema_rollout import REQUEST
from .store import Store

__all__ = ["Forgotten", "forget", "measure_forget"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEARBY_S = 600.0  # a kept answer was begun at most so long before its prediction was made, or after
_VACUUM_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was forgotten, or would be."""

    pictures: int
    answers: int  # that had a name or a key
    notes: int
    reviews: int  # that waited for a person and are now unclear
    is_compact: bool | None = None  # SQLite: no trace is left in the file; None: PostgreSQL, or not done yet
    copies: tuple[Path, ...] = ()  # of an SQLite file, made before, which still hold all of it


def measure_forget(store: Store, *, image: str | None = None, before: float | None = None) -> Forgotten:
    """What `forget` would forget, and nothing else."""
    _check(image, before)
    store.predictions.flush()
    with store.database.read() as db:
        answers = db.execute(select(func.count()).select_from(PREDICTION).where(_named(image, before))).scalar_one()
        notes = db.execute(select(func.count()).select_from(FEEDBACK).where(_noted(image, before))).scalar_one()
    return Forgotten(pictures=len(_pictures(store, image, before)), answers=answers, notes=notes, reviews=0)


def forget(store: Store, *, image: str | None = None, before: float | None = None) -> Forgotten:
    """Forget one picture by its sha256, or all that came before a time and was not sent since.

    A kill at any point leaves some of it there, never a picture that is said to be gone; done again, it is done.
    """
    _check(image, before)
    store.predictions.flush()
    shas = _pictures(store, image, before)
    pictures, reviews = store.images.forget_all(shas)
    with store.database.write() as db:
        if store.database.is_sqlite:
            db.exec_driver_sql("PRAGMA secure_delete = ON")
        _forget_kept_answers(db, image, before)
        notes = db.execute(update(FEEDBACK).where(_noted(image, before)).values(note="")).rowcount
        of_them = select(PREDICTION.c.id).where(_is_one(image, before)).scalar_subquery()
        db.execute(
            update(REQUEST)
            .where(REQUEST.c.prediction_id.in_(of_them), REQUEST.c.key.not_like("forgotten:%"))
            .values(key=literal("forgotten:") + REQUEST.c.prediction_id)  # each its own: keys are counted
        )
        named = update(PREDICTION).where(_named(image, before))
        answers = db.execute(named.values(name="", request_id="")).rowcount
    return Forgotten(
        pictures=pictures,
        answers=int(answers),
        notes=int(notes),
        reviews=reviews,
        is_compact=_compact(store.database.file) if store.database.is_sqlite else None,
        copies=tuple(_copies(store.database.file)) if store.database.is_sqlite else (),
    )


def _check(image: str | None, before: float | None) -> None:
    if (image is None) == (before is None):
        raise InvalidInput("forget", got="no picture and no time, or both", want="one of them")
    if image is not None and not _SHA256.fullmatch(image):
        raise InvalidInput("image", got=image, want="a sha256: 64 digits 0-9a-f")


def _pictures(store: Store, image: str | None, before: float | None) -> list[str]:
    if image is not None:
        found = store.images.find(image)
        return [] if found is None or found.forgotten_at is not None else [image]
    assert before is not None
    return store.images.kept_before(before)


def _is_one(image: str | None, before: float | None) -> ColumnElement[bool]:
    return PREDICTION.c.sha256 == image if image is not None else PREDICTION.c.at < before


def _named(image: str | None, before: float | None) -> ColumnElement[bool]:
    return _is_one(image, before) & ((PREDICTION.c.name != "") | (PREDICTION.c.request_id != ""))


def _noted(image: str | None, before: float | None) -> ColumnElement[bool]:
    of_them = select(PREDICTION.c.id).where(_is_one(image, before)).scalar_subquery()
    return FEEDBACK.c.prediction_id.in_(of_them) & (FEEDBACK.c.note != "")


def _forget_kept_answers(db: Connection, image: str | None, before: float | None) -> None:
    """Answers kept for a request that comes twice hold the picture's name: of one picture, those of its predictions."""
    if image is None:
        db.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.begun_at < before))
        return
    for id_, at in db.execute(select(PREDICTION.c.id, PREDICTION.c.at).where(_is_one(image, before))).all():
        nearby = IDEMPOTENCY.c.begun_at.between(at - _NEARBY_S, at + _NEARBY_S) & IDEMPOTENCY.c.body.is_not(None)
        for row in db.execute(select(IDEMPOTENCY).where(nearby)).all():
            if id_.encode() in bytes(row.body):
                same = (IDEMPOTENCY.c.caller_id == row.caller_id) & (IDEMPOTENCY.c.key == row.key)
                db.execute(delete(IDEMPOTENCY).where(same))


def _compact(file: Path) -> bool:
    """Write the file anew without what was deleted, and empty its log. False where others are at work too long."""
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_VACUUM_WAIT_S, isolation_level=None)) as db:
            db.execute("VACUUM")
            is_busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return False
    return not is_busy


def _copies(file: Path) -> Iterable[Path]:
    """Those that `upgrade` and `restore` put beside it."""
    return sorted(file.parent.glob(f"{file.name}.before-*"))
