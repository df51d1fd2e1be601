"""`drivetrain package`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from drivetrain.cli.shared import JsonFlag, escape_text, print_json

__all__ = ["run"]


def run(
    model: Annotated[Path, typer.Argument(help="A model, NAME.dt.")],
    dest: Annotated[Path, typer.Argument(help="A folder that is empty or not there yet.")],
    target: Annotated[str, typer.Option("--target", help="docker, or spaces (a Space of Hugging Face).")],
    as_json: JsonFlag = False,
) -> None:
    """Write a folder that is ready to push to a host.

    In it: the model, the exact packages it was tried with, a Dockerfile, and how to start it.
    """
    from drivetrain.flows.package import Target, package_model

    made = package_model(model, dest, target=cast(Target, target))
    if as_json:
        print_json(made.as_json())
        return
    sys.stdout.write(f"{escape_text(str(made.folder))}: {made.version}, {made.n_bytes / 1e6:.1f} MB\n")
    for name in made.files:
        sys.stdout.write(f"  {name}\n")
    sys.stdout.write("README.md there says how to start it.\n")
