"""`drivetrain key`.

Make, list and revoke keys for programs that ask the server.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetrain.cli.shared import JsonFlag, escape_text, print_json
from drivetrain.cli.store import DbOption, duration_s, opened_store, roles_of, show_time, who

if TYPE_CHECKING:
    from drivetrain.store.keys import ApiKey

__all__ = ["COMMANDS"]


def create(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for: camera-3.")],
    roles: Annotated[str, typer.Option(help="With commas: predict, review, approve, admin.")] = "predict",
    expires: Annotated[str | None, typer.Option(help="After so long, as 90d or 12h; default: never.")] = None,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key. It is shown once: what is kept is a digest."""
    with opened_store(db) as store:
        expires_at = None if expires is None else time.time() + duration_s(expires)
        key, token = store.keys.create(name, roles=roles_of(roles), by=who(), expires_at=expires_at)
        store.audit("key.create", by=who(), subject=key.id, detail={"name": key.name, "roles": sorted(key.roles)})
    if as_json:
        print_json({"key": token, **_fields(key)})
        return
    sys.stderr.write(f"{_summary(key)}\nIt is not shown again. Send it as `Authorization: Bearer KEY`.\n")
    sys.stdout.write(token + "\n")


def list_keys(db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Show the keys, not their secrets."""
    with opened_store(db) as store:
        keys = store.keys.list()
    if as_json:
        print_json({"keys": [_fields(key) for key in keys]})
        return
    for key in keys:
        sys.stdout.write(_summary(key) + "\n")
    if not keys:
        sys.stderr.write("No keys yet. Make one: drivetrain key create NAME\n")


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id, as `drivetrain key list` shows it.")],
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End a key. Running servers notice within seconds."""
    with opened_store(db) as store:
        parts = key_id.split("_")
        key = store.keys.revoke(parts[1] if len(parts) == 3 and parts[0] == "dt" else key_id)
        store.audit("key.revoke", by=who(), subject=key.id, detail={"name": key.name})
    if as_json:
        print_json(_fields(key))
    else:
        sys.stdout.write(_summary(key) + "\n")


COMMANDS = {"create": create, "list": list_keys, "revoke": revoke}


def _fields(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "roles": sorted(key.roles),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "used_at": key.used_at,
        "state": key.why_not(time.time()) or "holds",
    }


def _summary(key: ApiKey) -> str:
    state = key.why_not(time.time()) or "holds"
    until = f" until {show_time(key.expires_at)}" if key.expires_at is not None and state == "holds" else ""
    return (
        f"{key.id}  {escape_text(key.name)}  {','.join(sorted(key.roles))}  {state}{until}"
        f"  made {show_time(key.created_at)}  used {show_time(key.used_at)}"
    )
