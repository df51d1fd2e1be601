"""`drivetrain user`.

Add, list and remove people who sign in to the pages.
"""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetrain.cli.shared import JsonFlag, escape_text, print_json
from drivetrain.cli.store import DbOption, opened_store, roles_of, show_time, who
from drivetrain.errors import InvalidInput

if TYPE_CHECKING:
    from drivetrain.store.users import User

__all__ = ["COMMANDS"]

_NameArgument = Annotated[str, typer.Argument(help="The person's name, as they sign in.")]


def add(
    name: _NameArgument,
    roles: Annotated[str, typer.Option(help="With commas: predict, review, approve, admin.")] = "predict",
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Add a person. The password is asked for, or read from stdin where that is no terminal."""
    with opened_store(db) as store:
        user = store.users.add(name, password=_ask_password(), roles=roles_of(roles), by=who())
        store.audit("user.add", by=who(), subject=user.id, detail={"name": user.name, "roles": sorted(user.roles)})
    _show(user, as_json=as_json)


def list_users(db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Show the people."""
    with opened_store(db) as store:
        users = store.users.list()
    if as_json:
        print_json({"users": [_fields(user) for user in users]})
        return
    for user in users:
        _show(user, as_json=False)
    if not users:
        sys.stderr.write("Nobody yet. Add someone: drivetrain user add NAME\n")


def remove(name: _NameArgument, db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Remove a person: signed out within seconds, and for good."""
    with opened_store(db) as store:
        user = store.users.remove(name)
        store.audit("user.remove", by=who(), subject=user.id, detail={"name": user.name})
    _show(user, as_json=as_json)


def password(name: _NameArgument, db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Set a new password, and end the person's sessions. Lets someone who was removed in again."""
    with opened_store(db) as store:
        store.users.find(name)  # before anyone types a password for nobody
        user = store.users.set_password(name, _ask_password())
        store.audit("user.password", by=who(), subject=user.id, detail={"name": user.name})
    _show(user, as_json=as_json)


COMMANDS = {"add": add, "list": list_users, "remove": remove, "password": password}


def _ask_password() -> str:
    """Never from an argument: those stand in the shell's history and in the list of processes."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    given = getpass.getpass("Password (at least 12 characters): ")
    if getpass.getpass("Once more: ") != given:
        raise InvalidInput("password", got="two that differ", want="the same twice")
    return given


def _fields(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "roles": sorted(user.roles),
        "created_at": user.created_at,
        "created_by": user.created_by,
        "removed_at": user.removed_at,
    }


def _show(user: User, *, as_json: bool) -> None:
    if as_json:
        print_json(_fields(user))
        return
    state = f"removed {show_time(user.removed_at)}" if user.removed_at is not None else ",".join(sorted(user.roles))
    sys.stdout.write(f"{escape_text(user.name)}  {state}  added {show_time(user.created_at)}\n")
