"""`drivetrain forget`: pictures and names go, counts and labels stay."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetrain.cli.shared import JsonFlag, print_json
from drivetrain.cli.store import DbOption, duration_s, opened_store, who
from drivetrain.errors import InvalidConfig, InvalidInput

if TYPE_CHECKING:
    from drivetrain.store.erasure import Forgotten

__all__ = ["run"]


def run(
    image: Annotated[str | None, typer.Option(help="One picture: its sha256, or the file itself.")] = None,
    before: Annotated[
        str | None, typer.Option(help="All that came before: 2026-01-31, a time with its zone, or 90d ago.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Forget pictures and the names they came with. What was counted and labelled stays. It cannot be undone."""
    from drivetrain.store.erasure import forget, measure_forget

    if (image is None) == (before is None):
        raise InvalidConfig("forget", got="neither --image nor --before, or both", want="one of them")
    sha256 = None if image is None else _sha256_of(image)
    until = None if before is None else _time_of(before)
    with opened_store(db) as store:
        found = measure_forget(store, image=sha256, before=until)
        if not yes:
            _ask(found, as_json=as_json)
        done = forget(store, image=sha256, before=until)
        subject = sha256 or datetime.fromtimestamp(until or 0.0, UTC).isoformat()
        counts = {"pictures": done.pictures, "answers": done.answers, "notes": done.notes, "reviews": done.reviews}
        store.audit("forget", by=who(), subject=subject, detail=counts)
    if as_json:
        print_json({**counts, "is_compact": done.is_compact, "copies": [str(path) for path in done.copies]})
    else:
        sys.stdout.write(f"Forgotten: {_tell(done)}.\n")
        if done.reviews:
            sys.stdout.write(f"{done.reviews:,} reviews waited for these pictures; they are now unclear.\n")
    _warn(done)


def _sha256_of(given: str) -> str:
    """Of a file's bytes, where it is one."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", given):
        return given.lower()
    if Path(given).is_file():
        with Path(given).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    raise InvalidInput("--image", got=given, want="a sha256 of 64 digits, or a file")


def _time_of(given: str) -> float:
    now = time.time()
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        try:
            return now - duration_s(given)
        except InvalidInput:
            want = "a day such as 2026-01-31 (UTC), a time with its zone, or an age such as 90d"
            raise InvalidInput("--before", got=given, want=want) from None
    seconds = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    if seconds > now:
        raise InvalidInput("--before", got=f"{given}, which is to come", want="a time that has passed")
    return seconds


def _ask(found: Forgotten, *, as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise InvalidConfig("--yes", got=f"nobody to ask whether to forget {_tell(found)}", want="--yes")
    sys.stderr.write(f"This forgets {_tell(found)}, for ever.\n")
    if not typer.confirm("Go on?", err=True):
        raise typer.Exit(1)


def _tell(found: Forgotten) -> str:
    return f"{found.pictures:,} pictures, the names of {found.answers:,} answers, {found.notes:,} notes"


def _warn(done: Forgotten) -> None:
    if done.is_compact is False:
        sys.stderr.write("The file was in use: it may hold traces until this is run again.\n")
    for path in done.copies:
        sys.stderr.write(f"Made before, and still whole: {path}\n")
