"""What the verbs on the store share: open it, say who is at the keyboard, read times."""

from __future__ import annotations

import contextlib
import getpass
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from drivetrain.cli.shared import open_settings
from drivetrain.errors import InvalidConfig, InvalidInput

if TYPE_CHECKING:
    from drivetrain.store.store import Store

__all__ = ["DbOption", "db_url", "duration_s", "opened_store", "roles_of", "show_time", "who"]

DbOption = Annotated[
    str | None, typer.Option("--db", help="The database: sqlite:///FILE or postgresql://...; default: the setting db.")
]
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


def db_url(given: str | None) -> str:
    """From the flag or the settings; "none" has nothing to work on."""
    url = open_settings(db=given).db
    if url == "none":
        raise InvalidConfig("db", got="none", want="a database", hint="Name one with --db or DRIVETRAIN_DB.")
    return url


@contextlib.contextmanager
def opened_store(given: str | None) -> Iterator[Store]:
    """The store that the server uses too."""
    from drivetrain.store.store import open_store

    with open_store(db_url(given), images=open_settings(db=given).images) as store:
        yield store


def who() -> str:
    """Who is at the keyboard, for the audit."""
    try:
        return f"command line:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return "command line"


def roles_of(given: str) -> list[str]:
    """`predict,review` as a list."""
    return [role.strip() for role in given.split(",") if role.strip()]


def duration_s(given: str) -> float:
    """`90d` in seconds."""
    parts = re.fullmatch(r"([1-9][0-9]{0,4})([mhdwy])", given.strip())
    if parts is None:
        raise InvalidInput("--expires", got=given, want="a number and m, h, d, w or y, such as 90d")
    return float(parts[1]) * _UNITS_S[parts[2]]


def show_time(at: float | None) -> str:
    """UTC, to the minute; a dash for never."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
