"""`drivetrain undo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import JsonFlag, print_json
from drivetrain.errors import InvalidConfig

__all__ = ["run"]


def run(
    data: Annotated[Path, typer.Argument(help="The folder whose edits are taken back.")],
    batch: Annotated[str | None, typer.Option("--batch", help="Take back this batch; an undo too.")] = None,
    path: Annotated[str | None, typer.Option("--path", help="Take back the edits of this picture.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Take back every edit.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show the edits, change nothing.")] = False,
    by: Annotated[str | None, typer.Option("--by", help="Who undoes; default: your user name.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take back edits of the data: the last batch, or those named.

    Edits are lines in drivetrain.edits.jsonl beside the pictures; an undo is one line more, and can be undone too.
    """
    from drivetrain.flows.undo import describe_batches, undo

    if listed:
        if batch is not None or path is not None or everything:
            raise InvalidConfig("--list", got="one of --batch, --path and --all beside it", want="--list alone")
        rows = describe_batches(data)
        if as_json:
            print_json({"data": str(data), "batches": rows})
            return
        from drivetrain.cli.check_tables import show_batches

        show_batches(rows)
        return
    result = undo(data, batch=batch, path=path, everything=everything, by=by)
    if as_json:
        print_json(result.as_json())
        return
    from drivetrain.cli.check_tables import show_undo

    show_undo(result)
