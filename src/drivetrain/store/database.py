"""A database of ours: SQLite by default, PostgreSQL by URL; made where it is missing, refused where it is old."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from drivetrain.errors import Conflict, InvalidConfig, MissingExtra, Unavailable
from drivetrain.wal import switch_to_wal

from .schema import NEWEST
from .schema_rollout import METADATA

__all__ = ["LOCK_KEY", "Database", "connect", "open_database", "parse_url", "revision_of", "shown", "wrong_revision"]

_BUSY_MS = 15_000  # a writer waits so long for another process
_POOL = 16  # connections, at most
LOCK_KEY = 0x64726976  # PostgreSQL's advisory lock while tables are made or changed
_VERSION_TABLE = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, " + (
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"  # as Alembic makes it
)
_WANT = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, or none"


@dataclass(frozen=True, slots=True)
class Database:
    """An engine, and how to read and write with it from any thread."""

    engine: Engine
    _writing: threading.RLock = field(default_factory=threading.RLock)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def file(self) -> Path:
        """The file of an SQLite database."""
        assert self.is_sqlite
        assert self.engine.url.database
        return Path(self.engine.url.database)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view. A fault of the database becomes Unavailable, without its words: they may hold data."""
        with _told(self.engine.url), self.engine.connect() as db:
            yield db

    @contextlib.contextmanager
    def write(self, *, is_lasting: bool = True, is_altering: bool = False) -> Iterator[Connection]:
        """One transaction: all of it is on disk after, or none.

        Not `is_lasting`: a power cut may take back the last of these, a killed process not. `is_altering`: it changes
        tables, so rows are not held to their foreign keys meanwhile.
        """
        options = {"drivetrain_writes": True, "drivetrain_lasts": is_lasting, "drivetrain_alters": is_altering}
        # SQLite has one writer. Waiting here is fair; waiting in SQLite is a poll.
        with _told(self.engine.url), self._writing if self.is_sqlite else contextlib.nullcontext():  # noqa: SIM117
            with self.engine.connect().execution_options(**options) as db, db.begin():
                yield db

    def close(self) -> None:
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Connect; an empty database gets its tables, one of another revision is refused with what to do."""
    database = connect(url)
    try:
        found = revision_of(database)
        if found is None:
            found = _make_tables(database)
        if found != NEWEST:
            raise wrong_revision(database, found)
    except BaseException:
        database.close()
        raise
    return database


def connect(url: str) -> Database:
    """The database as it is, whatever its revision; an SQLite file is made where it is missing."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(_sqlite_engine(parsed))
    if importlib.util.find_spec("psycopg") is None:
        raise MissingExtra("db", package="psycopg", extra="postgres")
    return Database(
        create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=_POOL,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "application_name": "drivetrain"},
        )
    )


def parse_url(url: str) -> URL:
    """Raises InvalidConfig for what is neither SQLite in a file nor PostgreSQL; never shows a password."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidConfig("db", got="no URL of a database", want=_WANT) from None
    if parsed.get_backend_name() == "postgresql" and parsed.drivername in {"postgresql", "postgresql+psycopg"}:
        return parsed
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:" and not parsed.query:
        return parsed.set(database=str(Path(parsed.database).expanduser().absolute()))
    raise InvalidConfig("db", got=shown(parsed), want=_WANT)


def shown(url: URL) -> str:
    """For a person to read: without the password."""
    return url.set(query={}).render_as_string(hide_password=True)


def revision_of(database: Database) -> str | None:
    """What revision the tables have; None for a database that holds nothing yet. Conflict where others use it."""
    with database.read() as db:
        tables = set(inspect(db).get_table_names())
        if "alembic_version" not in tables:
            if tables & set(METADATA.tables):
                raise _foreign(database)
            if tables and database.is_sqlite:  # a PostgreSQL database may have other tenants
                raise _foreign(database)
            return None
        found = db.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        if len(found) != 1 or not {"api_key", "user_account"} <= tables:
            raise _foreign(database)
        return str(found[0])


def _make_tables(database: Database) -> str:
    """At the newest revision. Two processes may come here at once: the second finds them made."""
    with database.write() as db:
        if not database.is_sqlite:
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        if "alembic_version" not in inspect(db).get_table_names():
            METADATA.create_all(db)
            db.execute(text(_VERSION_TABLE))
            db.execute(text("INSERT INTO alembic_version VALUES (:new)"), {"new": NEWEST})
            return NEWEST
    return revision_of(database) or NEWEST


def _sqlite_engine(url: URL) -> Engine:
    assert url.database
    file = Path(url.database)
    try:
        if not file.parent.exists():
            file.parent.mkdir(parents=True, mode=0o700)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # it holds digests of passwords: for its owner alone
    except OSError as exc:
        raise InvalidConfig(
            "db", got=f"{file} ({exc.strerror})", want="a file that can be written", hint="Set DRIVETRAIN_DB."
        ) from None
    # isolation_level None: sqlite3 begins no transactions of its own; the listener below does
    engine = create_engine(
        url,
        pool_size=_POOL,
        max_overflow=0,
        connect_args={"timeout": _BUSY_MS / 1000, "isolation_level": None, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    """WAL: readers never wait. Full: what was committed outlives a power cut, not only a killed process."""
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}").fetchall()
    switch_to_wal(connection, wait_s=_BUSY_MS / 1000)
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin_sqlite(db: Connection) -> None:
    options = db.get_execution_options()
    if options.get("drivetrain_alters"):  # a table that is copied and dropped is no deleted row
        db.exec_driver_sql("PRAGMA foreign_keys = OFF")
    # A transaction that reads first and writes later would fail where another wrote between: so it locks at once.
    if options.get("drivetrain_writes"):
        db.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if options['drivetrain_lasts'] else 'NORMAL'}")
    db.exec_driver_sql("BEGIN IMMEDIATE" if options.get("drivetrain_writes") else "BEGIN")


@contextlib.contextmanager
def _told(url: URL) -> Iterator[None]:
    try:
        yield
    except DBAPIError as exc:
        cause = type(exc.orig).__name__
        if isinstance(exc.orig, sqlite3.Error):
            cause = str(exc.orig)  # SQLite's own words name tables at most
        raise Unavailable(
            "db", got=f"{cause} from {shown(url)}", want="a database that answers", hint="See docs/security.md."
        ) from exc


def _foreign(database: Database) -> Conflict:
    return Conflict(
        "db",
        got=f"{shown(database.engine.url)}, which holds other tables",
        want="a database of drivetrain's own",
        hint="Name another with DRIVETRAIN_DB or --db.",
    )


def wrong_revision(database: Database, found: str) -> Conflict:
    """What to tell of a database that this version cannot use as it is."""
    hint = "Run `drivetrain db upgrade` (it makes a copy of an SQLite file first)."
    if found > NEWEST:
        hint = "It was made by a newer drivetrain: install that one."
    where = shown(database.engine.url)
    return Conflict("db", got=f"{where} at revision {found}", want=f"revision {NEWEST}", hint=hint)
