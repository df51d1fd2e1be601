"""SQLite's write-ahead log, where several processes may make one file at the same moment."""

from __future__ import annotations

import random
import sqlite3
import time

__all__ = ["switch_to_wal"]


def switch_to_wal(db: sqlite3.Connection, *, wait_s: float) -> None:
    """`PRAGMA journal_mode = WAL`, tried until `wait_s` is over.

    SQLite's own waiting (busy_timeout) leaves this one out: where two turn a new file into WAL at once, it tells one of
    them at once that the file is locked, lest they wait for each other.
    """
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
        time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - apart from each other
