"""`drivetrain gather`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetrain.cli.shared import JsonFlag, escape_text, open_progress, open_settings, print_json

if TYPE_CHECKING:  # httpx and rich load with the work, not with the help
    from drivetrain.flows.gather import ClassTally, GatherResult

__all__ = ["run"]

_MOST_LISTED = 20
_STOPPED = 130


def run(
    dest: Annotated[Path, typer.Argument(help="The folder to fill: a folder per class, and sources.csv.")],
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="A class; again for each. Default: all found.")
    ] = None,
    urls: Annotated[Path | None, typer.Option(help="CSV of addresses: url,class[,licence][,source].")] = None,
    folder: Annotated[Path | None, typer.Option("--from", help="A local folder of pictures to take in.")] = None,
    search: Annotated[bool, typer.Option("--search", help="Ask a search engine for each --class.")] = False,
    query: Annotated[str, typer.Option(help="What to search for: '{class} bear'.")] = "{class}",
    most: Annotated[
        int | None, typer.Option("--max", help="Pictures a class; default: 150 with --search, else all.")
    ] = None,
    min_size: Annotated[int, typer.Option(help="Pixels the shorter side must have.")] = 64,
    max_bytes: Annotated[int, typer.Option(help="Largest file taken.")] = 20_000_000,
    timeout: Annotated[float, typer.Option(help="Seconds for one picture.")] = 30.0,
    retries: Annotated[int, typer.Option(help="Further tries where that makes sense.")] = 3,
    connections: Annotated[int, typer.Option(help="Connections at once.")] = 16,
    per_host: Annotated[int, typer.Option(help="Connections at once to one host.")] = 4,
    delay: Annotated[float, typer.Option(help="Seconds between two requests to one host.")] = 0.1,
    contact: Annotated[str, typer.Option(help="How a server's owner can reach you.")] = "",
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Ask addresses of private networks, too.")
    ] = False,
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Try again what was refused or deleted.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Gather pictures, each with its source on record.

    From a list of addresses, a local folder or a search, into a folder per class. Run it again to go on: nothing is
    fetched twice. Then: `drivetrain check DEST`.
    """
    from drivetrain.flows.gather import GatherConfig, gather

    config = GatherConfig(
        dest=dest,
        classes=tuple(classes or ()),
        urls=urls,
        folder=folder,
        search=search,
        query=query,
        max_per_class=most,
        min_size=min_size,
        max_bytes=max_bytes,
        timeout_s=timeout,
        retries=retries,
        connections=connections,
        per_host=per_host,
        delay_s=delay,
        contact=contact,
        allow_private=allow_private,
        retry_refused=retry_refused,
    )
    try:
        result = gather(config, settings=open_settings(), progress=open_progress(as_json=as_json))
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What was gathered is kept; run the same command again to go on.\n")
        raise typer.Exit(_STOPPED) from None
    if as_json:
        print_json(result.as_json())
    else:
        _show(result)
    if not result.has_pictures:
        raise typer.Exit(1)


def _show(result: GatherResult) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    names = ["asked", "gathered", "already_there"]
    names += [name for name in ("copies", "left_over") if any(getattr(tally, name) for tally in result.classes)]
    table = Table("class", *(name.replace("_", " ") for name in names), "refused", box=None, pad_edge=False)
    for column in table.columns[1:-1]:
        column.justify, column.no_wrap = "right", True
    for tally in result.classes:
        counts = (f"{getattr(tally, name):,}" for name in names)
        table.add_row(escape_text(tally.label), *counts, _tell_refused(tally))
    console.print(table)
    console.print()
    if result.refused:
        what = "Refused, and the rest gathered" if result.has_pictures else "Refused"
        console.print(f"{what}: {len(result.refused):,}", style="bold")
        for wanted, refusal in result.refused[:_MOST_LISTED]:
            console.print(escape_text(f"  {wanted.url}: {refusal}"), soft_wrap=True)
        if len(result.refused) > _MOST_LISTED:
            console.print(f"  and {len(result.refused) - _MOST_LISTED:,} more, all in refused.csv")
        console.print()
    for note in result.notes:
        console.print(escape_text(f"note  {note}"))
    if result.notes:
        console.print()
    if result.has_pictures:
        console.print(escape_text(f"sources  {result.dest / 'sources.csv'}"), soft_wrap=True)
        console.print(escape_text(f"next     drivetrain check {shlex.quote(str(result.dest))}"), soft_wrap=True)
    else:
        console.print("No picture could be gathered.", style="bold")


def _tell_refused(tally: ClassTally) -> str:
    """Such as "3 (2 http 404, 1 too small)"."""
    if not tally.refused:
        return "0"
    reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in tally.refused.most_common())
    return f"{tally.refused.total():,} ({escape_text(reasons)})"
