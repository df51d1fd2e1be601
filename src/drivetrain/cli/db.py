"""`drivetrain db`.

The database of the server: keys, people, answers and feedback.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import JsonFlag, print_json
from drivetrain.cli.store import DbOption, db_url

__all__ = ["COMMANDS"]


def upgrade(db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Bring the tables to what this version needs. An SQLite file is copied beside itself first."""
    from drivetrain.store.upkeep import upgrade as run

    done = run(db_url(db))
    if as_json:
        print_json({"before": done.before, "after": done.after, "copy": None if done.copy is None else str(done.copy)})
        return
    was = "it was there already" if done.before == done.after else f"it was at {done.before or 'none'}"
    copied = f" The old one: {done.copy}" if done.copy is not None else ""
    sys.stdout.write(f"The database is at revision {done.after} ({was}).{copied}\n")


def backup(
    dest: Annotated[Path, typer.Argument(help="A new file.")], db: DbOption = None, as_json: JsonFlag = False
) -> None:
    """Copy an SQLite database, whole, while servers use it. For PostgreSQL, use pg_dump."""
    from drivetrain.store.upkeep import backup as run

    made = run(db_url(db), dest)
    if as_json:
        print_json({"backup": str(made), "bytes": made.stat().st_size})
    else:
        sys.stdout.write(f"{made}  {made.stat().st_size:,} bytes\n")


def restore(
    source: Annotated[Path, typer.Argument(help="What `drivetrain db backup` made.")],
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Put a copy back. What is there now is kept beside it. Everyone signs in again."""
    from drivetrain.store.upkeep import restore as run

    kept = run(db_url(db), source)
    if as_json:
        print_json({"restored": str(source), "kept": None if kept is None else str(kept)})
        return
    sys.stdout.write(f"Restored {source}." + (f" What was there: {kept}" if kept is not None else "") + "\n")
    sys.stderr.write("Keys revoked and people removed since that copy are back: see `drivetrain key list`.\n")


COMMANDS = {"upgrade": upgrade, "backup": backup, "restore": restore}
