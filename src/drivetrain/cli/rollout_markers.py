"""Where the files stand that say "rolled back" for a database that cannot be written."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from drivetrain.cli.shared import escape_text, open_settings, print_json
from drivetrain.cli.store import db_url

__all__ = ["mark_rollback", "marker_folder", "tell_marker"]


def marker_folder(db: str | None) -> Path:
    """For the database of the flag or the settings."""
    from drivetrain.flows.rollout_marker import find_marker_folder

    return find_marker_folder(db_url(db), cache_dir=open_settings(db=db).cache_dir)


def mark_rollback(name: str, by: str, reason: str, *, folder: Path, as_json: bool) -> None:
    """The database cannot be opened at all: whether there is such a roll-out, only the servers know."""
    from drivetrain.flows.rollout_marker import write_marker

    tell_marker(name, write_marker(folder, name, by=by, reason=reason, at=time.time()).path, as_json=as_json)


def tell_marker(name: str, path: Path, *, as_json: bool) -> None:
    """Say which file stands in for the database."""
    if as_json:
        print_json({"name": name, "after": "rolled back", "marker": str(path)})
        return
    sys.stdout.write(escape_text(f"{name}: rolled back, by {path}") + "\n")
    sys.stderr.write("The database could not be written: servers obey that file, and enter it when it is back.\n")
