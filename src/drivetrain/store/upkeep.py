"""Raise a database to the newest revision, copy it while it is used, put a copy back."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import delete, inspect, text

from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, Unavailable

from .database import LOCK_KEY, Database, connect, parse_url, revision_of, shown, wrong_revision
from .schema import NEWEST, SESSION

__all__ = ["Upgrade", "backup", "restore", "upgrade"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What `upgrade` did."""

    before: str | None  # None for a database that was empty
    after: str
    copy: Path | None  # of the file as it was; None where nothing was to do, and for PostgreSQL


def upgrade(url: str, *, to: str = "head") -> Upgrade:
    """Bring the database to the newest revision, in one transaction; an SQLite file is copied beside itself first."""
    database = connect(url)
    try:
        before = revision_of(database)
        if before is not None and before > NEWEST:
            raise wrong_revision(database, before)
        if before == NEWEST:
            return Upgrade(before=before, after=before, copy=None)
        copy = None
        if before is not None and database.is_sqlite:
            copy = _aside(database.file, f"before-{NEWEST}")
            _copy_sqlite(database.file, copy)
        _run_alembic(database, to)
        return Upgrade(before=before, after=revision_of(database) or "", copy=copy)
    finally:
        database.close()


def backup(url: str, to: Path) -> Path:
    """A copy of an SQLite database, whole although servers write to it meanwhile."""
    file = _sqlite_file(url, "backup", "pg_dump --format=custom --file=FILE {}")
    if not file.is_file():
        raise InvalidInput("db", got=f"{file}, which is not there", want="a database")
    if to.exists():
        raise Conflict("backup", got=f"{to}, which exists", want="a new file")
    _copy_sqlite(file, to)
    return to


def restore(url: str, source: Path) -> Path | None:
    """Put a copy in the place of an SQLite database, also under running servers, and sign everyone out.

    Returns where the database as it was before was kept, if there was one.
    """
    file = _sqlite_file(url, "restore", "pg_restore --clean --dbname={} FILE")
    _check_copy(source)
    kept = None
    if file.exists():
        kept = _aside(file, "before-restore")
        _copy_sqlite(file, kept)
    connect(url).close()  # makes the folder and the file, for its owner alone
    with _told(source), contextlib.closing(_open(source, "ro")) as old, contextlib.closing(_open(file, "rw")) as live:
        old.backup(live)
    database = connect(url)
    try:
        with database.write() as db:
            if SESSION.name in inspect(db).get_table_names():
                db.execute(delete(SESSION))  # a session that was ended since must not be back
    finally:
        database.close()
    return kept


def _run_alembic(database: Database, to: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    with database.write(is_altering=True) as db:
        if not database.is_sqlite:
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        config.attributes["connection"] = db
        try:
            command.upgrade(config, to)
        except CommandError as exc:  # a revision that no release ever had
            raise Conflict("db", got=str(exc), want=f"one that leads to revision {NEWEST}") from None
        if database.is_sqlite and db.execute(text("PRAGMA foreign_key_check")).first():
            raise Conflict(
                "db", got="rows that point to nothing after the upgrade", want="none", hint="Nothing was changed."
            )


def _sqlite_file(url: str, verb: str, command: str) -> Path:
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise InvalidConfig(
            f"db {verb}",
            got=shown(parsed),
            want="an SQLite database",
            hint=f"PostgreSQL has its own: {command.format(chr(39) + shown(parsed) + chr(39))}",
        )
    assert parsed.database
    return Path(parsed.database)


def _check_copy(source: Path) -> None:
    """Raises InvalidInput for what is no whole database of ours."""
    want = "a file that `drivetrain db backup` made"
    if not source.is_file():
        raise InvalidInput("restore", got=f"{source}, which is no file", want=want)
    try:
        with contextlib.closing(_open(source, "ro")) as db:
            whole = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = db.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as exc:
        raise InvalidInput("restore", got=f"{source} ({exc})", want=want) from None
    if not whole or not {"api_key", "user_account"} <= tables or len(versions) != 1:
        raise InvalidInput("restore", got=f"{source}, damaged or not ours", want=want)
    if versions[0][0] > NEWEST:
        raise Conflict(
            "restore",
            got=f"{source} at revision {versions[0][0]}",
            want=f"{NEWEST} or older",
            hint="Install the newer drivetrain.",
        )


def _copy_sqlite(file: Path, to: Path) -> None:
    """By SQLite's online backup: written aside, fsynced, then named."""
    aside = to.with_name(f".{to.name}.{secrets.token_hex(4)}")
    with _told(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with contextlib.closing(_open(file, "ro")) as source, contextlib.closing(_open(aside, "rw")) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, without a log beside it
            descriptor = os.open(aside, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            aside.replace(to)
        finally:
            aside.unlink(missing_ok=True)


def _open(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file))}?mode={mode}", uri=True, timeout=30)


def _aside(file: Path, why: str) -> Path:
    return file.with_name(f"{file.name}.{why}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{secrets.token_hex(2)}")


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise Unavailable("db", got=f"{exc} ({file})", want="a database and a disk that allow it") from None
