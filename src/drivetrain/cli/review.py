"""`drivetrain review`: where pictures wait for people, and pictures of known label for them."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from drivetrain.cli.shared import JsonFlag, ThreadsOption, escape_text, open_progress, open_settings, print_json
from drivetrain.cli.store import DbOption, opened_store, who
from drivetrain.errors import InvalidConfig

__all__ = ["run"]

_GOLD = "gold"
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - read, not listened on


def run(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|gold]", help="A roll-out; without it, all. gold: add FOLDER.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Argument(help="With gold: pictures of known label, a folder per class, to be mixed into the queue."),
    ] = None,
    rollout: Annotated[str | None, typer.Option(help="With gold: for the reviewers of this roll-out.")] = None,
    url: Annotated[str | None, typer.Option(help="Where the server is; default: as `serve` listens here.")] = None,
    is_opened: Annotated[bool, typer.Option("--open", help="Open the page, if this is a terminal.")] = False,
    threads: ThreadsOption = None,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say how many pictures wait for people, and where.

    `drivetrain review gold FOLDER` mixes in pictures whose label is known, to see how well reviewers see.
    """
    if name == _GOLD and folder is not None:
        _add_gold(folder, rollout, threads=threads, db=db, as_json=as_json)
        return
    if folder is not None or rollout is not None:
        got = "a folder" if folder is not None else "--rollout"
        raise InvalidConfig("review", got=f"{got} without gold", want="`drivetrain review gold FOLDER`, or NAME alone")
    _tell(name, url, is_opened=is_opened, db=db, as_json=as_json)


def _tell(name: str | None, url: str | None, *, is_opened: bool, db: str | None, as_json: bool) -> None:
    from drivetrain.flows.review_status import describe_queue
    from drivetrain.flows.rollout import get_deployment

    with opened_store(db) as store:
        deployment = None if name is None else get_deployment(store, name)
        facts = describe_queue(store, who(), deployment=deployment)
    page = f"{(url or _address()).rstrip('/')}/review" + (f"?{urlencode({'rollout': name})}" if name else "")
    if as_json:
        print_json(
            {
                "url": page,
                "open": facts.open,
                "due_soon": facts.due_soon,
                "late": facts.late,
                "oldest_s": facts.oldest_s,
            }
        )
    else:
        waits = "1 picture waits" if facts.open == 1 else f"{facts.open:,} pictures wait"
        soon = f", {facts.due_soon:,} of them due within the hour" if facts.due_soon else ""
        sys.stdout.write(escape_text(f"{waits} for a person{soon}.") + "\n" + escape_text(page) + "\n")
    if is_opened and sys.stdout.isatty():
        webbrowser.open(page)


def _address() -> str:
    """Where `drivetrain serve` is on this machine, with these settings."""
    settings = open_settings()
    host = "127.0.0.1" if settings.host in _ANYWHERE else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _add_gold(folder: Path, rollout: str | None, *, threads: int | None, db: str | None, as_json: bool) -> None:
    from drivetrain.flows.review_gold import add_gold

    settings = open_settings(threads=threads)
    with opened_store(db) as store:
        added = add_gold(
            store,
            folder,
            rollout=rollout,
            threads=settings.worker_threads,
            progress=open_progress(as_json=as_json),
        )
        n = sum(added.by_label.values())
        store.audit("review.gold", by=who(), subject=added.rollout, detail={"pictures": n})
    if as_json:
        print_json(
            {
                "rollout": added.rollout,
                "added": dict(added.by_label),
                "known": added.n_known,
                "unreadable": list(added.unreadable),
            }
        )
        return
    sys.stdout.write(f"Added {n:,} pictures of known label for the reviewers of {escape_text(added.rollout)}.\n")
    for label, count in added.by_label.items():
        sys.stdout.write(f"{count:6,}  {escape_text(label)}\n")
    if added.n_known:
        sys.stdout.write(f"{added.n_known:,} were there already.\n")
    for path in added.unreadable:
        sys.stderr.write(f"not readable, left out: {escape_text(path)}\n")
