"""`drivetrain check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import CacheDirOption, JsonFlag, ThreadsOption, open_progress, open_settings, print_json

__all__ = ["run"]

_FAILED = 1


def run(
    data: Annotated[Path, typer.Argument(help="A folder with a folder per class, or with labels.csv.")],
    html: Annotated[Path, typer.Option("--html", help="The page to write, with the pictures.")] = Path("check.html"),
    no_html: Annotated[bool, typer.Option("--no-html", help="Write no page.")] = False,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Leave out what harms, by edits to undo.")] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who edits; default: your user name.")] = None,
    no_datasheet: Annotated[bool, typer.Option("--no-datasheet", help="Leave datasheet.md alone.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where there is an error.")] = False,
    threads: ThreadsOption = None,
    cache_dir: CacheDirOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what in a folder of pictures would harm a model.

    Unreadable files, copies, two labels for one picture, leaks across a split, imbalance, classes that differ by how
    their pictures were made, and whether flips are wrong. Nothing is moved or deleted.
    """
    from drivetrain.flows.check import CheckConfig, check

    config = CheckConfig(
        data=data, page=None if no_html else html, quarantine=quarantine, by=by, datasheet=not no_datasheet
    )
    result = check(
        config, settings=open_settings(threads=threads, cache_dir=cache_dir), progress=open_progress(as_json=as_json)
    )
    if as_json:
        print_json(result.as_json())
    else:
        from drivetrain.cli.check_tables import show_check

        show_check(result)
    if strict and result.count("error"):
        raise typer.Exit(_FAILED)
