"""`drivetrain demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.shared import JsonFlag, open_progress, open_settings, print_json

__all__ = ["run"]


def run(
    folder: Annotated[Path, typer.Option("--dir", help="Where the pictures, the model and the report go.")] = Path(
        "demo"
    ),
    is_serving: Annotated[bool, typer.Option("--serve/--no-serve", help="Show the page at the end.")] = True,
    host: Annotated[str | None, typer.Option(help="Address of the page.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the page; 0 takes a free one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the whole path on 1,797 handwritten digits.

    Real scans (UCI, CC BY 4.0) are written as a folder of pictures; then check, train, report, serve.
    """
    from drivetrain.cli.serve import serve_model
    from drivetrain.flows.check import CheckConfig, check
    from drivetrain.flows.demo import DIGIT_SIZE, write_digits
    from drivetrain.flows.train import TrainConfig, train

    settings = open_settings(host=host, port=port)
    progress = open_progress(as_json=as_json)
    model = folder / "digits.dt"
    write_digits(folder / "digits", progress=progress)
    looked = check(
        CheckConfig(data=folder / "digits", page=folder / "check.html", size=DIGIT_SIZE),
        settings=settings,
        progress=progress,
    )
    if not as_json:
        from drivetrain.cli.check_tables import show_check
        from drivetrain.cli.tables import open_console, show_training

        console = open_console()
        console.rule("drivetrain check: what would harm a model")
        show_check(looked)
        console.rule("drivetrain train: the model, and how good it is")
    # the views of `top` are mirrored, and a mirrored digit is another sign: auto would try it in vain
    config = TrainConfig(data=folder / "digits", out=model, size=DIGIT_SIZE, method="head")
    result = train(config, settings=settings, progress=progress)
    if as_json:
        print_json({**result.as_json(), "check": looked.as_json()})
    else:
        show_training(result)
    if is_serving:
        serve_model(model, settings=settings)
